"""Data sets that are made of others, of the same people: by the folder they lie in, or by what their description says."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from rtserve.files import read_json

__all__ = ["described", "home_of", "homes_of", "stated_sources"]

_WITHIN = ("derivatives", "sourcedata", "rawdata")
"""Folders of a BIDS data set that hold other data sets, of the same people."""
_DESCRIPTION = "dataset_description.json"
_VERSION = re.compile(r"\.v\d+(\.\d+)*$")


def described(root: Path) -> dict[str, Any]:
    """Return a data set's description, empty where there is none that can be read."""
    try:
        about = read_json(root / _DESCRIPTION, "description", hint="see BIDS")
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def home_of(root: Path) -> Path:
    """Return the data set whose people are in one, by its folder: of ``ds/derivatives/x`` that is ``ds``, else itself."""
    for folder in root.parents:
        if folder.name in _WITHIN and (folder.parent / _DESCRIPTION).is_file():
            return home_of(folder.parent)
        if folder.name in _WITHIN and next(folder.parent.glob("sub-*"), None) is not None:
            return home_of(folder.parent)
    return root


def homes_of(roots: Iterable[Path]) -> dict[Path, Path]:
    """Return the data set whose people are in each, by its folder and by the SourceDatasets of its description.

    A source is a folder, or a DOI or an OpenNeuro number that one of the other data sets has.
    """
    roots = list(dict.fromkeys(roots))
    by_id = {name: root for root in roots for name in _ids(described(root).get("DatasetDOI"), root.name)}
    above = {root: _above(root, by_id) for root in roots}
    homes = {}
    for root in roots:
        seen, home = {root}, above[root]
        while home not in seen:
            seen.add(home)
            home = above.get(home, home_of(home))
        homes[root] = home
    return homes


def stated_sources(root: Path) -> list[str]:
    """Return what a data set's description says that it is made of, as it stands there."""
    sources = described(root).get("SourceDatasets")
    rows = [row for row in sources if isinstance(row, dict)] if isinstance(sources, list) else []
    return [str(row[key]) for row in rows for key in ("URL", "DOI") if row.get(key)]


def _above(root: Path, by_id: dict[str, Path]) -> Path:
    """Return the data set that one is made of, itself where that is not known."""
    home = home_of(root)
    if home != root:
        return home
    for said in stated_sources(root):
        folder = _folder(said, root)
        if folder is not None and folder != root:
            return folder
        found = next((by_id[name] for name in _ids(said) if by_id.get(name, root) != root), None)
        if found is not None:
            return found
    return root


def _folder(said: str, root: Path) -> Path | None:
    """Return the folder of a data set that a source's address leads to, through DatasetLinks where it names one."""
    named = re.match(r"bids:([^:]+):", said)
    if named:
        links = described(root).get("DatasetLinks")
        said = str(links.get(named[1], "")) if isinstance(links, dict) else ""
    path = unquote(re.sub(r"^file:(//(localhost)?(?=/))?", "", said))
    if not path or re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", path) or "\0" in path:
        return None
    try:
        folder = (root / path).resolve()
        data = (folder / _DESCRIPTION).is_file() or next(folder.glob("sub-*"), None) is not None
    except OSError:
        return None
    return folder if data else None


def _ids(*texts: Any) -> list[str]:
    """Return the DOIs (without a version) and OpenNeuro numbers in some texts."""
    found = []
    for text in (str(text).lower() for text in texts if text):
        doi = re.search(r"10\.\d{4,9}/\S+", text)
        found += [_VERSION.sub("", doi[0].rstrip("/"))] if doi else []
        found += re.findall(r"\bds\d{6}\b", text)
    return found
