"""What the demo ends with: one table, the zip, and a summary with the cost-against-accuracy picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.demo.notes import roughness, rounded
from rtserve.demo.settings import VIEWS, DemoSettings, Folder
from rtserve.demo.timing import EAGER, SESSIONS
from rtserve.measure.evaluation import Evaluation
from rtserve.measure.timing import Timings
from rtserve.tables import note_lines, wrapping_table

if TYPE_CHECKING:
    from rtserve.report.page import Section

__all__ = ["DemoOutcome", "Row", "make_rows", "write_summary"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table.

    Parameters
    ----------
    what : str
        Which model, or the constant.
    nrmse, low, high : float or None
        Score on the held-out windows with its interval.
    latency_us : float or None
        Median time of one window, one thread.
    ratio : float or None
        Time in units of the eager loop over all branches.
    rough : bool
        Whether the times are, and so are shown to two digits.
    """

    what: str
    nrmse: float | None = None
    low: float | None = None
    high: float | None = None
    latency_us: float | None = None
    ratio: float | None = None
    rough: bool = False

    def cells(self) -> dict[str, str]:
        """Return the row for a table of a page."""
        ends = f"[{self.low:.3f}, {self.high:.3f}]" if self.low is not None and self.high is not None else ""
        return {
            "model": self.what,
            "NRMSE": f"{self.nrmse:.3f}" if self.nrmse is not None else "",
            "95 % interval": ends,
            "us per window": self._time(self.latency_us, ",.0f"),
            "of the eager loop": self._time(self.ratio, ".3f"),
        }

    def _time(self, value: float | None, form: str) -> str:
        if not value:
            return ""
        return f"~{rounded(value)}" if self.rough and value != 1.0 else format(value, form)


@dataclass(frozen=True, kw_only=True)
class DemoOutcome:
    """Everything the demo found.

    Parameters
    ----------
    settings : DemoSettings
        Its size.
    rows : tuple of Row
        The table.
    facts : dict
        Digests, verdict, signatures, seconds per step.
    notes : tuple of str
        What a reader must know.
    zip, html, markdown : Path
        What was written.
    """

    settings: DemoSettings
    rows: tuple[Row, ...]
    facts: dict[str, Any]
    notes: tuple[str, ...]
    zip: Path
    html: Path
    markdown: Path

    def to_dict(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {
            "simulated": True,
            "settings": self.settings.to_dict(),
            "rows": [vars(row) for row in self.rows],
            "facts": self.facts,
            "notes": list(self.notes),
            "zip": str(self.zip),
            "summary": [str(self.html), str(self.markdown)],
        }

    def lines(self, width: int = 100) -> list[str]:
        """Return the table as text, the notes and the paths, for a terminal of so many columns."""
        notes = [line for note in self.notes for line in note_lines(f"note: {note}", width)]
        paths = [f"submission: {self.zip}", f"summary:    {self.html}", f"            {self.markdown}"]
        return ["", *wrapping_table([row.cells() for row in self.rows], width), "", *notes, "", *paths]


def make_rows(
    evaluations: dict[str, Evaluation], timings: Timings, *, c2: str, labels: dict[str, str]
) -> tuple[Row, ...]:
    """Join scores and times to the table, the constants first.

    Parameters
    ----------
    evaluations : dict of str to Evaluation
        Graph name to its score.
    timings : Timings
        Of the graphs of challenge 1 and the loops.
    c2 : str
        Name of challenge 2's graph, which was not timed.
    labels : dict of str to str
        Graph name to what the table calls it.
    """
    rows: list[Row] = []
    for name, evaluation in evaluations.items():
        score, constant = evaluation["nrmse"], evaluation.baseline[0]
        if name == c2 or not rows:
            rows.append(
                Row(what=f"C{2 if name == c2 else 1} constant (mean of y)", nrmse=constant.value if constant else None)
            )
        ends = score.interval
        timed = {} if name == c2 else _times(timings, name)
        rows.append(
            Row(
                what=labels[name],
                nrmse=score.value,
                low=ends.low if ends else None,
                high=ends.high if ends else None,
                **timed,
            )
        )
    loops = [Row(what=f"the same branches: {name}", **_times(timings, name)) for name in (EAGER, SESSIONS)]
    at = next(i for i, row in enumerate(rows) if row.what.startswith("C2"))
    return (*rows[:at], *loops, *rows[at:])


def _times(timings: Timings, name: str) -> dict[str, Any]:
    rough = bool(roughness(timings, name, EAGER))
    return {"latency_us": timings.median_us(name), "ratio": timings.ratio(name, EAGER)[0], "rough": rough}


def write_summary(
    folder: Folder,
    settings: DemoSettings,
    rows: tuple[Row, ...],
    notes: tuple[str, ...],
    timings: Timings,
    *,
    sections: Sequence[Section] = (),
) -> tuple[Path, Path]:
    """Write the summary with further `sections` as HTML and Markdown; return both paths."""
    from rtserve.measure.results import environment
    from rtserve.report.figures import Point, cost_accuracy
    from rtserve.report.page import render_summary

    points = [
        Point(
            label=row.what.removeprefix("C1 "), cost=row.latency_us, value=row.nrmse, low=row.low, high=row.high,
            chosen="views" in row.what,
        )
        for row in rows
        if row.latency_us is not None and row.nrmse is not None
    ]  # fmt: skip
    constant = next(row.nrmse for row in rows if "constant" in row.what)
    html, markdown = folder.root / "summary.html", folder.root / "summary.md"
    n_branches = len(settings.seeds) * len(VIEWS)
    render_summary(
        [row.cells() for row in rows],
        title="rtserve demo",
        figures=[cost_accuracy(points, baseline=constant, metric_label="NRMSE on held-out subjects (simulated)")],
        output_html=html,
        output_md=markdown,
        lead=[
            f"{len(settings.seeds)} members x {len(VIEWS)} views = {n_branches} branches of CompactRT, trained on simulated"
            f" windows with a planted r of {settings.r1:g} (C1), and one member at r = {settings.r2:g} (C2).",
            f"Times are of one window at batch 1 on one thread, by turns in one run ({len(timings.rounds)} rounds).",
        ],
        notes=notes,
        sections=sections,
        environment=environment(threads=1),
        force=True,
    )
    return html, markdown
