"""`samples_for`: a recording as a network takes it: its channels, its unit, its rate, its filter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from .montage import AVERAGE, Difference, difference, matrix
from .recording import Channel, Recording, Unusable

__all__ = ["samples_for"]

VOLTS = {"v": 1.0, "mv": 1e-3, "uv": 1e-6, "\u00b5v": 1e-6, "\u03bcv": 1e-6, "nv": 1e-9}
"""Units of EDF's field and their size in volts; micro is written with a u, the sign of Latin-1, or the Greek letter."""
FINEST = 10_000
"""Largest factor of a change of rates; beyond it two rates are taken for one fraction that is 1e-8 away."""
SPARSE = 16
"""Most samples that are made of one. A header that is wrong by a power of ten is beyond it; and of 256 Hz a sixteenth holds
nothing above 8 Hz, which is no electroencephalogram any more."""


def samples_for(recording: Recording, spec: Mapping[str, Any]) -> tuple[np.ndarray, list[str]]:
    """Return a recording's samples (n_chans, n), float32, and what has to be said of them.

    Parameters
    ----------
    recording : Recording
        What is read.
    spec : mapping
        ``channels``, ``unit``, ``sfreq``, ``taps`` of the network; ``names``, ``fill`` and ``file_unit`` of the contest.

    Raises
    ------
    Unusable
        Where the network's channels do not follow from the recording's, or a unit or rate is not known.
    """
    has, channels, notes = _named(recording, spec["names"])
    wanted = [_wanted(label, spec["names"]) for label in spec["channels"]]
    factors, lacking = matrix(has, wanted, spec["names"]["electrodes"])
    notes += _filled(recording, [spec["channels"][place] for place in lacking], len(wanted), spec["fill"])
    used = np.flatnonzero(np.abs(factors).sum(axis=0))
    taken = [channels[place] for place in used.tolist()]
    rate = _rate(recording, taken)
    wanted_rate = Fraction(str(spec["sfreq"]))
    notes += _slow(recording.name, rate, wanted_rate)
    scale = [_volts(channel, spec["file_unit"], recording.name, notes) for channel in taken]
    mixed = factors[:, used] * np.array(scale) / VOLTS[spec["unit"].casefold()]
    x, at = np.empty((len(wanted), round(recording.there * rate)), np.float32), 0
    for block in recording.blocks(taken):  # a day in float64 would not fit into many a machine
        x[:, at : at + block.shape[1]] = mixed @ block
        at += block.shape[1]
    x = resampled(x, rate, wanted_rate)
    return filtered(x, spec["taps"]), notes


def _named(recording: Recording, names: Mapping[str, Any]) -> tuple[list[Difference], list[Channel], list[str]]:
    """Return what the channels of a file stand for, each once, the channels, and what was passed over."""
    found: dict[Difference, Channel] = {}
    notes: list[str] = []
    for channel in recording.channels:
        one = difference(channel.label, names)
        if one is None or one.plus == one.minus:
            continue
        if channel.faulty:
            notes.append(f"{channel.label} of {recording.name} is not used: {channel.faulty}")
        elif one in found:
            notes.append(f"{channel.label} of {recording.name} is not used: {found[one].label} before it is the same")
        else:
            found[one] = channel
    return list(found), list(found.values()), notes


def _wanted(label: str, names: Mapping[str, Any]) -> Difference:
    """Return what a network's channel stands for; one that names no reference is meant as the contest refers its own."""
    one = difference(label, names, reference=AVERAGE)
    if one is None:
        raise Unusable(f"the network takes {label}, which is no electrode of this contest")
    return one


def _filled(recording: Recording, lacking: Sequence[str], n_wanted: int, fill: int) -> list[str]:
    """Return what is said of channels that are filled with zeros, as the contest's own conversion does; few may be."""
    if not lacking:
        return []
    if len(lacking) > fill:
        has = _some([channel.label for channel in recording.channels]) or "none"
        raise Unusable(
            f"{len(lacking)} of the network's {n_wanted} channels do not follow from those of {recording.name}"
            f" ({_some(lacking)}): it has {has}; at most {fill} are filled with zeros"
        )
    return [f"{recording.name} lacks {', '.join(lacking)}: filled with zeros"]


def _some(labels: Sequence[str]) -> str:
    return ", ".join([*labels[:4], f"{len(labels) - 4} more"] if len(labels) > 5 else labels)


def _rate(recording: Recording, taken: Sequence[Channel]) -> Fraction:
    rates = {channel.rate for channel in taken}
    if len(rates) > 1:
        said = ", ".join(f"{channel.label} {float(channel.rate):g} Hz" for channel in taken[:24])
        raise Unusable(f"the channels of {recording.name} have several rates: {said}")
    rate = next(iter(rates), Fraction(0))
    if not rate:
        raise Unusable(f"{recording.name} states no rate of its channels")
    return rate


def _slow(name: str, rate: Fraction, wanted: Fraction) -> list[str]:
    """Return what is said of a recording slower than the network's windows, or raise `Unusable`."""
    if rate * SPARSE < wanted:
        raise Unusable(f"{name} has {float(rate):g} Hz: too few for a network that takes {float(wanted):g} Hz")
    if rate >= wanted:
        return []
    return [f"{name} has {float(rate):g} Hz: above {float(rate / 2):g} Hz there is nothing for the network to see"]


def _volts(channel: Channel, default: str, name: str, notes: list[str]) -> float:
    unit = channel.unit.strip()
    if not unit:
        said = f"{name} states no unit of some channels: taken for {default}"
        notes += [] if said in notes else [said]
    found = VOLTS.get((unit or default).casefold())
    if found is None:
        raise Unusable(f"{channel.label} of {name} is in {unit!r}, which is no unit of volts")
    return found


def resampled(x: np.ndarray, rate: Fraction, wanted: Fraction) -> np.ndarray:
    """Return samples (n_chans, n) at another rate, without delay, float32; as they are where the rate is the same."""
    if rate == wanted or not x.shape[1]:
        return x
    from scipy.signal import resample_poly

    ratio = (wanted / rate).limit_denominator(FINEST)
    out = np.empty((len(x), int(x.shape[1] * wanted / rate)), np.float32)
    for place, row in enumerate(x):
        out[place] = resample_poly(row, ratio.numerator, ratio.denominator, padtype="line")[: out.shape[1]]
    return out


def filtered(x: np.ndarray, taps: Sequence[float]) -> np.ndarray:
    """Return samples through a symmetric filter, without delay, float32; the ends are continued as their reflection."""
    if not len(taps) or not x.shape[1]:
        return x
    from scipy.signal import oaconvolve

    half, h = len(taps) // 2, np.asarray(taps)
    out = np.empty_like(x)
    for place, row in enumerate(x):
        ends = min(half, len(row) - 1)
        left, right = 2 * row[0] - row[ends:0:-1], 2 * row[-1] - row[-2 : -ends - 2 : -1]
        rest = np.zeros(half - ends)
        whole = np.concatenate([rest, left, row, right, rest], dtype=np.float64)
        out[place] = oaconvolve(whole, h, mode="valid")
    return out
