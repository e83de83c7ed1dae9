"""Where samples come from: what a source says of itself, and the chunks that it gives, each sample with its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

__all__ = ["About", "Chunk", "Source"]


@dataclass(frozen=True, kw_only=True)
class About:
    """What a source says of itself.

    Parameters
    ----------
    name : str
        For people.
    sfreq : float
        Samples in a second.
    ch_names : tuple of str
        Of its rows; empty where it does not say.
    n_chans : int
        How many rows.
    units : tuple of str
        Of each row ``"V"``, ``"mV"`` or ``"uV"``; empty where it says none of them.
    """

    name: str
    sfreq: float
    ch_names: tuple[str, ...]
    n_chans: int
    units: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Samples that came together.

    Parameters
    ----------
    x : ndarray, (n_chans, n)
        In the source's unit.
    times : ndarray, (n,)
        Of each sample in s, on the source's clock.
    lost : str
        Why what comes now does not follow what came before; empty where it does.
    shift : float
        What was added to the sender's own times, in s: where it changes, no sample is lost.
    """

    x: np.ndarray
    times: np.ndarray
    lost: str = ""
    shift: float = 0.0


class Source(Protocol):
    """What a stream is fed from."""

    about: About
    notes: list[str]
    """What was assumed."""
    watched: bool
    """Whether the times of its samples are somebody else's, so that losses are to be looked for in them."""

    def chunks(self) -> Iterator[Chunk]:
        """Give what comes, in order, until it ends."""

    def now(self) -> float | None:
        """Return the time on the source's clock; None where its samples were not taken now."""

    def close(self) -> None:
        """Give back what it holds."""
