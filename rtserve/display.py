"""How results show themselves in a notebook: a title and rows, self-contained HTML that follows the page's own colours.

Text and lines are the page's colour at some opacity, so that light and dark pages need no style of their own.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

__all__ = ["DARK", "FONT", "LIGHT", "card", "cut"]

LIGHT = {
    "ink": "#1b1f24",
    "muted": "#59636e",
    "grid": "#d9dee3",
    "paper": "#ffffff",
    "first": "#0b6bb8",
    "second": "#c2571a",
    "third": "#6b4fbb",
    "fourth": "#8a6d00",
    "good": "#1a7f4b",
    "bad": "#b3261e",
}
"""A page's colours by role, on white."""
DARK = {
    "ink": "#e8ebee",
    "muted": "#9aa5b1",
    "grid": "#39424c",
    "paper": "#14181d",
    "first": "#5eb0ef",
    "second": "#f0935a",
    "third": "#b3a0f2",
    "fourth": "#dcbc45",
    "good": "#5fc992",
    "bad": "#f2827a",
}
"""The same on a dark page."""
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

_CARD = "font-size:0.9em;max-width:56em;border:1px solid rgba(128,128,128,0.4);border-radius:4px;padding:0.6em 0.9em"
_TABLE = "border-collapse:collapse;margin:0.4em 0 0;background:transparent;color:inherit"
_ROW = "background:transparent"
_HEAD = "text-align:left;vertical-align:top;padding:0.15em 1.2em 0.15em 0;font-weight:normal;opacity:0.7;border:none"
_CELL = "text-align:left;vertical-align:top;padding:0.15em 1.2em 0.15em 0;border:none;white-space:pre-wrap"

Row = tuple[str, object]


def card(title: str, rows: Iterable[Row], notes: Sequence[str] = (), *, picture: str = "") -> str:
    """Return a title with rows of (what, value), notes and a picture as HTML; whatever text stands in them is escaped.

    The picture is an ``<svg>`` that is put in as it is.
    """
    lines = [
        f'<tr style="{_ROW}"><th style="{_HEAD}">{_text(key)}</th><td style="{_CELL}">{_text(value)}</td></tr>'
        for key, value in rows
        if str(value)
    ]
    said = [f'<div style="margin-top:0.4em;opacity:0.8">{_text(note)}</div>' for note in notes]
    return (
        f'<div class="rtserve" style="{_CARD}"><strong>{_text(title)}</strong>'
        f'<table style="{_TABLE}">{"".join(lines)}</table>{"".join(said)}{picture}</div>'
    )


def cut(names: Sequence[str], most: int = 8) -> str:
    """Return names with commas, the first of many and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def _text(value: object) -> str:
    return html.escape(str(value))
