"""An index over many runs: a page for each, and one that lists what each has found, with links."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtserve.errors import InputError, RtserveError
from rtserve.files import check_writable
from rtserve.measure.metrics import metric_of
from rtserve.measure.signature import Signature
from rtserve.report.attempts import attempts_section, judge
from rtserve.report.build import page_of
from rtserve.report.collect import Material, collect
from rtserve.report.intake import is_run
from rtserve.report.page import Link, Page, Section, Table, write_html, write_markdown
from rtserve.stages import Stages, Tell

__all__ = ["write_index"]


def write_index(
    paths: Sequence[str | Path],
    output: str | Path,
    *,
    title: str = "Runs side by side",
    force: bool = False,
    progress: Tell | None = None,
) -> list[Path]:
    """Write a page for each of `paths` and an index of them.

    Parameters
    ----------
    paths : sequence of path
        Each becomes a page; of one folder that is no run, each folder in it.
    output : path
        The index (.html or .md); the pages lie beside it and are called as what they are about.
    title : str
        Heading of the index.
    force : bool
        Replace existing files.
    progress : callable, optional
        Called with (runs done, runs in all, which is being read).

    Returns
    -------
    list of Path
        The index first.

    Raises
    ------
    InputError
        As `rtserve.report.collect.collect`, where two would have one name, or a file may not be written.
    """
    output = Path(output)
    if output.suffix not in (".html", ".md"):
        raise InputError(f"{output.name} is neither .html nor .md", hint="name the index so")
    found, notes = _materials(paths, Stages(progress))
    files = {name: output.with_name(f"{name}{output.suffix}") for name in found}
    if output.stem in found:
        raise InputError(
            f"index and page of {output.stem} would both be {output.name}",
            hint="name the index otherwise, e.g. index.html",
        )
    for file in (output, *files.values()):
        check_writable(file, force=force)
    rows = [_row(name, files[name].name, material) for name, material in found.items()]
    notes.append("the best of several is chosen by its score: what it shows is its corrected p")
    notes += ["verdicts and p are corrected within each page, not across pages"] * (len(rows) > 1)
    index = Page(title=title, sections=(Section(title="Reports", tables=(Table.of(rows),), notes=tuple(notes)),))
    written = _write(index, output, force)
    for name, material in found.items():
        written += _write(page_of(material, title=name), files[name], force)
    return written


def _write(page: Page, path: Path, force: bool) -> list[Path]:
    return [write_html(page, path, force=force)] if path.suffix == ".html" else write_markdown(page, path, force=force)


def _materials(paths: Sequence[str | Path], stages: Stages) -> tuple[dict[str, Material], list[str]]:
    """Return what each page is made of by name, and why a folder that was found in another has none."""
    given = [Path(path) for path in paths]
    searched = len(given) == 1 and given[0].is_dir() and not is_run(given[0])
    inside = [p for p in sorted(given[0].iterdir()) if p.is_dir() and p.name[:1] != "."] if searched else []
    found: dict[str, Material] = {}
    notes = []
    stages.expect(len(inside or given))
    for path in inside or given:
        name = path.resolve().name if path.is_dir() else path.stem
        if name in found:
            raise InputError(f"two of what was named are called {name}", hint="rename one, or name the folder of both")
        stages.begin(name)
        try:
            found[name] = collect([path])
        except RtserveError as error:
            if not inside:
                raise
            notes.append(f"{name} has no page: {error.message}")
    if not found:
        raise InputError(f"nothing in {given[0].name} can be reported: {'; '.join(notes)}", hint="name runs or results")
    return found, notes


def _row(name: str, href: str, material: Material) -> dict[str, Any]:
    """Return the best attempt of a page, of those that are measured as its first, and its fastest graph."""
    attempts = attempts_section(judge(material.sides, material.evaluations), {})
    table = attempts.tables[0] if attempts else None
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows] if table else []
    best = _best([row for row in rows if row["value"] is not None])
    times = [
        (contender["latency_us"]["p50"], contender["name"])
        for _, document in material.benches
        for contender in document["contenders"]
        if contender["loop"] == 1 and contender["latency_us"]["p50"]
    ]
    return {
        "report": Link(text=name, href=href),
        "attempts": len(rows),
        "best": best.get("version"),
        "metric": str(best["metric"]).partition("|")[0] if best else None,
        "value": best.get("value"),
        "verdict": best.get("verdict"),
        "p": best.get("p"),
        "measured on": _data(best),
        "fastest graph, us per window": "{:,.4g} ({})".format(*min(times)) if times else None,
        "left out": len(material.notes) or None,
    }


def _best(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    if not rows:
        return {}
    alike = [row for row in rows if row["metric"] == rows[0]["metric"]]
    signed = "|" in str(rows[0]["metric"])
    metric = metric_of(Signature.parse(rows[0]["metric"])) if signed else None
    if metric is None:
        return alike[0]
    return (max if metric.higher_is_better else min)(alike, key=lambda row: row["value"])


def _data(best: Mapping[str, Any]) -> str | None:
    """Return the windows of a signature: numbers of two pages are of one kind where these are the same."""
    parts = dict(part.partition(":")[::2] for part in str(best.get("metric", "")).split("|"))
    return f"{parts['n']} windows, {parts['data']}" if {"n", "data"} <= parts.keys() else None
