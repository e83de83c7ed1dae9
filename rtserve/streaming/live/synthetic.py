"""A source without a device: noise as scalp EEG has it, with a rhythm that comes and goes, at any rate and for ever.

Made here and not by BrainFlow, whose wheel brings 91 MB of libraries for devices of every kind.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from rtserve.streaming.live.source import About, Chunk

if TYPE_CHECKING:
    from rtserve.streaming.step_graph import StepGraph

__all__ = ["SyntheticSource"]

RATE = 250.0
"""Hz, where the graph does not say its own."""
NOISE_UV, ALPHA_UV, ALPHA_HZ, WAXES_S = 10.0, 12.0, 10.0, 8.0
_POLE = 0.95
"""Of the filter that gives noise its slope."""


class SyntheticSource:
    """EEG that nobody has.

    Parameters
    ----------
    step : StepGraph
        Whose channels and rate it has.
    seconds : float or None
        How long; None for ever.
    paced : bool
        Whether samples come when they are due, or as fast as they are taken.
    chunk_s : float
        Of samples that come together.
    seed : int
        Of the noise.
    """

    def __init__(
        self, step: StepGraph, *, seconds: float | None = None, paced: bool = True, chunk_s: float = 0.02, seed: int = 0
    ) -> None:
        spec = step.input_spec
        names = spec.ch_names or tuple(f"S{k + 1}" for k in range(spec.n_chans))
        rate = spec.sfreq or RATE
        self.about = About(
            name="synthetic", sfreq=rate, ch_names=names, n_chans=spec.n_chans, units=("uV",) * spec.n_chans
        )
        self.notes = ["synthetic: noise with a rhythm of 10 Hz that comes and goes, made here; no brain has it"]
        self.watched = False
        self._paced, self._size = paced, max(1, round(chunk_s * rate))
        self._samples = None if seconds is None else round(seconds * rate)
        self._rng = np.random.default_rng(seed)
        self._last = np.zeros((spec.n_chans, 1))
        self._gains = np.linspace(0.3, 1.0, spec.n_chans)[:, None]
        self._begun: float | None = None

    def now(self) -> float | None:
        """Return the seconds since the first sample; None where samples come as fast as they are taken."""
        if not self._paced or self._begun is None:
            return None
        return time.perf_counter() - self._begun

    def chunks(self) -> Iterator[Chunk]:
        """Give samples in uV."""
        self._begun = time.perf_counter()
        done, rate = 0, self.about.sfreq
        while self._samples is None or done < self._samples:
            n = self._size if self._samples is None else min(self._size, self._samples - done)
            times = (done + np.arange(n)) / rate
            if self._paced and (spare := times[-1] - (time.perf_counter() - self._begun)) > 0:
                time.sleep(spare)
            yield Chunk(x=self._made(times), times=times)
            done += n

    def _made(self, times: np.ndarray) -> np.ndarray:
        from scipy.signal import lfilter

        white = NOISE_UV * np.sqrt(1 - _POLE**2) * self._rng.standard_normal((len(self._gains), len(times)))
        noise, self._last = lfilter([1.0], [1.0, -_POLE], white, axis=1, zi=self._last)
        waxing = 0.5 - 0.5 * np.cos(2 * np.pi * times / WAXES_S)
        alpha: np.ndarray = noise + ALPHA_UV * self._gains * waxing * np.sin(2 * np.pi * ALPHA_HZ * times)
        return alpha

    def close(self) -> None:
        """Hold nothing."""
