"""Predictions of a zip, any zip, through its real entry point: in the sandbox, in the batches that it is scored in."""

from __future__ import annotations

import base64
import dataclasses
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError, RtserveError, SpecMismatchError
from rtserve.signals.windows import WindowSet
from rtserve.spec import require_same_target, unit_factor
from rtserve.submission.archive import read_zip, unpack
from rtserve.submission.drive import drive
from rtserve.submission.profile import Challenge, Profile, Signal, full_name, load_profile, name_parts
from rtserve.submission.ranking import contest_of
from rtserve.submission.sandbox import Limits

__all__ = ["nearest", "predict_zip"]

WALL_S = 1800.0
"""Longest time the whole set may take."""
PIECE = 4096
"""Windows that one process of the submission is given; a larger set is scored by several, one after the other."""
ANSWERED = 64 * 2**20
"""Bytes of answers that come back from one process, where a window's are many."""


def predict_zip(
    path: str | Path,
    windows: WindowSet,
    *,
    challenge: str | None = None,
    profile: str | None = None,
    wall_s: float = WALL_S,
    assume: Callable[[str], None] | None = None,
) -> np.ndarray:
    """Return predictions of a submission: (n_windows,), or (n_windows, n) where the contest reads n numbers a window.

    Parameters
    ----------
    path : path
        The zip; it need not have been built here.
    windows : WindowSet
        In volts, of the profile's size.
    challenge : str, optional
        Which of the profile's networks answers; by default the one whose target the windows' y is.
    profile : str, optional
        The contest; by default the one that the zip's manifest names, see `rtserve.submission.ranking.contest_of`.
    wall_s : float
        Seconds until it is ended.
    assume : callable, optional
        Told that the contest's first challenge is taken where nothing says which; that is refused without.

    Raises
    ------
    InputError
        Where the zip cannot be read, the challenge is unknown or has another target, or the windows are of another
        size.
    RtserveError
        Where the submission fails, takes too long, or answers what is not finite.
    """
    profile = contest_of(path, profile)
    contest = load_profile(profile)
    if contest.container is not None:
        raise InputError(
            f"{Path(path).name} is for {profile}, whose containers answer recordings, not windows",
            hint="score the graph inside: rtserve evaluate GRAPH --continuous RECORDING",
        )
    if challenge is None and assume and not windows.predicts and len(contest.challenges) > 1:
        challenge = contest.challenges[0].key
        assume(f"the windows do not say what y is: {Path(path).name} is scored as challenge {challenge} of {profile}")
    asked = _challenge(contest, challenge, windows, profile=profile)
    signal = contest.signal_of(asked.key)
    size = (signal.n_chans, signal.n_times)
    if windows.X.shape[1:] != size:
        raise SpecMismatchError(
            f"the windows are {windows.X.shape[1]} x {windows.X.shape[2]}, {profile} gives a zip {size[0]} x {size[1]}",
            hint="use windows cut for that contest",
        )
    factor = unit_factor(windows.unit, signal.unit, names=("the window set", f"a zip for {profile}"))
    contest = dataclasses.replace(contest, challenges=(asked,))
    ends = time.monotonic() + wall_s
    parts: list[np.ndarray] = []
    with tempfile.TemporaryDirectory(prefix="rtserve-") as folder:
        unpack(read_zip(path), Path(folder))
        for X in windows.batches(_piece(asked, signal)):
            X = X if factor == 1.0 else X * np.float32(factor)
            parts.append(_answers(Path(folder), contest, X, done=parts, name=Path(path).name, ends=ends))
    return np.concatenate(parts)


def _challenge(contest: Profile, key: str | None, windows: WindowSet, *, profile: str) -> Challenge:
    """Return the challenge that answers these windows, by its key or by their target."""
    keys = ", ".join(c.key for c in contest.challenges)
    target = windows.predicts
    if key is None and len(contest.challenges) > 1:
        found = [c for c in contest.challenges if target and c.target == target]
        if len(found) != 1:
            base, _, phase = name_parts(profile)
            what = f"the windows' y is {target}" if target else "the windows do not say what y is"
            raise InputError(
                f"{what}, and {profile} has the challenges {keys}",
                hint=f"name one: --profile {full_name(base, contest.challenges[0].key, phase)}",
            )
    else:
        found = [c for c in contest.challenges if key in (None, c.key)]
    if not found:
        raise InputError(f"profile {profile} has no challenge {key!r}", hint=f"it has {keys}")
    asked = found[0]
    require_same_target(
        asked.target, target, names=(f"challenge {asked.key} of {profile}", "the y of the windows is"),
        hint="name the challenge that predicts it, or score windows of its target",
    )  # fmt: skip
    return asked


def _piece(challenge: Challenge, signal: Signal) -> int:
    """Return how many windows one process is given: as many as the contest's batches, and answers that one event holds."""
    numbers = math.prod(int(size) if size.isdigit() else signal.n_times for size in challenge.output[1:])
    return max(challenge.batch, min(PIECE, ANSWERED // (4 * numbers)) // challenge.batch * challenge.batch)


def _answers(
    folder: Path, contest: Profile, X: np.ndarray, *, done: Sequence[np.ndarray], name: str, ends: float
) -> np.ndarray:
    """Return what the unpacked submission answers to X (n, n_chans, n_times), in batches of the contest's own size."""
    left, before, key = max(1.0, ends - time.monotonic()), sum(map(len, done)), contest.challenges[0].key
    limits = Limits(wall_s=left, output_bytes=4 * ANSWERED)
    seen = drive(folder, contest, windows=X, n_windows=len(X), budget_s=left, limits=limits, as_scored=True)
    event = seen.first("windows", key)
    values = _numbers(event or {}, contest.challenges[0], X.shape[-1])
    if len(values) < len(X):
        raise RtserveError(
            f"{name} answered {before + len(values)} windows of challenge {key} and stopped at the next",
            hint="`rtserve check` says what stops it",
        )
    if not np.isfinite(values).all():
        bad = before + int(np.argmin(np.isfinite(values.reshape(len(values), -1)).all(axis=1)))
        raise RtserveError(f"{name} answers NaN or Inf (first: window {bad})", hint="`rtserve check` looks closer")
    return values[: len(X)]


def _numbers(event: Mapping[str, Any], challenge: Challenge, n_times: int) -> np.ndarray:
    """Return the answers in an event of the drive: (n,), or (n, numbers) as the contest reads them."""
    if challenge.single:
        return np.array(event.get("values", ()), np.float32)
    answers = np.frombuffer(base64.b64decode(event.get("answers", "")), "<f4")
    shape = [int(size) for size in event.get("shape", ())]
    if not answers.size or not math.prod(shape) or answers.size % math.prod(shape):
        return np.zeros((0, 1), np.float32)
    whole = answers.reshape(-1, *shape)
    if not challenge.reads((challenge.size, *shape)):
        read = ", ".join(challenge.output)
        raise RtserveError(
            f"challenge {challenge.key} is answered by {' x '.join(map(str, shape))} numbers a window, ({read}) is read",
            hint="`rtserve check` says what is wrong with it",
        )
    return nearest(whole, n_times).reshape(len(whole), -1) if challenge.nearest else whole.reshape(len(whole), -1)


def nearest(answers: np.ndarray, n_times: int) -> np.ndarray:
    """Return answers (..., m) at `n_times` samples: each is the last one that had begun, as a scorer resamples labels."""
    at = np.arange(n_times) * answers.shape[-1] // n_times
    return answers[..., at]
