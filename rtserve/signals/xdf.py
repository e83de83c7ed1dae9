"""Lab Streaming Layer's .xdf: its stream of type EEG and the markers of its other streams, by their time stamps.

Every sample and every marker has a stamp; clock offsets between the machines are taken out by pyxdf. Samples come
evenly but for how long they were on their way, so a straight line through the stamps of a stretch says when each one
was taken; where samples were lost (`rtserve.signals.losses`) the stretch ends. Markers keep their stamps: a response time is
the difference of two, whatever the samples' rate. The rate that a stream names is its maker's intent; where the stamps
say another by more than a thousandth, theirs is taken.
"""

from __future__ import annotations

import itertools
import logging
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.signals.clock import Marks, Stretch
from rtserve.signals.losses import lasts, losses_of
from rtserve.signals.notes import Remark
from rtserve.spec import UNITS, spelled_unit

__all__ = ["Stamped", "read_xdf"]

_TOLERATED = 1e-3
"""Of the named rate: amplifiers' clocks differ by a few in 100,000, other causes by more than this."""
_BREAK_S = 0.25
"""Between the stamps of two samples: longer than what a network delays, so that samples are missing there."""
_NEAR = 1 << 16
"""Samples on each side that are looked at for whether a break is one, or the end of a delay."""
_OURS = re.compile("Segments and clock-segments differ")
"""pyxdf says so of every stream whose stamps it was asked to leave as they are."""
_STRAY_S = 0.01
"""How far stamps may stray from a straight line for a second and longer before it is said."""


@dataclass(frozen=True, kw_only=True)
class Stamped:
    """A recording whose samples and events have time stamps.

    Parameters
    ----------
    raw : mne.io.Raw
        The samples, one after the other, without annotations.
    stretches : list of Stretch
        When they were taken.
    marks : Marks
        The markers, in s from the first sample.
    """

    raw: Any
    stretches: list[Stretch]
    marks: Marks


def read_xdf(path: Path) -> Stamped:
    """Return the one EEG stream of a file, with its markers.

    Raises
    ------
    EnvironmentMissingError
        Without pyxdf.
    InputError
        Where the file does not hold exactly one EEG stream with a constant rate, is not whole, or does not say the unit.
    """
    try:
        import pyxdf
    except ImportError:
        raise EnvironmentMissingError(f"recording {path} needs pyxdf", hint="pip install pyxdf") from None
    with open(path, "rb") as handle, _said_by("pyxdf", path):  # opened here: pyxdf leaves what is none of its kind open
        streams, _ = pyxdf.load_xdf(handle, dejitter_timestamps=False)
    eeg = [s for s in streams if s["info"]["type"][0].lower() == "eeg" and float(s["info"]["nominal_srate"][0]) > 0]
    if len(eeg) != 1:
        there = ", ".join(f"{s['info']['name'][0]} ({s['info']['type'][0]})" for s in streams) or "none"
        raise InputError(
            f"{path} holds {len(eeg)} streams of EEG with a constant rate; its streams are {there}",
            hint="save the one to use in a file of its own",
        )
    _require_whole(streams, path)
    return _stamped(eeg[0], [s for s in streams if _is_markers(s)], path)


