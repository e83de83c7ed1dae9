"""Random numbers whose every bit is the same on every machine, from a generator's integers.

numpy's normal, lognormal and beta draws take logarithms and exponentials of the C library in their tails, which differ
between processors and versions; `rtserve.signals.arithmetic` says why these do not.
"""

from __future__ import annotations

import functools

import numpy as np

from rtserve.signals.arithmetic import exp, normal_quantile

__all__ = ["ONE", "lognormal", "noise", "normal", "uniform"]

ONE = 4096
"""What `noise` calls one standard deviation."""
_LEVELS = 1 << 16

Shape = int | tuple[int, ...]


def uniform(rng: np.random.Generator, low: float, high: float, shape: Shape) -> np.ndarray:
    """Draw float64 from [low, high)."""
    return np.asarray(low + (high - low) * rng.random(shape))


def normal(rng: np.random.Generator, mean: float, sd: float, shape: Shape) -> np.ndarray:
    """Draw normal float64."""
    return np.asarray(mean + sd * normal_quantile(np.maximum(rng.random(shape), 2.0**-54)))


def lognormal(rng: np.random.Generator, mu: float, sigma: float, shape: Shape) -> np.ndarray:
    """Draw float64 whose logarithm is normal with mean `mu` and standard deviation `sigma`."""
    return exp(normal(rng, mu, sigma, shape))


@functools.cache
def _levels() -> np.ndarray:
    half = np.rint(ONE * normal_quantile((np.arange(_LEVELS // 2) + 0.5) / _LEVELS))
    table = np.concatenate([half, -half[::-1]]).astype(np.float32)
    table.setflags(write=False)
    return table


def noise(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw white noise for many samples: whole numbers as float32, normal with standard deviation `ONE`.

    One of 65,536 equally likely quantiles each, rounded to 1 / `ONE` of a standard deviation, so none is beyond 4.33 of
    them: as fine as a converter's steps, and an exact operand for a product of whole numbers.
    """
    return np.asarray(_levels()[rng.integers(0, _LEVELS, shape, np.uint16)])
