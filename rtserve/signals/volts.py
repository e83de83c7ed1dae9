"""Samples in volts: what the file's claim makes of them, or what they really are; checked at both ends and per channel."""

from __future__ import annotations

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.claims import multiplied
from rtserve.signals.gdf import declared
from rtserve.signals.holes import opened, without_holes
from rtserve.signals.reading import Reading
from rtserve.spec import UNITS

__all__ = ["in_volts"]

_SIZES = UNITS | {"nV": 1e-9}
LARGEST_V = 5e-3
SMALLEST_V = 1e-7
"""Half of a recording's samples are under the first, and its spread is over the second, whatever the amplifier."""
ODD = 100.0
"""Times the others' spread from which a channel is worth a word."""


def in_volts(reading: Reading, names: list[str], unit: str) -> np.ndarray:
    """Return the samples (n_chans, n_times) of some channels in volts.

    Parameters
    ----------
    reading : Reading
        The recording; MNE has multiplied its samples by the unit the file claims.
    names : list of str
        Channels, in order.
    unit : str
        What the file's samples really are in; it takes the place of the claim. Empty to trust the claim.

    Raises
    ------
    InputError
        Where there is no sample, NaN or Inf outside a segment marked as bad, or a scale that no scalp EEG has.
    """
    data: np.ndarray = reading.raw.get_data([reading.raw.ch_names.index(name) for name in names])
    claimed = np.array([multiplied(reading.raw, reading.path, name) for name in names])
    if unit:
        if not np.isfinite(claimed).all():
            raise InputError(
                f"{reading.path}: --unit {unit} cannot be applied, what MNE multiplied its samples by is not known",
                hint="convert it to .fif or EDF in the right unit",
            )
        data = data * (_SIZES[unit] / claimed)[:, None]
    elif reading.path.suffix.lower() == ".gdf":
        data, claimed = _as_declared(data, claimed, names, reading)
    _require_finite(data, names, reading)
    sound = without_holes(data)
    if not sound.size:
        raise InputError(f"{reading.path} holds no sample that is a number", hint="is it the right file?")
    _require_plausible(sound, claimed, unit, reading)
    _compare_channels(sound, claimed if not unit else np.full(len(names), _SIZES[unit]), names, reading)
    return data


def _as_declared(
    data: np.ndarray, claimed: np.ndarray, names: list[str], reading: Reading
) -> tuple[np.ndarray, np.ndarray]:
    """Return a .gdf's samples and their factors by the units that it names, of which MNE does not know all."""
    every = declared(reading.path)
    if len(every) != len(reading.raw.ch_names):
        return data, claimed
    own = np.array([every[reading.raw.ch_names.index(name)] for name in names])
    own = np.where(np.isfinite(own), own, claimed)
    if not (own == claimed).all():
        reading.notes.add(
            "the .gdf names units that MNE takes for volts (nV, or mV in version 1): they are taken as named"
        )
    return data * (own / claimed)[:, None], own


def _require_finite(data: np.ndarray, names: list[str], reading: Reading) -> None:
    if not data.size:
        raise InputError(f"{reading.path} holds no sample", hint="is it the right file?")
    bad = ~np.isfinite(data)
    if bad.any() and (holes := opened(data, reading.clock, reading.marks)).any():
        bad &= ~holes
        reading.notes.add(
            f"NaN in segments marked as bad ({int(holes.sum()) / reading.clock.sfreq:g} s): no window has them, and what"
            " lies between is filtered by itself"
        )
    for part in reading.clock.stretches:
        if bad[:, part.start : part.stop].any():
            channel, sample = (int(i) for i in np.argwhere(bad)[0])
            raise InputError(
                f"{reading.path} holds {int(bad.sum())} samples that are NaN or Inf, first in {names[channel]} at"
                f" {sample / reading.clock.sfreq:.3f} s",
                hint="mark the segment as BAD or repair it: a filter would spread it over the whole channel",
            )


def _require_plausible(data: np.ndarray, claimed: np.ndarray, unit: str, reading: Reading) -> None:
    """Refuse a scale that no scalp EEG has, and name the unit that would explain it."""
    around = np.abs(data - np.median(data, axis=1, keepdims=True))
    typical, spread = float(np.median(around)), float(np.sqrt(np.mean(around**2)))
    if typical <= LARGEST_V and not 0.0 < spread < SMALLEST_V:
        return
    said = f"with --unit {unit}" if unit else "after MNE's conversion by the unit the file claims"
    what = f"half its samples exceed {typical:.3g} V" if typical > LARGEST_V else f"its samples vary by {spread:.3g} V"
    size = _SIZES[unit] if unit else float(np.median(claimed))
    numbers = (typical if typical > LARGEST_V else spread) / size if np.isfinite(size) else np.nan
    fitting = [name for name in ("V", "mV", "uV", "nV") if 1e-6 <= numbers * _SIZES[name] <= 1e-3]
    factor = f"; a factor of {size / _SIZES[fitting[0]]:.0e}".replace("e+0", "e") if fitting else ""
    raise InputError(
        f"{reading.path}: {what} {said}, EEG has about 1e-5 V{factor}",
        hint=f"--unit {fitting[0]} takes the file's own numbers for {fitting[0]}"
        if fitting
        else "write the file again in the right unit",
    )


def _compare_channels(data: np.ndarray, claimed: np.ndarray, names: list[str], reading: Reading) -> None:
    """Refuse channels that another unit explains, and speak of those on another scale than the rest."""
    spread = np.median(np.abs(data - np.median(data, axis=1, keepdims=True)), axis=1)
    flat = [name for name, row in zip(names, data, strict=True) if row.min() == row.max()]
    if flat:
        every = f"all {len(names)} channels" if len(flat) == len(names) else ", ".join(flat[:8])
        reading.notes.add(f"the same value in every sample: {every}")
    usual = float(np.median(spread[spread > 0])) if (spread > 0).any() else 0.0
    odd = [k for k in np.flatnonzero(spread > 0) if not 1 / ODD < spread[k] / usual < ODD]
    other = [k for k in odd if claimed[k] != np.median(claimed)]
    if other:
        k = other[0]
        raise InputError(
            f"{reading.path}: channel {names[k]} is declared in another unit than the rest and is {spread[k] / usual:.3g}"
            " times as large",
            hint=f"--drop {names[k]}, or --unit for the unit that all channels are really in",
        )
    if odd:
        listed = ", ".join(f"{names[k]} ({spread[k] / usual:.3g} times)" for k in odd[:8])
        reading.notes.add(f"channels on another scale than the rest: {listed}; is their unit right, are they EEG?")
