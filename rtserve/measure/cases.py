"""`Cases`: what is scored, one by one: windows, or recordings whose windows' answers were brought together.

A case has a target, an answer in the forms that metrics read, whose it is, and the columns that metrics group by.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.columns import columns_of, labels_of, paired
from rtserve.measure.metric import Metric
from rtserve.measure.resampling import Units
from rtserve.signals.windows import WindowSet

__all__ = ["WINDOWS", "Cases", "Per"]

Array = np.ndarray
WINDOWS = "windows"


@dataclass(frozen=True, kw_only=True)
class Per:
    """How the answers to the windows of one recording become one answer.

    Parameters
    ----------
    column : str
        Whose entries are the recordings: ``run_id``, or any other column of the windows.
    how : str
        ``"mean"`` of numbers, vectors or the probabilities of classes; ``"vote"``, the share of windows decided for
        each class.
    """

    column: str
    how: str = "mean"

    @classmethod
    def parse(cls, text: str) -> Per:
        """Read ``COLUMN`` or ``COLUMN:vote``.

        Raises
        ------
        InputError
            Where it is neither.
        """
        column, _, how = text.partition(":")
        if not column or how not in ("", "mean", "vote"):
            raise InputError(
                f"cannot bring answers together by {text!r}", hint="use --per recording, or recording:vote"
            )
        return cls(column="run_id" if column == "recording" else column, how=how or "mean")


@dataclass(frozen=True, kw_only=True)
class Cases:
    """What is scored.

    Parameters
    ----------
    y : ndarray, (n,) or (n, n_outputs)
        Targets.
    predictions : ndarray, (n,) or (n, n_outputs)
        The number, the class decided for, or the vector.
    probabilities : ndarray, (n, n_classes), or None
        Of classes, where they are known.
    why_none : str
        Why they are not.
    subject : ndarray of str
        (n,), or empty.
    columns : mapping of str to ndarray, (n,)
        What metrics may group by.
    digest : str
        Of the windows.
    agg : str
        What a case is, as signatures have it: ``"windows"``.
    windows : int
        How many windows they are of.
    """

    y: Array
    predictions: Array
    probabilities: Array | None = None
    why_none: str = "the answers are class numbers"
    subject: Array = field(default_factory=lambda: np.empty(0, "U1"))
    columns: Mapping[str, Array] = field(default_factory=dict)
    digest: str = ""
    agg: str = WINDOWS
    windows: int = 0

    @classmethod
    def of(cls, windows: WindowSet, predictions: Array, probabilities: Array | None = None, why: str = "") -> Cases:
        """Return each window as a case."""
        plain = cls(
            y=windows.y.astype(np.float64),
            predictions=np.asarray(predictions),
            probabilities=probabilities,
            subject=windows.subject,
            columns=columns_of(windows),
            digest=windows.digest,
            windows=len(windows),
        )
        return replace(plain, why_none=why) if why else plain

    def __len__(self) -> int:
        return len(self.y)

    @functools.cached_property
    def units(self) -> Units:
        """What is resampled."""
        return Units.of(self.subject, len(self))

    def read(self, metric: Metric) -> Array:
        """Return the answers in the form that a metric reads.

        Raises
        ------
        InputError
            Where they are not known in that form.
        """
        if metric.reads != "probabilities":
            return self.predictions
        if self.probabilities is None:
            raise InputError(
                f"{metric.name} reads probabilities, and {self.why_none}",
                hint="use balanced_accuracy, accuracy, kappa or f1, which read the class that is decided for",
            )
        return self.probabilities

    def take(self, index: Array) -> Cases:
        """Return the cases that `index` (integers or a mask) names."""
        return replace(
            self,
            y=self.y[index],
            predictions=self.predictions[index],
            probabilities=None if self.probabilities is None else self.probabilities[index],
            subject=self.subject[index] if self.subject.size else self.subject,
            columns={name: column[index] for name, column in self.columns.items()},
        )

    def together(self, per: Per, *, classes: bool) -> Cases:
        """Return one case per recording.

        Raises
        ------
        InputError
            Where the windows do not say which recording they are of, one has several targets or subjects, or the mean
            of what is not known is asked for.
        """
        what = f"--per {per.column}"
        labels = labels_of(self.columns, per.column, what=what)
        if self.subject.size:
            labels = paired(labels, np.unique(self.subject, return_inverse=True)[1].reshape(-1))
        first = np.unique(labels, return_index=True)[1]
        one_target = (self.y == self.y[first][labels]).reshape(len(self), -1).all(axis=1)
        if not one_target.all():
            k = int(np.argmin(one_target))
            raise InputError(
                f"{what}: {self.columns[per.column][k]} has windows of several targets ({self.y[first[labels[k]]]} and"
                f" {self.y[k]})",
                hint="answers are brought together where one target is of the whole recording; else leave --per out",
            )
        merged, probabilities, said = self._merged(labels, per, classes)
        return replace(
            self.take(first),
            predictions=merged,
            probabilities=probabilities,
            agg=f"{per.column} ({said})",
            columns={name: column[first] for name, column in self.columns.items() if _constant(column, first, labels)},
        )

    def _merged(self, labels: Array, per: Per, classes: bool) -> tuple[Array, Array | None, str]:
        if not classes:
            if per.how == "vote":
                raise InputError("numbers cannot be voted on", hint=f"use --per {per.column}:mean")
            return _means(self.predictions, labels), None, "mean"
        if per.how == "vote":
            count = self.probabilities.shape[1] if self.probabilities is not None else int(self.predictions.max()) + 1
            votes = np.eye(max(2, count, int(self.y.max()) + 1))[self.predictions.astype(np.int64)]
            shares = _means(votes, labels)
            return np.asarray(shares.argmax(axis=1), np.float32), shares, "vote"
        if self.probabilities is None:
            raise InputError(
                f"the mean of probabilities is asked for, and {self.why_none}", hint=f"use --per {per.column}:vote"
            )
        means = _means(self.probabilities, labels)
        return np.asarray(means.argmax(axis=1), np.float32), means, "mean of probabilities"


def _means(values: Array, labels: Array) -> Array:
    table = np.asarray(values, np.float64).reshape(len(labels), -1)
    sums = np.stack([np.bincount(labels, weights=column) for column in table.T], axis=1)
    means: Array = sums / np.bincount(labels)[:, None]
    return means if np.ndim(values) > 1 else means[:, 0]


def _constant(column: Array, first: Array, labels: Array) -> bool:
    return bool(np.array_equal(column, column[first][labels]))
