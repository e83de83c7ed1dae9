"""What participants.tsv says of each subject, data set by data set: a number, or a category."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from rtserve.errors import InputError
from rtserve.signals.decimals import Commas, commas_of, has_comma
from rtserve.signals.derived import home_of
from rtserve.signals.tables import Table, is_empty, plain_number, read_table

__all__ = ["Values", "read_participants"]


@dataclass(frozen=True, kw_only=True)
class Values:
    """A column of participants.tsv.

    Parameters
    ----------
    by_subject : dict of str to float or str
        Numbers where every value is one, else categories; subjects without a value are absent.
    categorical : bool
        Which of the two.
    notes : tuple of str
        What was assumed in reading the tables.
    """

    by_subject: dict[str, float | str]
    categorical: bool
    notes: tuple[str, ...] = ()


def read_participants(
    roots: Iterable[tuple[str, Path, str]],
    column: str,
    *,
    categorical: bool = False,
    meant: Callable[[str], bool] | None = None,
) -> Values:
    """Match recordings with the participants.tsv of their own data set.

    Parameters
    ----------
    roots : iterable of (subject, root, bare)
        A subject as it is called here, the folder of its data set, and its id there, with or without ``sub-``.
    column : str
        Of the tables.
    categorical : bool
        Take values for categories although all are numbers.
    meant : callable, optional
        Whether a text is a value although it could stand for none, since the user names it.

    Raises
    ------
    InputError
        Where a table or the column is missing, a subject has two values, numbers and words are mixed, or no subject
        is in its table.
    """
    tables: dict[Path, dict[str, tuple[str, str]]] = {}
    read: dict[Path, Table] = {}
    notes: list[str] = []
    found: dict[str, tuple[str, str]] = {}
    home: dict[str, Path] = {}
    asked = sorted(set(roots), key=str)
    for subject, root, bare in asked:
        if root not in tables:
            table = read[root] = _table(root, column)
            tables[root], notes = _column(table, column), notes + [f"{root.name}: {note}" for note in table.notes]
        cell = tables[root].get(_id(bare))
        if cell is not None:
            found[subject], home[subject] = cell, root
    for root, cells in tables.items():
        _require_some(root, cells, [bare for _, place, bare in asked if place == root])
    present = {subject: cell for subject, cell in found.items() if not is_empty(cell[0]) or (meant and meant(cell[0]))}
    texts = {text for text, _ in present.values()}
    numeric = not categorical and any(plain_number(text) is not None or has_comma(text) for text in texts)
    commas = {root: _commas(table, column) for root, table in read.items()} if numeric else {}
    notes += [f"{root.name}: {note}" for root, some in commas.items() if (note := some.note(column))]
    values = {s: _finite(cell, column, commas[home[s]]) if numeric else cell[0] for s, cell in present.items()}
    return Values(by_subject=values, categorical=not numeric, notes=tuple(notes))


def _table(root: Path, column: str) -> Table:
    path = root / "participants.tsv"
    if not path.exists():  # a derivative may leave it to the data set that it is made from
        path = home_of(root) / "participants.tsv"
    if not path.exists():
        raise InputError(
            f"{root} has no participants.tsv, where {column!r} would stand",
            hint="a subject's target comes from there; --target response_time takes it from events",
        )
    table = read_table(path, what="participants table")
    if column not in table.columns or "participant_id" not in table.columns:
        missing = column if "participant_id" in table.columns else "participant_id"
        raise InputError(f"{path} has no column {missing}", hint=f"it has {', '.join(table.columns) or 'nothing'}")
    return table


def _column(table: Table, column: str) -> dict[str, tuple[str, str]]:
    """Return id to (text, where it stands)."""
    path, cells = table.path, dict[str, tuple[str, str]]()
    for row, line in zip(table.rows, table.lines, strict=True):
        key, text = _id(row["participant_id"]), row[column]
        if key in cells and cells[key][0] != text:
            raise InputError(
                f"{path}, line {line}: {row['participant_id']} has {column} {text!r}, and {cells[key][0]!r} above",
                hint="one value per subject; remove the wrong row",
            )
        cells.setdefault(key, (text, f"{path}, line {line}"))
    return cells


def _id(text: str) -> str:
    return text.strip().removeprefix("sub-")


def _require_some(root: Path, cells: dict[str, tuple[str, str]], asked: list[str]) -> None:
    """Refuse a table in which none of the recordings' subjects stands, e.g. since it lost its leading zeros."""
    if cells and not any(_id(bare) in cells for bare in asked):
        raise InputError(
            f"{root / 'participants.tsv'} has none of the subjects of its recordings: it has {next(iter(cells))!r},"
            f" the recordings {_id(asked[0])!r}",
            hint="participant_id must be the id in the files' names; did a spreadsheet drop leading zeros?",
        )


def _commas(table: Table, column: str) -> Commas:
    return commas_of(table.column(column), f"column {column} of {table.path}", semicolons=table.separator == ";")


def _finite(cell: tuple[str, str], column: str, commas: Commas) -> float:
    number = plain_number(commas.plain(cell[0]))
    if number is None or not math.isfinite(number):
        raise InputError(
            f"{cell[1]}: {column} {cell[0]!r} is no number that can be used, and other values are numbers",
            hint="write n/a where there is none",
        )
    return number
