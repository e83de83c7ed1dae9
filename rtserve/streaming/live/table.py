"""Answers as a table, a row as it comes: whole in the end or not there at all."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from rtserve.files import replacing
from rtserve.streaming.live.loop import Told

__all__ = ["writing"]


@contextmanager
def writing(path: Path, n_outputs: int, *, force: bool = False) -> Iterator[Told]:
    """Give what writes an answer: the end of its window in s, then its numbers."""
    with replacing(path, force=force) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as handle:
        print("end_s", *(f"y{k}" for k in range(n_outputs)), sep=",", file=handle)

        def write(end_s: float, y: np.ndarray) -> None:
            print(f"{end_s:.6f}", *(f"{value:.9g}" for value in y.tolist()), sep=",", file=handle)

        yield write
