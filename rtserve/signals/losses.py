"""Samples that a stream lost, by its time stamps: what is late comes back to its line, what is lost shifts it for good.

A stamp is when a sample was taken plus how long it was on its way. Delays end: after a stall the samples that waited come
at once, and the stamps are on their line again. Lost samples never come: from there on every stamp is later by as many
sampling periods. So a loss is a step of at least half a period that still stands over the next two seconds (or what
there is of them). Where single differences of stamps are even, steps are seen in them; elsewhere in medians over blocks,
the smallest whose own unevenness is six times below half a period. Unevenness is what steps back say of it: nothing comes
before it was taken, so that a step back is the end of a delay. Where no block is quiet enough, only larger steps are seen;
of two losses nearer to one another than four blocks one may hide the other.
"""

from __future__ import annotations

import bisect
import itertools
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["Losses", "lasts", "losses_of"]

_LASTS_S = 2.0
_EVEN = 0.25
"""Of a period: how far nine in ten differences are from it where they show losses themselves."""
_BACK = 0.05
"""Steps back for each step on up to which the steps on are losses."""
_SIDE = 4
"""Blocks on each side of a step, and the fewest samples there."""
_SIZES = (4, 16, 64, 256)
"""Samples in a block."""
_SURE = 6.0
"""Times their spread that a step must be, unless half a period is more."""
_MARGIN = 1.5
"""Times the limit from which on a step is seen in spite of its unevenness."""
_SLOW = 41
"""Borders over which a clock may wander."""


@dataclass(frozen=True, kw_only=True)
class Losses:
    """Where samples are missing (or doubled) in a run of time stamps.

    Parameters
    ----------
    places : tuple of (int, int)
        The last sample before each, and the first after it; what is between is of unknown time.
    seen : float
        Periods that a loss must have to be seen; under one where every loss is.
    """

    places: tuple[tuple[int, int], ...] = ()
    seen: float = 0.5


