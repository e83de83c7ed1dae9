"""Paired differences of one metric between two predictions of the same windows, alone and in families.

The p of a difference is that of swapping the two predictions of whole units. In a family the same swaps are made for
all of its differences at once, and a difference counts only where it is larger, in units of what swapping does to it,
than the largest of those not yet decided (the step-down max-T of Westfall and Young 1993): a report of thirteen
branches then holds a false verdict no oftener than a report of one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rtserve.measure.intervals import LEVEL, Ends, ends
from rtserve.measure.metrics import Metric
from rtserve.measure.power import detectable, smallest_p
from rtserve.measure.resampling import RESAMPLES, Units, influences, replicate
from rtserve.measure.signature import FEW, Interval
from rtserve.measure.tails import HEAVY, heavy

__all__ = ["Difference", "corrected", "difference", "holm"]

_BLOCK = 4_000_000
ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Of the largest prediction: answers that are no further apart are one answer, summed in another order."""

Array = np.ndarray
OfSums = Callable[[Array], Array]


@dataclass(frozen=True, kw_only=True)
class Swaps:
    """What swapping the two predictions of whole units does to a difference.

    Parameters
    ----------
    drawn : ndarray, (n_swaps,)
        Size of the difference in each swap, in units of their root mean square; the swap that was observed first.
    influence : ndarray, (n_units,)
        Of each unit on the difference.
    error : float
        Standard error of the difference by leaving each unit out.
    weight : ndarray, (n_units,)
        Share of the windows that each unit has.
    draws : (str, int, int)
        What was swapped: the kind of units, their number, the seed. Only equal draws are swaps made together.
    """

    drawn: Array
    influence: Array
    error: float
    weight: Array
    draws: tuple[str, int, int]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A paired difference of one metric between two predictions of the same windows.

    Parameters
    ----------
    metric : str
        Name of the metric.
    first, second : float
        The two values.
    value : float
        ``second - first``.
    interval : Interval or None
        Paired interval of `value`, for this difference alone.
    p : float
        Two-sided permutation p: how often swapping the two predictions of whole units at random (the sign flip of
        their differences) gives a difference at least as large.
    higher_is_better : bool
        Direction of the metric.
    corrected, corrupted : float
        Share of windows whose error became smaller, and larger.
    identical : bool
        Whether the two predictions are equal everywhere, but for the rounding of float32.
    constant : float or None
        What the best constant scores on the same windows; None where the metric is not defined for one.
    p_corrected : float or None
        The p of the family; None where the difference stands alone.
    family : str
        Which verdicts it was corrected for, e.g. ``"13 verdicts on branches"``.
    stricter : float
        How much larger than alone a difference must be to count in the family.
    swaps : Swaps or None
        What the p was counted from; not stored.
    """

    metric: str
    first: float
    second: float
    value: float
    interval: Interval | None
    p: float
    higher_is_better: bool
    corrected: float
    corrupted: float
    identical: bool
    constant: float | None = None
    p_corrected: float | None = None
    family: str = ""
    stricter: float = 1.0
    swaps: Swaps | None = field(default=None, repr=False, compare=False)

    @functools.cached_property
    def detectable(self) -> float:
        """The smallest difference found four times of five by the rule of the verdict, by simulation.

        Infinite where none could be: with under six units.
        """
        if self.swaps is None or self.interval is None:
            return float("inf")
        return detectable(
            self.swaps.influence,
            level=self.interval.level,
            weight=self.swaps.weight,
            wider=_wider(self.swaps.influence, self.interval),
            between=_between(self.swaps),
            stricter=self.stricter,
            seed=self.swaps.draws[2],
        )

    @property
    def decides(self) -> float:
        """The p that the verdict rests on: the family's, else its own."""
        return self.p if self.p_corrected is None else self.p_corrected

    @property
    def different(self) -> bool:
        """Whether the difference is shown: its interval excludes 0 and the permutation p agrees.

        A marked interval says nothing: the permutation decides, which is valid whatever the tails.
        """
        if self.interval is None or self.identical:
            return False
        outside = 0.0 not in self.interval or bool(self.interval.mark)
        return outside and self.decides <= 1 - self.interval.level

    @property
    def verdict(self) -> str:
        """``"helps"``, ``"hurts"``, ``"identical"`` or ``"no difference detectable"``: the second against the first."""
        if self.identical:
            return "identical"
        if not self.different:
            return "no difference detectable"
        return "helps" if (self.value > 0) == self.higher_is_better else "hurts"

    def sentence(self) -> str:
        """Return the verdict with its numbers; never a bare zero."""
        if self.identical:
            same = "identical predictions" if self.value == 0 else "predictions that differ by rounding alone"
            return f"{same}: {self.metric} {self.first:.5g} twice; the change does nothing on this data"
        if self.interval is None:
            return f"no verdict: {self.metric} {self.value:+.3g}, without an interval"
        shown = f" {self.interval.text('+.3g')}"
        numbers = f"{self.metric} {self.value:+.3g}{shown}, p {self.p:.3g}"
        if self.p_corrected is not None:
            numbers += f", corrected {self.p_corrected:.3g} ({self.family})"
        if self.different:
            return f"{self.verdict}: {numbers}"
        if self.interval.units < FEW:
            least = f"no p under {smallest_p(self.interval.units):.3g} is possible"
            return f"no difference shown: {numbers}; {self._few()}: {least}"
        if abs(self.value) < self.detectable < float("inf"):
            return f"no difference detectable (at least {self.detectable:.2g} would have been): {numbers}"
        return f"no difference shown: {numbers}; {self._few()}"

    def _few(self) -> str:
        return f"{self.interval.units} {self.interval.over} are too few to tell" if self.interval else "too few to tell"

    def to_dict(self) -> dict[str, Any]:
        """Return the difference as JSON values."""
        kept = [key for key in self.__dataclass_fields__ if key not in ("interval", "swaps", "stricter")]
        values = {key: getattr(self, key) for key in (*kept, "detectable")}
        finite = {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in values.items()}
        shown = self.interval.to_dict() if self.interval else None
        return finite | {"interval": shown, "verdict": self.verdict, "sentence": self.sentence()}


