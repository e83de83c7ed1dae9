"""What the options of ``rtserve prepare`` may say: nonsense is an error that names the option, before a file is read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rtserve.errors import InputError
from rtserve.signals.patterns import listed

__all__ = [
    "band",
    "channel_names",
    "pair",
    "require_names",
    "require_rate",
    "require_size",
    "require_window_name",
    "window",
]

ENDINGS = (".npz", ".h5", ".hdf5")
"""Of a file of windows."""
SLOWEST_HZ, FASTEST_HZ = 1.0, 1e5
_ALONE = ("auto", "all", "contest")


def pair(text: str, option: str, example: str) -> tuple[float, float]:
    """Return two numbers with a comma between them.

    Raises
    ------
    InputError
        Where it is something else, or one is not finite.
    """
    try:
        first, second = (float(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--{option} {text!r} is not two numbers", hint=f"for example --{option}={example}") from None
    if not (math.isfinite(first) and math.isfinite(second)):
        raise InputError(f"--{option} {text!r} is not two finite numbers", hint=f"for example --{option}={example}")
    return first, second


def window(text: str, rate: float) -> tuple[float, float]:
    """Return begin and end in s; at a rate of more than 0 Hz at least a sample lies between."""
    start, stop = pair(text, "window", "0.5,2.5")
    if not start < stop:
        raise InputError(f"--window {text!r} ends before it begins", hint="for example --window=0.5,2.5")
    if rate and round((stop - start) * rate) < 1:
        raise InputError(
            f"--window {text!r} holds no sample at {rate:g} Hz", hint="a longer window, or a higher --sfreq"
        )
    return start, stop


def band(text: str) -> tuple[float, float]:
    """Return the band's ends in Hz, 0 for an open one."""
    low, high = pair(text, "band", "0.5,50")
    if low < 0 or high < 0 or not (low < high or high == 0):
        wrong = "has an end below 0 Hz" if min(low, high) < 0 else "ends before it begins"
        raise InputError(f"--band {text!r} {wrong}", hint="for example --band=0.5,50; 0 is an open end")
    return low, high


def require_rate(rate: float) -> None:
    """Raise `InputError` where a rate in Hz is neither 0 nor one at which EEG is kept."""
    if rate != 0 and not SLOWEST_HZ <= rate <= FASTEST_HZ:
        raise InputError(
            f"--sfreq {rate:g} is no rate in Hz from {SLOWEST_HZ:g} to {FASTEST_HZ:g}",
            hint="--sfreq 100, or 0 for the recording's own",
        )


def require_size(value: float, option: str, *, example: str) -> None:
    """Raise `InputError` where a number is negative or not finite."""
    if not 0 <= value < math.inf:
        raise InputError(f"--{option} {value:g} is not a number from 0", hint=f"for example --{option} {example}")


def channel_names(
    channels: str, drop: str | None, *, contest: Sequence[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the channels to have, as `rtserve.signals.recordings.Cleaning` says them, and those to leave out.

    Raises
    ------
    InputError
        Where no channel is named, one is named twice or in both, or a word for several stands beside names.
    """
    wanted, without = listed(channels), listed(drop)
    for option, names, given in (("channels", wanted, channels), ("drop", without, drop)):
        if given is not None and not names:
            raise InputError(f"--{option} {given!r} names no channel", hint=f"--{option} Fz,Cz")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"--{option} {given!r} names {twice} twice", hint="name every channel once")
    both = next((name for name in wanted if name in without), None)
    if both is not None:
        raise InputError(f"--channels names {both}, which --drop leaves out", hint="name it in one of them")
    if len(wanted) == 1 and wanted[0] in _ALONE:
        return {"contest": tuple(contest), "auto": ("auto",), "all": ()}[wanted[0]], tuple(without)
    word = next((name for name in wanted if name in _ALONE), None)
    if word is not None:
        raise InputError(f"--channels {channels!r} has {word} beside names of channels", hint="one or the other")
    return tuple(wanted), tuple(without)


def require_names(**events: str | None) -> None:
    """Raise `InputError` where an option for events is given and names none."""
    for option, text in events.items():
        if text is not None and not listed(text):
            raise InputError(f"--{option} {text!r} names no event", hint=f"--{option} NAME, or leave it out")


def require_window_name(path: Path) -> None:
    """Raise `InputError` where a name is not that of a file of windows: it may be that of something dear."""
    if path.suffix.lower() not in ENDINGS:
        raise InputError(
            f"output {path} does not end in .npz or .h5", hint=f"for example -o {path.with_suffix('.npz').name}"
        )
