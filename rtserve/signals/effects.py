r"""What is planted in the simulated EEG, and the matched filter that reads it back: the oracle.

Two effects carry one number per window, the marker :math:`s`: the amplitude of a 20 Hz rhythm over both motor areas,
and that of a slow stimulus-locked wave over the parietal cortex. Both shrink as :math:`s` grows and survive a mean
over time; nothing is coded in a latency, which a network that averages over time could not read.

The marker follows the standardised target :math:`t` only in part, :math:`s = \alpha t + \sqrt{1-\alpha^2}\,e`. The
oracle estimates :math:`s` from the window with the generator's own maps and waveforms and the background's covariance;
its correlation with :math:`s`, the reliability :math:`\rho < 1`, is measured once on a pilot. Choosing
:math:`\alpha = r / \rho` makes the oracle's correlation with the target the planted :math:`r`, so that, calibrated, it
scores an NRMSE of :math:`\sqrt{1 - r^2}`.

The pilot has the same bits everywhere, the linear algebra over it does not: its last bits, 1e-12 of a result, depend on
the processor. So the reliability, the only result that a stored window depends on, is rounded to `_DIGITS` digits
(`RELIABILITY`); the unrounded one lies 1e-5 or more from where the rounding would turn (tested).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np

from rtserve.signals.arithmetic import exp, sine, unit
from rtserve.signals.background import N_TIMES, SFREQ, Subjects, background, draw_subjects
from rtserve.signals.chance import normal
from rtserve.signals.electrodes import direction, spread

__all__ = ["RELIABILITY", "Oracle", "add_effects", "oracle"]

RHYTHM_HZ = 20.0
RHYTHM_UV = 8.0
WAVE_UV = 12.0
DEPTH = 0.45
"""How much an amplitude changes per standard deviation of the marker."""
MAP_WIDTH = 0.5
_PILOT_SUBJECTS, _PILOT_TRIALS, _PILOT_SEED = 120, 6, 20251030
_SHRINKAGE = 0.2
_DIGITS = 3
RELIABILITY = 0.989
"""The oracle's reliability, rounded: as `oracle` measures it (tested), kept so that no simulation has to wait for that."""
_T0 = 0.5


def _times() -> np.ndarray:
    return np.arange(N_TIMES) / SFREQ


def wave() -> np.ndarray:
    """Return the slow wave's course (200,): positive about 0.8 s after the stimulus, then a smaller, longer return."""
    first, later = (_times() + _T0 - 0.8) / 0.18, (_times() + _T0 - 1.5) / 0.35
    return np.asarray(exp(-0.5 * (first * first)) - 0.35 * exp(-0.5 * (later * later)))


def amplitude(marker: np.ndarray) -> np.ndarray:
    """Return the relative amplitude of both effects for a marker; never negative."""
    size: np.ndarray = np.maximum(0.0, 1.0 - DEPTH * marker)
    return size


