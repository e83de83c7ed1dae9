"""Choosing the best candidate on some windows, fitting included: what a search repeats in every fold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rtserve.measure.candidates import Candidate, Pool, badness, explore, fitted
from rtserve.measure.folds import fold_of, nested
from rtserve.measure.metrics import Metric
from rtserve.measure.statistics import Units

__all__ = ["Chooser"]

SHORTLIST = 8
"""Plain candidates for which weights and a calibration are fitted as well."""


@dataclass(frozen=True, kw_only=True)
class Chooser:
    """What is chosen from, what best means, what may be fitted.

    Parameters
    ----------
    pool : Pool
        Members, views, wholes and their predictions.
    metric : Metric
        To be best in.
    units : Units
        Subjects, never split between folds.
    budget_us : float
        Most predicted microseconds.
    weights, calibrate : bool
        What may be fitted.
    seed : int
        Of the folds.
    """

    pool: Pool
    metric: Metric
    units: Units
    budget_us: float
    weights: bool = True
    calibrate: bool = True
    seed: int = 0

    def ranked(self, train: np.ndarray) -> list[Candidate]:
        """Return plain candidates within the budget, best on `train` first."""
        return explore(self.pool, self.metric, train, self.budget_us)

    def choose(self, train: np.ndarray) -> Candidate:
        """Return the best candidate on some windows; what is fitted is judged by an inner cross-validation."""
        short = self.ranked(train)[:SHORTLIST]
        variants = [(badness(self.pool, self.metric, c, train), c) for c in short]
        for w, a in ((True, False), (False, True), (True, True)):
            if (w and not self.weights) or (a and not self.calibrate):
                continue
            for c in short:
                if w and (c.whole or len(c.members) * len(c.views) < 2):
                    continue
                fit = fitted(self.pool, c, train, weights=w, calibrate=a)
                variants.append((self._inner(c, train, weights=w, calibrate=a), fit))
        return min(variants, key=lambda pair: (round(pair[0], 9), self.pool.cost(pair[1])))[1]

    def best_single(self, train: np.ndarray) -> Candidate:
        """Return the best single member on the first view: what one would send without any of this."""
        singles = [Candidate(members=(m,), views=(0,)) for m in range(len(self.pool.outputs.members))]
        return min(singles, key=lambda c: badness(self.pool, self.metric, c, train))

    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Return predictions (n_windows, ...) of the choice, and of the best single member, made without each fold."""
        chosen = nested(lambda train: self._predictor(self.choose(train)), self.units, seed=self.seed)
        single = nested(lambda train: self._predictor(self.best_single(train)), self.units, seed=self.seed)
        return chosen, single

    def _predictor(self, candidate: Candidate) -> Callable[[np.ndarray], np.ndarray]:
        return lambda index: self.pool.predict(candidate)[index]

    def _inner(self, candidate: Candidate, train: np.ndarray, *, weights: bool, calibrate: bool) -> float:
        """Return the metric of the fitted candidate on inner folds that did not fit it."""
        names, index = np.unique(self.units.index[train], return_inverse=True)
        inner = Units(index=index, count=len(names), over=self.units.over)
        fold = fold_of(inner, seed=self.seed + 1)
        y = self.pool.windows.y[train].astype(np.float64)
        p = np.empty((len(train), *self.pool.predict(candidate).shape[1:]))
        for k in np.unique(fold):
            fit = fitted(self.pool, candidate, train[fold != k], weights=weights, calibrate=calibrate)
            p[fold == k] = self.pool.predict(fit)[train[fold == k]]
        metric = self.pool.on(self.metric, train)
        value = float(metric.of_sums(metric.statistics(y, p).sum(axis=0)))
        if not np.isfinite(value):
            return float("inf")
        return -value if self.metric.higher_is_better else value

    def front(self, ranked: Sequence[Candidate], best: Candidate, train: np.ndarray) -> list[Candidate]:
        """Return the Pareto front by predicted cost among plain candidates, the single members, and the chosen one."""
        every = train
        front: list[Candidate] = []
        least = float("inf")
        for candidate in sorted(ranked, key=self.pool.cost):
            bad = badness(self.pool, self.metric, candidate, every)
            if bad < least:
                front.append(candidate)
                least = bad
        extra = [self.best_single(every), *(Candidate(whole=name) for name in self.pool.wholes), best]
        return list(dict.fromkeys([*front[-SHORTLIST:], *extra]))
