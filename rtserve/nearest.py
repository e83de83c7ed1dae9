"""What somebody may have meant who wrote a name that is none: the nearest of those there are, names or files.

Nothing is ever used in place of what was asked for; the hint of an error names it.
"""

from __future__ import annotations

import difflib
import itertools
import os
from collections.abc import Iterable
from pathlib import Path

__all__ = ["file_meant", "meant", "nearest", "nearest_file"]

ALIKE = 0.6
"""Share of letters in common from which a name is worth naming (that of `difflib`)."""
MOST_FILES = 2000
"""Files of a folder that are compared; a folder of a million windows must not make an error slow."""


def nearest(given: str, known: Iterable[str], *, n: int = 1, alike: float = ALIKE) -> list[str]:
    """Return up to `n` of the `known` names that resemble `given`, the most alike first; case counts for nothing."""
    names = list(known)
    close = difflib.get_close_matches(given, names, n, alike)  # noqa: TID251 - this is the one place
    folded = [name for name in names if name.lower() == given.lower() and name not in close]
    return [*folded, *close][:n]


def meant(given: str, known: Iterable[str], otherwise: str, *, n: int = 1) -> str:
    """Return the hint for a name that is none: what may be meant, or `otherwise` where nothing is near."""
    near = nearest(given, known, n=n)
    return f"did you mean {' or '.join(near)}?" if near else otherwise


def nearest_file(path: str | Path) -> Path | None:
    """Return the file or folder there is that a path which leads nowhere most resembles, or None.

    The first part of the path that is not there is looked for in the folder where it should be. A common ending
    (``.onnx``) makes no two names alike: the stems have to be.
    """
    path = Path(path)
    whole = [*reversed(path.parents), path]
    lost = next((part for part in whole if not part.exists()), None)
    if lost is None or not lost.name:
        return None
    here = _names_in(lost.parent, hidden=lost.name.startswith("."))
    stem = Path(lost.name).stem
    stems = [name for name in here if nearest(stem, [Path(name).stem], alike=0.5)]
    endings = {Path(name).suffix for name in stems}
    same = [name for name in stems if Path(name).suffix == Path(lost.name).suffix] if len(endings) > 1 else stems
    found = nearest(lost.name, same) or nearest(lost.name, stems) or [n for n in stems if Path(n).stem == stem]
    if not found:
        return None
    kept = lost.parent / found[0]
    below = kept.joinpath(*path.parts[len(lost.parts) :])
    return below if below.exists() else kept


def file_meant(path: str | Path, otherwise: str) -> str:
    """Return the hint for a file that is not there: the nearest that is, or `otherwise`."""
    near = nearest_file(path)
    return f"did you mean {near}?" if near is not None else otherwise


def _names_in(folder: Path, *, hidden: bool) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return sorted(e.name for e in itertools.islice(entries, MOST_FILES) if hidden or not e.name.startswith("."))
    except OSError:
        return []
