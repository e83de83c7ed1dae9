"""Preparing the windows that another project cached: what options mean for them, and what is assumed of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rtserve.errors import InputError
from rtserve.signals.caches import read_cache
from rtserve.signals.numbering import Numbered
from rtserve.signals.options import ENDINGS
from rtserve.signals.prepare import Prepared
from rtserve.signals.windows import save_windows

__all__ = ["CacheAsked", "prepare_cache", "require_recordings"]

_MEANT = ("unit", "sfreq", "window", "target", "force", "jobs", "keep_going", "resume")
"""Options that say something of a cache, or nothing of any recording."""


@dataclass(frozen=True, kw_only=True)
class CacheAsked:
    """What the user says of a cache, which says nothing of it itself.

    Parameters
    ----------
    unit : str or None
        Of its samples.
    sfreq : float
        Hz.
    window : tuple of float
        Begin and end in s from the event.
    target : str
        What its labels are.
    given : sequence of str or None
        Names of the options that the user chose; the others are assumed. None for all.
    """

    unit: str | None
    sfreq: float
    window: tuple[float, float]
    target: str
    given: Sequence[str] | None = None


def prepare_cache(path: Path, output: Path, asked: CacheAsked, *, force: bool) -> Prepared:
    """Write the windows of a cache as a window set.

    Raises
    ------
    InputError
        Where an option has no meaning for a cache, contradicts it, or the output is the cache.
    """
    other = [name for name in asked.given or () if name not in _MEANT]
    if other:
        option = "--" + other[0].replace("_", "-")
        raise InputError(
            f"{path} holds windows that are cut already: {option} has no meaning for them",
            hint="leave it out, or prepare the recordings that they are from",
        )
    if output.exists() and output.samefile(path):
        raise InputError(f"output {output} is the source itself", hint="choose another name")
    if not asked.sfreq:
        raise InputError(f"{path} does not say its rate", hint="--sfreq 100 says it")
    if asked.unit == "nV":
        raise InputError(f"{path}: windows in nV are not read", hint="write them in uV, mV or V")
    start, stop = asked.window
    windows = read_cache(path, unit=asked.unit or "V", sfreq=asked.sfreq, t0=start, target=asked.target)
    n = windows.X.shape[2]
    if "window" in (asked.given or ()) and round((stop - start) * asked.sfreq) != n:
        raise InputError(
            f"{path} has windows of {n} samples, {n / asked.sfreq:g} s at {asked.sfreq:g} Hz, and --window of"
            f" {stop - start:g} s",
            hint="--window begins at the first sample, --sfreq is the rate that they are at",
        )
    said = {"sfreq": f"{asked.sfreq:g} Hz", "window": f"first sample at {start:g} s", "unit": "unit V",
            "target": f"labels are {asked.target}"}  # fmt: skip
    assumed = [text for name, text in said.items() if name not in (said if asked.given is None else asked.given)]
    save_windows(output, windows, force=force)
    return Prepared(
        path=output,
        n_windows=len(windows),
        n_recordings=1,
        n_subjects=len(set(windows.subject.tolist())),
        notes=(f"assumed, since {path.name} does not say: {', '.join(assumed)}",) if assumed else (),
        targets=(Numbered(name=windows.target, values=(windows.y,)).to_dict(),),
    )


def require_recordings(sources: Sequence[str], unit: str | None) -> None:
    """Raise `InputError` where a source is a file of windows, or the unit is one that no recording has."""
    odd = next((source for source in sources if Path(source).suffix.lower() in ENDINGS), None)
    if odd is not None and Path(odd).is_file():
        raise InputError(
            f"{odd} is no recording: files of that name hold windows that are cut already",
            hint="a window set needs no preparing; a cache with eeg and labels, or data and targets, is named alone",
        )
    if unit == "1":
        raise InputError("--unit 1 is of windows that are normalised, not of recordings", hint="--unit uV, mV or V")