def _maps(tilt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the maps of the rhythm and of the wave (..., 129) for heads of the given tilt (..., 3)."""

    def at(place: str) -> np.ndarray:
        return spread(unit(direction(place) + tilt), MAP_WIDTH)

    return at("motor_left") + at("motor_right"), at("parietal")


def add_effects(
    rng: np.random.Generator, x: np.ndarray, subjects: Subjects, who: np.ndarray, marker: np.ndarray
) -> None:
    """Add both effects to windows in place.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the rhythm's phase.
    x : ndarray, float32, (n_windows, 129, 200)
        Volts.
    subjects : Subjects
        All heads.
    who : ndarray of int, (n_windows,)
        Whose each window is.
    marker : ndarray, (n_windows,)
        The number that the effects carry.
    """
    rhythm_map, wave_map = _maps(subjects.tilt)
    size = (1e-6 * amplitude(marker) * subjects.effect_gain[who])[:, None]
    phase = rng.random((len(who), 1))
    rhythm = RHYTHM_UV * size * sine(RHYTHM_HZ / SFREQ * np.arange(N_TIMES) + phase)
    slow = WAVE_UV * size * wave()
    gain = subjects.channel_gain[who]
    for map_, course in ((rhythm_map, rhythm), (wave_map, slow)):
        x += (map_[who] * gain).astype(np.float32)[..., None] * course.astype(np.float32)[:, None]


@dataclass(frozen=True, kw_only=True)
class Oracle:
    """The matched filter of the generator.

    Parameters
    ----------
    rhythm_filter, wave_filter : ndarray, (129,)
        Spatial filters: the map against the background's covariance.
    wave_course : ndarray, (200,)
        Temporal filter of the slow wave.
    weights : ndarray, (3,)
        Marker from (1, rhythm amplitude, wave amplitude).
    reliability : float
        Correlation of the estimate with the marker on the pilot.
    spread : float
        Standard deviation of the estimate on the pilot.
    """

    rhythm_filter: np.ndarray
    wave_filter: np.ndarray
    wave_course: np.ndarray
    weights: np.ndarray
    reliability: float
    spread: float

    def features(self, x: np.ndarray) -> np.ndarray:
        """Return (n_windows, 3): 1, rhythm amplitude, wave amplitude of windows (n_windows, 129, 200) in volts."""
        rhythm = np.abs(np.einsum("nct,t->nc", x, _quadrature(), optimize=True) @ self.rhythm_filter)
        slow = np.einsum("nct,t->nc", x, self.wave_course.astype(x.dtype), optimize=True) @ self.wave_filter
        return np.stack([np.ones(len(x)), rhythm * 1e6, slow * 1e6], axis=1)

    def marker(self, x: np.ndarray) -> np.ndarray:
        """Return the estimated marker (n_windows,) of windows in volts, standardised as on the pilot."""
        estimate: np.ndarray = self.features(x) @ self.weights / self.spread
        return estimate


def _quadrature() -> np.ndarray:
    """Return the complex filter (200,) whose product with a window is the rhythm's complex amplitude."""
    taper = np.hanning(N_TIMES)
    quadrature: np.ndarray = 2.0 * taper / taper.sum() * np.exp(-2j * np.pi * RHYTHM_HZ * _times())
    return quadrature.astype(np.complex64)


def _whitened_wave(quiet: np.ndarray) -> np.ndarray:
    """Return the wave weighted against the background's temporal covariance, of unit response to the wave."""
    flat = quiet[:, ::8].reshape(-1, N_TIMES).astype(np.float64)
    covariance = flat.T @ flat / len(flat)
    course = np.linalg.solve(covariance + 1e-3 * np.trace(covariance) / N_TIMES * np.eye(N_TIMES), wave())
    unit: np.ndarray = course / (course @ wave())
    return unit


def _spatial_filter(quiet: np.ndarray, pattern: np.ndarray) -> np.ndarray:
    """Return the filter (129,) of least background variance with unit response to `pattern`."""
    covariance = np.real(quiet.T @ quiet.conj()) / len(quiet)
    covariance += _SHRINKAGE * np.trace(covariance) / len(covariance) * np.eye(len(covariance))
    weights = np.linalg.solve(covariance, pattern)
    unit: np.ndarray = weights / (weights @ pattern)
    return unit


@functools.cache
def oracle() -> Oracle:
    """Return the generator's oracle, set up once on two pilots of people that no set contains.

    The first gives the background's covariance, the second the weights and the reliability: a filter of 129 weights
    looks better than it is on the windows it was made from.
    """
    measured = _measured()
    return replace(measured, reliability=round(measured.reliability, _DIGITS))


def _measured() -> Oracle:
    """Return the oracle with its reliability as it was measured, to all digits."""
    rng = np.random.default_rng(_PILOT_SEED)
    quiet = _pilot(rng, None)
    rhythm_map, wave_map = _maps(np.zeros(3))
    course = _whitened_wave(quiet)
    filters = {
        "rhythm_filter": _spatial_filter(np.einsum("nct,t->nc", quiet, _quadrature(), optimize=True), rhythm_map),
        "wave_filter": _spatial_filter(np.einsum("nct,t->nc", quiet, course, optimize=True), wave_map),
        "wave_course": course,
    }
    draft = Oracle(**filters, weights=np.zeros(3), reliability=0.0, spread=1.0)
    marker = normal(rng, 0.0, 1.0, _PILOT_SUBJECTS * _PILOT_TRIALS)
    features = draft.features(_pilot(rng, marker))
    weights = np.linalg.lstsq(features, marker, rcond=None)[0]
    estimate = features @ weights
    reliability = float(np.corrcoef(estimate, marker)[0, 1])
    return Oracle(**filters, weights=weights, reliability=reliability, spread=float(estimate.std()))


def _pilot(rng: np.random.Generator, marker: np.ndarray | None) -> np.ndarray:
    subjects = draw_subjects(rng, _PILOT_SUBJECTS)
    who = np.repeat(np.arange(_PILOT_SUBJECTS), _PILOT_TRIALS)
    x = background(rng, subjects, who)
    if marker is not None:
        add_effects(rng, x, subjects, who, marker)
    return x
