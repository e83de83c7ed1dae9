"""Settings in which runs, checkpoints, graphs or zips of a report differ."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rtserve.measure.sides import Side
from rtserve.report.page import Section, Table

__all__ = ["settings_section"]

ACROSS = 4
"""Most columns of a table beside the setting's name: more would be cut off."""
_NO_CHOICE = ("trained_on.",)
"""What is no setting of anybody's: marks of the windows that a network was trained on."""


def settings_section(sides: Sequence[Side]) -> Section | None:
    """Return a table for each kind of thing of which there are several; None where there is none."""
    kinds = dict.fromkeys(side.kind for side in sides)
    groups = {kind: [side for side in sides if side.kind == kind] for kind in kinds}
    text, tables = [], []
    for kind, group in groups.items():
        if len(group) < 2:
            continue
        keys = list(dict.fromkeys(k for side in group for k in side.settings if not k.startswith(_NO_CHOICE)))
        apart = [key for key in keys if len({side.settings.get(key) for side in group}) > 1]
        text.append(f"{len(group)} {kind}s: {len(keys) - len(apart)} of {len(keys)} settings are the same everywhere.")
        tables += _tables(apart, group, f"{kind}s")
    return Section(title="Settings that differ", text=tuple(text), tables=tuple(tables)) if text else None


def _tables(keys: Sequence[str], group: Sequence[Side], what: str) -> list[Table]:
    """Return the settings by side, a few sides beside each other."""
    names = _distinct([side.name for side in group])
    out, across = [], -(-len(group) // -(-len(group) // ACROSS))  # as many beside each other in each table
    for start in range(0, len(group) if keys else 0, across):
        some = list(zip(names, group, strict=True))[start : start + across]
        rows: list[dict[str, Any]] = [
            {"setting": key} | {n: side.settings.get(key) for n, side in some} for key in keys
        ]
        part = f"{what}, {start + 1} to {start + len(some)}" if len(group) > ACROSS else what
        out.append(Table.of(rows, caption=part))
    return out


def _distinct(names: Sequence[str]) -> list[str]:
    return [n if names.count(n) == 1 else f"{n} ({names[: k + 1].count(n)})" for k, n in enumerate(names)]
