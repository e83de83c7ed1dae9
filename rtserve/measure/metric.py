"""`Metric`: per-window statistics whose sums over any set of windows give a number.

So the score of a resample needs no second look at the predictions, and intervals over subjects cost next to nothing.
What a metric reads differs: a number per window, the class that was decided for, the probability of each class, or a
vector. Some also read columns of the windows (whose, which session, which recording): `Metric.on` binds those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.signature import Signature

__all__ = ["READS", "Metric"]

Array = np.ndarray
Columns = Mapping[str, Array]
Statistics = Callable[[Array, Array], Array]

READS = ("number", "class", "probabilities", "vector")
"""What a metric can read of an answer: (n,), (n,), (n, n_classes), (n, n_outputs)."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric as per-window statistics and a value of their sums.

    Parameters
    ----------
    name : str
        As in a signature.
    options : tuple of (str, str)
        What of its definition could have been chosen otherwise.
    statistics : callable
        ``(y, p) -> (n, k)``: float64 statistics of each window.
    of_sums : callable
        ``(..., k) -> (...)``: the metric for the sums over any set of windows.
    constant : callable
        ``y -> p``: the best answer that is the same for every window.
    higher_is_better : bool
        Direction.
    scale : str
        On which its interval is taken: ``"log"``, ``"fisher"``, ``"logit"`` or ``"identity"``.
    bounds : (float, float) or None
        Ends that it can reach: there its interval is exact.
    strata : callable or None
        ``(count, k) -> (n_shares,)``: of the sums of units, how many units each of its equally weighted shares has.
    edge : callable or None
        ``(sums of all, share) -> value``: how far it may be off where nothing varies because nothing is wrong (or
        right), and `share` of the windows could be otherwise and not be seen; None where something varies.
    share : (int, int, float) or None
        For a ratio of two sums to a power: their columns and the power.
    order : int
        Power of the error in it; 0 where its size does not matter.
    reads : str
        One of `READS`.
    losses : callable or None
        ``(y, p) -> (n,)``: how far each answer is off, where `errors` knows it not by itself.
    unrelated : float or None
        What answers without any relation to the targets score, where a constant answer has no score: 0 of a
        correlation.
    columns : tuple of str
        Those that it reads.
    bind : callable or None
        ``columns -> Metric``: the metric with the columns of these windows in it; None where it reads none.
    """

    name: str
    statistics: Statistics
    of_sums: Callable[[Array], Array]
    options: tuple[tuple[str, str], ...] = ()
    constant: Callable[[Array], Array]
    higher_is_better: bool = False
    scale: str = "identity"
    bounds: tuple[float, float] | None = None
    strata: Callable[[Array], Array] | None = None
    edge: Callable[[Array, float], float | None] | None = None
    share: tuple[int, int, float] | None = None
    order: int = 0
    reads: str = "number"
    losses: Statistics | None = None
    unrelated: float | None = None
    columns: tuple[str, ...] = ()
    bind: Callable[[Columns], Metric] | None = None

    @property
    def classes(self) -> bool:
        """Whether y are class numbers."""
        return self.reads in ("class", "probabilities")

    def on(self, columns: Columns) -> Metric:
        """Return the metric for windows with these columns, (n_windows,) each by name.

        Raises
        ------
        InputError
            Where one that it needs is missing.
        """
        return self if self.bind is None else self.bind(columns)

    def __call__(self, y: Array, p: Array) -> float:
        """Return the metric of predictions p for targets y (n, ...).

        Raises
        ------
        InputError
            Where y or p cannot give a finite value, e.g. a constant y for a normalised error.
        """
        y, p = _pair(self, y, p)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = float(self.of_sums(self.statistics(y, p).sum(axis=0)))
        if not np.isfinite(value):
            raise InputError(f"{self.name} is not defined here: {_why(self, y, p)}", hint=_hint(self))
        return value

    def errors(self, y: Array, p: Array) -> Array:
        """Return (n,): how far each answer is off; of classes, how much of it is not the class that is there."""
        if self.losses is not None:
            return self.losses(y, p)
        if self.reads == "class":
            return np.asarray(p != y, np.float64)
        if self.reads == "probabilities":
            return 1.0 - p[np.arange(len(y)), y.astype(np.int64)]
        off = p - y
        result: Array = off if off.ndim == 1 else np.abs(off).mean(axis=1)
        return result

    @property
    def label(self) -> str:
        """Its name with what of `options` sets it apart from others of that name: ``nrmse:range``."""
        norm = dict(self.options).get("norm", "std")
        return self.name if norm == "std" else f"{self.name}:{norm}"

    def signature(self, *, n: int, data: str, split: str = "all", agg: str = "windows") -> Signature:
        """Return the signature of this metric on the named data."""
        return Signature(metric=self.name, options=self.options, agg=agg, n=n, data=data[:12], split=split)

    def also(self, *options: tuple[str, str]) -> Metric:
        """Return the metric with further options in its signature."""
        return replace(self, options=(*self.options, *options))


def _pair(metric: Metric, y: Array, p: Array) -> tuple[Array, Array]:
    y, p = np.asarray(y, np.float64), np.asarray(p, np.float64)
    wanted = (2 if metric.reads == "vector" else 1, 2 if metric.reads in ("vector", "probabilities") else 1)
    if y.shape[:1] != p.shape[:1] or (y.ndim, p.ndim) != wanted or not len(y):
        each = f"{'several numbers' if wanted[1] == 2 else 'one number'} per window"
        raise InputError(
            f"{p.shape} predictions for {y.shape} targets", hint=f"{metric.name} reads {each}, of at least one window"
        )
    return y, p


def _why(metric: Metric, y: Array, p: Array) -> str:
    if not np.isfinite(y).all() or not np.isfinite(p).all():
        return f"{int((~np.isfinite(y)).sum())} targets and {int((~np.isfinite(p)).sum())} predictions are not finite"
    if metric.reads == "probabilities":
        counts = np.bincount(y.astype(np.int64), minlength=p.shape[1])
        return f"windows of the classes 0..{len(counts) - 1}: {', '.join(map(str, counts))}"
    if metric.reads == "class":
        return f"{len(np.unique(y))} of the classes are there, {len(np.unique(p))} decided for, over {len(y)} windows"
    spread = f"std of y is {np.std(y):.3g}, std of the predictions {np.std(p):.3g}, over {len(y)} windows"
    return spread


def _hint(metric: Metric) -> str:
    if metric.reads == "probabilities":
        return "score windows of every class, or use balanced_accuracy, which asks for those that are there"
    if metric.reads == "class":
        return "score windows of several classes, or use accuracy"
    return "score more varied windows, or use rmse, which needs no spread"
