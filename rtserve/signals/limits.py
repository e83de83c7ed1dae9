"""How much a file may claim before it is believed: a header of a few bytes can ask for more memory than there is.

Samples are read in blocks, so a set of windows may be of any size that its file can really hold. Everything beside them
(targets, names, columns) is read whole and has a limit; so has what a compressed array claims against its bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rtserve.errors import InputError

__all__ = ["SMALL_BYTES", "refuse_bomb", "require_small"]

SMALL_BYTES = 256 << 20
"""What is read whole may be as large as this: 1e6 names of 60 characters, or 67e6 numbers."""
RATIO, WORTH = 100, 64 << 20
"""An array of more than `WORTH` bytes may not claim more than `RATIO` times what it takes in the file; EEG packed
without loss takes more than a tenth."""


def refuse_bomb(key: str, shape: tuple[int, ...], claimed: int, held: int, path: Path) -> None:
    """Raise `InputError` where an array claims far more bytes than the `held` ones in the file can stand for."""
    if claimed > WORTH and claimed > RATIO * held:
        size = f"{claimed / 1e9:,.3g} GB" if claimed < 1e15 else f"{claimed:.2e} bytes"
        raise InputError(
            f"{key} in {path} claims {' x '.join(map(str, shape))} values, {size}, of which the file holds {held:,} bytes",
            hint="the file is damaged or made to exhaust memory; nothing was read",
        )


def require_small(sizes: Mapping[str, int], path: Path) -> None:
    """Raise `InputError` where what would be read whole is larger than `SMALL_BYTES`, alone or together."""
    largest = max(sizes, key=lambda key: sizes[key], default="")
    if sum(sizes.values()) > SMALL_BYTES:
        raise InputError(
            f"{largest} in {path} claims {sizes[largest]:,} bytes ({sum(sizes.values()):,} with the other arrays beside"
            f" X); at most {SMALL_BYTES:,} are read",
            hint="X alone may be large: float32, (n_windows, n_chans, n_times), in C order",
        )
