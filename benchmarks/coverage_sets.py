"""Simulated studies for which the truth is known: people, their trials, targets, predictions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from rtserve.signals import hbn
from rtserve.signals.targets import draw_trials

__all__ = ["SITUATIONS", "Situation", "Study", "family"]

Array = np.ndarray
TRUTH_PEOPLE = 40_000
R = 0.46


@dataclass(frozen=True, kw_only=True)
class Study:
    """One simulated set: targets (n,), predictions (k, n) that are equally good, whose each window is (n,)."""

    y: Array
    p: Array
    subject: Array


@dataclass(frozen=True, kw_only=True)
class Situation:
    """How studies are drawn.

    Parameters
    ----------
    name : str
        For the tables.
    people : int
        Subjects of a study.
    draw : callable
        ``(rng, people) -> Study`` with two predictions.
    slope : float
        Of a prediction on y: what is left of it is unrelated to y.
    """

    name: str
    people: int
    draw: Callable[[np.random.Generator, int], Study]
    slope: float = 0.3

    def study(self, seed: int) -> Study:
        """Return the study of a seed."""
        return self.draw(np.random.default_rng(seed), self.people)

    def population(self) -> Study:
        """Return a study of many people: where the truth is read."""
        return self.draw(np.random.default_rng(2**31), TRUTH_PEOPLE)

    def worthless(self, study: Study, name: str) -> Array:
        """Return predictions (n,) whose Pearson's r is 0, or whose NRMSE is 1, in the population."""
        rest: Array = study.p[0] - self.slope * study.y
        if name == "pearson":
            return rest
        mean, middle, size = self._scales
        return mean + self.slope * (study.y - mean) + size * (rest - middle)

    @functools.cached_property
    def _scales(self) -> tuple[float, float, float]:
        """Mean of y and of what is unrelated to it, and the factor of that by which the NRMSE is 1."""
        many = self.population()
        rest = many.p[0] - self.slope * many.y
        size = np.sqrt((1 - (1 - self.slope) ** 2) * np.var(many.y) / np.var(rest))
        return float(many.y.mean()), float(rest.mean()), float(size)


def _plain(trials: str, *, student: bool = False, noisy: str = "") -> Callable[[np.random.Generator, int], Study]:
    """Return a generator: subject effects and trial noise, Gaussian or Student's t with three degrees of freedom."""

    def draw(rng: np.random.Generator, people: int) -> Study:
        counts, size = _people(rng, people, trials, noisy)
        subject = np.repeat(np.arange(people), counts)
        shape = (3, len(subject))
        noise = rng.standard_t(3, shape) if student else rng.standard_normal(shape)
        effect = 0.5 * rng.standard_normal((3, people))[:, subject]
        in_target = size[subject] if noisy == "everything" else 1.0
        y = effect[0] + in_target * noise[0]
        errors = size[subject] * (effect[1:] + 0.9 * noise[1:])
        return Study(y=y, p=0.3 * y + errors, subject=subject)

    return draw


def _people(rng: np.random.Generator, people: int, trials: str, noisy: str) -> tuple[Array, Array]:
    """Return trials of each person, and the size of their noise."""
    if not noisy:
        counts = np.full(people, 12) if trials == "12" else rng.integers(1, 201, people)
        return counts, np.ones(people)
    size = np.exp(0.5 * rng.standard_normal(people))
    return np.clip((40 * size**2).astype(int), 1, 200), size


def _contest(trials: int, people: int) -> Callable[[np.random.Generator, int], Study]:
    """Return a generator of response times as the simulator draws them and calibrated predictors with r = 0.46."""

    def draw(rng: np.random.Generator, count: int) -> Study:
        drawn = draw_trials(rng, max(count, trials * count // people), count, "response_time")
        standard = (drawn.y - hbn.MEAN["response_time"]) / hbn.SD["response_time"]
        own = rng.standard_normal((3, len(standard))) + 0.7 * rng.standard_normal((3, count))[:, drawn.subject]
        noise = (0.8 * own[0] + 0.6 * own[1:]) / np.sqrt(1.49)
        p = R * R * standard + R * np.sqrt(1 - R * R) * noise
        return Study(y=drawn.y, p=hbn.MEAN["response_time"] + hbn.SD["response_time"] * p, subject=drawn.subject)

    return draw


SITUATIONS = (
    Situation(name="1: 20 people x 12 trials", people=20, draw=_plain("12")),
    Situation(name="2: 20, 1 to 200 trials each", people=20, draw=_plain("unequal")),
    Situation(name="3: 20, unequal, t3", people=20, draw=_plain("unequal", student=True)),
    Situation(name="4: 20, noisy people have more trials", people=20, draw=_plain("unequal", noisy="everything")),
    Situation(name="4b: the same, noisy predictions alone", people=20, draw=_plain("unequal", noisy="predictions")),
    Situation(name="5: 10, unequal", people=10, draw=_plain("unequal")),
    Situation(name="6: 60, unequal, t3", people=60, draw=_plain("unequal", student=True)),
    Situation(name="7: 19 x 12", people=19, draw=_plain("12")),
    Situation(name="8: response times, 19 people, 241 trials", people=19, draw=_contest(241, 19), slope=R**2),
    Situation(name="8b: response times, 60 people, 3700 trials", people=60, draw=_contest(3700, 60), slope=R**2),
    Situation(name="5 people, unequal", people=5, draw=_plain("unequal")),
    Situation(name="5 people, unequal, t3", people=5, draw=_plain("unequal", student=True)),
    Situation(name="3 people, unequal", people=3, draw=_plain("unequal")),
)


def family(rng: np.random.Generator, people: int, trials: int, count: int, *, better: float = 0.0) -> Study:
    """Return response times and ``count + 1`` predictors with r = 0.46 that share most of their error.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    people, trials : int
        Size of the study.
    count : int
        Predictors beside the first.
    better : float
        How much smaller their NRMSE is than the first's, in the population.
    """
    drawn = draw_trials(rng, trials, people, "response_time")
    standard = (drawn.y - hbn.MEAN["response_time"]) / hbn.SD["response_time"]

    def noise() -> Array:
        each: Array = rng.standard_normal(trials) + 0.7 * rng.standard_normal(people)[drawn.subject]
        return each / np.sqrt(1.49)

    further = float(np.sqrt(max(0.0, 1.0 - (np.sqrt(1.0 - R * R) - better) ** 2)))
    shared, rows = noise(), []
    for k in range(count + 1):
        own = R if k == 0 else further
        error = 0.8 * shared + 0.6 * noise()
        rows.append(own * own * standard + own * np.sqrt(1.0 - own * own) * error)
    p = hbn.MEAN["response_time"] + hbn.SD["response_time"] * np.stack(rows)
    return Study(y=drawn.y, p=p, subject=drawn.subject)
