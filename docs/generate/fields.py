"""Tables of TOML files, from the dataclasses that read them: keys, types, defaults and what their docstrings say."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, get_args, get_type_hints

from docs.generate.markdown import code, definition, plain

__all__ = ["described", "schema", "tables_below"]

ENTRY = re.compile(r"(?m)^(?P<names>[\w, ]+) : (?P<type>.+)\n(?P<text>(?:(?: {4}.*)?\n?)+)")


def described(kind: type) -> dict[str, str]:
    """Return what the Parameters of a class's docstring say about each, by name."""
    _, mark, rest = inspect.cleandoc(kind.__doc__ or "").partition("Parameters\n----------\n")
    found = {}
    for match in ENTRY.finditer(re.split(r"\n\w+\n---+\n", rest)[0] + "\n" if mark else ""):
        for name in match["names"].split(","):
            found[name.strip()] = " ".join(match["text"].split())
    return found


def tables_below(kind: type) -> list[type]:
    """Return a dataclass and the dataclasses that its fields hold, each once."""
    found = [kind]
    for one in found:
        for hint in get_type_hints(one).values():
            found += [below for below in _classes(hint) if below not in found]
    return found


def _classes(hint: Any) -> list[type]:
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return [hint]
    return [found for part in get_args(hint) for found in _classes(part)]


def schema(kind: type, *, leaving_out: tuple[str, ...] = ()) -> str:
    """Return every table of a TOML file as Markdown: the file's own keys first, then the tables in it."""
    parts = []
    for one in tables_below(kind):
        said, doc = described(one), inspect.cleandoc(one.__doc__ or "").split("\n\n")
        parts.append(f"## {one.__name__}\n\n{plain(doc[0])}\n")
        if not said and len(doc) > 1:
            parts.append(plain(doc[1]) + "\n")
        for field in dataclasses.fields(one):
            if one is not kind or field.name not in leaving_out:
                parts.append(_entry(field, said.get(field.name, "")))
    return "\n".join(parts)


def _entry(field: dataclasses.Field[Any], text: str) -> str:
    if field.default is None:
        default = "may be left out"
    elif field.default is not dataclasses.MISSING:
        default = f"default {code(repr(field.default))}"
    elif field.default_factory is not dataclasses.MISSING:
        default = f"default {code(repr(field.default_factory()))}" if not _nested(field) else "may be left out"
    else:
        default = "required"
    kind = str(field.type).replace(" | None", "").replace("Path", "path")
    return definition(f"`{field.name}`", f"{plain(text)} *{plain(kind)}, {default}.*".strip())


def _nested(field: dataclasses.Field[Any]) -> bool:
    return dataclasses.is_dataclass(field.default_factory)
