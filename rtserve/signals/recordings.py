"""One recording, read and cleaned: channels in order, band, rate, reference, volts.

Everything that can be wrong with it is an `InputError` that names the file. Each stretch without a gap is filtered and
resampled by itself, and resampling keeps every sample at its time: sample k of a stretch is its time k / rate, whatever
the length (MNE's own resampling takes the ratio of rounded lengths for the ratio of rates, and so drifts).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd
from pathlib import Path

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.channels import Choice, choose_channels, few, interpolate, referenced
from rtserve.signals.clock import Clock, Marks
from rtserve.signals.holes import around_holes, filled, without_holes
from rtserve.signals.notes import Notes, listening
from rtserve.signals.reading import Reading, read_recording
from rtserve.signals.volts import in_volts

__all__ = ["Cleaning", "Signal", "open_recording"]

CONTEST_RATE = 100.0
"""Hz of the files that the contest hands out: recorded at 500 Hz, filtered to 0.5 to 50 Hz, resampled."""
DRIFT = 0.1
"""Of a recording's spread: what its means over 10 s may vary by where it is high-passed at 0.5 Hz."""


@dataclass(frozen=True, kw_only=True)
class Cleaning:
    """What is done to every recording, in this order.

    Parameters
    ----------
    drop : tuple of str
        Channels left out first.
    channels : tuple of str
        Channels to have, in this order; ``("auto",)`` for the contest's where the recording is of that net and else
        its own EEG channels, empty for its own EEG channels.
    interpolate : bool
        Fill missing channels from their neighbours instead of refusing.
    bads : str
        What becomes of channels marked as bad: ``"drop"``, ``"interpolate"``, ``"keep"``, or ``"auto"``: left out
        among a recording's own channels, kept among the contest's (as its start kit does), refused among named ones.
    unit : str
        Unit the file's samples really are in, where its own claim is wrong; empty to trust it.
    low, high : float or None
        Band in Hz.
    filter_again : bool
        Filter also where the recording is filtered already, by its header or as one of the contest's files.
    sfreq : float or None
        New rate in Hz.
    reference : str
        ``"average"``, a channel's name, or empty for none.
    column, stim_channel : str
        Where events are named; see `rtserve.signals.reading.read_recording`.
    mask : int or None
        Bits of the trigger channel that count.
    contest : bool
        Whether windows are cut as the contest's start kit does: its files count as filtered whatever they look like.
    """

    drop: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    interpolate: bool = False
    bads: str = "auto"
    unit: str = ""
    low: float | None = 0.5
    high: float | None = 50.0
    filter_again: bool = True
    sfreq: float | None = 100.0
    reference: str = ""
    column: str = ""
    stim_channel: str = ""
    mask: int | None = None
    contest: bool = False


@dataclass(frozen=True, kw_only=True)
class Signal:
    """A cleaned recording.

    Parameters
    ----------
    path : Path
        Its file.
    data : ndarray, (n_chans, n_times)
        Volts; stretches one after the other.
    ch_names : tuple of str
        Of the rows.
    clock : Clock
        Of `data`.
    marks : tuple of Marks
        What happened, by source.
    notes : Notes
        What was assumed and done, and what MNE warned of.
    seconds : mapping of str to float
        What it took to ``read`` it, and to ``clean`` it (filter, resample, refer).
    """

    path: Path
    data: np.ndarray
    ch_names: tuple[str, ...]
    clock: Clock
    marks: tuple[Marks, ...]
    notes: Notes
    seconds: Mapping[str, float] = field(default_factory=dict)


def open_recording(path: Path, cleaning: Cleaning) -> Signal:
    """Return the cleaned recording.

    Raises
    ------
    InputError
        Where it cannot be read whole, lacks channels, holds NaN, is in another unit than it says, or cannot be
        filtered as asked.
    """
    begun = time.perf_counter()
    reading = read_recording(path, column=cleaning.column, stim_channel=cleaning.stim_channel, mask=cleaning.mask)
    notes = reading.notes
    with listening(notes):
        choice = choose_channels(
            reading.raw, path, wanted=cleaning.channels, drop=cleaning.drop, bads=cleaning.bads,
            fill=cleaning.interpolate, notes=notes,
        )  # fmt: skip
        data = in_volts(reading, choice.found, cleaning.unit)
        data = interpolate(data, choice, reading.raw.info, path)
        beside = _reference_beside(reading, choice, cleaning)
        data = np.concatenate([data, in_volts(reading, beside, cleaning.unit)]) if beside else data
        data = np.concatenate([data[:, part.start : part.stop] for part in reading.clock.stretches], axis=1)
        read = time.perf_counter()
        data, clock = _filtered(data, choice, reading, cleaning)
        data = referenced(data, choice, cleaning.reference, path, notes)
    seconds = {"read": read - begun, "clean": time.perf_counter() - read}
    return Signal(
        path=path, data=data, ch_names=choice.names, clock=clock, marks=reading.marks, notes=notes, seconds=seconds
    )


def _filtered(data: np.ndarray, choice: Choice, reading: Reading, cleaning: Cleaning) -> tuple[np.ndarray, Clock]:
    """Filter and resample every stretch."""
    import mne

    clock = reading.clock
    low, high = _band(data, choice, reading, cleaning)
    rate = cleaning.sfreq or clock.sfreq
    pieces = []
    for first, length in zip(clock.first, clock.lengths, strict=False):
        piece = data[:, first : first + length]
        try:
            if low is not None or high is not None:
                piece = around_holes(
                    piece, lambda x: np.asarray(mne.filter.filter_data(x, clock.sfreq, low, high, verbose="warning"))
                )
        except (ValueError, RuntimeError) as error:
            raise InputError(f"{reading.path} cannot be filtered: {error}", hint="see --band") from None
        if rate != clock.sfreq:
            piece = filled(piece, rate / clock.sfreq, lambda x: resample(x, clock.sfreq, rate))
        pieces.append(piece)
    return np.concatenate(pieces, axis=1), clock.at_rate(rate, [piece.shape[1] for piece in pieces])


