"""Pieces of Markdown that generated pages are made of."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence

__all__ = ["code", "definition", "fence", "paragraphs", "plain", "table"]

SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|$~^])")


def plain(text: str) -> str:
    """Return text that reads as it is written: what Markdown would take for markup is escaped, code in backticks kept."""
    parts = re.split(r"(`+[^`]+`+)", " ".join(text.split()))
    return "".join(_as_code(part) if part.startswith("`") else SPECIAL.sub(r"\\\1", part) for part in parts)


def _as_code(part: str) -> str:
    return code(part.strip("`"))


def code(text: str) -> str:
    """Return text as inline code, whatever backticks it holds."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    ticks = "`" * (longest + 1)
    pad = " " if text.startswith("`") or text.endswith("`") or not text.strip() else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def fence(text: str, language: str = "text") -> str:
    """Return a block of code."""
    longest = max((len(run) for run in re.findall(r"`{3,}", text)), default=2)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{text.rstrip()}\n{ticks}\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are Markdown already; a bar in one is escaped."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(re.sub(r"(?<!\\)\|", r"\|", " ".join(cell.split())) for cell in cells) + " |"

    return "\n".join([line(head), "|" + "--|" * len(head), *map(line, rows)]) + "\n"


def definition(term: str, meaning: str) -> str:
    """Return one entry of a definition list."""
    return f"{term}\n: {meaning or '-'}\n"


def paragraphs(text: str) -> str:
    """Return click's help text as paragraphs; blocks after ``\\b`` keep their lines."""
    found = []
    for block in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        if block.startswith("\b"):
            found.append(fence(inspect.cleandoc(block.removeprefix("\b").strip("\n"))))
        else:
            found.append(plain(block))
    return "\n\n".join(found) + "\n"
