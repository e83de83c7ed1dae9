"""Benchmarks and scores that a zip cites: each was taken on the very graph that travels, or the build stops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import BundleError
from rtserve.files import sha256_file

if TYPE_CHECKING:
    from rtserve.submission.recipe import Recipe

__all__ = ["cited", "digests_in", "signatures_in"]


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


def signatures_in(value: Any) -> list[str]:
    """Return the metric signatures of every score that a JSON value holds, sorted, each once."""
    return sorted(set(_signatures(value)))


def _signatures(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        if isinstance(value.get("signature"), str):
            yield value["signature"]
        for item in value.values():
            yield from _signatures(item)
    elif isinstance(value, list):
        for item in value:
            yield from _signatures(item)


def cited(recipe: Recipe, graphs: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return one entry per evidence file of the recipe.

    Parameters
    ----------
    recipe : Recipe
        Names the files, relative to its own folder.
    graphs : mapping
        Challenge key to graph digest.

    Returns
    -------
    list of dict
        ``file``; ``id``, the digest of its bytes; ``kind`` (``"bench"``, ``"evaluation"``, ...) and ``schema``;
        ``challenges``, the keys it is about; ``signatures``, the metrics of its scores with all that can change them.

    Raises
    ------
    InputError
        Where a file is missing or no result.
    BundleError
        Where it is about another graph.
    """
    return [_cite(recipe.folder / name, graphs) for name in recipe.evidence]


def _cite(path: Path, graphs: Mapping[str, str]) -> dict[str, Any]:
    from rtserve.measure.results import load_result

    content = load_result(path)
    about = digests_in(content)
    keys = [key for key, digest in graphs.items() if digest in about]
    if not keys:
        raise BundleError(
            f"evidence {path.name} is about graph {', '.join(sorted(d[:12] for d in about)) or '?'}, the zip holds"
            f" {', '.join(d[:12] for d in graphs.values())}",
            hint="measure the graph that is built (fuse with --engine torch for a zip that runs on torch), or leave it out",
        )
    return {
        "file": path.name,
        "id": sha256_file(path),
        "kind": content["schema"].removeprefix("rtserve.").partition("/")[0],
        "schema": content["schema"],
        "challenges": keys,
        "signatures": signatures_in(content.get("scores", content)),
    }