@contextmanager
def _said_by(name: str, path: Path) -> Iterator[None]:
    """Make warnings of what a library logs, and an error of a file that it could read in part only."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(name)
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
    for line in dict.fromkeys(line for line in said if not _OURS.search(line)):
        if re.search("corrupt|truncat|scanning forward", line, re.IGNORECASE):
            raise InputError(
                f"recording {path} cannot be read whole: {name} says {line}", hint="copy it again; is it cut off?"
            )
        warnings.warn(f"{name}: {line}", category=Remark, stacklevel=3)


def _require_whole(streams: list[Any], path: Path) -> None:
    """Compare the samples of each stream with the number that its footer says, where it has one."""
    for stream in streams:
        footer = (stream.get("footer") or {}).get("info") or {}
        promised, held = footer.get("sample_count", [""])[0], len(stream["time_stamps"])
        if str(promised).isdecimal() and int(promised) > held:
            raise InputError(
                f"recording {path} is cut off: its stream {stream['info']['name'][0]} has {held:,} samples, its footer"
                f" promises {int(promised):,}",
                hint="copy it again",
            )
    if any(s.get("footer") for s in streams) and not all(s.get("footer") for s in streams):
        warnings.warn(
            "a stream has no end (footer) while others do: was its recording cut off?", category=Remark, stacklevel=2
        )


def _is_markers(stream: Any) -> bool:
    """Whether a stream holds texts, or numbers at irregular times that are called markers."""
    about = stream["info"]
    if about["channel_format"][0] == "string":
        return True
    irregular = float(about["nominal_srate"][0]) == 0 and int(about["channel_count"][0]) == 1
    return irregular and re.search("marker|event|stim|trigger", about["type"][0], re.IGNORECASE) is not None


def _stamped(stream: Any, others: list[Any], path: Path) -> Stamped:
    import mne

    stamps = np.asarray(stream["time_stamps"], float)
    if len(stamps) < 2:
        raise InputError(f"{path}: its EEG stream holds {len(stamps)} samples", hint="is it the right file?")
    rate, stretches = _stretches(stamps, float(stream["info"]["nominal_srate"][0]), path)
    names, factors = _channels(stream, path)
    data = np.asarray(stream["time_series"], float).T * np.array(factors)[:, None]
    raw = mne.io.RawArray(data, mne.create_info(names, rate, "eeg", verbose="error"), verbose="error")
    begin = stretches[0].time
    times = np.concatenate([np.empty(0), *(np.asarray(other["time_stamps"], float) for other in others)])
    said = [_text(row) for other in others for row in other["time_series"]]
    marks = Marks(
        source="annotations", onset=times - begin, duration=np.zeros(len(times)), name=np.array(said, "U"),
    )  # fmt: skip
    placed = [Stretch(start=p.start, stop=p.stop, time=p.time - begin, pace=p.pace) for p in stretches]
    return Stamped(raw=raw, stretches=placed, marks=marks)


def _text(row: Any) -> str:
    value = np.asarray(row).ravel()[0]
    return f"{float(value):g}" if isinstance(value, int | float | np.number) else str(value)


def _stretches(stamps: np.ndarray, nominal: float, path: Path) -> tuple[float, list[Stretch]]:
    """Return the samples' rate in Hz and their stretches, by straight lines through stamps without a break."""
    usual = float(np.median(np.diff(stamps)))
    if not np.isfinite(stamps).all() or not (usual > 0 or stamps[-1] > stamps[0]):
        raise InputError(
            f"{path}: the time stamps of its EEG stream are no numbers, or do not go on",
            hint="see them with pyxdf.load_xdf",
        )
    steps = np.diff(stamps)
    joins = np.flatnonzero(np.abs(steps) > max(_BREAK_S, 1.5 / nominal, 1.5 * usual)) + 1
    joins = np.array(
        [at for at in joins.tolist() if lasts(stamps[max(0, at - _NEAR) : at + _NEAR], min(at, _NEAR))], int
    )
    parts = _parts(stamps, [0, *joins.tolist(), len(stamps)], nominal)
    lines = [_line(stamps[a:b], nominal) for a, b in parts]
    _require_onwards(parts, lines, path)
    whole = [(b - a - 1, step) for (a, b), (_, step, _) in zip(parts, lines, strict=True) if b - a > 1]
    effective = sum(n for n, _ in whole) / sum(n * step for n, step in whole) if whole else nominal
    rate = nominal
    if abs(effective / nominal - 1) > _TOLERATED:
        rate = float(f"{effective:.6g}")
        warnings.warn(
            f"the EEG stream names {nominal:g} Hz, by its time stamps it has {rate:g} Hz, which is taken",
            category=Remark,
            stacklevel=2,
        )
    if (stray := max(far for *_, far in lines)) > _STRAY_S:
        warnings.warn(
            f"time stamps stray up to {1000 * stray:.0f} ms from even ones: samples were late",
            category=Remark,
            stacklevel=2,
        )
    return rate, [
        Stretch(start=a, stop=b, time=first, pace=_pace(step * rate, b - a))
        for (a, b), (first, step, _) in zip(parts, lines, strict=True)
    ]


def _parts(stamps: np.ndarray, edges: list[int], nominal: float) -> list[tuple[int, int]]:
    """Return the samples that follow one another, (first, last + 1) each: between breaks, and between lost samples."""
    out: list[tuple[int, int]] = []
    lost: list[int] = []
    seen = 0.0
    for begin, end in itertools.pairwise(edges):
        found = losses_of(stamps[begin:end], nominal)
        seen = max(seen, found.seen)
        lost += [begin + before for before, _ in found.places]
        starts = [begin, *(begin + after for _, after in found.places)]
        stops = [*(begin + before + 1 for before, _ in found.places), end]
        out += [(start, stop) for start, stop in zip(starts, stops, strict=True) if start < stop]
    _tell_losses(lost, stamps, seen)
    return out


