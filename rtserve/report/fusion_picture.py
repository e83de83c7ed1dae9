"""What was fused, drawn from the fusion's own report: members by views, and what sharing their work saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import wrap
from typing import Any

from rtserve.measure.sides import Side
from rtserve.report.collect import Document
from rtserve.report.figures import Figure
from rtserve.report.page import Section
from rtserve.report.stage_figure import MOST as MOST_GRAPHS
from rtserve.report.stage_figure import named_stages, stage_figure
from rtserve.report.svg import ROLES, canvas, to_svg

__all__ = ["fusion_figure", "fusion_section"]

MOST = 8
"""More members or views than this are drawn as the first ones and a row or column that counts the rest."""

LINE = 0.42
"""Height of a line below a bar, in bars."""

Report = Mapping[str, Any]
Bar = tuple[str, float, str]


def fusion_figure(report: Report, *, title: str = "What was fused") -> Figure:
    """Draw members x views with the branches left out, and the multiply-adds before and after each step.

    Parameters
    ----------
    report : mapping
        What ``rtserve fuse --json`` says (`rtserve.fusion.report.fuse_to_file`).
    title : str
        Heading.
    """
    rows = _cut([f"member {k + 1}" for k in range(report["members"])], "member")
    columns = _cut(list(report["views"]), "view")
    bars = _bars(report)
    lines = sum(len(said.splitlines()) for said in _said(bars))
    shared = _shared(report)
    parts = [0.45 + 0.27 * len(rows) + 0.3 * bool(shared), 0.65 + 0.4 * (len(bars) + LINE * lines)]
    with canvas(5.6, sum(parts) + 0.2, nrows=2, gridspec_kw={"height_ratios": parts}) as (figure, (grid, work)):
        _draw_branches(grid, rows, columns, report)
        if shared:
            _mark_shared(grid, len(rows), len(columns), shared)
        _draw_work(work, bars)
        svg = to_svg(figure, alt=(alt := _alt(report, bars)))
    return Figure(
        title=title,
        svg=svg,
        alt=alt,
        columns=("step", "multiply-adds, M", "what it did"),
        rows=tuple(_step_rows(report)),
        caption=_caption(report),
    )


def fusion_section(fusions: Sequence[Document], sides: Sequence[Side] = ()) -> Section | None:
    """Return the pictures of what was fused, and of what each fused graph computes; None where nothing was.

    Parameters
    ----------
    fusions : sequence of (str, mapping)
        What ``rtserve fuse --json`` said, by the name of its file.
    sides : sequence of Side
        Among them graphs, which say themselves what they compute.
    """
    titles = [f"What was fused: {name}" if len(fusions) > 1 else "Members, views and their work" for name, _ in fusions]
    figures = [fusion_figure(document, title=title) for (_, document), title in zip(fusions, titles, strict=True)]
    named = list(named_stages(fusions, sides))
    figures += [stage_figure(name, stages) for name, stages in named[:MOST_GRAPHS]]
    left = ", ".join(name for name, _ in named[MOST_GRAPHS:])
    notes = [f"not drawn, beside the first {MOST_GRAPHS}: {left}"] if left else []
    return Section(title="What was fused", figures=tuple(figures), notes=tuple(notes)) if figures else None


def _cut(names: list[str], what: str) -> list[str]:
    if len(names) <= MOST:
        return names
    return [*names[: MOST - 1], f"{len(names) - MOST + 1} {what}s more"]


def _bars(report: Report) -> list[Bar]:
    """Return (what, multiply-adds, what was done) from the branches one by one to the fused graph."""
    now = report["macs"]["before"]
    bars = [("one by one", now, "")]
    for step in report["passes"]:
        if step["status"] == "applied" and step["macs_before"] == now and step["macs_after"] != now:
            now = step["macs_after"]
            bars.append((f"after {step['name']}", now, step["reason"]))
    if len(bars) == 1 or now != report["macs"]["after"]:
        bars.append(("fused", report["macs"]["after"], ""))
    return bars


def _draw_branches(axes: Any, rows: Sequence[str], columns: Sequence[str], report: Report) -> None:
    """Draw a square per branch, an empty one where the branch repeats another or weighs nothing."""
    gone = {divmod(entry["branch"], len(report["views"])) for entry in report["removed"]}
    for y in range(len(rows)):
        for x in range(len(columns)):
            left_out = (y, x) in gone
            axes.bar(
                x,
                0.66,
                bottom=y - 0.33,
                width=0.7,
                facecolor=ROLES["paper"] if left_out else ROLES["first"],
                edgecolor=ROLES["muted"] if left_out else ROLES["first"],
                linestyle=(0, (2, 2)) if left_out else "solid",
                alpha=1.0 if left_out else 0.55,
            )
    axes.set_xlim(-0.6, len(columns) - 0.4)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    slanted = sum(map(len, columns)) > 52
    axes.set_xticks(range(len(columns)), columns, rotation=30 if slanted else 0, ha="left" if slanted else "center")
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelsize=9)
    axes.grid(visible=False)
    for side in axes.spines.values():
        side.set_visible(False)


def _shared(report: Report) -> str:
    """Return what the views of a member share, as the step that shares it says; empty where nothing is.

    Of several networks not all need share it, and the report does not say which do: then nothing is marked.
    """
    if len(report["architectures"]) > 1 or len(report["views"]) < 2:
        return ""
    said = [step["reason"] for step in report["passes"] if step["status"] == "applied"]
    parts = [part.removeprefix("views share ") for reason in said for part in reason.split("; ") if _is_share(part)]
    return ", ".join(dict.fromkeys(parts))


def _is_share(part: str) -> bool:
    return part.startswith("views share ")


def _mark_shared(axes: Any, rows: int, columns: int, shared: str) -> None:
    """Draw a band through the branches of each member, and below them what it stands for."""
    for y in range(rows):
        axes.barh(y, columns, left=-0.5, height=0.9, color=ROLES["second"], alpha=0.3, zorder=0)
    axes.set_ylim(rows + 0.3, -0.6)
    words = "\n".join(wrap(f"the band: computed once for all views of a member ({shared})", 62))
    place = {"textcoords": "offset points", "va": "top", "fontsize": 8, "color": ROLES["second"]}
    axes.annotate(words, (-0.5, rows - 0.5), xytext=(0, -2), **place)


def _said(bars: Sequence[Bar]) -> list[str]:
    """Return under each bar what was done, wrapped to the picture's width."""
    return ["\n".join(wrap(reason, 58)) for _, _, reason in bars]


