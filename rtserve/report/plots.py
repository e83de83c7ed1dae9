"""The pictures of single results: branches with intervals, latency distributions, predicted against true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.report.figures import Figure
from rtserve.report.svg import ROLES, canvas, log_scale, to_svg

__all__ = ["Effect", "effects", "latencies", "predicted_against_true"]

SCATTER_LIMIT = 1500
"""More windows than this are drawn as density instead of dots; every window is in either picture."""
_LINES = ("first", "second", "third", "fourth", "good", "ink")


@dataclass(frozen=True, kw_only=True)
class Effect:
    """A change with its interval: one row of `effects`.

    Parameters
    ----------
    label : str
        What was changed.
    value, low, high : float
        Change of the metric.
    verdict : str
        ``"helps"``, ``"hurts"``, ``"inert"`` or what else; colours the row.
    note : str
        Said in the table.
    """

    label: str
    value: float
    low: float | None
    high: float | None
    verdict: str = ""
    note: str = ""


def effects(items: Sequence[Effect], *, title: str, metric_label: str, caption: str = "") -> Figure:
    """Draw changes of a metric as bars from zero with their intervals, one row each.

    Raises
    ------
    InputError
        Where there is nothing to draw.
    """
    if not items:
        raise InputError("no effect to draw", hint="give at least one")
    listed = "; ".join(f"{e.label} {e.value:+.3g}{_ends(e.low, e.high)} ({e.verdict or 'no verdict'})" for e in items)
    alt = f"Change of {metric_label} by each, with intervals: {listed}."
    lines = sum(max(1, len(wrap(e.label, 26))) for e in items)
    with canvas(5.6, 0.9 + 0.24 * len(items) + 0.18 * lines) as (figure, axes):
        for row, item in enumerate(items):
            colour = ROLES[{"helps": "good", "hurts": "bad"}.get(item.verdict, "muted")]
            axes.barh(row, item.value, height=0.5, color=colour, alpha=0.35)
            if item.low is not None and item.high is not None:
                axes.plot([item.low, item.high], [row, row], color=colour, linewidth=2.2, solid_capstyle="butt")
            axes.plot([item.value], [row], marker="o", markersize=5, color=colour)
        axes.axvline(0.0, color=ROLES["ink"], linewidth=1.0)
        axes.set_yticks(range(len(items)), ["\n".join(wrap(e.label, 26)) for e in items])
        axes.invert_yaxis()
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"change of {metric_label}")
        axes.locator_params(axis="x", nbins=6)
        svg = to_svg(figure, alt=alt)
    rows = tuple((e.label, e.value, _ends(e.low, e.high).strip(), e.verdict, e.note) for e in items)
    columns = ("what", f"change of {metric_label}", "interval", "verdict", "note")
    return Figure(title=title, svg=svg, alt=alt, columns=columns, rows=rows, caption=caption)


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" [{low:+.3g}, {high:+.3g}]"


def latencies(calls_us: Mapping[str, np.ndarray], *, title: str, caption: str = "") -> Figure:
    """Draw the distribution of every recorded call as the share that is done after so long.

    Parameters
    ----------
    calls_us : mapping of str to ndarray
        Name and microseconds of each call.
    title, caption : str
        Heading, and what must be known to read it (batch, threads).

    Raises
    ------
    InputError
        Where there is nothing to draw.
    """
    if not calls_us:
        raise InputError("no latency to draw", hint="give at least one")
    quantiles = {name: np.percentile(values, [50, 90, 99]) for name, values in calls_us.items()}
    listed = "; ".join(f"{name} p50 {q[0]:.4g}, p90 {q[1]:.4g}, p99 {q[2]:.4g} us" for name, q in quantiles.items())
    alt = f"Cumulative distribution of latency: {listed}."
    high = max(float(q[2]) for q in quantiles.values()) * 1.15
    low = min(float(values.min()) for values in calls_us.values())
    with canvas(5.6, 3.5) as (figure, axes):
        for k, (name, values) in enumerate(calls_us.items()):
            share = np.linspace(0.0, 1.0, min(len(values), 400))
            line = _LINES[k % len(_LINES)]
            axes.plot(np.quantile(values, share), 100 * share, color=ROLES[line], linewidth=1.8, label=name)
        axes.set_xlim(low * 0.97, high)
        if high > 8 * low:
            log_scale(axes.xaxis)
        axes.set_ylim(0, 101)
        axes.set_xlabel("latency of a call, us")
        axes.set_ylabel("calls done, %")
        axes.legend(loc="best", fontsize=8.5)
        svg = to_svg(figure, alt=alt)
    rows = tuple(
        (name, len(calls_us[name]), *(float(v) for v in q[:2]), float(q[2]) if len(calls_us[name]) >= 1000 else None)
        for name, q in quantiles.items()
    )
    return Figure(
        title=title,
        svg=svg,
        alt=alt,
        columns=("what", "calls", "p50 us", "p90 us", "p99 us"),
        rows=rows,
        caption=caption,
    )


def predicted_against_true(targets: np.ndarray, predictions: np.ndarray, *, title: str, unit: str = "") -> Figure:
    """Draw predictions (n_windows,) against targets (n_windows,), with the line of the truth and of the constant.

    Raises
    ------
    InputError
        Where there is nothing to draw.
    """
    y, p = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    if not len(y) or y.shape != p.shape:
        raise InputError(f"{p.shape} predictions for {y.shape} targets", hint="one number per window each")
    r = float(np.corrcoef(y, p)[0, 1]) if np.std(y) > 0 and np.std(p) > 0 else None
    said = "no correlation is defined" if r is None else f"r = {r:.3f}"
    spread = f"std of the predictions {np.std(p):.3g}, of the targets {np.std(y):.3g}"
    alt = f"{len(y)} predictions against true values: {said}, {spread}; the constant predicts {y.mean():.4g}."
    with canvas(4.6, 4.2) as (figure, axes):
        _cloud(axes, y, p)
        ends = np.array([min(y.min(), p.min()), max(y.max(), p.max())])
        axes.plot(ends, ends, color=ROLES["ink"], linewidth=1.0, linestyle=(0, (1, 2)), label="perfect")
        axes.axhline(y.mean(), color=ROLES["bad"], linewidth=1.2, linestyle=(0, (5, 3)), label="constant (mean of y)")
        axes.set_xlabel("true" + (f", {unit}" if unit else ""))
        axes.set_ylabel("predicted" + (f", {unit}" if unit else ""))
        axes.legend(loc="upper left", fontsize=8.5)
        svg = to_svg(figure, alt=alt)
    rows = tuple(_decile_rows(y, p))
    columns = ("targets from", "to", "windows", "mean target", "mean prediction", "RMSE")
    return Figure(title=title, svg=svg, alt=alt, columns=columns, rows=rows)


def _cloud(axes: Any, y: np.ndarray, p: np.ndarray) -> None:
    """Draw dots, or the density of many."""
    if len(y) <= SCATTER_LIMIT:
        axes.scatter(y, p, s=9, color=ROLES["first"], alpha=0.45, linewidths=0)
        return
    counts, xs, ys = np.histogram2d(y, p, bins=40)
    for i, j in zip(*np.nonzero(counts), strict=True):
        shade = 0.12 + 0.8 * float(np.sqrt(counts[i, j] / counts.max()))
        axes.fill_between([xs[i], xs[i + 1]], ys[j], ys[j + 1], color=ROLES["first"], alpha=shade, linewidth=0)


def _decile_rows(y: np.ndarray, p: np.ndarray) -> list[tuple[Any, ...]]:
    """Return rows of the table behind the picture: windows in ten groups of equal size by target."""
    rows = []
    for group in np.array_split(np.argsort(y, kind="stable"), min(10, len(y))):
        error = float(np.sqrt(np.mean((p[group] - y[group]) ** 2)))
        rows.append(
            (float(y[group[0]]), float(y[group[-1]]), len(group), float(y[group].mean()), float(p[group].mean()), error)
        )
    return rows