def losses_of(stamps: np.ndarray, nominal: float) -> Losses:
    """Return where samples are missing.

    Parameters
    ----------
    stamps : ndarray, (n,)
        In s, finite, without a break.
    nominal : float
        Rate in Hz that the stream names.
    """
    if len(stamps) < 2 * _SIDE:
        return Losses()
    steps = np.diff(stamps)
    period = float(np.median(steps))
    if period > 0 and float(np.quantile(np.abs(steps - period), 0.9)) <= _EVEN * period:
        period = float(steps[np.abs(steps - period) <= period / 2].mean())
        line = _off_line(stamps, period)
        reach = _reach(period, 0)
        changes = _changes(steps, period)
        ways = np.array([change.sum() for _, change in changes])
        # Delays go there and back; where next to nothing goes back, what there is are losses, however many.
        onwards = 0 < (ways >= period / 2).sum() * _BACK > (ways <= -period / 2).sum()
        if onwards or _unevenness(_jumps(line, max(1, reach // _SIDE))) <= period / 2:
            return _between_neighbours(line, changes, period, reach)
    period = _period(stamps, steps, nominal)
    return _between_blocks(_off_line(stamps, period), period) if period > 0 else Losses()


def _changes(steps: np.ndarray, period: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the steps that are no period, (places, by how much they are not) of those near to one another."""
    odd = np.flatnonzero(np.abs(steps - period) > period / 2)
    groups = np.split(odd, np.flatnonzero(np.diff(odd) > 2 * _SIDE) + 1) if len(odd) else []
    return [(group, steps[group] - period) for group in groups]


def _between_neighbours(
    line: np.ndarray, changes: list[tuple[np.ndarray, np.ndarray]], period: float, reach: int
) -> Losses:
    """Find losses in single differences; those near to one another that undo each other are a delay.

    The surest is the first: near a loss a delay looks as if it lasted, until it is compared as far as the loss only.
    """
    likely = []
    for group, change in changes:
        if abs(change.sum()) >= period / 2:
            shift = _shift(line, int(group[0]) + 1, int(group[-1]) + 1, reach)
            if abs(shift) >= period / 2:
                likely.append((-abs(shift), int(group[0]), int(group[-1]) + 1, group, change))
    places: list[tuple[int, int]] = []
    edges = [0, len(line)]
    for _, first, last, group, change in sorted(likely, key=lambda one: one[:2]):
        at = bisect.bisect(edges, first)
        since, until = edges[at - 1], edges[at]
        if abs(_shift(line[since:until], first + 1 - since, last - since, reach)) >= period / 2:
            bisect.insort(edges, last)
            # Steps all one way are each a loss; where some go back, samples came late meanwhile. A delay may hide a
            # loss and another show it: what is between that step and the best split is of unknown time.
            if len(likely) == len(changes):
                every = (change > 0).all()
                places += [(int(k), int(k) + 1) for k in group] if every else [(first, last)]
            else:
                best = since + _place(line[since:until], first + 1 - since, max(1, reach // _SIDE))
                places.append((min(first, best - 1), max(last, best)))
    return Losses(places=_apart(places))


def _between_blocks(line: np.ndarray, period: float) -> Losses:
    """Find losses in medians of blocks: large ones in small blocks, and what these are too uneven for in larger ones."""
    places: list[tuple[int, int]] = []
    seen, pieces = 0.0, [(0, len(line))]
    for size in _SIZES:
        reach, left = _reach(period, size), []
        for begin, end in pieces:
            jumps = _jumps(line[begin:end], size)
            if len(jumps) < 3 * _SIDE:  # too short for blocks of this size: what smaller ones showed stands
                seen = max(seen, np.inf if size == _SIZES[0] else 0.0)
                continue
            limit = max(period / 2, _unevenness(jumps))
            found = _split(line[begin:end], size, limit, reach, period)
            edges = [begin, *(begin + at for at in found), end]
            places += [_zone(line, around, size, reach) for around in zip(edges, edges[1:], edges[2:], strict=False)]
            if limit > period / 2:
                left += [(*piece, limit) for piece in itertools.pairwise(edges)]
            seen = max(seen, _MARGIN / 2) if limit <= period / 2 else seen
        enough = [
            (begin, end) for begin, end, _ in left if (end - begin) // (4 * size) >= 5 * _SIDE and size < _SIZES[-1]
        ]
        for begin, end, limit in left:
            if (begin, end) not in enough:
                seen = max(seen, _MARGIN * limit / period)
        pieces = enough
    return Losses(places=_apart(places), seen=seen)


def _zone(line: np.ndarray, around: tuple[int, int, int], size: int, reach: int) -> tuple[int, int]:
    """Return the samples among which a step is: a block on each side, and as far as the best split of the seconds there."""
    since, at, until = around
    best = since + _place(line[since:until], at - since, max(1, reach // _SIDE))
    return max(since, min(at - size, best) - 1), min(max(at + size, best), until - 1)


def _split(line: np.ndarray, size: int, limit: float, reach: int, period: float) -> list[int]:
    """Return the first sample after each step that lasts, the largest found first and then those on either side of it."""
    out: list[int] = []
    pieces = [(0, len(line))]
    while pieces:
        begin, end = pieces.pop()
        for found in _steps(line[begin:end], size, limit):
            if abs(_shift(line[begin:end], found, found, reach)) >= period / 2:
                out.append(begin + found)
                pieces += [(begin, begin + found), (begin + found, end)]
                break
    return sorted(out)


def lasts(stamps: np.ndarray, at: int) -> bool:
    """Whether the stamps from the sample `at` on are off the line of those before it for good, or came late only."""
    period = float(np.median(np.diff(stamps)))
    if not period > 0:
        return True
    line, reach = _off_line(stamps, period), _reach(period, 0)
    return abs(_shift(line, at, at, reach)) >= period / 2


def _period(stamps: np.ndarray, steps: np.ndarray, nominal: float) -> float:
    """Return the usual time in s from one sample to the next, over two seconds; of samples that came at once, the last's."""
    last = np.flatnonzero(np.append(steps > 0, True))
    span = int(np.clip(round(_LASTS_S * nominal * len(last) / len(stamps)), 1, max(1, len(last) // 2)))
    if len(last) <= span:
        return 0.0
    return float(np.median((stamps[last[span:]] - stamps[last[:-span]]) / (last[span:] - last[:-span])))


def _apart(places: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return places in order, those that share samples as one."""
    out: list[tuple[int, int]] = []
    for before, after in sorted(places):
        if out and before < out[-1][1]:
            out[-1] = (out[-1][0], max(out[-1][1], after))
        else:
            out.append((before, after))
    return tuple(out)


def _reach(period: float, size: int) -> int:
    return max(2 * _SIDE, _SIDE * size, round(_LASTS_S / period))


def _off_line(stamps: np.ndarray, period: float) -> np.ndarray:
    """Return how late each sample is; of samples that came together, how late the last was, which waited least."""
    line = stamps - stamps[0] - period * np.arange(len(stamps))
    together = np.diff(stamps) <= 0
    if together.mean() <= 0.5:
        return np.asarray(line)
    last = np.flatnonzero(np.append(~together, True))
    return np.asarray(line[last[np.searchsorted(last, np.arange(len(stamps)))]])


def _jumps(line: np.ndarray, size: int) -> np.ndarray:
    """Return how much later the blocks after each border are than those before it; of borders with four on each side."""
    n = len(line) // size
    if n < 2 * _SIDE:
        return np.empty(0)
    blocks = np.median(line[: n * size].reshape(n, size), axis=1)
    levels = np.median(sliding_window_view(blocks, _SIDE), axis=1)
    jumps = levels[_SIDE:] - levels[:-_SIDE]
    if len(jumps) < _SLOW:
        return np.asarray(jumps)
    from scipy.ndimage import median_filter

    return np.asarray(jumps - median_filter(jumps, _SLOW, mode="nearest"))


def _unevenness(jumps: np.ndarray) -> float:
    """Return how large a step is that delays do not make, by the steps back."""
    return float(_SURE * max(0.0, -np.quantile(jumps, 0.05)) / 1.645) if len(jumps) else 0.0


def _steps(line: np.ndarray, size: int, limit: float) -> list[int]:
    """Return the first sample after each step that is above the limit, the largest first."""
    jumps = np.abs(_jumps(line, size))
    out: list[int] = []
    while len(jumps) and jumps.max() > limit:
        at = int(jumps.argmax())
        out.append(_place(line, (at + _SIDE) * size, size))
        jumps[max(0, at - _SIDE) : at + _SIDE + 1] = 0.0
    return out


def _place(line: np.ndarray, border: int, size: int) -> int:
    """Return the first sample after a step near a border: the split that leaves the least squares."""
    begin, end = max(0, border - _SIDE * size), min(len(line), border + _SIDE * size)
    part = line[begin:end]
    counts, sums = np.arange(1, len(part)), np.cumsum(part)
    before, after = sums[:-1] / counts, (sums[-1] - sums[:-1]) / (len(part) - counts)
    return begin + 1 + int(((after - before) ** 2 * counts * (len(part) - counts)).argmax())


def _shift(line: np.ndarray, before: int, after: int, reach: int) -> float:
    """Return how much later stamps from `after` on are than those up to `before`, over the time in which delays end."""
    earlier, later = line[max(0, before - reach) : before], line[after : after + reach]
    return float(np.median(later) - np.median(earlier)) if len(earlier) and len(later) else 0.0
