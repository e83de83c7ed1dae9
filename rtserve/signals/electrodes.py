"""Where the electrodes are, and how activity at one place of the head spreads over them.

Positions come from MNE's GSN-HydroCel-129 montage (EGI's 128-channel net and its reference at the vertex). Directions
are unit vectors in head coordinates: x to the right, y to the nose, z up.
"""

from __future__ import annotations

import functools

import numpy as np

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


@functools.cache
def _positions() -> np.ndarray:
    import mne

    where = mne.channels.make_standard_montage("GSN-HydroCel-129").get_positions()["ch_pos"]
    points = np.array([where[name] for name in CHANNELS])
    centred = points - np.array([0.0, 0.0, points[:, 2].min() * 0.4])
    units: np.ndarray = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    units.setflags(write=False)
    return units


def positions() -> np.ndarray:
    """Return the unit vectors (129, 3) from the head's centre to `CHANNELS`."""
    return _positions()


def direction(place: str) -> np.ndarray:
    """Return the unit vector (3,) of one of `PLACES`."""
    vector = np.array(PLACES[place])
    unit: np.ndarray = vector / np.linalg.norm(vector)
    return unit


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
    angle = np.arccos(np.clip(centres @ positions().T, -1.0, 1.0))
    bump = np.exp(-0.5 * (angle / width) ** 2)
    bump = bump - bump.mean(axis=-1, keepdims=True)
    maps: np.ndarray = bump / np.abs(bump).max(axis=-1, keepdims=True)
    return maps
