"""A recording as a source: hop after hop, each stretch without a gap for itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from rtserve.streaming.live.source import About, Chunk

if TYPE_CHECKING:
    from rtserve.signals.recordings import Signal

__all__ = ["RecordedSource"]


class RecordedSource:
    """Samples of a recording, as fast as they are taken.

    Parameters
    ----------
    signal : Signal
        The recording.
    hop : int
        Samples that come together.
    """

    def __init__(self, signal: Signal, hop: int) -> None:
        self._signal, self._hop = signal, hop
        self.about = About(
            name=signal.path.name,
            sfreq=signal.clock.rate,
            ch_names=signal.ch_names,
            n_chans=len(signal.ch_names),
            units=("V",) * len(signal.ch_names),
        )
        self.notes = signal.notes.lines()
        self.watched = False

    def now(self) -> float | None:
        """Return None: its samples were taken long ago."""
        return None

    def chunks(self) -> Iterator[Chunk]:
        """Give all samples in order; the first behind a gap says so."""
        clock, data = self._signal.clock, self._signal.data
        for k, (first, length) in enumerate(zip(clock.first.tolist(), clock.lengths, strict=False)):
            times = clock.time_of(np.arange(first, first + length))
            for start in range(0, length, self._hop):
                end = min(start + self._hop, length)
                lost = "a gap of the recording" if k and not start else ""
                yield Chunk(x=data[:, first + start : first + end], times=times[start:end], lost=lost)

    def close(self) -> None:
        """Hold nothing."""
