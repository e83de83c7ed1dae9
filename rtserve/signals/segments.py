"""What a recording is at every moment: its marks that last, as classes, and the class that a window lies whole in."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.clock import Marks
from rtserve.signals.recordings import Signal
from rtserve.signals.wanted import Classes, natural

__all__ = ["Segments", "read_segments"]

_SLACK = 0.5
"""Of a sample: which sample a segment begins with is what its time rounds to."""


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Segments of a recording.

    Parameters
    ----------
    onset, stop : ndarray, (n,)
        In s from the recording's first sample.
    place : ndarray of int, (n,)
        Class of each.
    classes : tuple of str
        Names of the classes 0, 1, ...
    source : str
        Where they are from.
    elsewhere : int
        Class of what touches no segment; -1 for none.
    """

    onset: np.ndarray
    stop: np.ndarray
    place: np.ndarray
    classes: tuple[str, ...]
    source: str
    elsewhere: int = -1

    def of_windows(self, begin: np.ndarray, end: np.ndarray, *, rate: float, dropped: Counter[str]) -> np.ndarray:
        """Return the class of each window (n_windows,), -1 for none.

        Parameters
        ----------
        begin, end : ndarray, (n_windows,)
            In s, in ascending order.
        rate : float
            Samples in a second.
        dropped : Counter
            Counts those without a class, by reason.
        """
        n, slack = len(begin), _SLACK / rate
        found, touched = np.full(n, -1), np.zeros((len(self.classes), n), bool)
        for onset, stop, place in zip(self.onset.tolist(), self.stop.tolist(), self.place.tolist(), strict=True):
            touched[place, _between(end, begin, onset + slack, stop - slack)] = True
            found[_between(begin, end, onset - slack, stop + slack)] = place
        among = touched.sum(axis=0)
        dropped["in segments of two classes"] += int((among > 1).sum())
        dropped["not whole in a segment"] += int(((among == 1) & (found < 0)).sum())
        found[among > 1] = -1
        found[among == 0] = self.elsewhere
        if self.elsewhere < 0:
            dropped["in no segment"] += int((among == 0).sum())
        return found


def _between(first: np.ndarray, last: np.ndarray, low: float, high: float) -> slice:
    """Return which windows have `first` at `low` or later and `last` at `high` or earlier; both ascend."""
    return slice(int(np.searchsorted(first, low, "left")), int(np.searchsorted(last, high, "right")))


def read_segments(signal: Signal, *, names: tuple[str, ...] = (), column: str = "", elsewhere: str = "") -> Segments:
    """Return the segments of the first source that has any.

    Parameters
    ----------
    signal : Signal
        A recording.
    names : tuple of str
        Classes in order, with ``*`` for anything; by default every name of a mark that lasts is one.
    column : str
        Column of events.tsv with the classes; by default a mark's own name.
    elsewhere : str
        Class of what lies in no segment; it is put last where it is none of `names`.

    Raises
    ------
    InputError
        Where no mark of a class lasts.
    """
    for marks in signal.marks:
        texts = marks.fields.get(column) if column else marks.name
        if texts is None:
            continue
        lasting = (marks.duration > 0) & np.array([_means(text, marks, names) for text in texts.tolist()], bool)
        if lasting.any():
            return _segments(marks, texts, lasting, names, elsewhere, gap_s=_SLACK / signal.clock.rate)
    there = sorted({name for marks in signal.marks for name in marks.name[marks.duration > 0].tolist()})
    raise InputError(
        f"{signal.path} marks no segment of {'/'.join(names) or 'any class'}"
        + (f" in a column {column}" if column else ""),
        hint=f"segments are annotations, or rows of events.tsv, with a duration; it has {', '.join(there[:10]) or 'none'}",
    )


def _means(text: str, marks: Marks, names: tuple[str, ...]) -> bool:
    if names:
        return _classes(names).name_of(text) is not None
    return bool(text.strip()) and not (marks.quality and text.lower().startswith(("bad", "edge")))


def _segments(
    marks: Marks, texts: np.ndarray, lasting: np.ndarray, names: tuple[str, ...], elsewhere: str, *, gap_s: float
) -> Segments:
    known = names or tuple(natural(sorted(set(texts[lasting].tolist()))))
    if elsewhere and elsewhere not in known:
        known = (*known, elsewhere)
    of = _classes(known)
    place = [known.index(of.name_of(text) or "") for text in texts[lasting].tolist()]
    onset = marks.onset[lasting]
    rows = _joined(sorted(zip(onset.tolist(), (onset + marks.duration[lasting]).tolist(), place, strict=True)), gap_s)
    begins, stops, places = (np.array(column) for column in zip(*rows, strict=True))
    outside = known.index(elsewhere) if elsewhere else -1
    return Segments(onset=begins, stop=stops, place=places, classes=known, source=marks.source, elsewhere=outside)


def _joined(rows: list[tuple[float, float, int]], gap_s: float) -> list[tuple[float, float, int]]:
    """Return segments (begin, end, class) with those of one class that follow one another as one: sleep has one per 30 s."""
    found: list[tuple[float, float, int]] = []
    for begin, stop, place in rows:
        if found and found[-1][2] == place and begin <= found[-1][1] + gap_s:
            found[-1] = (found[-1][0], max(stop, found[-1][1]), place)
        else:
            found.append((begin, stop, place))
    return found


def _classes(names: tuple[str, ...]) -> Classes:
    return Classes(keys=names, places=tuple(range(len(names))))
