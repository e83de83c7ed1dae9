"""What follows from the graphs in a zip: plans, tensors, code and ``submission.py``; made anew and compared."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import rtserve
from rtserve.submission.artefacts import Artefact, plan_bytes, stating
from rtserve.submission.compiled import compiled_findings

__all__ = ["artefact_of", "derived_findings"]


def derived_findings(files: dict[str, bytes], manifest: dict[str, Any]) -> Iterator[str]:
    """Yield what in a zip does not follow from its graphs; files that a digest already convicts are left out."""
    from rtserve.graphs.graph import Graph
    from rtserve.graphs.plan import graph_to_plan

    artefacts = []
    for key, entry in manifest["challenges"].items():
        names = [entry["graph"], entry["plan"], entry["tensors"]]
        if not all(name in files for name in names):
            yield f"{next(n for n in names if n not in files)}: is missing"
            return
        graph = Graph.from_bytes(files[entry["graph"]], name=entry["graph"])
        plan, tensors = graph_to_plan(graph)
        plan = stating(plan, entry.get("precision", "float32"))
        if manifest["rtserve"] == rtserve.__version__ and plan_bytes(plan) != files[entry["plan"]]:
            yield f"{entry['plan']}: is not the plan of {entry['graph']}"
        elif not _same_tensors(files[entry["tensors"]], tensors):
            yield f"{entry['tensors']}: does not hold the weights of {entry['graph']}"
        else:
            artefacts.append(artefact_of(key, entry, files))
        yield from compiled_findings(entry, files, graph)
    if len(artefacts) == len(manifest["challenges"]):
        yield from _script(files, manifest, artefacts)


def artefact_of(key: str, entry: dict[str, Any], files: dict[str, bytes]) -> Artefact:
    """Return one challenge of a zip as `rtserve.submission.artefacts.make_artefact` made it."""
    from rtserve.graphs.graph import Graph

    name = entry["graph"].removesuffix(".onnx")
    operators = {node["op"] for node in json.loads(files[entry["plan"]])["nodes"]}
    return Artefact(
        key=key,
        name=name,
        graph=Graph.from_bytes(files[entry["graph"]], name=entry["graph"]),
        runtime=entry["runtime"],
        operators=frozenset(operators),
        files={file: data for file, data in files.items() if file.startswith(f"{name}.")},
    )


def _same_tensors(data: bytes, expected: dict[str, Any]) -> bool:
    """Whether a tensor file holds exactly these tensors; read with weights_only."""
    import torch

    try:
        found = torch.load(io.BytesIO(data), weights_only=True)  # noqa: TID251  (tensors only, nothing is run)
    except Exception:  # any file that torch cannot read is not this one
        return False
    return set(found) == set(expected) and all(_equal(found[name], expected[name]) for name in expected)


def _equal(one: Any, other: Any) -> bool:
    """Whether two tensors have the same type, shape and bytes (NaN equals itself)."""
    same = one.dtype == other.dtype and one.shape == other.shape
    return bool(same and one.contiguous().numpy().tobytes() == other.contiguous().numpy().tobytes())


def _script(files: dict[str, bytes], manifest: dict[str, Any], artefacts: list[Artefact]) -> Iterator[str]:
    from rtserve.submission.manifest import entry_script
    from rtserve.submission.profile import load_profile

    if manifest["rtserve"] != rtserve.__version__:
        return  # another version writes another script; the digest stands for it
    profile = load_profile(manifest["profile"])
    if entry_script(profile, artefacts).encode() != files.get(profile.entry.file):
        yield f"{profile.entry.file}: is not the script that rtserve {rtserve.__version__} writes for these graphs"
