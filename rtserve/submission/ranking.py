"""Which contest a zip is scored for, and what that ranks by: the metric of a challenge, and the weights of several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.measure.bundled import read_bundled
from rtserve.submission.profile import full_name, load_profile, name_parts, profile_names

__all__ = ["DEFAULT", "PROFILE_METRIC", "built_for", "contest_of", "named_metrics", "weights_of"]

DEFAULT = "eeg2025"
"""The profile of what names none."""

PROFILE_METRIC = "profile"
"""What stands for the metric of a profile among the names of metrics."""


def contest_of(path: str | Path | None, named: str | None = None) -> str:
    """Return the name of the profile that a zip is scored by: the one named, else its manifest's, else the default."""
    if named or path is None or Path(path).suffix != ".zip" or not Path(path).is_file():
        return named or DEFAULT
    return built_for(read_bundled(Path(path), graphs_too=False).manifest) or DEFAULT


def built_for(manifest: Mapping[str, Any] | None) -> str:
    """Return the profile that a manifest names, with its challenge where the zip answers one alone; empty without one.

    A manifest is a stranger's: a profile that does not come with rtserve is not looked for.
    """
    named, listed = str((manifest or {}).get("profile", "")), (manifest or {}).get("challenges")
    base, key, phase = name_parts(named)
    if base not in profile_names():
        return ""
    keys = list(listed) if isinstance(listed, dict) else []
    try:
        profile = load_profile(named)
    except InputError:  # no such challenge or phase: another version wrote it
        return ""
    if not key and len(keys) == 1 and keys[0] in {challenge.key for challenge in profile.challenges}:
        key = keys[0]
    return full_name(base, key, phase)


def named_metrics(metrics: Sequence[str], profile: str) -> tuple[str, ...]:
    """Return the names of metrics with ``profile`` replaced by what the profile's challenge is ranked by.

    Parameters
    ----------
    metrics : sequence of str
        As `rtserve.measure.metrics.parse_metric` reads them, or ``"profile"``.
    profile : str
        As `rtserve.submission.profile.load_profile` reads it; its challenges have to be ranked alike.

    Raises
    ------
    InputError
        Where there is no such profile or challenge, or it does not say what it ranks by.
    """
    if PROFILE_METRIC not in metrics:
        return tuple(metrics)
    contest = load_profile(profile)
    found = {challenge.metric for challenge in contest.challenges}
    if len(found) > 1:
        base, _, phase = name_parts(profile)
        names = [full_name(base, each.key, phase) for each in contest.challenges]
        raise InputError(
            f"the challenges of {profile} are ranked by different metrics",
            hint="name one: " + " or ".join(f"--profile {name}" for name in names),
        )
    ranked = found.pop() if found else ""
    if not ranked:
        raise InputError(f"profile {profile} does not say what it ranks by", hint="name the metric with --metric")
    return tuple(ranked if metric == PROFILE_METRIC else metric for metric in metrics)


def weights_of(profile: str) -> tuple[float, float]:
    """Return the weights of the two challenges of a profile in its overall score.

    Raises
    ------
    InputError
        Where it has not two, or they are ranked apart.
    """
    contest = load_profile(name_parts(profile)[0])
    weights = tuple(challenge.weight for challenge in contest.challenges)
    if len(weights) != 2 or contest.one_of:
        raise InputError(
            f"profile {contest.name} has no overall score of two challenges", hint="score each graph with --data"
        )
    return weights[0], weights[1]
