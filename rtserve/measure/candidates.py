"""What a search chooses among: members x views with a merge and a calibration, on cached branch predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations

import numpy as np

from rtserve.fusion.plan import Calibration, Merge
from rtserve.measure.columns import columns_of
from rtserve.measure.decisions import Decision, to_answers, to_predictions
from rtserve.measure.metrics import Metric
from rtserve.measure.outputs import BranchOutputs
from rtserve.signals.windows import WindowSet

__all__ = ["EXACT_LIMIT", "Candidate", "Pool", "explore"]

EXACT_LIMIT = 4096
"""Most combinations that are all tried; beyond them the search is greedy."""
_KEPT_BYTES = 64 << 20
"""Predictions of plain candidates that are kept; further ones are merged again when they are asked for."""
SHRINK = 1.0
"""Strength with which fitted weights are drawn to the mean, in units of one window's squared error."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to answer.

    Parameters
    ----------
    members, views : tuple of int
        Indices into the pool.
    weights : tuple of float
        One per branch, member-major, adding up to 1; empty for the mean.
    scale, offset : float
        Calibration of the merged output.
    whole : str
        Name of a graph that is taken as it is (a soup, a calibrated one) instead of members and views.
    """

    members: tuple[int, ...] = ()
    views: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    whole: str = ""

    @property
    def plain(self) -> Candidate:
        """The candidate without anything fitted."""
        return replace(self, weights=(), scale=1.0, offset=0.0)

    @property
    def calibrated(self) -> bool:
        """Whether scale or offset do anything."""
        return (self.scale, self.offset) != (1.0, 0.0)

    @property
    def merge(self) -> Merge:
        """The merge of its branches."""
        return Merge(kind="weighted", weights=self.weights) if self.weights else Merge()


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Everything that can be chosen, with its predictions.

    Parameters
    ----------
    outputs : BranchOutputs
        Of every member and view.
    wholes : mapping of str to ndarray
        Name and predictions (n_windows,) of graphs taken as they are.
    windows : WindowSet
        What was predicted.
    decision : Decision, optional
        How classes are read from the outputs.
    average : str
        Of classifiers: what a merge is of, as `rtserve.fusion.plan.Merge` says it.
    cost : callable
        Predicted microseconds of a candidate.
    metric : Metric, optional
        What the answers are for, which says their form; without it numbers, or classes where there is a decision.
    """

    outputs: BranchOutputs
    wholes: Mapping[str, np.ndarray]
    windows: WindowSet
    cost: Callable[[Candidate], float]
    decision: Decision | None = None
    average: str = ""
    metric: Metric | None = None
    _cache: dict[Candidate, np.ndarray] = field(default_factory=dict, repr=False)
    _bound: dict[tuple[str, bytes], Metric] = field(default_factory=dict, repr=False)

    def on(self, metric: Metric, index: np.ndarray) -> Metric:
        """Return the metric for some of the windows, with their columns in it."""
        if metric.bind is None:
            return metric
        key = (str(metric.options), index.tobytes())
        if key not in self._bound:
            columns = columns_of(self.windows)
            self._bound[key] = metric.on({name: values[index] for name, values in columns.items()})
        return self._bound[key]

    def predict(self, candidate: Candidate) -> np.ndarray:
        """Return (n_windows, ...) answers as the metric reads them.

        Those of plain candidates are kept as far as memory is set aside for them.
        """
        plain = candidate.plain
        if candidate.weights or plain not in self._cache:
            y = self._merged(candidate)
            if not candidate.weights and y.nbytes * (1 + len(self._cache)) <= _KEPT_BYTES:
                self._cache[plain] = y
        else:
            y = self._cache[plain]
        result: np.ndarray = candidate.scale * y + candidate.offset if candidate.calibrated else y
        return result

    def _merged(self, candidate: Candidate) -> np.ndarray:
        if candidate.whole:
            return np.asarray(self.wholes[candidate.whole], np.float64)
        branches = self.branches(candidate)
        weights = np.array(candidate.weights or (1.0 / len(branches),) * len(branches))
        merged = np.tensordot(weights, branches.astype(np.float64), axes=1)
        return self.answers(merged, name="a candidate", decision=self.decision)

    def answers(self, outputs: np.ndarray, *, name: str, decision: Decision | None) -> np.ndarray:
        """Return outputs (n_windows, n_outputs) in the form that the metric reads."""
        if self.metric is None:
            return np.asarray(to_predictions(outputs, self.windows, name=name, decision=decision), np.float64)
        found = to_answers(self.metric, outputs, self.windows, name=name, decision=decision)
        return np.asarray(found, np.float64)

    def branches(self, candidate: Candidate) -> np.ndarray:
        """Return (n_branches, n_windows, n_outputs), member-major."""
        chosen = self.outputs.values[np.ix_(candidate.members, candidate.views)]
        return chosen.reshape(-1, *chosen.shape[2:])

    def label(self, candidate: Candidate) -> str:
        """Return what a reader calls the candidate."""
        if candidate.whole:
            text = candidate.whole
        else:
            members = _listed(candidate.members, self.outputs.members, "member")
            text = f"{members}, {_listed(candidate.views, self.outputs.views, 'view')}"
        extras = (", weighted" if candidate.weights else "") + (", calibrated" if candidate.calibrated else "")
        return text + extras

    def calibration(self, candidate: Candidate) -> Calibration | None:
        """Return the calibration of the candidate for `rtserve.fusion.fuse`."""
        return Calibration(scale=candidate.scale, offset=candidate.offset) if candidate.calibrated else None


