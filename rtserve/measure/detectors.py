"""What should make a reader of two numbers suspicious. Each detector returns a warning or None.

They come from real mistakes: half a squared error compared with a squared one, a file compared with itself, a score
of 1.00 taken for a good one, five passes that cost less than one, test windows that were trained on.
"""

from __future__ import annotations

import re

import numpy as np

from rtserve.measure.metrics import metric_of
from rtserve.measure.sides import Claim, Cost
from rtserve.measure.standing import Standing
from rtserve.signals.stored import fingerprints
from rtserve.signals.windows import WindowSet

__all__ = [
    "equal_to_six_digits",
    "faster_with_more_work",
    "half_or_double",
    "identical_predictions",
    "is_loss",
    "predicts_the_mean",
    "shared_subjects",
    "shared_windows",
    "subjects_across_splits",
]

Array = np.ndarray


def identical_predictions(first: Array, second: Array, *, names: tuple[str, str]) -> str | None:
    """Warn where two predictions (n_windows,) are equal everywhere: one thing was measured twice."""
    if first.shape != second.shape or not np.array_equal(first, second):
        return None
    return (
        f"{names[0]} and {names[1]} predict the same {len(first)} numbers, bit for bit: the change between them does"
        " nothing on this data, or the same model was loaded twice"
    )


def half_or_double(first: Claim, second: Claim) -> str | None:
    """Warn where two losses are a factor of two apart and not known to be one metric: SmoothL1 against MSE."""
    if not (is_loss(first) and is_loss(second)) or _same_metric(first, second):
        return None
    small, large = sorted((abs(first.value), abs(second.value)))
    if small <= 0 or not 1.85 <= large / small <= 2.15:
        return None
    return (
        f"{second.name} {second.value:.6g} is {second.value / first.value:.2f} times {first.name} {first.value:.6g}:"
        " SmoothL1 is half the squared error for errors under 1, so this is what one result looks like in two units"
    )


def is_loss(claim: Claim) -> bool:
    """Whether a claim is a squared or smooth error, by its signature or else by its name."""
    name = claim.signature.metric if claim.signature else claim.name.rpartition(".")[2].lower()
    return "loss" in name or "smooth" in name or re.search(r"(^|[^rn])mse", name) is not None


def _same_metric(first: Claim, second: Claim) -> bool:
    return bool(first.signature and second.signature) and first.signature.metric == second.signature.metric  # type: ignore[union-attr]


def equal_to_six_digits(first: Claim, second: Claim) -> str | None:
    """Warn where two scores agree to six digits: equal models, or one file read twice. Shares of windows often agree."""
    if first.value == 0 or (_counts(first) and _counts(second)) or f"{first.value:.5e}" != f"{second.value:.5e}":
        return None
    return f"{first.name} and {second.name} agree to six digits ({first.value:.6g}): is it the same model twice?"


def _counts(claim: Claim) -> bool:
    """Whether a claim counts decisions, as an accuracy does: it takes few values."""
    metric = metric_of(claim.signature) if claim.signature else None
    return metric is not None and metric.reads == "class"


def predicts_the_mean(claim: Claim) -> str | None:
    """Warn where a stated NRMSE by std, which has no predictions beside it, is 1.00 or more: the mean scores that."""
    options = dict(claim.signature.options) if claim.signature else {}
    if "nrmse" not in claim.name.lower() or options.get("norm", "std") != "std":
        return None
    where = Standing(metric=claim.name, value=claim.value, constant=1.0, interval=None)
    return None if where.side > 0 else where.sentence()


def faster_with_more_work(first: Cost, second: Cost) -> str | None:
    """Warn where one result holds more branches than the other, costs less, and names no pass that explains it."""
    if (first.batch, first.threads) != (second.batch, second.threads):
        return None
    less, more = sorted((first, second), key=lambda c: c.branches)
    if more.branches == less.branches or more.latency_us >= less.latency_us or more.passes:
        return None
    return (
        f"{more.branches} branches take {more.latency_us:.0f} us and {less.branches} take {less.latency_us:.0f} us,"
        " and no pass explains it: were all branches run?"
    )


def shared_windows(train: WindowSet, test: WindowSet) -> str | None:
    """Warn where windows of the test set are in the training set, bit for bit."""
    if train.X.shape[1:] != test.X.shape[1:]:
        return None
    count = int(np.isin(fingerprints(test.X), fingerprints(train.X)).sum())
    if not count:
        return None
    return f"{count} of {len(test)} test windows are in the training set: their score is memory, not prediction"


def shared_subjects(train: WindowSet, test: WindowSet) -> str | None:
    """Warn where subjects are in both sets: a subject's own mean predicts well without any EEG."""
    both = np.intersect1d(train.subject, test.subject)
    if not len(both):
        return None
    some = ", ".join(str(s) for s in both[:5]) + (", ..." if len(both) > 5 else "")
    return f"{len(both)} subjects are in training and test ({some}): their own mean predicts without EEG"


def subjects_across_splits(windows: WindowSet) -> str | None:
    """Warn where a file's own split marks put one subject on two sides."""
    marks = np.asarray(windows.extra.get("split", np.empty(0, "U1"))).astype("U")
    if marks.shape != (len(windows),) or windows.subject.shape != marks.shape:
        return None
    pairs = np.unique(np.stack([windows.subject.astype("U"), marks]), axis=1)
    names, counts = np.unique(pairs[0], return_counts=True)
    torn = names[counts > 1]
    if not len(torn):
        return None
    return f"{len(torn)} subjects are in more than one split (first: {torn[0]}): split by subject"