def difference(
    metric: Metric,
    y: Array,
    first: Array,
    second: Array,
    units: Units,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Difference:
    """Return how the second prediction's metric differs from the first's, on the same windows and the same draws.

    Parameters
    ----------
    metric : Metric
        What is computed.
    y, first, second : ndarray, (n_windows, ...)
        Targets and the two predictions, in the form that the metric reads.
    units : Units
        What is resampled and swapped.
    resamples, seed, level : int, int, float
        Draws, their seed, nominal coverage of the interval.
    """
    y, first, second = (np.asarray(a, np.float64) for a in (y, first, second))
    a, b = (units.sums(metric.statistics(y, p)) for p in (first, second))
    both, gap = np.concatenate([a, b], axis=1), _gap(metric.of_sums, a.shape[1])
    replicas = replicate(both, gap, resamples=resamples, seed=seed)
    found = ends(replicas, level=level)
    mark = (
        HEAVY if metric.order and any(heavy(metric.errors(y, p), units, metric.order) for p in (first, second)) else ""
    )
    closer, further = _moved(metric, y, first, second)
    values = [metric(y, first), metric(y, second)]
    weight = np.bincount(units.index, minlength=units.count) / len(units.index)
    drawn, p = _swapped(a, b, metric.of_sums, resamples=resamples, seed=seed + 1)
    return Difference(
        metric=metric.name,
        first=values[0],
        second=values[1],
        value=values[1] - values[0],
        interval=_as_interval(found, level, units, mark),
        p=p,
        higher_is_better=metric.higher_is_better,
        corrected=closer,
        corrupted=further,
        identical=_same(metric, first, second),
        constant=None if metric.unrelated is not None else metric(y, metric.constant(y)),
        swaps=Swaps(
            drawn=drawn,
            influence=influences(both, gap),
            error=replicas.error,
            weight=weight,
            draws=(units.over, units.count, seed),
        ),
    )


def _same(metric: Metric, first: Array, second: Array) -> bool:
    if metric.reads == "class" or first.shape != second.shape:
        return bool(np.array_equal(first, second))
    return bool(np.abs(first - second).max() <= ROUNDING * np.abs(first).max())


def _as_interval(found: Ends | None, level: float, units: Units, mark: str) -> Interval | None:
    if found is None:
        return None
    return Interval(low=found[0], high=found[1], level=level, over=units.over, units=units.count, mark=mark)


def _wider(influence: Array, found: Interval) -> float:
    """Return the length of an interval in that of Student's."""
    from scipy import stats

    count = len(influence)
    error = float(np.sqrt(np.square(influence).sum() * count / max(count - 1, 1)))
    plain = 2 * error * float(stats.t.ppf((1 + found.level) / 2, max(count - 1, 1)))
    return (found.high - found.low) / plain if plain > 0 else 1.0


def _between(swaps: Swaps) -> float:
    """Return the standard error by leaving each unit out, in that of the influences."""
    count = len(swaps.influence)
    shown = float(np.sqrt(np.square(swaps.influence).sum() * count / max(count - 1, 1)))
    return swaps.error / shown if shown > 0 and np.isfinite(swaps.error) else 1.0


def _gap(of_sums: OfSums, k: int) -> OfSums:
    return lambda s: of_sums(s[..., k:]) - of_sums(s[..., :k])


def _moved(metric: Metric, y: Array, first: Array, second: Array) -> tuple[float, float]:
    """Return the shares of windows whose error shrank and grew; for classes, that became right and wrong."""
    before, after = (np.abs(metric.errors(y, p)) for p in (first, second))
    return float(np.mean(after < before)), float(np.mean(after > before))


def _swapped(a: Array, b: Array, of_sums: OfSums, *, resamples: int, seed: int) -> tuple[Array, float]:
    """Return the sizes of the difference under swaps over their root mean square, and their p.

    All ``2 ** n`` swaps where those are fewer than `resamples`; else the observed one counts as one of the draws.
    """
    total, gap = a.sum(axis=0), b - a
    sizes = [np.array([abs(float(of_sums(b.sum(axis=0)) - of_sums(total)))])]
    with np.errstate(divide="ignore", invalid="ignore"):
        for swaps in _swap_blocks(len(a), resamples, seed):
            moved = swaps @ gap
            sizes.append(np.abs(of_sums(total + gap.sum(axis=0) - moved) - of_sums(total + moved)))
    drawn = np.nan_to_num(np.concatenate(sizes), nan=0.0)
    scale = float(np.sqrt(np.mean(np.square(drawn))))
    drawn = drawn / scale if scale > 0 else drawn
    return drawn, _share_beyond(drawn, drawn[0])


def _share_beyond(drawn: Array, size: float) -> float:
    return float(np.mean(drawn >= size * (1 - 1e-12)))


def _swap_blocks(count: int, resamples: int, seed: int) -> list[Array]:
    """Return blocks (rows, count) of zeros and ones, without the swap of nobody."""
    if 2**count <= resamples:
        return [(np.arange(1, 2**count)[:, None] >> np.arange(count)) & 1]
    rng = np.random.default_rng(seed)
    step = max(1, _BLOCK // count)
    return [
        rng.integers(0, 2, size=(min(step, resamples - start), count), dtype=np.int8)
        for start in range(0, resamples, step)
    ]


def corrected(differences: Sequence[Difference], family: str) -> tuple[Difference, ...]:
    """Return the differences with the p of their family, and with what the family could have found.

    Step-down max-T over swaps made together; Holm's where the swaps are of other units or draws. Identical predictions
    and differences without an interval give no verdict and are not of the family.

    Parameters
    ----------
    differences : sequence of Difference
        Those that one report passes a verdict on.
    family : str
        What they are called, e.g. ``"branches"``.
    """
    judged = [k for k, d in enumerate(differences) if not d.identical and d.interval is not None]
    if len(judged) < 2:
        return tuple(differences)
    swaps = [s for k in judged if (s := differences[k].swaps) is not None]
    together = len(swaps) == len(judged) and len({(s.draws, len(s.drawn)) for s in swaps}) == 1
    raw = np.array([differences[k].p for k in judged])
    ps, stricter = _step_down(swaps, raw, differences[judged[0]]) if together else (holm(raw), 1.0)
    name, out = f"{len(judged)} verdicts on {family}", list(differences)
    for k, p in zip(judged, ps, strict=True):
        out[k] = replace(out[k], p_corrected=float(p), family=name, stricter=stricter)
    return tuple(out)


def holm(p: Array) -> Array:
    """Return Holm's (1979) corrected values of p (n,)."""
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    out = np.empty(len(p))
    out[order] = np.minimum(steps, 1.0)
    return out


def _step_down(swaps: Sequence[Swaps], raw: Array, one: Difference) -> tuple[Array, float]:
    """Return the corrected p, and how much larger a difference must be here than alone."""
    drawn = np.stack([s.drawn for s in swaps])
    observed = drawn[:, 0]
    order = np.argsort(-observed, kind="stable")
    largest = np.maximum.accumulate(drawn[order][::-1], axis=0)[::-1]
    steps = [_share_beyond(row, observed[k]) for row, k in zip(largest, order, strict=True)]
    out = np.empty(len(swaps))
    out[order] = np.maximum.accumulate(steps)
    level = one.interval.level if one.interval else LEVEL
    alone = np.median(np.quantile(drawn, level, axis=1))
    together = float(np.quantile(largest[0], level))
    return np.maximum(out, raw), together / float(alone) if alone > 0 else 1.0
