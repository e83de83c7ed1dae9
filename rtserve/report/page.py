"""A report as one self-contained HTML page and as Markdown, from the same sections.

The page needs no network, follows the reader's light or dark setting, fits a phone, and has words and a table behind
every picture. Same sections, same bytes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rtserve.files import write_bytes
from rtserve.report.figures import Figure
from rtserve.report.svg import DARK, LIGHT, standalone

__all__ = ["Link", "Page", "Section", "Table", "render_summary", "write_html", "write_markdown"]


@dataclass(frozen=True, kw_only=True)
class Link:
    """A cell that leads to another page: what it says, and the file's name beside this one."""

    text: str
    href: str

    def __str__(self) -> str:
        """Return what the cell says."""
        return self.text


@dataclass(frozen=True, kw_only=True)
class Table:
    """Columns and rows; a cell may be text, a number, None (shown as a dash) or a bool."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    caption: str = ""

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Any]], *, caption: str = "") -> Table:
        """Return a table of mappings: the columns in the order in which they first appear."""
        columns = tuple(dict.fromkeys(key for row in rows for key in row))
        return cls(columns=columns, rows=tuple(tuple(row.get(c) for c in columns) for row in rows), caption=caption)


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the page: text, tables, pictures, notes.

    Parameters
    ----------
    title : str
        Heading.
    text : tuple of str
        Paragraphs.
    tables, figures : tuple
        In this order.
    notes : tuple of str
        What a reader must know before believing the numbers.
    folded : bool
        Closed at first: for what only some look up.
    """

    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    folded: bool = False


@dataclass(frozen=True, kw_only=True)
class Page:
    """A whole report.

    Parameters
    ----------
    title : str
        Heading.
    lead : tuple of str
        Paragraphs that say what was found, before anything else.
    sections : tuple of Section
        In order.
    """

    title: str
    lead: tuple[str, ...] = ()
    sections: tuple[Section, ...] = ()


def cell(value: Any) -> str:
    """Return a table cell as text: four significant digits for a float, a dash for nothing."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1e4 else f"{value:.4g}"
    return str(value)


def short(text: str) -> str:
    """Return text with each SHA-256 in it cut to its first twelve digits, which tell files apart."""
    return re.sub(r"\b([0-9a-f]{12})[0-9a-f]{52}\b", r"\1", text)


def breakable(text: str) -> Any:
    """Return escaped text that a browser may break after the bars of a signature, and not within an interval."""
    from markupsafe import Markup, escape

    parts = re.split(r"(\[[-+.,e\d ]{3,32}\])", text)
    return Markup("").join(
        Markup('<span class="k">{}</span>').format(part)
        if k % 2
        else Markup("|<wbr>").join(escape(piece) for piece in part.split("|"))
        for k, part in enumerate(parts)
    )


def _markdown_cell(value: Any) -> str:
    said = cell(value).replace("|", "\\|").replace("\n", " ")
    return f"[{said}]({quote(value.href)})" if isinstance(value, Link) else said


def _environment() -> Any:
    import jinja2

    loader = jinja2.PackageLoader("rtserve.report", "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=jinja2.select_autoescape(["html.j2"]), trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["cell"] = cell
    environment.filters["short"] = short
    environment.filters["breakable"] = breakable
    environment.filters["numeric"] = lambda value: isinstance(value, int | float) and not isinstance(value, bool)
    environment.filters["address"] = lambda value: quote(value.href) if isinstance(value, Link) else ""
    environment.filters["md"] = _markdown_cell
    return environment


def render_html(page: Page) -> str:
    """Return the page as HTML without any reference to the outside."""
    template = _environment().get_template("page.html.j2")
    return str(template.render(page=page, light=LIGHT, dark=DARK))


def write_html(page: Page, path: str | Path, *, force: bool = False) -> Path:
    """Write the page as one HTML file."""
    return write_bytes(path, render_html(page).encode(), force=force)


def write_markdown(page: Page, path: str | Path, *, force: bool = False) -> list[Path]:
    """Write the page as Markdown; its pictures become ``NAME-1.svg``, ``NAME-2.svg``, ... beside it.

    Returns
    -------
    list of Path
        The Markdown file first, then its pictures.
    """
    path = Path(path)
    figures = [figure for section in page.sections for figure in section.figures]
    names = {id(figure): f"{path.stem}-{k}.svg" for k, figure in enumerate(figures, start=1)}
    written = [
        write_bytes(path.parent / names[id(figure)], standalone(figure.svg).encode(), force=force) for figure in figures
    ]
    template = _environment().get_template("page.md.j2")
    text = template.render(page=page, picture=lambda figure: names[id(figure)])
    return [write_bytes(path, text.encode(), force=force), *written]


def render_summary(
    rows: Sequence[Mapping[str, Any]],
    *,
    title: str,
    figures: Sequence[Figure] = (),
    output_html: str | Path | None = None,
    output_md: str | Path | None = None,
    lead: Sequence[str] = (),
    notes: Sequence[str] = (),
    sections: Sequence[Section] = (),
    environment: Mapping[str, Any] | None = None,
    force: bool = False,
) -> Page:
    """Write a summary of one table, some pictures and further parts as HTML and Markdown.

    Parameters
    ----------
    rows : sequence of mapping
        The table: column to value, e.g. ``{"what": "single member", "NRMSE": 0.912, "us per window": 118.0}``.
    title : str
        Heading.
    figures : sequence of Figure
        From `rtserve.report.figures`.
    output_html, output_md : path, optional
        Where to write; one, both or none.
    lead, notes : sequence of str
        Paragraphs before the table, warnings after it.
    sections : sequence of Section
        Further parts of the page, after the table and its pictures.
    environment : mapping, optional
        From `rtserve.measure.results.environment`; shown folded.
    force : bool
        Replace existing files.

    Returns
    -------
    Page
        What was written.
    """
    first = Section(title="Results", tables=(Table.of(rows),), figures=tuple(figures), notes=tuple(notes))
    parts = [first, *sections]
    if environment:
        parts.append(Section(title="Environment", tables=(environment_table(environment),), folded=True))
    page = Page(title=title, lead=tuple(lead), sections=tuple(parts))
    if output_html is not None:
        write_html(page, output_html, force=force)
    if output_md is not None:
        write_markdown(page, output_md, force=force)
    return page


def environment_table(environment: Mapping[str, Any]) -> Table:
    """Return an environment as two columns, package versions in one row each."""
    rows: list[tuple[Any, ...]] = []
    for key, value in environment.items():
        if isinstance(value, Mapping):
            rows += [(name, str(entry)) for name, entry in value.items()]
        else:
            rows.append((key, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)))
    return Table(columns=("what", "value"), rows=tuple(rows))
