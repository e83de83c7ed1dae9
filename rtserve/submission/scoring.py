"""Predictions of a zip, any zip, through its real entry point: in the sandbox, window by window, as it is scored."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path

import numpy as np

from rtserve.errors import InputError, RtserveError, SpecMismatchError
from rtserve.signals.windows import WindowSet
from rtserve.spec import UNITS
from rtserve.submission.archive import read_zip, unpack
from rtserve.submission.drive import drive
from rtserve.submission.profile import load_profile
from rtserve.submission.sandbox import Limits

__all__ = ["predict_zip"]

WALL_S = 1800.0
"""Longest time the whole set may take."""


def predict_zip(
    path: str | Path, windows: WindowSet, *, challenge: str = "1", profile: str = "eeg2025", wall_s: float = WALL_S
) -> np.ndarray:
    """Return (n_windows,) predictions of a submission.

    Parameters
    ----------
    path : path
        The zip; it need not have been built here.
    windows : WindowSet
        In volts, of the profile's size.
    challenge, profile : str
        Which of the profile's networks answers.
    wall_s : float
        Seconds until it is ended.

    Raises
    ------
    InputError
        Where the zip cannot be read, the challenge is unknown, or the windows are of another size.
    RtserveError
        Where the submission fails, takes too long, or answers what is not finite.
    """
    contest = load_profile(profile)
    chosen = [c for c in contest.challenges if c.key == challenge]
    if not chosen:
        keys = ", ".join(c.key for c in contest.challenges)
        raise InputError(f"profile {profile} has no challenge {challenge!r}", hint=f"it has {keys}")
    size = (contest.signal.n_chans, contest.signal.n_times)
    if windows.X.shape[1:] != size:
        raise SpecMismatchError(
            f"the windows are {windows.X.shape[1]} x {windows.X.shape[2]}, {profile} gives a zip {size[0]} x {size[1]}",
            hint="use windows cut for that contest",
        )
    name, count = Path(path).name, len(windows)
    with tempfile.TemporaryDirectory(prefix="rtserve-") as folder:
        unpack(read_zip(path), Path(folder))
        seen = drive(
            Path(folder),
            dataclasses.replace(contest, challenges=tuple(chosen)),
            windows=windows.X / np.float32(UNITS[contest.signal.unit]),
            n_windows=count,
            budget_s=wall_s,
            limits=Limits(wall_s=wall_s),
        )
    event = seen.first("windows", challenge)
    values = np.array((event or {}).get("values", ()), np.float32)
    if len(values) < count:
        raise RtserveError(
            f"{name} answered {len(values)} of {count} windows of challenge {challenge}",
            hint="`rtserve check` says what stops it",
        )
    if not np.isfinite(values).all():
        bad = int(np.argmin(np.isfinite(values)))
        raise RtserveError(f"{name} answers NaN or Inf (first: window {bad})", hint="`rtserve check` looks closer")
    return values[:count]
