"""EEG without any effect in it: what a network has to see through.

Per subject: cortical sources with a 1/f spectrum and the spatial covariance that comes from their spread, alpha of the
subject's own peak and strength over the back of the head, blinks, a mains residue (60 Hz, seen at 40 Hz when sampled at
100 Hz), bad channels that are noisy or flat, and sensor noise. A subject's parameters are drawn apart from the target,
so they tell who it is and nothing about the answer: a split that mixes a subject's windows can be caught leaking.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from rtserve.signals.electrodes import CHANNELS, direction, spread

__all__ = ["N_TIMES", "SFREQ", "Subjects", "background", "draw_subjects"]

SFREQ = 100.0
N_TIMES = 200
_N_FFT = 256
"""Longer than a window and cut to it, so that a window's end knows nothing of its beginning."""
N_SOURCES = 40
UV = 1e-6
SOURCE_UV = 4.4
SENSOR_UV = 1.2
ALPHA_UV = 5.0
BLINK_UV = 70.0
MAINS_UV = 0.3
MAINS_HZ = 40.0
NOISY_UV = 25.0
_ALPHA_PLACES = ("occipital_left", "occipital_mid", "occipital_right")


@dataclass(frozen=True, kw_only=True)
class Subjects:
    """Heads: everything about the subjects that shapes their EEG.

    Parameters
    ----------
    mixing : ndarray, (n_subjects, 129, n_sources)
        Volts at the electrodes per unit of each source; the last three sources are alpha's.
    slope : ndarray, (n_subjects,)
        Exponent of the 1/f power spectrum.
    alpha_hz : ndarray, (n_subjects,)
        Alpha peak.
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
    slope: np.ndarray
    alpha_hz: np.ndarray
    blink_map: np.ndarray
    mains_map: np.ndarray
    blink_rate: np.ndarray
    channel_gain: np.ndarray
    channel_noise: np.ndarray
    effect_gain: np.ndarray
    tilt: np.ndarray


def draw_subjects(rng: np.random.Generator, n_subjects: int) -> Subjects:
    """Draw the heads of `n_subjects` people."""
    tilt = rng.normal(0.0, 0.06, (n_subjects, 3))
    gain, noise = _bad_channels(rng, n_subjects)
    blink = spread(_turned(direction("eyes"), tilt), 0.5)
    return Subjects(
        mixing=_mixing(rng, tilt),
        slope=rng.uniform(0.9, 1.5, n_subjects),
        alpha_hz=rng.uniform(8.5, 11.0, n_subjects),
        blink_map=BLINK_UV * UV * blink * rng.lognormal(0.0, 0.25, (n_subjects, 1)),
        mains_map=MAINS_UV * UV * rng.normal(0.0, 1.0, (n_subjects, len(CHANNELS))),
        blink_rate=rng.beta(1.5, 4.0, n_subjects),
        channel_gain=gain,
        channel_noise=noise,
        effect_gain=rng.lognormal(0.0, 0.02, n_subjects),
        tilt=tilt,
    )


def _turned(vector: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    moved = vector + tilt
    turned: np.ndarray = moved / np.linalg.norm(moved, axis=-1, keepdims=True)
    return turned


def _mixing(rng: np.random.Generator, tilt: np.ndarray) -> np.ndarray:
    """Spread sources evenly over the net, a little elsewhere in every head, and alpha over its back."""
    n_subjects = len(tilt)
    step = np.arange(N_SOURCES) + 0.5
    height = 1.0 - 1.55 * step / N_SOURCES
    turn = np.pi * (1.0 + 5.0**0.5) * step
    ring = np.sqrt(1.0 - height**2)
    even = np.stack([ring * np.cos(turn), ring * np.sin(turn), height], axis=1)
    centres = _turned(even + rng.normal(0.0, 0.12, (n_subjects, N_SOURCES, 3)), tilt[:, None])
    sources = SOURCE_UV * spread(centres, 0.45) * rng.lognormal(0.0, 0.3, (n_subjects, N_SOURCES, 1))
    places = np.stack([_turned(direction(place), tilt) for place in _ALPHA_PLACES], axis=1)
    alpha = ALPHA_UV * spread(places, 0.4) * rng.lognormal(0.0, 0.4, (n_subjects, 1, 1))
    return (UV * np.concatenate([sources, alpha], axis=1).transpose(0, 2, 1)).astype(np.float32)


def _bad_channels(rng: np.random.Generator, n_subjects: int) -> tuple[np.ndarray, np.ndarray]:
    shape = (n_subjects, len(CHANNELS))
    chance = rng.random(shape)
    gain = np.where(chance < 0.005, 0.0, 1.0).astype(np.float32)
    noisy = (chance > 0.985) * rng.lognormal(0.0, 0.5, shape)
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
    x = np.empty((len(who), len(CHANNELS), N_TIMES), np.float32)
    rng.standard_normal(out=x, dtype=np.float32)
    noise = np.hypot(np.float32(SENSOR_UV * UV), subjects.channel_noise)
    x *= noise[who][..., None]
    courses = _source_courses(rng, subjects, who)
    starts = np.flatnonzero(np.diff(who, prepend=-1))
    for start, stop in zip(starts, [*starts[1:], len(who)], strict=True):
        x[start:stop] += np.matmul(subjects.mixing[who[start]], courses[start:stop])
    _add_blinks(rng, x, subjects, who)
    _add_mains(rng, x, subjects, who)
    x *= subjects.channel_gain[who][..., None]
    return x


def _source_courses(rng: np.random.Generator, subjects: Subjects, who: np.ndarray) -> np.ndarray:
    """Return time courses (n_windows, n_sources, 200) of unit variance: 1/f, the last three in the alpha band."""
    n_alpha = len(_ALPHA_PLACES)
    frequency = fft.rfftfreq(_N_FFT, 1.0 / SFREQ)
    passed = (frequency >= 0.5) & (frequency < 0.5 * SFREQ)
    bottom = np.maximum(frequency, 0.5)
    pink = passed * bottom ** (-0.5 * subjects.slope[:, None])
    band = np.exp(-0.5 * ((frequency - subjects.alpha_hz[:, None]) / 0.8) ** 2) * passed
    shape = np.stack([pink / _rms(pink), band / _rms(band)], axis=1).astype(np.float32)
    white = rng.standard_normal((len(who), N_SOURCES + n_alpha, _N_FFT), dtype=np.float32)
    spectrum = fft.rfft(white, axis=-1)
    spectrum[:, :N_SOURCES] *= shape[who, :1]
    spectrum[:, N_SOURCES:] *= shape[who, 1:]
    courses: np.ndarray = fft.irfft(spectrum, n=_N_FFT, axis=-1)[..., :N_TIMES]
    return courses


def _rms(amplitude: np.ndarray) -> np.ndarray:
    """Return the standard deviation that white noise of unit variance has after this filter."""
    power: np.ndarray = np.sqrt(2.0 * (amplitude**2).sum(axis=1, keepdims=True) / _N_FFT)
    return power


def _add_blinks(rng: np.random.Generator, x: np.ndarray, subjects: Subjects, who: np.ndarray) -> None:
    blinking = np.flatnonzero(rng.random(len(who)) < subjects.blink_rate[who])
    peak = rng.uniform(-0.1, 2.1, len(blinking))
    size = rng.lognormal(0.0, 0.2, len(blinking))
    width = rng.uniform(0.06, 0.1, len(blinking))
    time = np.arange(N_TIMES) / SFREQ
    course = size[:, None] * np.exp(-0.5 * ((time - peak[:, None]) / width[:, None]) ** 2)
    x[blinking] += (subjects.blink_map[who[blinking]][..., None] * course[:, None]).astype(np.float32)


def _add_mains(rng: np.random.Generator, x: np.ndarray, subjects: Subjects, who: np.ndarray) -> None:
    phase = rng.uniform(0.0, 2.0 * np.pi, (len(who), 1))
    course = np.sin(2.0 * np.pi * MAINS_HZ * np.arange(N_TIMES) / SFREQ + phase).astype(np.float32)
    x += subjects.mains_map[who].astype(np.float32)[..., None] * course[:, None]
