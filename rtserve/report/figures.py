"""The pictures of a report, each with what it says in words and the table behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rtserve.errors import InputError
from rtserve.report.svg import ROLES, canvas, fit_labels, log_scale, to_svg

__all__ = ["Figure", "Point", "cost_accuracy", "pareto_front"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture that can also be read.

    Parameters
    ----------
    title : str
        Heading.
    svg : str
        One ``<svg>`` element.
    alt : str
        What the picture shows, in a sentence or two.
    columns : tuple of str
        Head of the table behind it.
    rows : tuple of tuple
        Its rows.
    caption : str
        What one must know to read it.
    """

    title: str
    svg: str
    alt: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...] = field(default=())
    caption: str = ""


@dataclass(frozen=True, kw_only=True)
class Point:
    """A candidate with its cost and its worth.

    Parameters
    ----------
    label : str
        What it is.
    cost, cost_low, cost_high : float
        Cost and its interval, in the unit of the axis.
    value, low, high : float
        Metric and its interval.
    chosen : bool
        Marked in the picture.
    """

    label: str
    cost: float
    value: float
    cost_low: float | None = None
    cost_high: float | None = None
    low: float | None = None
    high: float | None = None
    chosen: bool = False


def pareto_front(points: Sequence[Point], *, higher_is_better: bool = False) -> list[Point]:
    """Return the points that no other beats in both cost and value, cheapest first; of equals the first."""
    front: list[Point] = []
    sign = -1.0 if higher_is_better else 1.0
    for point in sorted(points, key=lambda p: (p.cost, sign * p.value)):
        if not front or sign * point.value < sign * front[-1].value:
            front.append(point)
    return front


def cost_accuracy(
    points: Sequence[Point],
    *,
    title: str = "Cost against accuracy",
    cost_label: str = "time per window, us",
    metric_label: str = "NRMSE",
    baseline: float | None = 1.0,
    higher_is_better: bool = False,
) -> Figure:
    """Draw candidates by cost and metric, with intervals, the Pareto front and the constant's score.

    Parameters
    ----------
    points : sequence of Point
        Candidates; at least one.
    title, cost_label, metric_label : str
        Heading and axes.
    baseline : float or None
        What the best constant scores on the same data: drawn as a line.
    higher_is_better : bool
        Direction of the metric.

    Raises
    ------
    InputError
        Where there is no point.
    """
    if not points:
        raise InputError("no candidate to draw", hint="give at least one point")
    front = pareto_front(points, higher_is_better=higher_is_better)
    direction = "higher is better" if higher_is_better else "lower is better"
    alt = _cost_alt(points, front, cost_label=cost_label, metric_label=metric_label, baseline=baseline)
    with canvas(5.6, 3.9) as (figure, axes):
        _draw_front(axes, front)
        for point in points:
            _draw_point(axes, point, on_front=point in front)
        if baseline is not None:
            axes.axhline(baseline, color=ROLES["bad"], linewidth=1.2, linestyle=(0, (5, 3)), zorder=1)
        axes.set_xlabel(cost_label)
        axes.set_ylabel(f"{metric_label} ({direction})")
        if min(p.cost for p in points) > 0 and max(p.cost for p in points) > 20 * min(p.cost for p in points):
            axes.set_xscale("log")
        axes.margins(x=0.15, y=0.2)
        if axes.get_xscale() == "log":
            log_scale(axes.xaxis)
        fit_labels(figure)
        _place_labels(figure, axes, points, baseline)
        svg = to_svg(figure, alt=alt)
    columns = ("candidate", cost_label, "interval", metric_label, "interval", "on the front")
    rows = tuple(
        (p.label, p.cost, _ends(p.cost_low, p.cost_high), p.value, _ends(p.low, p.high), "yes" if p in front else "no")
        for p in points
    )
    return Figure(title=title, svg=svg, alt=alt, columns=columns, rows=rows)


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"[{low:.4g}, {high:.4g}]"


def _cost_alt(
    points: Sequence[Point], front: Sequence[Point], *, cost_label: str, metric_label: str, baseline: float | None
) -> str:
    listed = "; ".join(f"{p.label} at {p.cost:.4g} with {p.value:.4g}" for p in points[:8])
    more = f" and {len(points) - 8} more" if len(points) > 8 else ""
    constant = f" The constant scores {baseline:.4g}." if baseline is not None else ""
    names = "; ".join(p.label for p in front)
    return f"{metric_label} against {cost_label}: {listed}{more}. On the Pareto front: {names}.{constant}"


