"""From a source's samples to a graph's: its channels in its order, its unit, its filters, hop by hop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import InputError, SpecMismatchError
from rtserve.spec import UNITS, electrode
from rtserve.streaming.live.causal import Causal, causal_for

if TYPE_CHECKING:
    from rtserve.streaming.live.source import About
    from rtserve.streaming.step_graph import StepGraph

__all__ = ["Fitting", "Hop", "fitting_for"]


@dataclass(frozen=True, kw_only=True)
class Hop:
    """The samples of a step.

    Parameters
    ----------
    x : ndarray, float32, (1, n_chans, hop)
        As the graph takes them.
    last : float
        Time of the last one on the source's clock.
    settled : bool
        Whether nothing of the filter's start is in the window that ends here.
    """

    x: np.ndarray
    last: float
    settled: bool


class Fitting:
    """Makes hops of chunks.

    Parameters
    ----------
    rows : ndarray of int, (n_chans,)
        Which of the source's channels the graph takes, in its order.
    factor : float
        From the source's unit to the graph's.
    causal : Causal
        Filters.
    hop, window : int
        Samples of a step and of a window.
    """

    def __init__(self, *, rows: np.ndarray, factor: float, causal: Causal, hop: int, window: int) -> None:
        self.rows, self.factor, self.causal, self.hop, self.window = rows, factor, causal, hop, window
        self._x = np.empty((1, len(rows), hop), np.float32)
        self.reset()

    def reset(self) -> None:
        """Begin anew: what was taken in does not go with what comes."""
        self.causal.reset()
        self.left = self._seen = 0

    def add(self, x: np.ndarray, times: np.ndarray) -> Iterator[Hop]:
        """Take in samples (n_source_chans, n) and give every hop that they complete; its array is used again."""
        fitted = self.causal(self.factor * x[self.rows])
        start = 0
        while start < fitted.shape[1]:
            end = min(start + self.hop - self.left, fitted.shape[1])
            self._x[0, :, self.left : self.left + end - start] = fitted[:, start:end]
            self.left, start = self.left + end - start, end
            if self.left == self.hop:
                self.left, self._seen = 0, self._seen + self.hop
                settled = self._seen - self.window >= self.causal.settles
                yield Hop(x=self._x, last=float(times[end - 1]), settled=settled)


def fitting_for(
    step: StepGraph, about: About, *, unit: str = "", source_unit: str = "", filtered: bool = False
) -> Fitting:
    """Return what brings a source's samples to a step.

    Parameters
    ----------
    step : StepGraph
        What takes them.
    about : About
        Of the source.
    unit : str
        Unit of the graph's windows where it does not say it.
    source_unit : str
        Unit of the source where it says none of any channel that is taken.
    filtered : bool
        Whether the samples had what the graph says was done to its windows.

    Raises
    ------
    SpecMismatchError
        Where they do not fit.
    InputError
        Where a unit is not known, or not one for all channels that are taken.
    """
    from rtserve.streaming.recording import require_rate, volts_to

    spec = step.input_spec
    require_rate(about.sfreq, step, about.name, hint="set the device to the graph's rate; nothing is resampled live")
    rows = _rows(step, about)
    factor = UNITS[_unit(about, rows, source_unit)] * volts_to(spec, unit, about.name)
    return Fitting(
        rows=rows, factor=factor, hop=step.hop, window=spec.n_times,
        causal=causal_for({} if filtered else dict(spec.preprocessing), about.sfreq),
    )  # fmt: skip


def _unit(about: About, rows: np.ndarray, source_unit: str) -> str:
    """Return the one unit of the rows that are taken."""
    units = {about.units[row] for row in rows.tolist()}
    if len(units) > 1:
        listed = " and ".join(
            unit or "in none that is known" for unit in sorted(units, key=lambda unit: (not unit, unit))
        )
        raise InputError(
            f"the channels of {about.name} that the graph takes are in {listed}",
            hint="one unit for all, in the stream's description",
        )
    said = units.pop() or source_unit
    if not said:
        raise InputError(f"{about.name} does not say its unit", hint="say it with --source-unit V, mV or uV")
    return said


def _rows(step: StepGraph, about: About) -> np.ndarray:
    """Return which of a source's channels a step takes, in its order."""
    spec = step.input_spec
    if not spec.ch_names or not about.ch_names:
        if about.n_chans != spec.n_chans:
            nameless = about.name if spec.ch_names else "the graph"
            raise SpecMismatchError(
                f"{about.name} has {about.n_chans} channels, the graph takes {spec.n_chans}, and {nameless} names none",
                hint="name the channels in the stream's description, and in the graph: rtserve export with ch_names",
            )
        return np.arange(spec.n_chans)
    there = {electrode(name).casefold(): row for row, name in reversed(list(enumerate(about.ch_names)))}
    missing = [name for name in spec.ch_names if electrode(name).casefold() not in there]
    if missing:
        raise SpecMismatchError(
            f"{about.name} lacks {len(missing)} of the graph's {spec.n_chans} channels: {', '.join(missing[:8])}",
            hint=f"it has {', '.join(about.ch_names[:12])}{' ...' if len(about.ch_names) > 12 else ''}",
        )
    return np.array([there[electrode(name).casefold()] for name in spec.ch_names])
