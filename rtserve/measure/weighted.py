"""Metrics that are means of means: over cells of people and sessions, over bins of the target, over averaged queries.

Each is one weighted mean over windows, its weights known from the targets and the columns alone; so people are resampled
with their cells. A cell, bin or query that is not there has no part. These are the forms that contests rank by; which
columns, edges and weights a contest takes is in its profile.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.class_metrics import commonest
from rtserve.measure.columns import digest_of, labels_of, nested_shares, paired
from rtserve.measure.metric import Columns, Metric
from rtserve.measure.retrieval import found, mean_target, queries

__all__ = ["FAMILIES", "angular_mae", "binned_mae", "cell_balanced_accuracy", "retrieval"]

Array = np.ndarray
Shares = Callable[[Array], Array]
Loss = Callable[[Array, Array], Array]


def _ratio(s: Array) -> Array:
    result: Array = s[..., 1] / s[..., 0]
    return result


def _statistics(shares: Shares, loss: Loss) -> Callable[[Array, Array], Array]:
    def statistics(y: Array, p: Array) -> Array:
        share = shares(y) * len(y)
        return np.stack([share, share * loss(y, p)], axis=1)

    return statistics


def _keyed(metric: Metric, names: list[str], bound: Callable[[Columns], Metric]) -> Metric:
    """Return a metric that reads the named columns; what they are is in the signature of the bound one."""

    def bind(columns: Columns) -> Metric:
        for name in names:
            labels_of(columns, name, what=metric.name)
        keyed = bound(columns).also(("keys", digest_of(columns, names)))
        return replace(keyed, columns=tuple(names))

    return replace(metric, bind=bind, columns=tuple(names)) if names else bound({})


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _numbers(text: str, key: str, metric: str) -> Array:
    try:
        values = np.array([float(part) for part in text.split(",") if part.strip()])
    except ValueError:
        values = np.empty(0)
    if not len(values) or not np.isfinite(values).all():
        raise InputError(f"{key}={text} of {metric} is no list of numbers", hint=f"for example {key}=0,40,90")
    return values


def _unbound(y: Array, p: Array) -> Array:
    raise InputError("this metric reads columns of the windows", hint="bind it with Metric.on(columns)")


def cell_balanced_accuracy(*, by: str) -> Metric:
    """Return the balanced accuracy within each cell, averaged over cells; `by` are the columns that make a cell."""
    names = _names(by)
    plain = Metric(
        name="cell_balanced_accuracy",
        options=(("by", ",".join(names)),),
        statistics=_unbound,
        of_sums=_ratio,
        constant=commonest,
        higher_is_better=True,
        scale="logit",
        bounds=(0.0, 1.0),
        reads="class",
    )

    def bound(columns: Columns) -> Metric:
        cells = paired(*(labels_of(columns, name, what=plain.name) for name in names))
        statistics = _statistics(
            lambda y: nested_shares(len(y), [(cells, None), (y.astype(np.int64), None)]),
            lambda y, p: np.asarray(p == y, np.float64),
        )

        def best(y: Array) -> Array:
            classes = np.unique(y)
            scores = [_ratio(statistics(y, np.full(len(y), k)).sum(axis=0)) for k in classes]
            return np.full(len(y), classes[int(np.argmax(scores))])

        return replace(plain, statistics=statistics, constant=best)

    if not names:
        raise InputError(f"{plain.name} has no columns to make cells of", hint="for example by=subject,session")
    return _keyed(plain, names, bound)


def binned_mae(*, edges: str, weights: str = "", by: str = "", groups: str = "") -> Metric:
    """Return the mean absolute error within bins of the target, averaged over bins.

    Parameters
    ----------
    edges : str
        Of the bins, ascending, in the target's unit: [a, b) each, the last with its upper end.
    weights : str
        Of the bins in their mean; equal ones by default.
    by : str
        Columns within whose cells it is taken first, then averaged (``run_id``); none by default.
    groups : str
        Columns over whose groups of cells it is averaged last (seen and unseen people); none by default.
    """
    limits = _numbers(edges, "edges", "binned_mae")
    weight = _numbers(weights, "weights", "binned_mae") if weights else np.ones(len(limits) - 1)
    if len(limits) < 2 or not (np.diff(limits) > 0).all() or len(weight) != len(limits) - 1 or not (weight > 0).all():
        raise InputError(
            f"{len(weight)} weights for the edges {edges} of binned_mae",
            hint="edges ascend, and each bin between two of them has one weight above 0: edges=0,10,30:weights=2,1",
        )
    given = (("edges", edges), ("weights", weights), ("by", by), ("groups", groups))
    plain = Metric(
        name="binned_mae",
        options=tuple((key, value) for key, value in given if value),
        statistics=_unbound,
        of_sums=_ratio,
        constant=lambda y: np.full(len(y), float(np.median(y))),
        scale="log",
        order=1,
    )

    def bound(columns: Columns) -> Metric:
        outer = [paired(*(labels_of(columns, n, what=plain.name) for n in _names(key))) for key in (groups, by) if key]

        def shares(y: Array) -> Array:
            return nested_shares(len(y), [*((labels, None) for labels in outer), (_bins(y, limits), weight)])

        return replace(
            plain,
            statistics=_statistics(shares, lambda y, p: np.abs(p - y)),
            constant=lambda y: np.full(len(y), _weighted_median(y, shares(y))),
            share=(1, 0, 1.0),
        )

    return _keyed(plain, [*_names(groups), *_names(by)], bound)


def _bins(y: Array, limits: Array) -> Array:
    outside = (y < limits[0]) | (y > limits[-1])
    if outside.any():
        first = int(np.argmax(outside))
        raise InputError(
            f"{int(outside.sum())} targets lie in none of the bins from {limits[0]:g} to {limits[-1]:g} (window {first} has"
            f" {y[first]:g})",
            hint="cap the targets as the contest does, or give edges that hold them",
        )
    bins: Array = np.digitize(y, limits[1:-1])
    return bins


def _weighted_median(y: Array, share: Array) -> float:
    order = np.argsort(y, kind="stable")
    return float(y[order][np.searchsorted(np.cumsum(share[order]), 0.5 * share.sum())])


def retrieval(*, top: str = "5", average: str = "", image: str = "") -> Metric:
    """Return the share of queries whose own target is among the nearest of all targets, by cosine.

    Parameters
    ----------
    top : str
        Among how many.
    average : str
        Columns (``subject``) within which the answers to one target are averaged, before they are normalised, and are
        one query; by default each window is one.
    image : str
        Column that names targets; by default equal targets are one.
    """
    if not top.isdecimal() or not int(top):
        raise InputError(f"top={top} of retrieval", hint="a whole number from 1, for example top=5")
    given = (("top", top), ("average", average), ("image", image))
    plain = Metric(
        name="retrieval",
        options=tuple((key, value) for key, value in given if value),
        statistics=_unbound,
        of_sums=_ratio,
        constant=mean_target,
        higher_is_better=True,
        scale="logit",
        bounds=(0.0, 1.0),
        reads="vector",
    )

    def bound(columns: Columns) -> Metric:
        within = [labels_of(columns, name, what=plain.name) for name in _names(average)]
        named = labels_of(columns, image, what=plain.name) if image else None

        def query(y: Array) -> tuple[Array, Array]:
            target = queries(y, named)
            return target, paired(*within, target) if within else np.arange(len(y))

        def shares(y: Array) -> Array:
            return nested_shares(len(y), [(query(y)[1], None)])

        def right(y: Array, p: Array) -> Array:
            return found(y, p, *query(y), top=int(top))

        return replace(plain, statistics=_statistics(shares, right), losses=lambda y, p: 1.0 - right(y, p))

    return _keyed(plain, [*_names(average), *_names(image)], bound)


def angular_mae(*, unit: str = "rad", joints: str = "") -> Metric:
    """Return the mean absolute difference of angles in radians, without wrapping.

    Parameters
    ----------
    unit : str
        ``rad``, or ``deg`` for the value in degrees.
    joints : str
        How many, of answers (joints x samples) with fewer samples than the targets: the nearest before is taken.
    """
    if unit not in ("rad", "deg") or (joints and not joints.isdecimal()):
        raise InputError(f"unit={unit}:joints={joints} of angular_mae", hint="unit is rad or deg, joints a number")
    factor = 180.0 / np.pi if unit == "deg" else 1.0

    def losses(y: Array, p: Array) -> Array:
        loss: Array = factor * np.abs(_stretched(p, y.shape[1], int(joints or 0)) - y).mean(axis=1)
        return loss

    options = (("unit", unit), ("wrap", "none"), *((("joints", joints),) if joints else ()))
    return Metric(
        name="angular_mae",
        options=options,
        statistics=lambda y, p: np.stack([np.ones(len(y)), losses(y, p)], axis=1),
        losses=losses,
        of_sums=_ratio,
        constant=lambda y: np.tile(np.median(y, axis=0), (len(y), 1)),
        scale="log",
        share=(1, 0, 1.0),
        order=1,
        reads="vector",
    )


def _stretched(p: Array, wanted: int, joints: int) -> Array:
    if p.shape[1] == wanted:
        return p
    if not joints or wanted % joints or p.shape[1] % joints or p.shape[1] > wanted:
        raise InputError(
            f"{p.shape[1]} numbers per window for targets of {wanted}",
            hint="of trajectories with fewer samples say how many joints there are: angular_mae:joints=20",
        )
    coarse = p.reshape(len(p), joints, -1)
    index = np.arange(wanted // joints) * coarse.shape[2] // (wanted // joints)
    return coarse[:, :, index].reshape(len(p), wanted)


FAMILIES: dict[str, Callable[..., Metric]] = {
    "cell_balanced_accuracy": cell_balanced_accuracy,
    "binned_mae": binned_mae,
    "retrieval": retrieval,
    "angular_mae": angular_mae,
}
"""Metrics with settings: ``NAME:key=value:key=value`` on the command line."""
