"""A window set in one line and in a notebook: how many, of what size, in which unit, and whose."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtserve.display import card, cut

if TYPE_CHECKING:
    from rtserve.signals.windows import WindowSet

__all__ = ["windows_card", "windows_line"]


def windows_line(windows: WindowSet) -> str:
    """Return one line."""
    return f"<WindowSet of {len(windows)} windows: {windows.input_spec}; y {_target(windows)}; {_people(windows)}>"


def windows_card(windows: WindowSet) -> str:
    """Return HTML."""
    rows = [
        ("windows", f"{len(windows)} of {windows.input_spec}"),
        ("channels", cut(windows.ch_names, 16)),
        ("y", _target(windows)),
        ("other targets", cut(list(windows.targets))),
        ("subjects", _people(windows)),
        ("preprocessing", ", ".join(map("=".join, windows.preprocessing))),
    ]
    return card("Windows", rows)


def _target(windows: WindowSet) -> str:
    named = windows.target or "without a name"
    return f"{named} ({', '.join(windows.classes)})" if windows.classes else named


def _people(windows: WindowSet) -> str:
    count = len(np.unique(windows.subject))
    return f"{count} subject{'s' * (count > 1)}" if count else "subjects not known"
