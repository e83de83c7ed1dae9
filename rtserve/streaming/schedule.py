"""What is computed in a step, what is kept from the one before, found backwards from the answer.

A column that the answer needs is one that an earlier value holds too (it is read there), one that was there a hop ago (it
is kept, and so is what it will come from), or a new one (it is computed, and what it reads is needed). Which values are
kept is a choice: a value that is not is computed wherever it is needed. The schedule takes the cheapest that it finds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rtserve.fusion.engines.onnxruntime import COSTS
from rtserve.fusion.ir.traits import Trait, has
from rtserve.streaming.analysis import Analysis
from rtserve.streaming.columns import NONE, NOWHERE
from rtserve.streaming.link import PICKED, Link, Whole

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["ALIAS", "FRESH", "KEPT", "Common", "Part", "Schedule", "cheapest", "runs_of", "schedule"]

UNUSED, FRESH, KEPT, ALIAS = range(4)
"""A column is not needed; computed in this step; one that the step before had; one that an earlier value holds."""
COPIED_US = 0.0003
"""What a number that is taken from the state and put into the next one costs."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """What a step does about one value.

    Parameters
    ----------
    how : ndarray, (columns,)
        `UNUSED`, `FRESH`, `KEPT` or `ALIAS`.
    earlier : ndarray
        The column of the window `lag` steps before that is the same, `NONE` where there is none.
    lag : int
        1 where the hop is a whole number of columns; else as many steps as are one.
    runs : tuple of (int, int)
        Stretches of columns that are computed.
    """

    how: np.ndarray
    earlier: np.ndarray
    lag: int
    runs: tuple[tuple[int, int], ...]

    @cached_property
    def saved(self) -> np.ndarray:
        """Columns that the step `lag` steps from now reads from the state, in ascending order."""
        return np.unique(self.earlier[self.how == KEPT])

    @property
    def n_fresh(self) -> int:
        """Columns computed in a step."""
        return sum(end - start for start, end in self.runs)


@dataclass(frozen=True, kw_only=True, eq=False)
class Schedule:
    """What a step does.

    Parameters
    ----------
    parts : dict
        What it does about every value that is needed and has columns; for one that is never kept which columns it needs.
    needed : dict
        Which columns of each value are read.
    common : Common
        What all schedules for this hop go by.
    macs : int
        Multiply-adds of a step.
    us : float
        What it is expected to cost in onnxruntime.
    """

    parts: dict[ir.Value, Part]
    needed: dict[ir.Value, np.ndarray]
    common: Common
    macs: int
    us: float

    @property
    def analysis(self) -> Analysis:
        """Return what is known of the window's graph."""
        return self.common.analysis

    @property
    def hop(self) -> int:
        """New samples of a step."""
        return self.common.hop

    @property
    def states(self) -> list[ir.Value]:
        """Values that a step keeps for the next, in the order of the graph."""
        return [value for value, part in self.parts.items() if len(part.saved)]


def runs_of(mask: np.ndarray, gap: int = 0) -> tuple[tuple[int, int], ...]:
    """Return the stretches of a mask, those no more than `gap` apart joined."""
    at = np.flatnonzero(mask)
    if not len(at):
        return ()
    cuts = np.flatnonzero(np.diff(at) > gap + 1)
    starts, ends = at[[0, *(cuts + 1)]], at[[*cuts, -1]] + 1
    return tuple(zip(starts.tolist(), ends.tolist(), strict=True))


