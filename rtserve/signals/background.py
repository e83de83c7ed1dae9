"""EEG without any effect in it: what a network has to see through.

Per subject: cortical sources with a 1/f spectrum and the spatial covariance that comes from their spread, alpha of the
subject's own peak and strength over the back of the head, blinks, a mains residue (60 Hz, seen at 40 Hz when sampled at
100 Hz), bad channels that are noisy or flat, and sensor noise. A subject's parameters are drawn apart from the target,
so they tell who it is and nothing about the answer: a split that mixes a subject's windows can be caught leaking.

The sources are white noise through each subject's own filters, and the mixing sums them at the electrodes. Both are
matrix products of whole numbers, noise, filters and mixing being rounded to fixed steps far below the noise beforehand;
so they are exact, and the windows of a seed have the same bits on every machine (`rtserve.signals.arithmetic`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits

from rtserve.signals.arithmetic import cosine, exact_matmul, exp, log, sine, unit
from rtserve.signals.chance import ONE, lognormal, noise, normal, uniform
from rtserve.signals.electrodes import CHANNELS, direction, spread

__all__ = ["N_TIMES", "SFREQ", "Subjects", "background", "draw_subjects"]

SFREQ = 100.0
N_TIMES = 200
_PERIOD = 256
"""Samples of noise per window, filtered in a circle: more than a window, so that its end knows nothing of its start."""
N_SOURCES = 40
UV = 1e-6
SOURCE_UV = 4.4
SENSOR_UV = 1.2
ALPHA_UV = 5.0
BLINK_UV = 70.0
MAINS_UV = 0.3
MAINS_HZ = 40.0
NOISY_UV = 25.0
_FINE = 2.0**16
"""Steps per unit of the filters and of the sources' courses."""
_MIXING_UV = 2.0**-14
"""Step of the mixing in microvolt. With entries up to 60 uV and courses up to 70, sums over sources stay below 2^53."""
_ALPHA_PLACES = ("occipital_left", "occipital_mid", "occipital_right")


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """Heads: everything about the subjects that shapes their EEG.

    Parameters
    ----------
    mixing : ndarray, (n_subjects, 129, n_sources)
        Whole steps of `_MIXING_UV` at the electrodes per unit of each source; the last three sources are alpha's.
    filters : ndarray, (n_subjects, 2, 256)
        Whole steps of 1 / `_FINE`: impulse responses of the 1/f spectrum and of the alpha band, in a circle.
    blink_map, mains_map : ndarray, (n_subjects, 129)
        Volts at the electrodes at a blink's top, and of the mains residue.
    blink_rate : ndarray, (n_subjects,)
        Chance of a blink in a window.
    channel_gain, channel_noise : ndarray, (n_subjects, 129)
        0 for flat channels, else 1; added white noise in volts.
    effect_gain : ndarray, (n_subjects,)
        Strength of the subject's task responses relative to the average.
    tilt : ndarray, (n_subjects, 3)
        Small rotation of the head in the net, as a vector added to every direction.
    """

    mixing: np.ndarray
    filters: np.ndarray
    blink_map: np.ndarray
    mains_map: np.ndarray
    blink_rate: np.ndarray
    channel_gain: np.ndarray
    channel_noise: np.ndarray
    effect_gain: np.ndarray
    tilt: np.ndarray


def draw_subjects(rng: np.random.Generator, n_subjects: int) -> Subjects:
    """Draw the heads of `n_subjects` people."""
    tilt = normal(rng, 0.0, 0.06, (n_subjects, 3))
    gain, extra = _bad_channels(rng, n_subjects)
    blink = spread(unit(direction("eyes") + tilt), 0.5)
    return Subjects(
        mixing=_mixing(rng, tilt),
        filters=_filters(uniform(rng, 0.9, 1.5, n_subjects), uniform(rng, 8.5, 11.0, n_subjects)),
        blink_map=BLINK_UV * UV * blink * lognormal(rng, 0.0, 0.25, (n_subjects, 1)),
        mains_map=MAINS_UV * UV * normal(rng, 0.0, 1.0, (n_subjects, len(CHANNELS))),
        # The second smallest of six: Beta(2, 5), without a function that differs between machines.
        blink_rate=np.sort(rng.random((n_subjects, 6)), axis=1)[:, 1],
        channel_gain=gain,
        channel_noise=extra,
        effect_gain=lognormal(rng, 0.0, 0.02, n_subjects),
        tilt=tilt,
    )


def _mixing(rng: np.random.Generator, tilt: np.ndarray) -> np.ndarray:
    """Spread sources evenly over the net, a little elsewhere in every head, and alpha over its back."""
    n_subjects = len(tilt)
    step = np.arange(N_SOURCES) + 0.5
    height = 1.0 - 1.55 * step / N_SOURCES
    turns = 0.5 * (1.0 + np.sqrt(5.0)) * step
    ring = np.sqrt(1.0 - height * height)
    even = np.stack([ring * cosine(turns), ring * sine(turns), height], axis=1)
    centres = unit(unit(even + normal(rng, 0.0, 0.12, (n_subjects, N_SOURCES, 3))) + tilt[:, None])
    sources = SOURCE_UV * spread(centres, 0.45) * lognormal(rng, 0.0, 0.3, (n_subjects, N_SOURCES, 1))
    places = np.stack([unit(direction(place) + tilt) for place in _ALPHA_PLACES], axis=1)
    alpha = ALPHA_UV * spread(places, 0.4) * lognormal(rng, 0.0, 0.4, (n_subjects, 1, 1))
    steps = np.rint(np.concatenate([sources, alpha], axis=1) / _MIXING_UV)
    return steps.transpose(0, 2, 1).astype(np.float32)


