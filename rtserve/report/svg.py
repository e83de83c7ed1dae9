"""Drawing to SVG that follows the page: its colours in light and dark, its width, its text as text.

matplotlib knows no CSS variables, so figures are drawn in colours that stand for roles and those are exchanged for
``var(--role, light colour)`` in the SVG. The same drawing gives the same bytes: no date, fixed ids.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["DARK", "LIGHT", "ROLES", "canvas", "standalone", "to_svg"]

ROLES = {
    "ink": "#010101",
    "muted": "#020202",
    "grid": "#030303",
    "paper": "#040404",
    "first": "#050505",
    "second": "#060606",
    "third": "#070707",
    "fourth": "#080808",
    "good": "#090909",
    "bad": "#0a0a0a",
}
"""Role and the colour that stands for it while drawing."""
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
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rtserve",
    "font.size": 10.5,
    "axes.edgecolor": ROLES["muted"],
    "axes.labelcolor": ROLES["ink"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "grid.color": ROLES["grid"],
    "grid.linewidth": 0.7,
    "xtick.color": ROLES["muted"],
    "ytick.color": ROLES["muted"],
    "text.color": ROLES["ink"],
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@contextmanager
def canvas(width: float = 5.6, height: float = 3.8, **subplots: Any) -> Iterator[tuple[Canvas, Any]]:
    """Give (figure, axes) to draw on with the page's style; sizes in inches, `subplots` as ``Figure.subplots``."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as MplFigure

    with matplotlib.rc_context(_STYLE):
        figure = MplFigure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure, figure.subplots(**subplots)


def to_svg(figure: Canvas, *, alt: str) -> str:
    """Return the drawing as one ``<svg>`` element that fills its column and speaks `alt` to a screen reader.

    Call it within `canvas`, whose style also rules saving.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"font: ([0-9.]+px) [^;\"]*", rf"font: \1 {FONT}", text)
    for role, stand_in in ROLES.items():
        text = text.replace(stand_in, f"var(--{role}, {LIGHT[role]})")
    box = re.search(r'viewBox="([^"]+)"', text)
    attributes = f'viewBox="{box[1] if box else ""}" role="img" aria-label="{escape(alt)}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {attributes}>'
    return re.sub(r"<svg[^>]*>", lambda _: head, text, count=1).strip()


def standalone(svg: str) -> str:
    """Return a drawing of `to_svg` as a file of its own, which follows the reader's light or dark setting itself."""

    def rules(colours: dict[str, str]) -> str:
        return "".join(f"--{role}:{colour};" for role, colour in colours.items())

    dark = f"@media(prefers-color-scheme:dark){{svg{{{rules(DARK)}}}}}"
    halo = "text{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}"
    style = f"<style>svg{{{rules(LIGHT)}background:var(--paper)}}{halo}{dark}</style>"
    return '<?xml version="1.0" encoding="utf-8"?>\n' + re.sub(r"(<svg[^>]*>)", rf"\1{style}", svg, count=1) + "\n"