def _draw_front(axes: Any, front: Sequence[Point]) -> None:
    if len(front) > 1:
        axes.step(
            [p.cost for p in front],
            [p.value for p in front],
            where="post",
            color=ROLES["first"],
            linewidth=1.4,
            alpha=0.6,
        )


def _draw_point(axes: Any, point: Point, *, on_front: bool) -> None:
    colour = ROLES["first"] if on_front else ROLES["muted"]
    if point.low is not None and point.high is not None:
        axes.plot([point.cost] * 2, [point.low, point.high], color=colour, linewidth=1.3, alpha=0.7, zorder=2)
    if point.cost_low is not None and point.cost_high is not None:
        axes.plot(
            [point.cost_low, point.cost_high], [point.value] * 2, color=colour, linewidth=1.3, alpha=0.7, zorder=2
        )
    axes.plot(
        [point.cost],
        [point.value],
        marker="D" if point.chosen else "o",
        markersize=9 if point.chosen else 7,
        markerfacecolor=colour if on_front else ROLES["paper"],
        markeredgecolor=colour,
        markeredgewidth=1.4,
        zorder=3,
    )


_ENDS = ((0.995, "right"), (0.005, "left"), (0.5, "center"), (0.33, "center"), (0.67, "center"))
_CORNERS = tuple((x, dy, side, edge) for dy, edge in ((3, "bottom"), (-4, "top")) for x, side in _ENDS)
_SIDES = ("center", "left", "right")
_PLACES = tuple((dx, dy, side) for dy in (5, -13, 18, -26, 31, -39, 44) for dx, side in ((8, "left"), (-8, "right")))


def _place_labels(figure: Any, axes: Any, points: Sequence[Point], baseline: float | None) -> None:
    """Put each label where it covers no mark, no interval, no line and no other label, inside the picture.

    Where no place is free of all of them, one that is free of other labels will do; else the first.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.transforms import Bbox

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    marks, labels = [box for point in points for box in _boxes(axes, point)], []
    if baseline is not None:
        words = [_constant_label(axes, baseline, *corner) for corner in _CORNERS]
        labels.append(_best(figure, axes, renderer, words, marks, []))
        middle = axes.transData.transform((axes.get_xlim()[0], baseline))[1]
        marks.append(Bbox.from_extents(axes.bbox.x0, middle - 1, axes.bbox.x1, middle + 1))
    for point in points:
        tries = [_point_label(axes, point, point.value, *place) for place in _PLACES]
        # Beyond the ends of the interval there is room where intervals stand side by side.
        for end, dy in ((point.high, 4), (point.low, -13)):
            tries += [_point_label(axes, point, end, 0, dy, side) for side in _SIDES if end is not None]
        labels.append(_best(figure, axes, renderer, tries, marks, labels))


def _boxes(axes: Any, point: Point) -> list[Any]:
    """Return where a point's mark and its intervals are, in pixels."""
    from matplotlib.transforms import Bbox

    x, y = axes.transData.transform((point.cost, point.value))
    boxes = [Bbox.from_extents(x - 6, y - 6, x + 6, y + 6)]
    if point.low is not None and point.high is not None:
        low, high = (axes.transData.transform((point.cost, end))[1] for end in (point.low, point.high))
        boxes.append(Bbox.from_extents(x - 1, low, x + 1, high))
    if point.cost_low is not None and point.cost_high is not None:
        low, high = (axes.transData.transform((end, point.value))[0] for end in (point.cost_low, point.cost_high))
        boxes.append(Bbox.from_extents(low, y - 1, high, y + 1))
    return boxes


def _point_label(axes: Any, point: Point, value: float, dx: int, dy: int, side: str) -> Any:
    place = {"textcoords": "offset points", "ha": side, "fontsize": 9}
    return axes.annotate(point.label, (point.cost, value), xytext=(dx, dy), **place)


def _constant_label(axes: Any, y: float, x: float, dy: int, side: str, edge: str) -> Any:
    place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": side, "va": edge}
    return axes.annotate("constant (mean of y)", (x, y), xytext=(0, dy), color=ROLES["bad"], fontsize=8.5, **place)


def _best(figure: Any, axes: Any, renderer: Any, tries: list[Any], marks: list[Any], labels: list[Any]) -> Any:
    """Keep the try that covers least, the first of equals; return where it is."""

    def cost(text: Any) -> tuple[bool, int, int]:
        box = text.get_window_extent(renderer)
        outside = not (axes.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 and axes.bbox.y0 <= box.y0)
        return outside, sum(box.overlaps(other) for other in labels), sum(box.overlaps(other) for other in marks)

    kept = min(tries, key=cost)
    for text in tries:
        if text is not kept:
            text.remove()
    return kept.get_window_extent(renderer)
