"""Where a score stands on a leaderboard file.

Files come as people save them: with a byte-order mark, lines of talk before the head, decimal commas, percent, a rank
behind the score. What a cell means is decided for the whole column; a cell that then is no number is named by its line
and refused, but for what plainly says that there is none.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.files import readable_file
from rtserve.signals.decimals import Commas, commas_of

__all__ = ["Leaderboard", "Standing", "load_leaderboard"]

_NONE = ("", "-", "--", "n/a", "na", "nan", "none", "null", "tbd", "dnf")
"""What people write where an entry has no score."""
_CELL = re.compile(r"^([-+]?(?:\d[\d.,' \u00a0]*|[.,]\d+)(?:[eE][-+]?\d+)?)\s*(%?)\s*(?:\(.*\)|\*+|#\d+)?$")
"""A number, perhaps in percent, perhaps followed by a rank in brackets as Codabench shows it."""
_NEWLINE = re.compile(r"\r\n|\r|\n")
"""What ends a line: a form feed or another separator that `str.splitlines` knows may stand in a name."""
SCORES = ("overall", "score", "overall_score", "final", "nrmse", "value")
NAMES = ("team", "name", "participant", "user", "entry")


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A score's place.

    Parameters
    ----------
    score : float
        The score.
    rank, of : int
        1 is the best; `of` counts the score itself.
    ties : int
        Entries of the leaderboard with the same score.
    best : float
        The best entry.
    ahead, behind : str
        The nearest entries, with their scores; empty at either end.
    """

    score: float
    rank: int
    of: int
    ties: int
    best: float
    ahead: str
    behind: str

    def sentence(self) -> str:
        """Return the place in words."""
        tied = f", level with {self.ties}" if self.ties else ""
        return f"{self.score:.5g} would be rank {self.rank} of {self.of}{tied}; the best entry has {self.best:.5g}"


@dataclass(frozen=True, kw_only=True)
class Leaderboard:
    """Scores with names, best first.

    Parameters
    ----------
    entries : tuple of (str, float)
        Name and score.
    higher_is_better : bool
        Direction.
    skipped : int
        Rows that say they have no score.
    notes : tuple of str
        How cells were read that are no plain numbers.
    """

    entries: tuple[tuple[str, float], ...]
    higher_is_better: bool = False
    skipped: int = 0
    notes: tuple[str, ...] = ()

    def standing(self, score: float) -> Standing:
        """Return where `score` would stand, the better of equals being counted ahead of nobody.

        Raises
        ------
        InputError
            Where the score is not finite.
        """
        if not math.isfinite(score):
            raise InputError(f"a score of {score} has no rank", hint="give a finite score")
        sign = -1.0 if self.higher_is_better else 1.0
        better = [e for e in self.entries if sign * e[1] < sign * score]
        worse = [e for e in self.entries if sign * e[1] > sign * score]
        return Standing(
            score=score,
            rank=len(better) + 1,
            of=len(self.entries) + 1,
            ties=len(self.entries) - len(better) - len(worse),
            best=self.entries[0][1],
            ahead=_text(better[-1:]),
            behind=_text(worse[:1]),
        )


def _text(entries: Sequence[tuple[str, float]]) -> str:
    return "".join(f"{name} {score:.5g}" for name, score in entries)


def load_leaderboard(path: str | Path, *, column: str | None = None, higher_is_better: bool = False) -> Leaderboard:
    """Read a leaderboard: CSV with a head, or JSON (a list of rows or numbers, or name to score).

    Parameters
    ----------
    path : path
        A .csv, .tsv or .json file.
    column : str, optional
        Where the score is; by default the first of overall, score, ... that exists.
    higher_is_better : bool
        Direction.

    Raises
    ------
    InputError
        Where it cannot be read, has no such column, no score, or a cell that is no number (its line is named).
    """
    path = readable_file(path, "leaderboard")
    wanted = (column,) if column else SCORES
    try:
        text = _decoded(path.read_bytes())
        delimiter, rows = _read_json(text) if path.suffix == ".json" else _csv_rows(text, wanted)
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is no leaderboard ({error})", hint="give a CSV with a head, or JSON") from None
    if not rows:
        raise InputError(f"{path} is no leaderboard (it has a head and no row)", hint="give a CSV with a head, or JSON")
    keys = list(dict.fromkeys(key for row in rows for key in row if key != _LINE))
    scored = _find(keys, wanted)
    if scored is None:
        asked = repr(column) if column else "score"
        raise InputError(f"{path} has no column {asked}; it has {', '.join(keys) or 'nothing'}", hint="pass --column")
    named = _find(keys, NAMES)
    lines = [int(row.get(_LINE, k)) for k, row in enumerate(rows, start=1)]
    scores, notes = _scores([row.get(scored) for row in rows], lines, path, scored, delimiter == ";")
    names = [str(row.get(named, "")).strip() if named else "" for row in rows]
    kept = [
        (name or f"entry {k}", score)
        for k, (name, score) in enumerate(zip(names, scores, strict=True), start=1)
        if score is not None
    ]
    if not kept:
        raise InputError(f"no row of {path} has a number in {scored}", hint="pass --column")
    kept.sort(key=lambda entry: -entry[1] if higher_is_better else entry[1])
    return Leaderboard(
        entries=tuple(kept), higher_is_better=higher_is_better, skipped=len(rows) - len(kept), notes=notes
    )


