"""What a statement says of a zip that follows from the zip alone: made when it is attested, again when it is replayed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rtserve.errors import BundleError
from rtserve.files import sha256_file
from rtserve.submission.attestation.statement import descriptor

__all__ = ["described", "differences", "require_whole", "subjects"]


def require_whole(path: Path) -> None:
    """Make sure that a zip is one that `rtserve build` wrote, by everything that `verify` compares without running it.

    Raises
    ------
    InputError
        Where it was not built by rtserve.
    BundleError
        Where it was changed since.
    """
    from rtserve.submission.custody import verify

    wrong = [text for step in verify(path, replay=False).steps if step.status == "failed" for text in step.findings]
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise BundleError(
            f"{path.name} is not the zip that was built: {wrong[0]}{more}", hint="`rtserve verify` lists it"
        )


def subjects(path: Path) -> tuple[dict[str, Any], ...]:
    """Return the ResourceDescriptors of a zip and of the graphs inside, the zip first."""
    from rtserve.measure.bundled import read_bundled

    graphs = read_bundled(path).graphs
    return (
        descriptor(path.name, sha256_file(path)),
        *(descriptor(name, graph.digest) for name, graph in sorted(graphs.items())),
    )


def described(path: Path) -> dict[str, Any]:
    """Return what the zip's own manifest and graphs say: contest, metric signatures, evidence, digests of the data.

    The manifest's seal is a digest over all of the manifest, which has the digest of every file.
    """
    from rtserve.measure.bundled import read_bundled
    from rtserve.measure.trained import records_of

    bundled = read_bundled(path)
    manifest, graphs = bundled.manifest, bundled.graphs
    challenges = {
        key: {
            "graph": descriptor(name, graphs[name].digest),
            "target": entry.get("target", ""),
            "metric": entry.get("metric", ""),
            "trainingData": sorted({str(record["data"]) for record in records_of(graphs[name])}),
        }
        for key, entry in manifest["challenges"].items()
        if (name := str(entry.get("graph", ""))) in graphs
    }
    found = {
        "profile": manifest["profile"],
        "manifestSeal": manifest["seal"],
        "rtserve": manifest["rtserve"],
        "challenges": challenges,
        "evidence": manifest.get("evidence", []),
    }
    return dict(json.loads(json.dumps(found)))  # as it is read back


def differences(stated: Any, found: Any, where: str) -> Iterator[str]:
    """Yield where two JSON values differ, with both; `found` is what the zip itself says."""
    if isinstance(stated, Mapping) and isinstance(found, Mapping):
        for key in found:
            yield from differences(stated.get(key, "nothing"), found[key], f"{where}.{key}")
        yield from (
            f"{where}.{key}: the statement says {_short(stated[key])}, the zip nothing"
            for key in sorted(stated.keys() - found)
        )
    elif stated != found:
        yield f"{where}: the statement says {_short(stated)}, the zip {_short(found)}"


def _short(value: Any) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:200]}..."
