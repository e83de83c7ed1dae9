"""Sides that can be scored again: checkpoints, runs, graphs, zips."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import read_json
from rtserve.graphs.architecture import architecture_digest
from rtserve.graphs.graph import Graph
from rtserve.measure.bundled import read_bundled
from rtserve.measure.metrics import metric_of
from rtserve.measure.predict import learned_parameters
from rtserve.measure.side_results import evaluation_claims, evaluation_raw, flat
from rtserve.measure.sides import Claim, Raw, Side
from rtserve.measure.signature import Signature

__all__ = ["as_networks", "checkpoint_side", "graph_side", "run_side", "zip_side"]

_METRIC_WORDS = ("nrmse", "rmse", "mse", "mae", "loss", "acc", "score", "pearson", "smooth_l1")
_NOT_SETTINGS = ("epoch", "timestamp", "date", "seconds", "schema")
_BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "input_scale")


def checkpoint_side(path: Path) -> Side:
    """Read a checkpoint: shapes, learned values, and what rides beside the weights."""
    from rtserve.graphs.checkpoint import load_checkpoint

    checkpoint = load_checkpoint(path)
    claims, settings = _told_apart({key: text.strip("'\"") for key, text in checkpoint.riders.items()})
    side = Side(
        name=path.name,
        kind="checkpoint",
        path=path,
        digest=checkpoint.sha256,
        settings=settings,
        claims=claims,
        trained_on=_trained_on(settings),
        tensors={key: tuple(tensor.shape) for key, tensor in checkpoint.state_dict.items()},
    )
    return _counted(side, ())


def _counted(side: Side, left_out: Sequence[str]) -> Side:
    """Return a checkpoint's side with the architecture and learned values of its tensors but those left out."""
    from rtserve.graphs.weights import strip_prefixes

    shapes = strip_prefixes({key: shape for key, shape in side.tensors.items() if key not in left_out})
    learned = [math.prod(shape) for key, shape in shapes.items() if key.rpartition(".")[2] not in _BUFFERS]
    return replace(side, architecture=architecture_digest(shapes), parameters=sum(learned))


def as_networks(first: Side, second: Side) -> list[Side]:
    """Return both sides, a checkpoint beside a graph without the tensors that the graph's export left out."""
    return [
        _counted(side, other.left_out) if side.tensors and other.left_out else side
        for side, other in ((first, second), (second, first))
    ]


def _trained_on(settings: Mapping[str, str]) -> str:
    return next((v for k, v in settings.items() if re.search(r"(data|windows)[._]?(digest|sha256)$", k)), "")