def _decoded(data: bytes) -> str:
    """Return the text of a file: UTF-16 where it has that mark, else UTF-8 with or without one, else Latin-1."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in data:
            raise
        return data.decode("latin-1")


def _csv_rows(text: str, wanted: Sequence[str]) -> tuple[str, list[dict[str, Any]]]:
    """Return what separates cells, and the rows, each with its own line; talk before the head is passed over.

    The head is the first line with a column that is wanted, else the first line that is no comment.
    """
    lines = _NEWLINE.split(text)
    plain = [k for k, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")]
    heads = [k for k in plain if _find(_cells(lines[k]), wanted)]
    if not plain:
        raise ValueError("it is empty")
    head = (heads or plain)[0]
    delimiter = _delimiter(lines[head])
    reader = csv.reader(io.StringIO("\n".join(lines[head:])), delimiter=delimiter, skipinitialspace=True)
    keys = [key.strip() for key in next(reader)]
    _once([(key, None) for key in keys if _find([key], (*wanted, *NAMES))])
    rows, scored = [], _find(keys, wanted)
    for cells in reader:
        if not any(cell.strip() for cell in cells):
            continue
        line = head + reader.line_num
        if cells[0].lstrip().startswith("#") and not lines[line - 1].lstrip().startswith('"'):
            _require_comment(cells[keys.index(scored) :] if scored else [], line)
            continue
        if len(cells) > len(keys) and any(cell.strip() for cell in cells[len(keys) :]):
            raise ValueError(f"line {line} has {len(cells)} cells under {len(keys)} columns")
        rows.append(dict(zip(keys, cells, strict=False)) | {_LINE: line})
    return delimiter, rows


def _require_comment(rest: Sequence[str], line: int) -> None:
    """Raise `ValueError` where a line that begins with # has a score: a team may be called so."""
    if rest and _CELL.match(rest[0].strip()):
        raise ValueError(
            f"line {line} begins with # and has {rest[0].strip()!r} where scores are: take it out if it is a comment, put"
            " the name in quotes if it is an entry"
        )


def _once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Return pairs as a dict; `ValueError` where two have one key, of which the later would hide the earlier."""
    seen: dict[str, Any] = {}
    for key, value in pairs:
        if key in seen:
            raise ValueError(f"{key!r} stands in it twice")
        seen[key] = value
    return seen


_LINE = "\0line"


def _delimiter(line: str) -> str:
    return max(",;\t|", key=line.count)


def _cells(line: str) -> list[str]:
    return [cell.strip().strip('"') for cell in line.split(_delimiter(line))]


def _scores(
    cells: Sequence[Any], lines: Sequence[int], path: Path, column: str, semicolons: bool
) -> tuple[list[float | None], tuple[str, ...]]:
    """Return the number of each cell, None for one that says there is none, and how they were read.

    Raises
    ------
    InputError
        Where a cell is no number, or a comma may be a decimal one as well as one of thousands.
    """
    texts = ["" if cell is None else str(cell).strip().replace("\N{MINUS SIGN}", "-") for cell in cells]
    found: list[tuple[str, bool] | None] = []
    for text, line in zip(texts, lines, strict=True):
        match = None if text.lower() in _NONE else _CELL.match(text)
        if match is None and text.lower() not in _NONE:
            raise InputError(
                f"line {line} of {path} has {text!r} in {column}, which is no number",
                hint="mend that cell, or pass --column for another column",
            )
        found.append((re.sub("[' \u00a0]", "", match[1]), bool(match[2])) if match else None)
    commas = commas_of([pair[0] for pair in found if pair], f"{column} of {path}", semicolons=semicolons)
    values = [None if pair is None else _value(pair, commas) for pair in found]
    for value, line, text in zip(values, lines, texts, strict=True):
        if value is not None and not math.isfinite(value):
            raise InputError(
                f"line {line} of {path} has {text!r} in {column}, which is no number", hint="mend that cell"
            )
    percent = sum(pair[1] for pair in found if pair)
    if percent and percent < sum(pair is not None for pair in found):
        raise InputError(f"{column} of {path} mixes percent with plain numbers", hint="write all of them in one way")
    notes = [commas.note(column)] if commas.seen else []
    notes += [f"{column} is in percent: 95% is read as 0.95"] if percent else []
    return values, tuple(notes)


def _value(pair: tuple[str, bool], commas: Commas) -> float:
    text, percent = pair
    try:
        number = float(commas.plain(text))
    except ValueError:
        return math.nan
    return number / 100 if percent else number


def _read_json(text: str) -> tuple[str, list[dict[str, Any]]]:
    return "", _json_rows(json.loads(text, object_pairs_hook=_once))


def _json_rows(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, Mapping):
        lists = [v for v in value.values() if isinstance(v, list)]
        if len(lists) == 1:
            return _json_rows(lists[0])
        return [{"name": name, "score": score} for name, score in value.items()]
    if not isinstance(value, list):
        raise ValueError(f"a {type(value).__name__}")
    return [dict(row) if isinstance(row, Mapping) else {"score": row} for row in value]


def _find(keys: Sequence[str], wanted: Sequence[str]) -> str | None:
    by_lower = {key.strip().lower(): key for key in keys} | {key: key for key in keys}
    return next((by_lower[k] for w in wanted for k in (w, w.lower()) if k in by_lower), None)
