"""Where the electrodes are, and how activity at one place of the head spreads over them.

Positions come from MNE's GSN-HydroCel-129 montage (EGI's 128-channel net and its reference at the vertex). Directions
are unit vectors in head coordinates: x to the right, y to the nose, z up.
"""

from __future__ import annotations

import functools

import numpy as np

from rtserve.signals.arithmetic import along, exp, squared_angle, unit

__all__ = ["CHANNELS", "PLACES", "direction", "positions", "spread"]

CHANNELS = (*(f"E{i}" for i in range(1, 129)), "Cz")

PLACES = {
    "motor_left": (-0.62, 0.08, 0.78),
    "motor_right": (0.62, 0.08, 0.78),
    "parietal": (0.0, -0.55, 0.83),
    "occipital_left": (-0.3, -0.92, 0.25),
    "occipital_mid": (0.0, -0.95, 0.31),
    "occipital_right": (0.3, -0.92, 0.25),
    "eyes": (0.0, 0.97, -0.25),
}
"""Directions of the places that the simulator uses: C3, C4, Pz, occipital alpha, and the eyes."""


_FINE = 2.0**20
"""Steps of a coordinate per radius of the head. None of the 387 lies within 1e-10 of the middle between two steps
(tested), so the last bits of how they were computed cannot change the rounded ones."""


@functools.cache
def _positions() -> np.ndarray:
    import mne

    where = mne.channels.make_standard_montage("GSN-HydroCel-129").get_positions()["ch_pos"]
    points = np.array([where[name] for name in CHANNELS])
    units: np.ndarray = np.rint(_FINE * _unrounded(points)) / _FINE
    units.setflags(write=False)
    return units


def _unrounded(points: np.ndarray) -> np.ndarray:
    """Return the unit vectors (129, 3) from the middle of the head to points (129, 3) in its coordinates."""
    return unit(points - np.array([0.0, 0.0, points[:, 2].min() * 0.4]))


def positions() -> np.ndarray:
    """Return the unit vectors (129, 3) from the head's centre to `CHANNELS`."""
    return _positions()


def direction(place: str) -> np.ndarray:
    """Return the unit vector (3,) of one of `PLACES`."""
    return unit(np.array(PLACES[place]))


def spread(centres: np.ndarray, width: float) -> np.ndarray:
    """Return what activity at some places looks like at the electrodes.

    A bump of angle `width` around each place, against the average of all electrodes, with a largest value of 1.

    Parameters
    ----------
    centres : ndarray, (..., 3)
        Unit vectors.
    width : float
        Standard deviation of the bump in rad.

    Returns
    -------
    ndarray, (..., 129)
        One map per place.
    """
    square = squared_angle(along(centres[..., None, :], positions()))
    bump = exp(-0.5 / (width * width) * square)
    # The channels are added one after the other: numpy's own order of a sum is not promised.
    bump = bump - np.cumsum(bump, axis=-1)[..., -1:] / bump.shape[-1]
    maps: np.ndarray = bump / np.abs(bump).max(axis=-1, keepdims=True)
    return maps
