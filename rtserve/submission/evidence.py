"""Benchmarks and scores that a zip cites: each was taken on the very graph that travels, or the build stops."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import BundleError, InputError
from rtserve.files import readable_file, sha256_file

if TYPE_CHECKING:
    from rtserve.submission.recipe import Recipe

__all__ = ["cited", "digests_in"]


def digests_in(value: Any) -> set[str]:
    """Return every 64-digit hexadecimal digest that a JSON value holds under a key that names a graph."""
    found: set[str] = set()
    if isinstance(value, Mapping):
        for key, item in value.items():
            if isinstance(item, str) and len(item) == 64 and ("graph" in key or key in ("sha256", "digest")):
                found.add(item)
            found |= digests_in(item)
    elif isinstance(value, list):
        for item in value:
            found |= digests_in(item)
    return found


def cited(recipe: Recipe, graphs: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one entry per evidence file of the recipe: its name, digest, schema, and the challenge it is about.

    Parameters
    ----------
    recipe : Recipe
        Names the files, relative to its own folder.
    graphs : mapping
        Challenge key to graph digest.

    Raises
    ------
    InputError
        Where a file is missing or no JSON.
    BundleError
        Where it is about another graph.
    """
    return [_cite(recipe.folder / name, graphs) for name in recipe.evidence]


def _cite(path: Path, graphs: Mapping[str, str]) -> dict[str, Any]:
    path = readable_file(path, "evidence")
    try:
        content = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"evidence {path} is no JSON: {error}", hint="name a file written by --json") from None
    about = digests_in(content)
    keys = [key for key, digest in graphs.items() if digest in about]
    if not keys:
        raise BundleError(
            f"evidence {path.name} is about graph {', '.join(sorted(d[:12] for d in about)) or '?'}, the zip holds"
            f" {', '.join(d[:12] for d in graphs.values())}",
            hint="measure the graph that is built, or leave this file out",
        )
    signature = content.get("signature") if isinstance(content, Mapping) else None
    return {
        "file": path.name,
        "sha256": sha256_file(path),
        "schema": content.get("schema", "") if isinstance(content, Mapping) else "",
        "challenges": keys,
        "signature": signature,
    }
