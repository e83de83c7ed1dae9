"""Where a score stands on a leaderboard file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.files import readable_file

__all__ = ["Leaderboard", "Standing", "load_leaderboard"]

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
        Rows without a number.
    """

    entries: tuple[tuple[str, float], ...]
    higher_is_better: bool = False
    skipped: int = 0

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
        Where it cannot be read, has no such column, or no score.
    """
    path = readable_file(path, "leaderboard")
    try:
        text = path.read_text(encoding="utf-8-sig")
        rows = _json_rows(json.loads(text)) if path.suffix == ".json" else _csv_rows(text)
    except (ValueError, csv.Error) as error:
        raise InputError(f"{path} is no leaderboard ({error})", hint="give a CSV with a head, or JSON") from None
    keys = list(dict.fromkeys(key for row in rows for key in row))
    scored = _find(keys, (column,) if column else SCORES)
    if scored is None:
        wanted = repr(column) if column else "score"
        raise InputError(f"{path} has no column {wanted}; it has {', '.join(keys) or 'nothing'}", hint="pass --column")
    named = _find(keys, NAMES)
    entries = [(str(row.get(named, "")) if named else "", _number(row.get(scored))) for row in rows]
    kept = [(name or f"entry {k}", score) for k, (name, score) in enumerate(entries, start=1) if score is not None]
    if not kept:
        raise InputError(f"no row of {path} has a number in {scored}", hint="pass --column")
    kept.sort(key=lambda entry: -entry[1] if higher_is_better else entry[1])
    return Leaderboard(entries=tuple(kept), higher_is_better=higher_is_better, skipped=len(rows) - len(kept))


def _csv_rows(text: str) -> list[dict[str, Any]]:
    first = text.partition("\n")[0]
    delimiter = max(",;\t", key=first.count)
    return [
        {k: v for k, v in row.items() if k is not None}
        for row in csv.DictReader(io.StringIO(text), delimiter=delimiter)
    ]


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
    by_lower = {key.strip().lower(): key for key in keys}
    return next((by_lower[w.lower()] for w in wanted if w.lower() in by_lower), None)


def _number(value: Any) -> float | None:
    try:
        number = float(str(value).strip())
    except ValueError:
        return None
    return number if math.isfinite(number) else None
