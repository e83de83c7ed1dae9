"""What the code rests on: docstrings that derive a rule, as pages of the reference, word for word."""

from __future__ import annotations

import importlib
import inspect
from pathlib import PurePosixPath

__all__ = ["THEORY", "theory_origins", "theory_pages"]

THEORY = {
    "theory-parity": ("How close is equal", ("rtserve.graphs.parity", "rtserve.graphs.rounding")),
    "theory-statistics": ("Intervals and differences", ("rtserve.measure.statistics", "rtserve.measure.power")),
    "theory-views": (
        "What views share",
        (
            "rtserve.fusion.views",
            "rtserve.fusion.program.stage",
            "rtserve.fusion.program.share",
            "rtserve.fusion.program.affine_end",
        ),
    ),
}
"""Pages by name: title, and the modules whose docstrings they hold."""


def theory_pages() -> dict[str, str]:
    """Return the pages as reStructuredText, which the docstrings are."""
    pages = {}
    for name, (title, modules) in THEORY.items():
        parts = [_heading(title, "=")]
        for module in modules:
            text = inspect.cleandoc(importlib.import_module(module).__doc__ or "")
            short = " ".join(module.split(".")[-2:]).replace("_", " ")
            parts.append(f"{_heading(short, '-')}\n(``{module}``)\n\n{text}\n")
        pages[name] = "\n".join(parts)
    return pages


def theory_origins() -> dict[PurePosixPath, PurePosixPath]:
    """Return the page that each of those modules' files is on."""
    return {
        PurePosixPath(module.replace(".", "/") + ".py"): PurePosixPath("reference", f"{name}.rst")
        for name, (_, modules) in THEORY.items()
        for module in modules
    }


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"