def _tell_losses(lost: list[int], stamps: np.ndarray, seen: float) -> None:
    """Say where samples are missing, and how many must be for it to be seen."""
    if lost:
        warnings.warn(
            f"samples are missing (or doubled) at {len(lost)} places by the time stamps, which stay off their line there"
            f" (first after {stamps[lost[0]] - stamps[0]:.3f} s): each is a gap",
            category=Remark,
            stacklevel=4,
        )
    if seen > 1.0:
        least = f"fewer than {math.ceil(seen)} missing samples" if np.isfinite(seen) else "missing samples"
        warnings.warn(
            f"time stamps are too uneven to show {least}, which would make windows as much wrong",
            category=Remark,
            stacklevel=4,
        )


def _require_onwards(parts: list[tuple[int, int]], lines: list[tuple[float, float, float]], path: Path) -> None:
    """Refuse stretches of which one begins before the last has ended: an event then had two places."""
    for (first, step, _), (begin, _, _), (start, stop) in zip(lines, lines[1:], parts, strict=False):
        overlap = first + step * (stop - start) - begin
        if overlap > _BREAK_S / 2:
            raise InputError(
                f"{path}: the time stamps of its EEG stream go back by {overlap:.3g} s at sample {stop:,}",
                hint="was a clock set meanwhile? record the clock offsets, or save the parts as files of their own",
            )


def _pace(period: float, n: int) -> float:
    """Return 1 / period, and exactly 1 where the difference is a thousandth of a sample at the end of n samples."""
    return 1.0 if abs(period - 1.0) * n < 1e-3 else 1.0 / period


def _line(stamps: np.ndarray, nominal: float) -> tuple[float, float, float]:
    """Return first stamp and step in s of the straight line, and how far the stamps stray from it for a second."""
    n = len(stamps)
    if n < 2:
        return float(stamps[0]), 1.0 / nominal, 0.0
    k = np.arange(n) - (n - 1) / 2
    step = float((k @ (stamps - stamps.mean())) / (k @ k))
    if not step > 0:
        return float(stamps[0]), 1.0 / nominal, float(np.ptp(stamps))
    first = float(stamps.mean()) - step * (n - 1) / 2
    off = stamps - (first + step * np.arange(n))
    for _ in range(3):  # what came late says nothing of when samples were taken
        kept = np.abs(off) <= max(3 * 1.4826 * float(np.median(np.abs(off))), 1e-4 * step)
        if kept.all() or kept.sum() < 2:
            break
        step, first = (float(x) for x in np.polyfit(np.flatnonzero(kept), stamps[kept] - stamps[0], 1))
        first += float(stamps[0])
        off = stamps - (first + step * np.arange(n))
    size = min(n, max(1, round(1.0 / step)))
    means = off[: n // size * size].reshape(-1, size).mean(axis=1)
    return first, step, float(np.abs(means).max())


def _channels(stream: Any, path: Path) -> tuple[list[str], list[float]]:
    """Return names and what brings each channel to volts."""
    n = int(stream["info"]["channel_count"][0])
    try:
        listed = stream["info"]["desc"][0]["channels"][0]["channel"]
        names = [channel["label"][0] for channel in listed]
        units = [str(channel["unit"][0] or "") for channel in listed]
    except (KeyError, TypeError, IndexError):
        names, units = [f"EEG{k + 1}" for k in range(n)], ["microvolts"] * n
        warnings.warn(
            "the stream names no channels and no unit: EEG1, EEG2, ... in microvolt are assumed",
            category=Remark,
            stacklevel=2,
        )
    spelled = [spelled_unit(unit) for unit in units]
    unknown = next((unit for unit, known in zip(units, spelled, strict=True) if not known), None)
    if unknown is not None or len(names) != n:
        raise InputError(
            f"{path}: its EEG stream names {len(names)} of {n} channels, with a unit {unknown or units[0]!r}",
            hint="known units are V, mV and uV, as letters or as words",
        )
    return names, [UNITS[unit] for unit in spelled]
