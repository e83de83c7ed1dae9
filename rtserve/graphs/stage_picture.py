"""The picture of a graph's stages, from input to answer: a box each, what it shares marked, and its cost now and in a loop.

It is SVG written by hand, in the page's own colours (`var(--ink)`, ...), light or dark, and needs nothing from elsewhere. It
is made for a column of a phone's width. Every text in it is escaped, and what is no printable character is not in it.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterator
from html import escape
from textwrap import wrap

from rtserve.display import FONT, LIGHT
from rtserve.graphs.stage_folding import few
from rtserve.graphs.stages import Stage, Stages

__all__ = ["draw_stages", "millions", "plain", "stages_alt"]

WIDTH, EDGE, PAD = 392.0, 6.0, 9.0
TITLE, SMALL = 12.5, 10.5
ADVANCE = 0.56
"""Mean width of a letter, in its size."""
BAR, GAP = 6.0, 12.0
NUMBERS = 128.0
"""Room for two costs beside a bar."""
CELL, CELLS = 8.0, 12
"""A view's cell, and how many are drawn at most."""


def draw_stages(stages: Stages, *, size: str = "max-width:32rem") -> str:
    """Return the picture as one ``<svg>`` element; `size` is its own style."""
    shown = few(stages.stages)
    top = max((max(one.macs, one.loop or 0) for one in shown), default=0)
    parts: list[str] = []
    y = _head(parts, stages)
    network = ""
    several = len({one.network for one in shown if one.network}) > 1
    for k, stage in enumerate(shown):
        if several and stage.network != network:
            y += SMALL + 4
            parts.append(_text(EDGE, y, _short(stage.network) or "all networks", SMALL, weight=600))
            y += 6
        elif k:
            parts.append(_arrow(y - GAP))
        network = stage.network
        y = _box(parts, y, stage, top, recorded=stages.recorded) + GAP
    box = f"0 0 {WIDTH:g} {y - GAP + EDGE:g}"
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}" class="plain" style="{size}"'
    font = f'font-family="{escape(FONT)}" fill="{_colour("ink")}"'
    return f'{head} {font} role="img" aria-label="{_said(stages_alt(stages))}">{"".join(parts)}</svg>'


def stages_alt(stages: Stages) -> str:
    """Return in words what the picture shows."""
    steps = "; ".join(_in_words(one, stages.recorded) for one in few(stages.stages))
    return f"{_totals(stages)} From input to answer: {steps}."


def _in_words(stage: Stage, recorded: bool) -> str:
    shared = f" ({stage.sharing})" if recorded and stage.sharing else ""
    return f"{plain(stage.what)}{shared} {_cost(stage)}".rstrip()


def plain(text: str) -> str:
    """Return text of a file without what is no printable character."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


def millions(macs: int) -> str:
    """Return multiply-adds as people read them."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if macs >= 0.9995 * limit:
            return f"{macs / limit:.2f} {unit}" if macs < 99.995 * limit else f"{macs / limit:,.0f} {unit}"
    return str(macs)


def _cost(stage: Stage) -> str:
    if not stage.counted and not stage.macs:
        return "not counted"
    if not stage.macs and not stage.loop:
        return ""
    more = "" if stage.counted else " and more"
    before = f"{millions(stage.loop)} \N{RIGHTWARDS ARROW} " if stage.loop is not None else ""
    return f"{before}{millions(stage.macs)}{more}"


def _totals(stages: Stages) -> str:
    if not stages.recorded:
        return f"{millions(stages.macs)} multiply-adds per window. What is shared is not known: the graph does not say."
    if stages.loop is None:
        return f"{millions(stages.macs)} multiply-adds per window."
    return f"Multiply-adds per window: {millions(stages.loop)} one by one, {millions(stages.macs)} fused."


def _head(parts: list[str], stages: Stages) -> float:
    """Draw the totals and what the marks mean; return where the boxes begin."""
    y = EDGE + SMALL
    if stages.loop is not None:
        top = max(stages.loop, stages.macs, 1)
        for name, value, role in (("one by one", stages.loop, "muted"), ("fused", stages.macs, "first")):
            parts.append(_text(EDGE, y, name, SMALL))
            length = (WIDTH - 150) * value / top
            parts.append(_rect(78, y - 8, max(length, 1.0), 9, role, 1.0 if role == "first" else 0.5))
            parts.append(_text(83 + length, y, millions(value), SMALL))
            y += 15
        told = "multiply-adds per window; of each stage: in a loop \N{RIGHTWARDS ARROW} fused"
        parts.append(_text(EDGE, y, told, SMALL, "muted"))
    else:
        for line in _lines(_totals(stages), SMALL, WIDTH - 2 * EDGE):
            parts.append(_text(EDGE, y, line, SMALL, "muted"))
            y += 14
        y -= 14
    if any(one.shared for one in stages.stages):
        y += 16
        _cells(parts, EDGE + 5 * (CELL + 2), y - 8, 5, 2.0)
        parts.append(_text(EDGE + 5 * (CELL + 2) + 5, y, "shared: work of 2 serves 5", SMALL, "muted"))
        _cells(parts, EDGE + 5 * (CELL + 2) + 200, y - 8, 5, 5.0)
        parts.append(_text(EDGE + 5 * (CELL + 2) + 205, y, "each by itself", SMALL, "muted"))
    return y + GAP


