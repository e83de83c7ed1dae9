"""A whole report from results, runs and zips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rtserve.errors import InputError
from rtserve.files import check_writable
from rtserve.report import sections
from rtserve.report.attempts import attempts_section, judge
from rtserve.report.classes import class_sections
from rtserve.report.collect import Material, collect, load_causes
from rtserve.report.cost import cost_section
from rtserve.report.fusion_picture import fusion_section
from rtserve.report.graphs import graph_section
from rtserve.report.leaderboard import load_leaderboard
from rtserve.report.page import Page, Section, Table, write_html, write_markdown
from rtserve.report.settings import settings_section
from rtserve.report.stored import interval_text
from rtserve.report.streams import stream_section
from rtserve.stages import Tell

__all__ = ["make_page", "page_of", "write_report"]

LEAD = 6
"""Most sentences before the first section."""


def make_page(
    paths: Sequence[str | Path],
    *,
    title: str = "What the networks are worth, and what they cost",
    leaderboard: str | Path | None = None,
    column: str | None = None,
    score: float | None = None,
    higher_is_better: bool = False,
    causes: str | Path | None = None,
    progress: Tell | None = None,
) -> Page:
    """Put a report together.

    Parameters
    ----------
    paths : sequence of path
        Results (.json), run folders, checkpoints, graphs, zips, or folders of them.
    title : str
        Heading.
    leaderboard, column, score, higher_is_better
        A leaderboard file, its column of scores, the score to place on it (that of an overall result by default), and
        its direction.
    causes : path, optional
        What was found to be the cause of each attempt; see `rtserve.report.collect.load_causes`.
    progress : callable, optional
        As `collect` calls it.

    Raises
    ------
    InputError
        Where something cannot be read.
    BundleError
        Where a zip is named beside results of other graphs.
    """
    return page_of(
        collect(paths, progress=progress),
        title=title,
        leaderboard=leaderboard,
        column=column,
        score=score,
        higher_is_better=higher_is_better,
        causes=causes,
    )


def page_of(
    material: Material,
    *,
    title: str,
    leaderboard: str | Path | None = None,
    column: str | None = None,
    score: float | None = None,
    higher_is_better: bool = False,
    causes: str | Path | None = None,
) -> Page:
    """Put a report together from what was read; parameters and errors as `make_page`."""
    known = load_causes(causes) if causes else {}
    judged = judge(material.sides, material.evaluations)
    parts: list[Section | None] = []
    if leaderboard is not None:
        parts.append(_standing_section(material, leaderboard, column, score, higher_is_better))
    parts.append(cost_section(material.evaluations, material.benches, material.searches, material.fusions))
    parts.append(graph_section(material, judged))
    if material.evaluations:
        parts.append(sections.score_section(material.evaluations, material.overalls, judged.notes()))
    parts += sections.branch_sections(material.evaluations)
    parts.append(fusion_section(material.fusions, material.sides))
    parts.append(sections.latency_section(material.benches))
    parts.append(stream_section(material.benches, material.streams))
    parts += class_sections(material.evaluations)
    parts.append(sections.prediction_section(material.evaluations))
    parts.append(attempts_section(judged, known))
    parts.append(sections.comparison_section(material.comparisons))
    parts.append(settings_section(material.sides))
    if material.notes:
        parts.append(Section(title="Left out, or not of one piece", notes=tuple(material.notes)))
    documents = [*material.evaluations, *material.benches, *material.searches]
    parts += sections.environment_section(documents, material.sides)
    return Page(title=title, lead=tuple(_lead(material)), sections=tuple(part for part in parts if part))


def write_report(
    paths: Sequence[str | Path], outputs: Sequence[str | Path], *, force: bool = False, **options: object
) -> list[Path]:
    """Write a report as HTML or Markdown, by the endings of `outputs`.

    Raises
    ------
    InputError
        As `make_page`, or where an output has another ending or may not be written.
    """
    files = [Path(output) for output in outputs]
    for file in files:
        if file.suffix not in (".html", ".md"):
            raise InputError(f"{file.name} is neither .html nor .md", hint="name the report so")
        check_writable(file, force=force)
    page = make_page(paths, **options)  # type: ignore[arg-type]
    written: list[Path] = []
    for file in files:
        done = (
            [write_html(page, file, force=force)] if file.suffix == ".html" else write_markdown(page, file, force=force)
        )
        written += done
    return written


def _lead(material: Material) -> list[str]:
    """Return the findings in sentences, the most important first."""
    out = []
    for name, document in material.overalls:
        ends = interval_text(document["interval"])
        out.append(f"{name}: overall {document['overall']:.5f} {ends}; a constant scores {document['constant']:.5f}.")
    for _, document in material.searches:
        out.append(
            f"Search: {document['nested']['gain']['sentence']} against the best single member, on held-out subjects."
        )
    for name, document in material.evaluations:
        score, constant = document["scores"][0], document["baseline"][0]
        beside = f"; a constant scores {constant['value']:.4f}" if constant else ""
        ends = interval_text(score["interval"])
        count = f"{document['n_windows']} windows"
        count += f", as {document['n_cases']} by {document['agg']}" if "agg" in document else ""
        out.append(f"{name}: {score['metric']} {score['value']:.4f} {ends} on {count}{beside}.")
    for _, document in material.benches:
        first = document["contenders"][0]["name"]
        for contender in document["contenders"][1:]:
            ratio = contender["ratio"]
            apart = "" if ratio["different"] else ", which is not told apart from 1"
            loop = f"{contender['loop']} runs of " if contender["loop"] > 1 else ""
            out.append(
                f"{first} takes {ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}] of the time of"
                f" {loop}{contender['name']} (batch {document['batch']}, {document['threads']} thread){apart}."
            )
    if len(out) > LEAD:
        return [*out[:LEAD], f"And {len(out) - LEAD} more below."]
    return out


def _standing_section(
    material: Material, path: str | Path, column: str | None, score: float | None, higher_is_better: bool
) -> Section:
    board = load_leaderboard(path, column=column, higher_is_better=higher_is_better)
    if score is None:
        if not material.overalls:
            raise InputError("no score to place on the leaderboard", hint="pass --score, or an overall result")
        score = float(material.overalls[0][1]["overall"])
    standing = board.standing(score)
    row = {
        "score": score,
        "rank": standing.rank,
        "of": standing.of,
        "next better": standing.ahead,
        "next worse": standing.behind,
        "best": standing.best,
    }
    skipped: tuple[str, ...] = (f"{board.skipped} rows of the leaderboard have no number",) if board.skipped else ()
    skipped += board.notes
    return Section(title="Leaderboard", text=(standing.sentence() + ".",), tables=(Table.of([row]),), notes=skipped)