def _draw_work(axes: Any, bars: Sequence[Bar]) -> None:
    """Draw a bar for each step, with what it did below it."""
    top = max(value for _, value, _ in bars) or 1.0
    ticks, y = [], 0.0
    for row, ((_, value, _), said) in enumerate(zip(bars, _said(bars), strict=True)):
        last = row == len(bars) - 1
        axes.barh(y, value / 1e6, height=0.55, color=ROLES["first" if last else "muted"], alpha=0.9 if last else 0.4)
        place = {"textcoords": "offset points", "va": "center"}
        axes.annotate(f"{value / 1e6:,.2f} M", (value / 1e6, y), xytext=(4, 0), fontsize=9, **place)
        if said:
            below = {"textcoords": "offset points", "va": "top", "color": ROLES["muted"]}
            axes.annotate(said, (0, y + 0.3), xytext=(4, -1), fontsize=8, **below)
        ticks.append(y)
        y += 1.0 + LINE * len(said.splitlines())
    axes.set_xlim(0, 1.22 * top / 1e6)
    axes.set_yticks(ticks, ["\n".join(wrap(name, 18)) for name, _, _ in bars], fontsize=9)
    axes.set_ylim(y - 0.4, -0.6)
    axes.set_xlabel("multiply-adds per window, M")
    axes.grid(visible=False)
    axes.locator_params(axis="x", nbins=5)


def _networks(report: Report) -> str:
    return ", ".join(
        f"{one['members']} x {one['network']}"
        + (f" ({one['n_parameters']:,} parameters)" if one["n_parameters"] else "")
        for one in report["architectures"]
    )


def _branches(report: Report) -> str:
    total, gone = report["members"] * len(report["views"]), len(report["removed"])
    left = f", {gone} of them left out (they repeat another or weigh nothing)" if gone else ""
    return f"{total} branches{left}, merged by {report['merge']['kind']}"


def _caption(report: Report) -> str:
    before, after = report["nodes"]["before"], report["nodes"]["after"]
    return (
        f"{_networks(report)}, each on {len(report['views'])} views: {_branches(report)}. {before} nodes, now {after}."
    )


def _alt(report: Report, bars: Sequence[Bar]) -> str:
    steps = "; ".join(
        f"{name} {value / 1e6:,.2f} M" + (f" ({reason})" if reason else "") for name, value, reason in bars
    )
    views, shared = ", ".join(report["views"]), _shared(report)
    once = f" Views share {shared}: it is computed once for all views of a member." if shared else ""
    return f"{_networks(report)} x views {views}: {_branches(report)}.{once} Multiply-adds per window: {steps}."


def _step_rows(report: Report) -> list[tuple[Any, ...]]:
    """Return each step that was applied to the whole, with the multiply-adds after it where it changed them."""
    rows: list[tuple[Any, ...]] = [("one by one", f"{report['macs']['before'] / 1e6:,.2f}", "every branch by itself")]
    rows += [
        (
            f"{step['name']} ({step['subject']})" if step["subject"] else step["name"],
            f"{step['macs_after'] / 1e6:,.2f}" if step["macs_after"] != step["macs_before"] else None,
            step["reason"],
        )
        for step in report["passes"]
        if step["status"] == "applied"
    ]
    return [*rows, ("fused", f"{report['macs']['after'] / 1e6:,.2f}", "the whole graph")]