def resample(data: np.ndarray, old: float, new: float) -> np.ndarray:
    """Return samples (n_chans, n) at another rate, sample k at the time k / new.

    A polyphase filter with MNE's design (``method="polyphase"``: Kaiser window, beta 5), at the exact ratio of the rates;
    where the new length comes out whole it gives MNE's numbers.
    """
    from scipy.signal import firwin, resample_poly

    ratio = (Fraction(new).limit_denominator(10**6) / Fraction(old).limit_denominator(10**6)).limit_denominator(10**5)
    up, down = ratio.numerator, ratio.denominator
    up, down = up // gcd(up, down), down // gcd(up, down)
    if up == down:
        return data
    widest = max(up, down)
    if data.shape[1] < 2:  # nothing to reflect at; scipy divides by its length less one
        return np.repeat(data, -(-up // down), axis=1)[:, : -(-data.shape[1] * up // down)]
    window = firwin(20 * widest + 1, 1.0 / widest, window=("kaiser", 5.0))
    out: np.ndarray = resample_poly(data, up, down, axis=1, window=window, padtype="reflect")
    return out


def _band(data: np.ndarray, choice: Choice, reading: Reading, cleaning: Cleaning) -> tuple[float | None, float | None]:
    """Return the band to filter to: what was asked for, less what is done already."""
    rate, notes = reading.clock.sfreq, reading.notes
    low, high = cleaning.low, cleaning.high
    if not cleaning.filter_again:
        if choice.of_the_net and rate == CONTEST_RATE:
            drifts = _drifts(without_holes(data), rate)
            if cleaning.contest or not drifts:
                notes.add(
                    f"recognised as the contest's own file ({len(choice.names)} channels of its net at 100 Hz, filtered"
                    " to 0.5 to 50 Hz): not filtered again"
                    + (", though it drifts as if it were not filtered; --band 0.5,50 filters it" if drifts else "")
                )
                return None, None
        low, high = _less_declared(low, high, reading, choice.found)
    if high is not None and high >= rate / 2:
        # At the recording's own Nyquist frequency there is nothing left to cut off; above it the request is a mistake.
        if high > rate / 2 and not cleaning.filter_again:
            notes.add(f"sampled at {rate:g} Hz, half of which is under {high:g} Hz: not low-passed")
        elif high > rate / 2:
            raise InputError(
                f"{reading.path} is sampled at {rate:g} Hz, a band up to {high:g} Hz needs more than {2 * high:g} Hz",
                hint="lower the band's end",
            )
        high = None
    return low, high


def _less_declared(
    low: float | None, high: float | None, reading: Reading, names: list[str]
) -> tuple[float | None, float | None]:
    """Leave out a filter that the file says was applied to all of these channels."""
    rate = reading.clock.sfreq
    passed, cut = _declared(reading, names)
    if low is not None and passed and passed >= low * (1 - 1e-6):
        reading.notes.add(f"high-passed at {passed:g} Hz already, says the file: not high-passed again")
        low = None
    if high is not None and cut and cut <= min(high, rate / 2) * (1 + 1e-6):
        if cut < rate / 2 * (1 - 1e-6):
            reading.notes.add(f"low-passed at {cut:g} Hz already, says the file: not low-passed again")
        high = None if high <= rate / 2 else high
    return low, high


def _declared(reading: Reading, names: list[str]) -> tuple[float | None, float | None]:
    """Return the band in Hz that the file says of all these channels: the widest, where it says several.

    MNE keeps one band per recording; of an EDF whose channels differ it is the narrowest, which is one channel's.
    """
    info, bands = reading.raw.info, {reading.bands.get(name, (None, None)) for name in names}
    if len(bands) < 2:
        return info["highpass"], info["lowpass"]
    lows, highs = [low or 0.0 for low, _ in bands], [high or reading.clock.sfreq / 2 for _, high in bands]
    return min(lows), max(highs)


def _drifts(data: np.ndarray, rate: float) -> bool:
    """Whether means over 10 s vary as they cannot after a high-pass at 0.5 Hz."""
    length = min(int(10 * rate), data.shape[1])
    n = data.shape[1] // length
    means = data[:, : n * length].reshape(len(data), n, length).mean(axis=2)
    return bool(np.sqrt(np.mean(means**2)) > DRIFT * max(float(np.sqrt(np.mean(data**2))), 1e-30))


def _reference_beside(reading: Reading, choice: Choice, cleaning: Cleaning) -> list[str]:
    """Return the channel to refer to where it is none of those that windows have."""
    name, raw = cleaning.reference, reading.raw
    if not name or name == "average" or name in choice.names:
        return []
    if name not in raw.ch_names:
        raise InputError(f"{reading.path} has no channel {name} to refer to", hint=f"it has {few(raw.ch_names)}")
    if name in raw.info["bads"] and cleaning.bads != "keep":
        raise InputError(
            f"{reading.path} marks {name} as bad, which --reference asks for", hint="another reference, or --bads keep"
        )
    return [name]