def _listed(index: Sequence[int], names: Sequence[str], what: str) -> str:
    if len(index) == 1:
        name = names[index[0]]
        return name if name.startswith(what) else f"{what} {name}"
    return f"{len(index)} {what}s ({', '.join(names[k] for k in index)})"


def explore(pool: Pool, metric: Metric, train: np.ndarray, budget_us: float) -> list[Candidate]:
    """Return plain candidates within the budget, best first on the windows `train`.

    All combinations where there are at most `EXACT_LIMIT`, else those that a greedy search visits, which starts at
    the best single branch and adds the member or view that helps most until none does.
    """
    wholes = [Candidate(whole=name) for name in pool.wholes]
    found = wholes + (
        list(_all(pool)) if combinations_of(pool) <= EXACT_LIMIT else _greedy(pool, metric, train, budget_us)
    )
    within = [candidate for candidate in found if pool.cost(candidate) <= budget_us]
    return sorted(within, key=lambda c: (badness(pool, metric, c, train), pool.cost(c)))


def combinations_of(pool: Pool) -> int:
    """Return how many products of a set of members and a set of views there are."""
    return int((2 ** len(pool.outputs.members) - 1) * (2 ** len(pool.outputs.views) - 1))


def badness(pool: Pool, metric: Metric, candidate: Candidate, index: np.ndarray) -> float:
    """Return the metric on some windows, negated where higher is better; infinite where it is not defined."""
    y, metric = pool.windows.y[index].astype(np.float64), pool.on(metric, index)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(metric.of_sums(metric.statistics(y, pool.predict(candidate)[index]).sum(axis=0)))
    return (-value if metric.higher_is_better else value) if np.isfinite(value) else float("inf")


def _subsets(count: int) -> Iterator[tuple[int, ...]]:
    return chain.from_iterable(combinations(range(count), k) for k in range(1, count + 1))


def _all(pool: Pool) -> Iterable[Candidate]:
    views = list(_subsets(len(pool.outputs.views)))
    return (Candidate(members=m, views=v) for m in _subsets(len(pool.outputs.members)) for v in views)


def _greedy(pool: Pool, metric: Metric, train: np.ndarray, budget_us: float) -> list[Candidate]:
    """Return what a greedy search visits within the budget."""
    n_members, n_views = len(pool.outputs.members), len(pool.outputs.views)
    front = [Candidate(members=(m,), views=(v,)) for m in range(n_members) for v in range(n_views)]
    visited: dict[Candidate, float] = {}
    best: tuple[float, Candidate] | None = None
    while front:
        scored = [(badness(pool, metric, c, train), c) for c in front if pool.cost(c) <= budget_us]
        visited |= {candidate: value for value, candidate in scored}
        top = min(scored, key=lambda pair: pair[0], default=None)
        if top is None or (best is not None and top[0] >= best[0]):
            break
        best = top
        front = [c for c in _neighbours(top[1], n_members, n_views) if c not in visited]
    return list(visited)


def _neighbours(candidate: Candidate, n_members: int, n_views: int) -> Iterator[Candidate]:
    """Yield the candidate with one member or one view more."""
    for m in set(range(n_members)) - set(candidate.members):
        yield replace(candidate, members=tuple(sorted((*candidate.members, m))))
    for v in set(range(n_views)) - set(candidate.views):
        yield replace(candidate, views=tuple(sorted((*candidate.views, v))))


def fitted(pool: Pool, candidate: Candidate, train: np.ndarray, *, weights: bool, calibrate: bool) -> Candidate:
    """Return the candidate with weights, scale and offset fitted on the windows `train` (least squares).

    Weights are not negative, add up to 1, and are drawn to the mean; the scale is not negative.
    """
    y = pool.windows.y[train].astype(np.float64)
    if weights and not candidate.whole:
        branches = pool.branches(candidate)[:, train, 0].astype(np.float64)
        candidate = replace(candidate, weights=_simplex_weights(branches, y))
    if calibrate:
        p = pool.predict(replace(candidate, scale=1.0, offset=0.0))[train]
        spread = float(np.var(p))
        scale = max(0.0, float(np.mean((p - p.mean()) * (y - y.mean()))) / spread) if spread > 0 else 0.0
        candidate = replace(candidate, scale=scale, offset=float(y.mean() - scale * p.mean()))
    return candidate


def _simplex_weights(branches: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """Return w >= 0 with sum 1 that minimises |y - w B|^2 + SHRINK var(y) k |w - 1/k|^2."""
    from scipy.optimize import nnls

    count = len(branches)
    pull = np.sqrt(SHRINK * max(float(np.var(y)), 1e-12) * count)
    tie = 1e3 * np.sqrt(len(y)) * max(float(np.abs(y).max()), 1e-6)
    rows = np.concatenate([branches.T, pull * np.eye(count), np.full((1, count), tie)])
    target = np.concatenate([y, np.full(count, pull / count), [tie]])
    solution, _ = nnls(rows, target)
    total = float(solution.sum())
    return tuple(float(w) / total for w in solution) if total > 0 else (1.0 / count,) * count