def _told_apart(riders: Mapping[str, str]) -> tuple[tuple[Claim, ...], dict[str, str]]:
    """Tell numbers about the result from choices that led to it; a signature is taken where the key is one."""
    claims, settings = [], {}
    for key, text in riders.items():
        number, leaf = _number(text), key.rpartition(".")[2].lower()
        if number is not None and "|" in key:
            signature = Signature.parse(key[key.rindex(".", 0, key.index("|")) + 1 if "." in key else 0 :])
            claims.append(Claim(name=f"{key.split('.')[0]}.{signature.metric}", value=number, signature=signature))
        elif (
            number is not None and any(w in leaf for w in _METRIC_WORDS) and not key.startswith(("settings", "config"))
        ):
            claims.append(Claim(name=key, value=number))
        elif not any(word in leaf for word in _NOT_SETTINGS):
            settings[key] = text
    return tuple(claims), settings


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def run_side(path: Path) -> Side:
    """Read a folder that `rtserve train` wrote: one seed's, or that of all seeds.

    The predictions of several seeds are their mean, which is also what is scored again.

    Raises
    ------
    InputError
        Where it holds no best.pth.
    """
    best = sorted(path.glob("best.pth")) or sorted(path.glob("seed*/best.pth"))
    if not best:
        raise InputError(
            f"folder {path.name} holds no best.pth and no seed*/best.pth",
            hint="give a folder that `rtserve train` wrote",
        )
    sides = [checkpoint_side(file) for file in best]
    first, names = sides[0], [file.parent.name for file in best]
    results = [_read_json(file.parent / "result.json") for file in best]
    settings = {k: v for k, v in first.settings.items() if all(s.settings.get(k) == v for s in sides)}
    settings |= {k: ", ".join(s.settings.get(k, "absent") for s in sides) for k in first.settings if k not in settings}
    if len(names) > 1:
        settings["seeds"] = f"mean of {len(names)}: {', '.join(names)}"
    claims = [_seed_claims(side, result) for side, result in zip(sides, results, strict=True)]
    return Side(
        name=f"{path.resolve().parent.name}/{path.name}" if re.fullmatch(r"seed\d+", path.name) else path.name,
        kind="run",
        path=path,
        digest="+".join(s.digest[:12] for s in sides),
        architecture=first.architecture if len({s.architecture for s in sides}) == 1 else "mixed",
        parameters=first.parameters,
        settings=settings | _outcome(results),
        claims=tuple(
            _named(c, name if len(names) > 1 else "") for name, cs in zip(names, claims, strict=True) for c in cs
        ),
        raw=_mean_raw(results),
        trained_on=first.trained_on,
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    found = read_json(path, "result", hint="train that seed again")
    if not isinstance(found, dict):
        raise InputError(f"{path.name} of {path.parent.name} is no result", hint="train that seed again")
    return found


def _seed_claims(side: Side, result: Mapping[str, Any]) -> tuple[Claim, ...]:
    return evaluation_claims(result["test"]) if "test" in result else side.claims


def _named(claim: Claim, seed: str) -> Claim:
    return Claim(name=f"{seed}.{claim.name}", value=claim.value, signature=claim.signature) if seed else claim


def _outcome(results: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return how the seeds ended, and what stopped them."""
    ended = [_ended(result) for result in results if "outcome" in result]
    leaks = [str(leak) for r in results for leak in r.get("leaks", ())]
    return ({"outcome": ", ".join(dict.fromkeys(ended))} if ended else {}) | (
        {"leaks": "; ".join(dict.fromkeys(leaks))} if leaks else {}
    )


def _ended(result: Mapping[str, Any]) -> str:
    said = str(result["outcome"]) + (f" ({result['stopped_by']})" if result.get("stopped_by") else "")
    return said + (", still improving at the end" if result.get("rising") else "")


def _mean_raw(results: Sequence[Mapping[str, Any]]) -> Raw | None:
    raws = [evaluation_raw(result["test"]) for result in results if "test" in result]
    kept = [raw for raw in raws if raw is not None]
    if not kept or len(kept) < len(results) or len({raw.data for raw in kept}) > 1:
        return None
    if len(kept) > 1 and any(_of_classes(result["test"]) for result in results):
        return _mean_classes(kept)
    mean = np.mean([raw.predictions.astype(np.float64) for raw in kept], axis=0)
    return replace(kept[0], predictions=mean.astype(np.float32))


def _of_classes(evaluation: Mapping[str, Any]) -> bool:
    found = (metric_of(Signature.parse(score["signature"])) for score in evaluation["scores"])
    return any(metric is not None and metric.classes for metric in found)


def _mean_classes(raws: Sequence[Raw]) -> Raw | None:
    """Return the mean of the classifiers' probabilities and its class; None where they are unknown: classes have no mean."""
    known = [raw.probabilities for raw in raws if raw.probabilities is not None]
    if len(known) < len(raws):
        return None
    mean = np.mean(known, axis=0)
    return replace(raws[0], probabilities=mean, predictions=mean.argmax(axis=1).astype(np.float32))


def graph_side(path: Path, graph: Graph | None = None) -> Side:
    """Read a graph, exported or fused."""
    graph = graph or Graph.load(path)
    details = graph.provenance.details
    plan = details.get("plan", {})
    settings = {"input": str(graph.input_spec), "output": str(graph.output_spec)}
    if plan:
        settings |= {
            "members": str(len(plan.get("members", ()))),
            "views": ",".join(str(view.get("name")) for view in plan.get("views", ())),
            "merge": str(plan.get("merge", {}).get("kind")),
            "calibration": json.dumps(plan.get("calibration", {})),
        }
    else:
        kept = {
            k: v for k, v in details.items() if k in ("exporter", "settings", "network", "quirks", "torch", "producer")
        }
        settings |= flat(kept)
    exports = [m.get("provenance", {}).get("details", {}) for m in details.get("members", ())] or [details]
    return Side(
        name=path.name,
        kind="graph",
        path=path,
        digest=graph.digest,
        architecture="+".join(dict.fromkeys(str(export.get("architecture", "")) for export in exports)),
        parameters=learned_parameters(graph),
        settings=settings,
        left_out=tuple(dict.fromkeys(key for export in exports for key in export.get("left_out", ()))),
    )


def zip_side(path: Path) -> Side:
    """Read a submission: of a bundle built here its graphs and manifest, of any other its file list."""
    bundled = read_bundled(path)
    graphs = bundled.graphs
    settings = {"files": str(len(bundled.names)), "profile": str(bundled.manifest.get("profile", "unknown"))}
    for name, graph in graphs.items():
        settings |= {f"{name}: {k}": v for k, v in graph_side(path, graph).settings.items()}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    first = graph_side(path, graphs[min(graphs)]) if graphs else None
    return Side(
        name=path.name,
        kind="zip",
        path=path,
        digest=digest,
        architecture=first.architecture if first else "",
        left_out=first.left_out if first else (),
        parameters=sum(map(learned_parameters, graphs.values())) if graphs else None,
        settings=settings,
        graphs=tuple(graph.digest for graph in graphs.values()),
        members=tuple(m for g in graphs.values() for m in g.provenance.details.get("plan", {}).get("members", ())),
    )
