"""The licences of what rtserve needs, as the packages that are installed here say them."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs.generate.markdown import code, plain, table

__all__ = ["OURS", "UNSAID", "brought", "licence", "licences_page", "project"]

OURS = ("test", "dev", "docs")
"""Extras for who works on rtserve; nothing of them reaches a user."""
UNSAID = "not stated in its metadata"
_EXPRESSION = re.compile(r"[\w.+-]+( (AND|OR|WITH) [\w.+-]+)*")
"""How SPDX writes a licence; what else stands in the old field is anything from a name to the whole text."""
OPENING = """# Licences

rtserve itself is under the MIT licence. What it needs is installed beside it, under licences of its own. This page is made
when the site is built, of the metadata of the packages that are installed there, so the versions are those, and other
platforms may bring others. A wheel may also hold libraries of further licences, which its own files list.

"""


def project(root: Path) -> tuple[list[str], dict[str, list[str]]]:
    """Return what pyproject.toml requires, and what each extra for users brings."""
    told = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    return told["dependencies"], {k: v for k, v in told["optional-dependencies"].items() if k not in OURS}


def licence(name: str) -> str:
    """Return the licence of an installed package: its SPDX expression, else what its classifiers or its old field say."""
    told = importlib.metadata.metadata(name)
    field = (told.get("License") or "").strip()
    if expression := told.get("License-Expression") or (field if _EXPRESSION.fullmatch(field) else ""):
        return str(expression)
    found = [line.rpartition(" :: ")[2] for line in told.get_all("Classifier") or [] if line.startswith("License :: ")]
    if found := [name for name in found if name != "OSI Approved"]:
        return ", ".join(found)
    first = field.splitlines()[0].strip() if field else ""
    return first if 0 < len(first) <= 60 else UNSAID


def brought(requirements: Iterable[str]) -> dict[str, bool]:
    """Return the packages that requirements bring here, by name: whether each is asked for itself, or by another."""
    found: dict[str, bool] = {}
    for text in requirements:
        found[canonicalize_name(Requirement(text).name)] = True
    for name in [name for text in requirements for name in _below(Requirement(text), set())]:
        found.setdefault(name, False)
    return dict(sorted(found.items()))


def _below(asked: Requirement, seen: set[tuple[str, frozenset[str]]]) -> Iterator[str]:
    """Yield the installed packages that one brings, itself among them; `seen` holds what was gone through."""
    key = (canonicalize_name(asked.name), frozenset(asked.extras))
    if key in seen:
        return
    seen.add(key)
    try:
        below = importlib.metadata.requires(asked.name) or []
    except importlib.metadata.PackageNotFoundError:
        return
    yield key[0]
    for text in below:
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *asked.extras)):
            yield from _below(one, seen)


def _rows(names: dict[str, bool]) -> Iterator[tuple[str, str, str]]:
    for name, direct in names.items():
        try:
            version, said = importlib.metadata.version(name), licence(name)
        except importlib.metadata.PackageNotFoundError:
            version, said = "-", "not installed where this page was made"
        yield f"**{code(name)}**" if direct else code(name), plain(version), plain(said)


def licences_page(root: Path) -> str:
    """Return the page."""
    needed, extras = project(root)
    head, core = ("package", "version", "licence"), brought(needed)
    parts = [OPENING, "## What `pip install rtserve` brings\n", "What rtserve asks for itself is in bold.\n"]
    parts.append(table(head, _rows(core)))
    for extra, asked in sorted(extras.items()):
        more = {name: direct for name, direct in brought(asked).items() if name not in core}
        parts += [f"## With the extra {code(extra)}, in addition\n", table(head, _rows(more))]
    return "\n".join(parts)
