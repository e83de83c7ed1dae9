"""What is checked of windows wherever they come from: shapes, finite values, and a scale their unit can have.

One pass over the samples, block by block; so a file of any size is checked in the memory of one block.
"""

from __future__ import annotations

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.stored import StoredArray, blocks

__all__ = ["Samples", "require_sound", "survey"]

LARGEST, SMALLEST = 1e-2, 1e-9
"""V: half the samples of scalp EEG are neither above the first nor, unless they are 0, under the second."""
_SAMPLED = 1_000_000


class Samples:
    """What one pass over the samples found.

    Parameters
    ----------
    bad : ndarray of bool, (n_windows,)
        Windows with NaN or Inf in them.
    typical : float
        Median magnitude of about a million samples spread over all windows; 0 where none is finite.
    """

    def __init__(self, *, bad: np.ndarray, typical: float) -> None:
        self.bad, self.typical = bad, typical


def survey(X: np.ndarray | StoredArray) -> Samples:
    """Go through X (n_windows, n_chans, n_times) once."""
    bad = np.zeros(len(X), bool)
    whole = int(np.prod([int(size) for size in X.shape], dtype=object))
    stride = max(1, whole // _SAMPLED)
    drawn = np.empty(-(-whole // stride), np.float32)
    seen = samples = 0
    for block in blocks(X):
        with np.errstate(over="ignore", invalid="ignore"):
            total = block.sum(axis=(1, 2))
        doubtful = np.flatnonzero(~np.isfinite(total))  # a sum is finite only where every sample is, or it overflowed
        bad[seen + doubtful] = ~np.isfinite(block[doubtful]).all(axis=(1, 2))
        seen += len(block)
        few = block.ravel()[-samples % stride :: stride]
        place = -(-samples // stride)
        np.abs(few, out=drawn[place : place + len(few)])
        samples += block.size
    drawn = drawn[np.isfinite(drawn)]
    return Samples(bad=bad, typical=float(np.median(drawn)) if drawn.size else 0.0)


def require_sound(
    X: np.ndarray | StoredArray, y: np.ndarray, unit: str | None, *, name: str, stated: str = "", finite: bool = True
) -> None:
    """Raise `InputError` where samples or targets are not finite, or the samples' scale contradicts their unit.

    Parameters
    ----------
    X, y : array, (n_windows, n_chans, n_times) and (n_windows,)
        In volts, or standardised, or in an unknown unit.
    unit : str or None
        ``"V"``, ``"1"`` or None for X as it is given here.
    name : str
        What the message calls the windows.
    stated : str
        The unit that they were said to be in, where that was another one than `unit`.
    finite : bool
        Whether NaN and Inf are refused.
    """
    found = survey(X)
    bad_y = ~np.isfinite(y.reshape(len(y), -1)).all(axis=1)
    if finite and (found.bad.any() or bad_y.any()):
        which = int(np.argmax(found.bad | bad_y))
        raise InputError(
            f"{name}: {int(found.bad.sum())} windows hold NaN or Inf, {int(bad_y.sum())} targets do (first: {which})",
            hint="drop or repair those windows first; a score over them would be NaN",
        )
    _require_scale(found.typical, unit, name, stated or str(unit))


def _require_scale(typical: float, unit: str | None, name: str, stated: str) -> None:
    if unit == "V" and typical > LARGEST:
        raise InputError(
            f"{name} says its unit is {stated}, but half its samples exceed {typical:.3g} V; EEG is about 1e-5 V",
            hint="if the samples are microvolt, set unit to 'uV' (a factor of 1e6); to '1' if they are standardised",
        )
    if unit == "V" and 0 < typical < SMALLEST:
        raise InputError(
            f"{name} says its unit is {stated}, but half its samples are under {typical:.3g} V; EEG is about 1e-5 V",
            hint="if the samples are in volts already, set unit to 'V'",
        )
    if unit == "1" and 0 < typical < 1e-4:
        raise InputError(
            f"{name} says it is standardised (unit 1), but half its samples are under {typical:.3g}: that is the size"
            " of EEG in volts",
            hint="set unit to 'V' if they are volts; standardised samples are about 1",
        )
