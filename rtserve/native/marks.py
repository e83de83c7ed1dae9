"""Where a window's time goes: the C of a graph with a clock between its operations, for a profile and nothing else.

    statements of operation 0 | clock | statements of operation 1 | clock | ... --> nanoseconds of each

An operation is what wrote the statements; one whose arithmetic went into another's loop has none of its own. The clock
takes some twenty nanoseconds, so that a profile's sum is a little more than the time of the code without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtserve.native.shares import Line

__all__ = ["Layer", "marked"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """One operation of a graph: its operator, the shape of its first result for one window, and its multiply-adds."""

    op: str
    shape: tuple[int, ...]
    macs: int


def marked(lines: Sequence[Line], n_layers: int) -> tuple[list[str], list[str]]:
    """Return declarations, and the statements of `lines` with the clock read wherever another operation begins."""
    head = [
        "#include <time.h>",
        f'__attribute__((visibility("default"))) unsigned long long rt_spent[{n_layers + 1}];',
        "static void rt_mark(int layer) {",
        "  static int now = -1;",
        "  static unsigned long long since;",
        "  struct timespec t;",
        "  clock_gettime(CLOCK_MONOTONIC, &t);",
        "  unsigned long long ns = 1000000000ull * (unsigned long long)t.tv_sec + (unsigned long long)t.tv_nsec;",
        "  if (now >= 0) rt_spent[now] += ns - since;",
        "  now = layer;",
        "  since = ns;",
        "}",
    ]
    body, last = [], None
    for line in lines:
        if line.operation != last:
            body.append(f"rt_mark({line.operation});")
            last = line.operation
        body.append(line.text)
    return head, [*body, "rt_mark(-1);"]
