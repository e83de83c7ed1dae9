"""A recording with a narrow pulse at each stimulus, as the tests write it in every format."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mne
import numpy as np

NAMES = ("Fz", "Cz", "Pz")
RATE, SECONDS, FIRST = 512.0, 26.001953125, 3_333
"""The length and the first sample are odd on purpose: at 100 Hz neither comes out whole."""
WIDTH_S = 0.012
STIMULI = np.round(np.array([2.53, 5.111, 8.4, 11.37, 16.723, 20.9, 23.21]) * RATE) / RATE
ANSWER_S = 0.5
PAUSE_S = 30.0
WRONG = "not read rightly by MNE"
JOIN = round(14.0 * RATE)
"""Stored sample at which the recordings with a gap have it."""


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """A file and what is true of it.

    Parameters
    ----------
    path : Path
        The file.
    stimuli : ndarray
        Times in s from the first sample.
    marks : dict
        How stimulus and response are called.
    oracle : callable or None
        Reads it with MNE: raw and its events as MNE finds them; None where MNE itself is wrong or cannot.
    why : str
        Why there is no oracle, for the table.
    """

    path: Path
    stimuli: np.ndarray = field(default_factory=lambda: STIMULI)
    marks: tuple[str, str] = ("stim", "resp")
    oracle: Callable[[], tuple[Any, np.ndarray]] | None = None
    why: str = ""


def signal(rate: float = RATE, seconds: float = SECONDS, stimuli: np.ndarray = STIMULI) -> np.ndarray:
    """Return microvolt (3, n): noise of 0.1 and a pulse of 100 with its middle at each stimulus."""
    t = np.arange(round(seconds * rate)) / rate
    pulses = 100.0 * np.exp(-0.5 * ((t[:, None] - stimuli) / WIDTH_S) ** 2).sum(axis=1)
    return pulses + 0.1 * np.random.default_rng(0).standard_normal((len(NAMES), len(t)))


def annotated(path: Path, reader: Callable[..., Any] = mne.io.read_raw, **change: Any) -> Recorded:
    def oracle() -> tuple[Any, np.ndarray]:
        raw = reader(path, preload=True, verbose="error")
        return raw, mne.events_from_annotations(raw, {"stim": 1}, verbose="error")[0]

    return Recorded(path=path, oracle=oracle, **change)


def rows_of(stimuli: np.ndarray = STIMULI) -> list[tuple[float, str]]:
    return sorted([(float(at), "stim") for at in stimuli] + [(float(at + ANSWER_S), "resp") for at in stimuli])