def _box(parts: list[str], y: float, stage: Stage, top: int, *, recorded: bool) -> float:
    """Draw a stage; return where it ends."""
    cells = min(stage.views, CELLS) if stage.views > 1 and stage.work is not None else 0
    room = WIDTH - 2 * EDGE - 2 * PAD
    title = _lines(plain(stage.what), TITLE, room - cells * (CELL + 2))
    said = _lines(stage.sharing, SMALL, room) if recorded else []
    cost = _cost(stage)
    height = 5 + 15 * len(title) + 13 * len(said) + (13 if cost else 0) + 5
    role = "second" if stage.shared else "muted"
    parts.append(
        f'<rect x="{EDGE:g}" y="{y:g}" width="{WIDTH - 2 * EDGE:g}" height="{height:g}" rx="4"'
        f' fill="{_colour(role)}" fill-opacity="{0.14 if stage.shared else 0.05}" stroke="{_colour(role)}"'
        f' stroke-width="{1.4 if stage.shared else 0.8}"/>'
    )
    line = y + 3
    for text in title:
        line += 15
        parts.append(_text(EDGE + PAD, line - 1, text, TITLE))
    if cells:
        _cells(parts, WIDTH - EDGE - PAD, y + 7, stage.views, stage.work or 0.0)
    for text in said:
        line += 13
        parts.append(_text(EDGE + PAD, line, text, SMALL, "second" if stage.shared else "muted"))
    if cost:
        line += 13
        _bars(parts, line, stage, top, cost)
    return y + height


def _bars(parts: list[str], y: float, stage: Stage, top: int, cost: str) -> None:
    room = WIDTH - 2 * EDGE - 2 * PAD - NUMBERS
    for value, role, alpha in ((stage.loop or 0, "muted", 0.35), (stage.macs, "first", 0.95)):
        if value:
            height = BAR if role == "first" else BAR + 3
            length = max(room * value / max(top, 1), 0.8)
            parts.append(_rect(EDGE + PAD, y - 4 - height / 2, length, height, role, alpha))
    parts.append(_text(WIDTH - EDGE - PAD, y, cost, SMALL, anchor="end"))


def _cells(parts: list[str], right: float, y: float, views: int, work: float) -> None:
    """Draw a cell for each view, those filled whose work is done."""
    shown = min(views, CELLS)
    done = min(max(round(work * shown / views), 1), shown)
    role = "first" if work >= views - 0.005 else "second"
    for k in range(shown):
        x = right - (shown - k) * (CELL + 2) + 2
        fill = _colour(role) if k < done else "none"
        parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{CELL:g}" height="{CELL:g}" rx="1.5" fill="{fill}"'
            f' stroke="{_colour(role)}" stroke-width="1"/>'
        )


def _arrow(y: float) -> str:
    x = EDGE + 22
    path = f"M{x:g} {y + 1:g}V{y + GAP - 4:g}M{x - 3:g} {y + GAP - 6:g}l3 4l3 -4"
    return f'<path d="{path}" fill="none" stroke="{_colour("muted")}" stroke-width="1.2"/>'


def _rect(x: float, y: float, width: float, height: float, role: str, alpha: float) -> str:
    size = f'x="{x:g}" y="{y:g}" width="{width:.4g}" height="{height:g}"'
    return f'<rect {size} rx="1.5" fill="{_colour(role)}" fill-opacity="{alpha:g}"/>'


def _text(x: float, y: float, text: str, size: float, role: str = "", *, anchor: str = "", weight: int = 0) -> str:
    told = {"fill": _colour(role) if role else "", "text-anchor": anchor, "font-weight": str(weight or "")}
    attributes = "".join(f' {key}="{value}"' for key, value in told.items() if value)
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}"{attributes}>{_said(text)}</text>'


def _said(text: str) -> str:
    return escape(plain(text))


def _colour(role: str) -> str:
    return f"var(--{role}, {LIGHT[role]})"


def _lines(text: str, size: float, room: float) -> list[str]:
    """Return text as lines that fit; letters of East Asian scripts are twice as wide."""
    wide = any(unicodedata.east_asian_width(one) in "WF" for one in text)
    return list(_cut(wrap(text, max(4, math.floor(room / (ADVANCE * size * (2 if wide else 1)))))))


def _short(text: str) -> str:
    """Return as much of a name as fits in one line."""
    lines = _lines(plain(text), SMALL, WIDTH - 4 * EDGE)
    return f"{lines[0]} ..." if len(lines) > 1 else "".join(lines)


def _cut(lines: list[str], most: int = 4) -> Iterator[str]:
    yield from lines[: most - 1]
    yield from [f"{lines[most - 1]} ..." if len(lines) > most else lines[most - 1]] if len(lines) >= most else []
