"""The pictures of a report, each with what it says in words and the table behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rtserve.errors import InputError
from rtserve.report.svg import ROLES, canvas, fit_labels, to_svg

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
        if baseline is not None:
            _label_line(axes, baseline, "constant (mean of y)")
        fit_labels(figure)
        _place_labels(figure, axes, points)
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


def _label_line(axes: Any, y: float, text: str) -> None:
    axes.annotate(
        text,
        (0.995, y),
        xycoords=("axes fraction", "data"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        color=ROLES["bad"],
        fontsize=8.5,
    )


_PLACES = tuple((dx, dy, side) for dy in (5, -13, 18, -26, 31, -39, 44) for dx, side in ((8, "left"), (-8, "right")))


def _place_labels(figure: Any, axes: Any, points: Sequence[Point]) -> None:
    """Put each label where it covers no other label and stays inside the axes; the first place where none is free."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    figure.draw_without_rendering()
    taken: list[Any] = [text.get_window_extent(renderer) for text in axes.texts]
    for point in points:
        chosen = None
        for dx, dy, side in _PLACES:
            label = axes.annotate(
                point.label, (point.cost, point.value), xytext=(dx, dy), textcoords="offset points", ha=side, fontsize=9
            )
            box = label.get_window_extent(renderer)
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1
            if inside and not any(box.overlaps(other) for other in taken):
                chosen = box
                break
            label.remove()
        if chosen is None:
            label = axes.annotate(
                point.label, (point.cost, point.value), xytext=(8, 5), textcoords="offset points", fontsize=9
            )
            chosen = label.get_window_extent(renderer)
        taken.append(chosen)
