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
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from rtserve.display import DARK, FONT, LIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = [
    "DARK",
    "LIGHT",
    "ROLES",
    "canvas",
    "cut_texts",
    "fit_labels",
    "log_scale",
    "overlapping_ticks",
    "standalone",
    "to_svg",
]

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


def _renderer(figure: Canvas) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    return FigureCanvasAgg(figure).get_renderer()


def fit_labels(figure: Canvas) -> None:
    """Wrap the labels of axes that are longer than the picture has room for: a layout makes room, it cuts nothing off.

    Widths are those of matplotlib's own font, which is wider than what browsers use instead.
    """
    renderer = _renderer(figure)
    labels = [(axes, axis.label, axis.label.get_text()) for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)]
    for share in (1.0, 0.9, 0.8, 0.7):  # a label of two lines takes room from the axes, so one pass may not do
        figure.draw_without_rendering()
        wrapped = False
        for axes, label, text in labels:
            box, flat = label.get_window_extent(renderer), label is axes.xaxis.label
            length = box.width if flat else box.height
            low, high = axes.bbox.intervalx if flat else axes.bbox.intervaly
            end = figure.bbox.width if flat else figure.bbox.height
            room = 2 * min((low + high) / 2, end - (low + high) / 2)
            if length > room > 0:
                longest = max(map(len, label.get_text().splitlines()))
                label.set_text("\n".join(wrap(text, max(8, int(share * longest * room / length)))))
                wrapped = True
        if not wrapped:
            return


def log_scale(axis: Any) -> None:
    """Make an axis logarithmic, with plain numbers at 1, 2 and 5 of each power of ten, or at 1 where there are many.

    matplotlib's own labels between powers of ten are set so close that they run into each other.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = sorted(axis.get_view_interval())
    steps = (1.0, 2.0, 5.0) if high < 1e3 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axis.set_minor_formatter(NullFormatter())


def overlapping_ticks(figure: Canvas) -> list[str]:
    """Return the labels of ticks that run into the one before them; an empty list is good."""
    renderer = _renderer(figure)
    figure.draw_without_rendering()
    found = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            low, high = sorted(axis.get_view_interval())
            labels = [one for t in ticks for one in (t.label1, t.label2) if one.get_visible() and one.get_text()
                      and low <= t.get_loc() <= high]  # fmt: skip
            boxes = [(label, label.get_window_extent(renderer)) for label in labels if not label.get_rotation()]
            found += [
                label.get_text() for k, (label, box) in enumerate(boxes) if any(box.overlaps(b) for _, b in boxes[:k])
            ]
    return found


def cut_texts(figure: Canvas) -> list[str]:
    """Return the texts of a drawing that reach beyond its edges; an empty list is good."""
    renderer = _renderer(figure)
    figure.draw_without_rendering()
    edge, found = figure.bbox, []
    for axes in figure.axes:
        ticks = [
            tick.label1 if tick.label1.get_visible() else tick.label2
            for axis in (axes.xaxis, axes.yaxis)
            for tick in axis.get_major_ticks()
            if min(axis.get_view_interval()) <= tick.get_loc() <= max(axis.get_view_interval())
        ]
        for text in [axes.xaxis.label, axes.yaxis.label, axes.title, *axes.texts, *ticks]:
            box = text.get_window_extent(renderer)
            inside = box.x0 >= edge.x0 - 1 and box.x1 <= edge.x1 + 1 and box.y0 >= edge.y0 - 1 and box.y1 <= edge.y1 + 1
            if text.get_text() and text.get_visible() and not inside:
                found.append(text.get_text())
    return found


def to_svg(figure: Canvas, *, alt: str) -> str:
    """Return the drawing as one ``<svg>`` element that fills its column and speaks `alt` to a screen reader.

    Labels too long for their axes are wrapped first. Call it within `canvas`, whose style also rules saving.
    """
    fit_labels(figure)
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
    halo = "svg:not(.plain) text{paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}"
    style = f"<style>svg{{{rules(LIGHT)}background:var(--paper)}}{halo}{dark}</style>"
    return '<?xml version="1.0" encoding="utf-8"?>\n' + re.sub(r"(<svg[^>]*>)", rf"\1{style}", svg, count=1) + "\n"
