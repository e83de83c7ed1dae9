"""What is known of the real HBN-EEG targets: aggregates that the simulator reproduces.

Aggregates over 116,089 response times of 1,964 children (contrast change detection, releases R1 to R11, OpenNeuro
ds005505-ds005512 and ds005514-ds005516) and over 3,116 externalizing scores. HBN-EEG is licensed CC-BY-SA 4.0; the
figures below are derived from it and carry that licence. Cite Shirazi et al. 2024 (doi 10.1101/2024.10.03.615261) and
Alexander et al. 2017 (doi 10.1038/sdata.2017.181). A response time is the first button press at or after the first
target within a contrast trial, counted from that target.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from rtserve.signals.arithmetic import normal_quantile

__all__ = [
    "BETWEEN_SUBJECT_SD_S",
    "FORE_PERIOD_SHIFT_S",
    "LEFT_OUT_BY_THE_KIT",
    "MEAN",
    "QUANTILES",
    "RUN_SHIFT_S",
    "SD",
    "TRIALS_PER_SUBJECT",
    "WITHIN_SD_LOGNORMAL",
    "quantile_function",
]

MEAN = {"response_time": 1.5976884631618846, "externalizing": 0.038940308087291396}
SD = {"response_time": 0.4080993817400361, "externalizing": 0.7266036970393844}
"""Mean and standard deviation of a target (s, score)."""

QUANTILES = {
    "response_time": {
        0.001: 0.022, 0.01: 0.19, 0.024334777627509928: 0.5, 0.05: 0.92, 0.1: 1.134, 0.25: 1.38, 0.5: 1.622, 0.75: 1.87,
        0.9: 2.09, 0.95: 2.21, 0.99: 2.35, 0.999: 2.4,
    },
    "externalizing": {
        0.01: -1.59145, 0.05: -1.07725, 0.25: -0.45425, 0.5: -0.038, 0.75: 0.526, 0.95: 1.3345, 0.99: 1.8454,
    },
}  # fmt: skip
"""Quantiles by probability. 0.0243 is the share of response times under 0.5 s."""
LIMITS = {"response_time": (0.0, 2.4), "externalizing": (-np.inf, np.inf)}

BETWEEN_SUBJECT_SD_S = 0.19352213818242434
WITHIN_SD_LOGNORMAL = (-1.0747590094257387, 0.2887158974575402)
"""mu and sigma of the logarithm of a subject's own standard deviation in s."""
_RUN_MEAN_S = {"1": 1.6184523513849145, "2": 1.6049824047613424, "3": 1.5683208194845528}
_FORE_PERIOD_MEAN_S = {2.8: 1.6707775836888978, 4.4: 1.6046184713033187, 6.0: 1.5746900208393786}
RUN_SHIFT_S = {run: mean - MEAN["response_time"] for run, mean in _RUN_MEAN_S.items()}
FORE_PERIOD_SHIFT_S = {period: mean - MEAN["response_time"] for period, mean in _FORE_PERIOD_MEAN_S.items()}
TRIALS_PER_SUBJECT = {0.05: 21.0, 0.25: 48.0, 0.5: 64.0, 0.75: 70.0, 0.95: 90.0}

LEFT_OUT_BY_THE_KIT = frozenset(
    {
        "NDARWV769JM7", "NDARME789TD2", "NDARUA442ZVF", "NDARJP304NK1", "NDARTY128YLU", "NDARDW550GU6", "NDARLD243KRE",
        "NDARUJ292JXV", "NDARBA381JGH",
    }
)  # fmt: skip
"""Children whom the start kit of the NeurIPS 2025 EEG Foundation Challenge takes out of its windows."""

_EXTREME = 3.7
"""Normal score at which the quantile function ends: beyond the outermost known quantile it goes on as a normal one."""


@functools.cache
def _cubics(target: str) -> tuple[np.ndarray, np.ndarray]:
    """Return where each cubic begins (n + 1,) and its coefficients (4, n), the highest power first.

    scipy works them out elementwise, so they are the same everywhere; evaluating them is left to `quantile_function`.
    """
    known = QUANTILES[target]
    scores = normal_quantile(np.array(list(known)))
    values = np.array(list(known.values()))
    low, high = LIMITS[target]
    ends = values[[0, -1]] + SD[target] * (np.array([-_EXTREME, _EXTREME]) - scores[[0, -1]])
    scores = np.concatenate([[-_EXTREME], scores, [_EXTREME]])
    values = np.concatenate([[max(low, ends[0])], values, [min(high, ends[1])]])
    interpolator: Any = PchipInterpolator(scores, values)
    return interpolator.x, interpolator.c


def quantile_function(target: str, probability: np.ndarray) -> np.ndarray:
    """Return the target's value at each probability: monotone through the known quantiles.

    Parameters
    ----------
    target : str
        ``"response_time"`` (s) or ``"externalizing"`` (score).
    probability : ndarray, (n,)
        In (0, 1).

    Returns
    -------
    ndarray, (n,)
        Values of the target.
    """
    starts, cubics = _cubics(target)
    scores = np.clip(normal_quantile(probability), -_EXTREME, _EXTREME)
    piece = np.clip(np.searchsorted(starts, scores, side="right") - 1, 0, cubics.shape[1] - 1)
    along = scores - starts[piece]
    values = cubics[0, piece]
    for power in (1, 2, 3):
        values = values * along + cubics[power, piece]
    return np.asarray(values)