def _filters(slope: np.ndarray, alpha_hz: np.ndarray) -> np.ndarray:
    """Return each subject's two filters (n_subjects, 2, 256): unit variance from white noise of unit variance."""
    bins = np.arange(1, _PERIOD // 2)
    hz = bins * (SFREQ / _PERIOD)
    bins, hz = bins[hz >= 0.5], hz[hz >= 0.5]
    pink = exp(-0.5 * slope[:, None] * log(hz))
    apart = (hz - alpha_hz[:, None]) / 0.8
    shapes = np.stack([pink, exp(-0.5 * (apart * apart))], axis=1)
    waves = cosine(np.arange(_PERIOD) / _PERIOD)
    power, response = np.zeros(shapes.shape[:2]), np.zeros((*shapes.shape[:2], _PERIOD))
    for k, frequency in enumerate(bins):
        shape = shapes[:, :, k]
        power += shape * shape
        response += shape[..., None] * waves[(frequency * np.arange(_PERIOD)) % _PERIOD]
    steps: np.ndarray = np.rint(_FINE * (response / np.sqrt(0.5 * _PERIOD * power)[..., None]))
    return steps


def _bad_channels(rng: np.random.Generator, n_subjects: int) -> tuple[np.ndarray, np.ndarray]:
    shape = (n_subjects, len(CHANNELS))
    chance = rng.random(shape)
    gain = np.where(chance < 0.005, 0.0, 1.0).astype(np.float32)
    noisy = (chance > 0.985) * lognormal(rng, 0.0, 0.5, shape)
    return gain, (NOISY_UV * UV * noisy * gain).astype(np.float32)


def background(rng: np.random.Generator, subjects: Subjects, who: np.ndarray) -> np.ndarray:
    """Return windows without effect.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of chance.
    subjects : Subjects
        All heads.
    who : ndarray of int, (n_windows,)
        Whose each window is, in ascending order.

    Returns
    -------
    ndarray, float32, (n_windows, 129, 200)
        Volts.
    """
    x = noise(rng, (len(who), len(CHANNELS), N_TIMES))
    sensor = SENSOR_UV * UV
    spread_v = np.sqrt(sensor * sensor + subjects.channel_noise * subjects.channel_noise)
    x *= (spread_v / ONE).astype(np.float32)[who][..., None]
    white = noise(rng, (len(who), N_SOURCES + len(_ALPHA_PLACES), _PERIOD)).astype(np.float64)
    starts = np.flatnonzero(np.diff(who, prepend=-1))
    with threadpool_limits(1, "blas"):  # threads wait for each other longer than products this small take
        for start, stop in zip(starts, [*starts[1:], len(who)], strict=True):
            x[start:stop] += _sources(subjects, who[start], white[start:stop])
    _add_blinks(rng, x, subjects, who)
    _add_mains(rng, x, subjects, who)
    x *= subjects.channel_gain[who][..., None]
    return x


_DELAY = (np.arange(N_TIMES) - np.arange(_PERIOD)[:, None]) % _PERIOD


def _sources(subjects: Subjects, one: int, white: np.ndarray) -> np.ndarray:
    """Return a subject's sources at the electrodes (n_windows, 129, 200) in volts from noise (n_windows, 43, 256)."""
    pink, alpha = (response[_DELAY] for response in subjects.filters[one])
    parts = [exact_matmul(white[:, :N_SOURCES], pink), exact_matmul(white[:, N_SOURCES:], alpha)]
    courses = np.rint(np.concatenate(parts, axis=1) / ONE)
    mixed = exact_matmul(subjects.mixing[one].astype(np.float64), courses)
    return (mixed * (UV * _MIXING_UV / _FINE)).astype(np.float32)


def _add_blinks(rng: np.random.Generator, x: np.ndarray, subjects: Subjects, who: np.ndarray) -> None:
    blinking = np.flatnonzero(rng.random(len(who)) < subjects.blink_rate[who])
    peak = uniform(rng, -0.1, 2.1, len(blinking))
    size = lognormal(rng, 0.0, 0.2, len(blinking))
    width = uniform(rng, 0.06, 0.1, len(blinking))
    apart = (np.arange(N_TIMES) / SFREQ - peak[:, None]) / width[:, None]
    course = size[:, None] * exp(-0.5 * (apart * apart))
    x[blinking] += (subjects.blink_map[who[blinking]][..., None] * course[:, None]).astype(np.float32)


def _add_mains(rng: np.random.Generator, x: np.ndarray, subjects: Subjects, who: np.ndarray) -> None:
    phase = rng.random((len(who), 1))
    course = sine(MAINS_HZ / SFREQ * np.arange(N_TIMES) + phase).astype(np.float32)
    x += subjects.mains_map[who].astype(np.float32)[..., None] * course[:, None]
