"""The embedded default data: simulated windows with a planted, known amount of information about the target.

129 channels at real electrode positions, 100 Hz, volts, targets with the real distribution (`rtserve.signals.hbn`), and
an oracle whose calibrated score is known beforehand: an NRMSE of :math:`\\sqrt{1 - r^2}`. At r = 0 every honest model
scores 1.00: the canary of the whole path. r = 0.46 and 0.21 are what the best teams' 0.887 and 0.978 correspond to.
Figures from simulated windows are to be labelled simulated.

The same arguments give the same bytes whatever the processor and the number of threads: nothing but the arithmetic of
`rtserve.signals.arithmetic` decides a stored bit, and the one number that linear algebra decides, the oracle's
reliability, is rounded far more coarsely than that can differ (`rtserve.signals.effects`).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from rtserve.errors import InputError
from rtserve.nearest import meant
from rtserve.signals import hbn
from rtserve.signals.background import N_TIMES, SFREQ, Subjects, background, draw_subjects
from rtserve.signals.chance import normal
from rtserve.signals.effects import RELIABILITY, add_effects, oracle
from rtserve.signals.electrodes import CHANNELS
from rtserve.signals.targets import Trials, default_subjects, draw_trials
from rtserve.signals.windows import WindowSet

__all__ = ["GENERATOR", "TARGETS", "oracle_prediction", "simulate"]

GENERATOR = "rtserve.simulate/2"
"""Changes whenever the same arguments would give other windows."""
_READ = ("rtserve.simulate/1", GENERATOR)
"""Generators whose oracle is this one: the first differs in the targets alone."""
TARGETS = ("response_time", "externalizing")
_CHUNK = 256

Progress = Callable[[int, int], None]


def simulate(
    n_windows: int,
    *,
    r: float,
    seed: int = 0,
    target: str = "response_time",
    n_subjects: int | None = None,
    progress: Progress | None = None,
) -> WindowSet:
    """Simulate windows of EEG whose oracle correlates with the target by `r`.

    Parameters
    ----------
    n_windows : int
        How many windows of 2 s.
    r : float
        Correlation of the oracle's prediction with the target, from 0 to the oracle's reliability (about 0.99).
    seed : int
        The same arguments give the same windows.
    target : str
        ``"response_time"`` (s, a value per trial) or ``"externalizing"`` (score, a value per subject).
    n_subjects : int, optional
        People; by default one per 62 windows as in HBN, in small sets more: up to 96 of 8 windows or more.
    progress : callable, optional
        Called as ``progress(done, total)``.

    Returns
    -------
    WindowSet
        X (n_windows, 129, 200) in volts from +0.5 s after the stimulus, y, subject, run_id; ``extra`` holds the
        fore-period of each trial, the planted r, the seed and the generator's version.

    Raises
    ------
    InputError
        Where an argument is impossible.
    """
    _require_possible(n_windows, r, seed, target, n_subjects)
    n_people = n_subjects or default_subjects(n_windows)
    streams = [np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3)]
    trials = draw_trials(streams[0], n_windows, n_people, target)
    marker = _marker(streams[1], trials, target, r)
    subjects = draw_subjects(streams[2], n_people)
    X = _windows(streams[2], subjects, trials.subject, marker, progress)
    return _as_window_set(X, trials, r=r, seed=seed, target=target)


def _require_possible(n_windows: int, r: float, seed: int, target: str, n_subjects: int | None) -> None:
    if target not in TARGETS:
        raise InputError(f"unknown target {target!r}", hint=meant(target, TARGETS, f"use one of {', '.join(TARGETS)}"))
    if n_windows < 1:
        raise InputError(f"{n_windows} windows are none", hint="ask for at least 1")
    if seed < 0:
        raise InputError(f"seed {seed} is negative", hint="a seed is 0 or more")
    if n_subjects is not None and not 1 <= n_subjects <= n_windows:
        raise InputError(f"{n_subjects} subjects for {n_windows} windows", hint="each subject has at least one window")
    if not (math.isfinite(r) and 0.0 <= r <= RELIABILITY):
        raise InputError(
            f"r = {r} cannot be planted; the oracle's own reliability is {RELIABILITY:.3f}",
            hint="choose r from 0 to 0.9",
        )


def _marker(rng: np.random.Generator, trials: Trials, target: str, r: float) -> np.ndarray:
    """Return the number that the EEG carries: the standardised target as far as `r` wants it, else chance.

    The part of chance is made orthogonal to the target within each subject. So the planted r holds for any choice of
    whole subjects, and neither a small set nor its split is r plus luck.
    """
    standard = (trials.y - hbn.MEAN[target]) / hbn.SD[target]
    share = r / RELIABILITY
    chance = _balanced(normal(rng, 0.0, 1.0, len(standard)), standard, trials.subject)
    marker: np.ndarray = share * standard + math.sqrt(1.0 - share * share) * chance
    return marker


def _balanced(chance: np.ndarray, standard: np.ndarray, subject: np.ndarray) -> np.ndarray:
    """Take from `chance` its mean and its regression on `standard` within each subject of four or more trials."""
    n = np.bincount(subject)
    count = np.maximum(n, 1)

    def centred(values: np.ndarray) -> np.ndarray:
        middle: np.ndarray = values - (np.bincount(subject, values) / count)[subject]
        return middle

    c, t = centred(chance), centred(standard)
    slope = np.bincount(subject, c * t) / np.maximum(np.bincount(subject, t * t), 1e-12)
    rest = (c - slope[subject] * t) * np.sqrt(n / np.maximum(n - 2.0, 1.0))[subject]
    balanced: np.ndarray = np.where(n[subject] >= 4, rest, chance)
    return balanced


def _windows(
    rng: np.random.Generator, subjects: Subjects, who: np.ndarray, marker: np.ndarray, progress: Progress | None
) -> np.ndarray:
    """Fill the windows chunk by chunk, so that memory holds little more than the result."""
    X = np.empty((len(who), len(CHANNELS), N_TIMES), np.float32)
    for start in range(0, len(who), _CHUNK):
        part = slice(start, min(start + _CHUNK, len(who)))
        X[part] = background(rng, subjects, who[part])
        add_effects(rng, X[part], subjects, who[part], marker[part])
        if progress is not None:
            progress(part.stop, len(who))
    return X


def _as_window_set(X: np.ndarray, trials: Trials, *, r: float, seed: int, target: str) -> WindowSet:
    subject = np.char.add("sub-", np.char.zfill((trials.subject + 1).astype("U"), 4))
    return WindowSet(
        X=X,
        y=trials.y.astype(np.float32),
        subject=subject,
        run_id=np.char.add(np.char.add(subject, "_run-"), trials.run),
        ch_names=CHANNELS,
        sfreq=SFREQ,
        t0=0.5,
        target=target,
        extra={
            "fore_period_s": trials.fore_period.astype(np.float32),
            "planted_r": np.float64(r),
            "seed": np.int64(seed),
            "generator": np.array(GENERATOR),
        },
    )


def oracle_prediction(windows: WindowSet) -> tuple[np.ndarray, np.ndarray]:
    """Return the oracle's calibrated prediction (n_windows,) and its plain reading (n_windows,) of simulated windows.

    Both come from the windows alone; the prediction is the reading scaled by the planted r, so a constant at r = 0.

    Raises
    ------
    InputError
        Where the windows were not simulated by this generator.
    """
    made_by = str(windows.extra.get("generator", "no simulator"))
    if made_by not in _READ:
        raise InputError(
            f"the windows come from {made_by}, not from {GENERATOR}", hint="only simulated windows have an oracle"
        )
    r, target = float(windows.extra["planted_r"]), windows.target
    estimate = np.concatenate([oracle().marker(block) for block in windows.batches()])
    return hbn.MEAN[target] + hbn.SD[target] * r * estimate, estimate
