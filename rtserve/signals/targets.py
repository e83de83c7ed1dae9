"""Who was measured when, and what the target was: subjects, runs, trials, response times or scores.

A response time is a subject's own mean plus run, fore-period and trial effects (`rtserve.signals.hbn`). Where that sum
lies in the population of all children and trials is looked up in the real distribution, so the population has the real
quantiles and every set is a new draw from it: a small set's own mean, spread and quantiles vary as a study's would.
(Until version 1 of the generator each set was given the real quantiles exactly, which made intervals look better than
they are.)
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from rtserve.signals import hbn
from rtserve.signals.chance import lognormal, normal, uniform

__all__ = ["Trials", "default_subjects", "draw_trials"]

_NODES, _POINTS, _REACH_S = 40, 2001, 6.0
STEPS = 2.0**20
"""Into how many steps shares of the population are divided."""
_BETWEEN_STRETCH = 1.05
"""The heavy left tail of the real distribution takes some of the subjects' share; this gives it back (tested)."""


@dataclass(frozen=True, kw_only=True)
class Trials:
    """Trials of all subjects, in recording order.

    Parameters
    ----------
    subject : ndarray of int, (n_windows,)
        Index of the subject.
    run : ndarray of str, (n_windows,)
        ``"1"`` to ``"3"``.
    fore_period : ndarray, (n_windows,)
        Seconds from the trial's start to its target.
    y : ndarray, (n_windows,)
        The target: response time in s, or the subject's externalizing score.
    """

    subject: np.ndarray
    run: np.ndarray
    fore_period: np.ndarray
    y: np.ndarray


def default_subjects(n_windows: int) -> int:
    """Return how many subjects a set gets: about 62 trials each as in HBN, and in small sets fewer trials of 96 people.

    An interval is over subjects; a handful of them in the test part would make any score mean little.
    """
    return max(1, round(n_windows / 62), min(96, n_windows // 8))


def draw_trials(rng: np.random.Generator, n_windows: int, n_subjects: int, target: str) -> Trials:
    """Draw trials and their targets.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    n_windows, n_subjects : int
        Trials and people; at least one trial each.
    target : str
        ``"response_time"`` or ``"externalizing"``.
    """
    subject = np.repeat(np.arange(n_subjects), _counts(rng, n_windows, n_subjects))
    run = _runs(subject)
    fore_period = rng.choice(list(hbn.FORE_PERIOD_SHIFT_S), size=n_windows)
    if target == "externalizing":
        y = hbn.quantile_function(target, uniform(rng, 2.0**-54, 1.0, n_subjects))[subject]
    else:
        latent = _latent_response_time(rng, subject, run, fore_period)
        y = hbn.quantile_function(target, _between(latent, *_population()))
    return Trials(subject=subject, run=run, fore_period=fore_period, y=y)


def _counts(rng: np.random.Generator, n_windows: int, n_subjects: int) -> np.ndarray:
    """Share trials out as unevenly as in HBN; every subject has at least one."""
    total = np.cumsum(_between(uniform(rng, 0.05, 0.95, n_subjects), *_known(hbn.TRIALS_PER_SUBJECT)))
    spare = n_windows - n_subjects
    edges = np.floor(total / total[-1] * spare + 1e-9).astype(int)
    edges[-1] = spare
    counts: np.ndarray = np.diff(edges, prepend=0) + 1
    return counts


def _known(table: dict[float, float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(list(table)), np.array(list(table.values()))


def _between(x: np.ndarray, at: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Interpolate linearly, and hold beyond the ends; numpy's own may fuse a product and a sum."""
    x = np.clip(x, at[0], at[-1])
    piece = np.clip(np.searchsorted(at, x, side="right") - 1, 0, len(at) - 2)
    share = (x - at[piece]) / (at[piece + 1] - at[piece])
    return np.asarray(values[piece] + share * (values[piece + 1] - values[piece]))


def _runs(subject: np.ndarray) -> np.ndarray:
    """Split each subject's trials into three runs of equal length."""
    n = np.bincount(subject)
    place = np.arange(len(subject)) - np.concatenate([[0], np.cumsum(n)[:-1]])[subject]
    run: np.ndarray = (1 + 3 * place // n[subject]).astype("U1")
    return run


def _latent_response_time(
    rng: np.random.Generator, subject: np.ndarray, run: np.ndarray, fore_period: np.ndarray
) -> np.ndarray:
    n_subjects = int(subject.max()) + 1
    own_mean = normal(rng, 0.0, _BETWEEN_STRETCH * hbn.BETWEEN_SUBJECT_SD_S, n_subjects)
    own_sd = lognormal(rng, *hbn.WITHIN_SD_LOGNORMAL, n_subjects)
    shift = np.array([hbn.RUN_SHIFT_S[r] for r in run]) + np.array([hbn.FORE_PERIOD_SHIFT_S[f] for f in fore_period])
    latent: np.ndarray = own_mean[subject] + shift + own_sd[subject] * normal(rng, 0.0, 1.0, len(subject))
    return latent


@functools.cache
def _population() -> tuple[np.ndarray, np.ndarray]:
    """Return points (n,) and the share of all children's trials whose latent response time lies below each.

    `population_shares` depends on no seed and is off by less than 1e-12 on any machine; in whole steps of 1 / `STEPS` it
    is the same everywhere, since no share lies that near to the middle between two steps (tested).
    """
    points = np.linspace(-_REACH_S, _REACH_S, _POINTS)
    return points, np.clip(np.rint(STEPS * population_shares(points)), 0.5, STEPS - 0.5) / STEPS


def population_shares(points: np.ndarray) -> np.ndarray:
    """Return the share of all children's trials below each latent response time of `points`, both (n,), unrounded.

    Of a child whose own standard deviation is s, in one run and fore-period, the latent time is normal with the
    variance between children plus s squared; s is lognormal (Gauss-Hermite nodes), runs and fore-periods are equally
    frequent.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    middle, spread = hbn.WITHIN_SD_LOGNORMAL
    scale = np.sqrt((_BETWEEN_STRETCH * hbn.BETWEEN_SUBJECT_SD_S) ** 2 + np.exp(middle + spread * nodes) ** 2)
    pairs = itertools.product(hbn.RUN_SHIFT_S.values(), hbn.FORE_PERIOD_SHIFT_S.values())
    shares = [norm.cdf((points[:, None] - run - period) / scale) @ weights for run, period in pairs]
    below: np.ndarray = np.mean(shares, axis=0) / weights.sum()
    return below
