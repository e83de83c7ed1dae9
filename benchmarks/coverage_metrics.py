"""Coverage of the metrics of classes, probabilities, vectors and bins: simulated studies in which people differ.

Each study has people whose answers are right more or less often than others', with as many windows each as a kind says;
the truth is read from a study of many people.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from rtserve.measure.metrics import Metric, parse_metric
from rtserve.measure.probabilities import class_probabilities
from rtserve.measure.statistics import Units, difference, interval

__all__ = ["METRIC_STUDIES", "MetricStudy", "one_study", "truth"]

Array = np.ndarray
TRUTH_PEOPLE = 6_000
SHARES = (0.6, 0.3, 0.1)
EDGES = (0.0, 40.0, 90.0, 300.0, 600.0)
IMAGES, WIDTH = 40, 8


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Targets, two equally good answers, and the columns that a metric groups by."""

    y: Array
    first: Array
    second: Array
    columns: dict[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MetricStudy:
    """A metric with the studies it is tried on.

    Parameters
    ----------
    metric : str
        As the command line takes it.
    people : int
        Of a study.
    unequal : bool
        Whether people have 5 to 80 windows, or 20 each.
    draw : callable
        ``(rng, subject) -> Drawn``.
    besides : str
        What else sets its studies apart, for the tables.
    """

    metric: str
    people: int
    unequal: bool
    draw: Callable[[np.random.Generator, Array], Drawn]
    besides: str = ""

    @property
    def name(self) -> str:
        """For the tables."""
        windows = f"{'5 to 80' if self.unequal else '20'} windows each{self.besides}"
        return f"{self.metric.partition(':')[0]}, {self.people} people, {windows}"

    def study(self, seed: int, people: int | None = None) -> Drawn:
        """Return the study of a seed."""
        rng = np.random.default_rng(seed)
        count = people or self.people
        subject = np.repeat(np.arange(count), rng.integers(5, 81, count) if self.unequal else np.full(count, 20))
        drawn = self.draw(rng, subject)
        return Drawn(**(vars(drawn) | {"columns": drawn.columns | {"subject": subject.astype("U")}}))


def _noise(rng: np.random.Generator, subject: Array, width: int) -> tuple[Array, Array]:
    """Return two noises (n, width) of which each has a part of its person's own, and half of it common to both."""
    people = subject.max() + 1
    common, *own = (rng.standard_normal((len(subject), width)) for _ in range(3))
    whose = 0.5 * rng.standard_normal((3, people, width))
    first, second = (
        0.7 * (common + whose[0, subject]) + 0.7 * (e + w[subject]) for e, w in zip(own, whose[1:], strict=True)
    )
    return first, second


def _classes(answer: Callable[[Array], Array], easy: float = 1.2) -> Callable[[np.random.Generator, Array], Drawn]:
    def draw(rng: np.random.Generator, subject: Array) -> Drawn:
        y = rng.choice(len(SHARES), size=len(subject), p=SHARES)
        skill = easy * np.exp(0.3 * rng.standard_normal(subject.max() + 1))[subject, None]
        right = skill * np.eye(len(SHARES))[y]
        first, second = (answer(right + e) for e in _noise(rng, subject, len(SHARES)))
        session = rng.integers(0, 2, len(subject)).astype("U")
        return Drawn(y=y.astype(float), first=first, second=second, columns={"session": session})

    return draw


def _decided(scores: Array) -> Array:
    return scores.argmax(axis=1).astype(float)


def _probable(scores: Array) -> Array:
    return class_probabilities(scores, "logits", name="a simulated classifier")


def _seconds(rng: np.random.Generator, subject: Array) -> Drawn:
    y = np.clip(rng.exponential(120.0, len(subject)), EDGES[0], EDGES[-1])
    wide = 30.0 * np.exp(0.4 * rng.standard_normal(subject.max() + 1))[subject]
    first, second = (y * 0.6 + 50.0 + wide * e[:, 0] for e in _noise(rng, subject, 1))
    return Drawn(y=y, first=first, second=second, columns={"run_id": subject.astype("U")})


def _embeddings(rng: np.random.Generator, subject: Array) -> Drawn:
    gallery = np.random.default_rng(1).standard_normal((IMAGES, WIDTH))
    image = rng.integers(0, IMAGES, len(subject))
    first, second = (0.8 * gallery[image] + 1.2 * e for e in _noise(rng, subject, WIDTH))
    return Drawn(y=gallery[image], first=first, second=second)


def _angles(rng: np.random.Generator, subject: Array) -> Drawn:
    y = rng.uniform(-1.5, 1.5, (len(subject), WIDTH))
    wide = 0.3 * np.exp(0.4 * rng.standard_normal(subject.max() + 1))[subject, None]
    first, second = (y + wide * e for e in _noise(rng, subject, WIDTH))
    return Drawn(y=y, first=first, second=second)


def _all() -> tuple[MetricStudy, ...]:
    binned = f"binned_mae:edges={','.join(f'{e:g}' for e in EDGES)}:weights=10,5,3,1:by=recording"
    kinds = (
        ("accuracy", _classes(_decided)),
        ("balanced_accuracy", _classes(_decided)),
        ("kappa", _classes(_decided)),
        ("f1", _classes(_decided)),
        ("cell_balanced_accuracy:by=subject,session", _classes(_decided)),
        ("auc", _classes(_probable)),
        ("log_loss", _classes(_probable)),
        (binned, _seconds),
        ("retrieval:top=5:average=subject", _embeddings),
        ("angular_mae", _angles),
    )
    each = tuple(
        MetricStudy(metric=name, people=people, unequal=unequal, draw=draw)
        for name, draw in kinds
        for people, unequal in ((20, False), (20, True), (10, True))
    )
    nearly = tuple(
        MetricStudy(
            metric=name, people=20, unequal=False, draw=_classes(_decided, easy=6.0), besides=", nearly all right"
        )
        for name in ("balanced_accuracy", "kappa", "f1")
    )
    return each + nearly


METRIC_STUDIES = _all()


def truth(study: MetricStudy) -> float:
    """Return the metric in the population."""
    many = study.study(2**31, TRUTH_PEOPLE)
    return _bound(study, many)(many.y, many.first)


def _bound(study: MetricStudy, drawn: Drawn) -> Metric:
    return parse_metric(study.metric).on(drawn.columns)


def one_study(study: MetricStudy, seed: int, true: float) -> tuple[bool, bool, bool]:
    """Return whether the interval holds the truth, whether equal answers are told apart, and whether 0 is held."""
    drawn = study.study(seed)
    metric = _bound(study, drawn)
    units = Units.of(drawn.columns["subject"], len(drawn.y))
    found = interval(metric, drawn.y, drawn.first, units)
    gap = difference(metric, drawn.y, drawn.first, drawn.second, units)
    around = gap.interval is not None and 0.0 in gap.interval
    return found is not None and true in found, gap.different, around