@dataclass(kw_only=True, eq=False)
class Common:
    """Which columns are the same, in one window and in two.

    Parameters
    ----------
    analysis, hop : Analysis, int
        Of what.
    lags : dict
        For each value how many steps ago its columns lay a whole number of columns before.
    earlier : dict
        For each column of a value the one that it was then.
    holders : dict
        For the columns of a value that an earlier one has too, which and where.
    """

    analysis: Analysis
    hop: int
    lags: dict[ir.Value, int] = field(default_factory=dict)
    earlier: dict[ir.Value, np.ndarray] = field(default_factory=dict)
    holders: dict[ir.Value, dict[int, tuple[ir.Value, int]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        first: dict[tuple[int, int], tuple[ir.Value, int]] = {}
        for value, track in self.analysis.tracks.items():
            if self.analysis.passing(value):
                continue
            lag = self.lags[value] = track.columns.lag(self.hop)
            self.earlier[value] = track.columns.earlier(lag * self.hop)
            found = self.holders[value] = {}
            for i, key in enumerate(zip(track.columns.kind.tolist(), track.columns.at.tolist(), strict=True)):
                if key[1] == NOWHERE:
                    continue
                holder = first.setdefault(key, (value, i))
                if holder[0] is not value:
                    found[i] = holder


@dataclass(kw_only=True, eq=False)
class _Plan:
    """A schedule under construction: which columns are needed so far."""

    common: Common
    unkept: frozenset[ir.Value]
    frugal: bool = False
    needed: dict[ir.Value, np.ndarray] = field(default_factory=dict)
    parts: dict[ir.Value, Part] = field(default_factory=dict)
    macs: float = 0.0
    us: float = 0.0

    @property
    def analysis(self) -> Analysis:
        """Of the window's graph."""
        return self.common.analysis

    def need(self, value: ir.Value | None, columns: np.ndarray | slice) -> None:
        """Note that columns of a value are needed."""
        if value in self.analysis.tracks:
            mask = self.needed.setdefault(value, np.zeros(self.analysis.tracks[value].length, bool))
            mask[columns] = True

    def run(self) -> None:
        """Go through the graph backwards."""
        for value in self.analysis.model.graph.outputs:
            self.need(value, slice(None))
        for node in reversed(list(self.analysis.model.graph)):
            link = self.analysis.links.get(node)
            if link is None or isinstance(link, Whole):
                self._whole(node, link)
            elif link.kind == PICKED:
                self._picked(node, link)
            else:
                self._computed(node, link)
        window = self.analysis.window
        if window in self.needed:
            self._settle(window)

    def _whole(self, node: ir.Node, link: Whole | None) -> None:
        macs = self.analysis.macs[node]
        self.macs += macs
        self.us += COSTS.node_us + macs / COSTS.macs_per_us
        for place, value in enumerate(node.inputs):
            needs = (link.needs if link is not None else {}).get(place)
            self.need(value, slice(None) if needs is None else slice(needs, needs + 1))

    def _picked(self, node: ir.Node, link: Link) -> None:
        for k, out in enumerate(node.outputs):
            if out not in self.needed:
                continue
            first = link.outputs[k] if link.outputs else 0
            at = first + np.flatnonzero(self.needed[out])
            self.us += COSTS.node_us
            for reading in link.readings:
                index, all_of_it = reading.index[at, 0], reading.index[:, 0]
                found = index[index != NONE]
                if not len(found):  # zeros alone have the shape of a column that is there
                    found = all_of_it[all_of_it != NONE][:1]
                self.need(node.inputs[reading.place], found)

    def _computed(self, node: ir.Node, link: Link) -> None:
        outputs = [out for out in node.outputs if out in self.needed]
        if not outputs:
            return
        if self.analysis.passing(node.outputs[0]):
            mask = np.any([self.needed[out] for out in outputs], axis=0)
            runs = runs_of(mask)
        else:
            runs = self._settle(outputs[0]).runs
        fresh = np.zeros(link.length, bool)
        for start, end in runs:
            fresh[start:end] = True
        share = fresh.sum() / max(link.length, 1)
        self.macs += self.analysis.macs[node] * share
        numbers = fresh.sum() * self.analysis.numbers(outputs[0])
        self.us += len(runs) * COSTS.node_us * 2 + self.analysis.macs[node] * share / COSTS.macs_per_us
        self.us += numbers * COPIED_US
        if has(node, Trait.POOLS) and link.slide is not None:  # work that is no multiply-add
            self.us += numbers * link.slide.taps * COSTS.pooled_us
        for start, end in runs:
            self._need_of(node, link, start, end)

    def _need_of(self, node: ir.Node, link: Link, start: int, end: int) -> None:
        """Note what columns [start, end) of a node's outputs read, those between its taps with them."""
        for reading in link.readings:
            value = node.inputs[reading.place]
            assert value is not None
            low, high = start, end
            if link.slide is not None:
                low, high, _ = link.slide.reads(start, end, self.analysis.tracks[value].length)
            self.need(value, slice(low, high))

    def _settle(self, value: ir.Value) -> Part:
        """Decide about every needed column of a value, now that nothing further will be needed of it."""
        mask, earlier, lag = self.needed[value], self.common.earlier[value], self.common.lags[value]
        how = np.full(len(mask), UNUSED)
        holders = self.common.holders[value]
        waiting = np.flatnonzero(mask)
        while len(waiting):
            fresh = np.array([i not in holders for i in waiting.tolist()])
            how[waiting[~fresh]] = ALIAS
            old = fresh & (earlier[waiting] != NONE) & (value not in self.unkept and self.analysis.keepable(value))
            how[waiting[old]] = KEPT
            how[waiting[fresh & ~old]] = FRESH
            back = np.unique(earlier[waiting[old]])
            waiting = back[how[back] == UNUSED]
        gap = 0 if self.frugal or value is self.analysis.window else self._gap(value)
        runs = runs_of(how == FRESH, gap)
        if value is self.analysis.window and runs:
            runs = ((len(mask) - self.common.hop, len(mask)),)
        for start, end in runs:
            how[start:end] = FRESH
        for i in np.flatnonzero(how == ALIAS).tolist():
            self.need(holders[i][0], np.array([holders[i][1]]))
        part = self.parts[value] = Part(how=how, earlier=earlier, lag=lag, runs=runs)
        if len(part.saved):
            self.us += COSTS.node_us * 2 + lag * len(part.saved) * self.analysis.numbers(value) * COPIED_US
        return part

    def _gap(self, value: ir.Value) -> int:
        """Return how many columns cost less than a node does."""
        node = value.producer()
        macs = self.analysis.macs[node] / self.analysis.tracks[value].length if node is not None else 0
        return int(2 * COSTS.node_us / (macs / COSTS.macs_per_us + self.analysis.numbers(value) * COPIED_US + 1e-9))


def schedule(common: Common, unkept: Iterable[ir.Value] = (), *, frugal: bool = False) -> Schedule:
    """Return what a step does.

    Parameters
    ----------
    common : Common
        Of the window's graph and the hop.
    unkept : iterable of Value
        Values that are not kept, but computed wherever they are needed.
    frugal : bool
        Whether no column is computed that was there, though a stretch in one costs less than two.
    """
    plan = _Plan(common=common, unkept=frozenset(unkept), frugal=frugal)
    plan.run()
    order = {value: k for k, value in enumerate(common.analysis.tracks)}
    parts = dict(sorted(plan.parts.items(), key=lambda item: order[item[0]]))
    return Schedule(parts=parts, needed=plan.needed, common=common, macs=round(plan.macs), us=plan.us)


def cheapest(analysis: Analysis, hop: int) -> tuple[Schedule, Schedule]:
    """Return the schedule of fewest multiply-adds, and that in which no single value would better not be kept."""
    unkept: set[ir.Value] = set()
    common = Common(analysis=analysis, hop=hop)
    best = schedule(common)
    for value in reversed(best.states):
        if value is analysis.window:
            continue
        other = schedule(common, unkept | {value})
        if other.us < best.us:
            unkept.add(value)
            best = other
    return schedule(common, frugal=True), best
