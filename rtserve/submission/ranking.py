"""What a contest ranks by, as its profile says it: the metric of a challenge, and the weights of several."""

from __future__ import annotations

from collections.abc import Sequence

from rtserve.errors import InputError
from rtserve.submission.profile import load_profile, name_parts

__all__ = ["PROFILE_METRIC", "named_metrics", "weights_of"]

PROFILE_METRIC = "profile"
"""What stands for the metric of a profile among the names of metrics."""


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
        raise InputError(
            f"the challenges of {profile} are ranked by different metrics",
            hint="name one: " + " or ".join(f"--profile {profile}/{each.key}" for each in contest.challenges),
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
