"""The two sides of a comparison: a run, checkpoint, graph, zip or result, brought to one form.

A side says what it is (architecture, parameter count), how it was made (settings), what is claimed about it (numbers,
with or without a signature) and what it costs, as far as its file knows.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import readable_file
from rtserve.graphs.graph import Graph
from rtserve.measure.results import load_result
from rtserve.measure.signature import Score, Signature

__all__ = ["Claim", "Cost", "Raw", "Side", "read_side"]

CHECKPOINTS = (".pth", ".pt", ".ckpt", ".bin")
_METRIC_WORDS = ("nrmse", "rmse", "mse", "mae", "loss", "acc", "score", "pearson", "smooth_l1")
_NOT_SETTINGS = ("epoch", "timestamp", "date", "time", "seconds", "version")


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A number that a file states; without a signature nobody knows what it is."""

    name: str
    value: float
    signature: Signature | None = None

    def __str__(self) -> str:
        return f"{self.signature or self.name + ' (no signature)'} = {self.value:.6g}"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a result says one window costs: microseconds at a batch size and thread count."""

    latency_us: float
    batch: int
    threads: int
    branches: int
    passes: int = 0


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Stored predictions: (n_windows,) each; `data` is the digest of the windows."""

    data: str
    predictions: np.ndarray
    targets: np.ndarray
    subject: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison.

    Parameters
    ----------
    name, kind : str
        File name; ``run``, ``checkpoint``, ``graph``, ``zip`` or ``result``.
    path : Path
        Where it was read.
    digest : str
        SHA-256 of what would be scored; empty where the file does not say.
    architecture : str
        Digest of the architecture, or empty.
    parameters : int or None
        Learned values.
    settings : dict of str to str
        Flat, in the file's order.
    claims : tuple of Claim
        Numbers it states.
    cost : Cost or None
        Latency it states.
    raw : Raw or None
        Predictions it stores.
    trained_on : str
        Digest of the training windows, or empty.
    """

    name: str
    kind: str
    path: Path
    digest: str = ""
    architecture: str = ""
    parameters: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    cost: Cost | None = None
    raw: Raw | None = None
    trained_on: str = ""

    @property
    def scorable(self) -> bool:
        """Whether it can be scored again on windows."""
        return self.kind != "result"


def read_side(path: str | Path) -> Side:
    """Read a run folder, checkpoint, graph, zip or result.

    Raises
    ------
    InputError
        Where it is none of these, or cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        return _run(path)
    readable_file(path, "side")
    if path.suffix == ".json":
        return _result(path)
    if path.suffix == ".onnx":
        return _graph(path, Graph.load(path))
    if path.suffix == ".zip":
        return _zip(path)
    if path.suffix in CHECKPOINTS:
        return _checkpoint(path)
    raise InputError(
        f"{path.name} is none of what can be compared",
        hint="give run folders, checkpoints (.pth), graphs (.onnx), zips, or results (.json) written with -o",
    )


def _checkpoint(path: Path) -> Side:
    from rtserve.graphs.checkpoint import load_checkpoint, strip_prefixes

    checkpoint = load_checkpoint(path)
    state = strip_prefixes(checkpoint.state_dict)
    buffers = ("running_mean", "running_var", "num_batches_tracked", "input_scale")
    learned = [t.numel() for key, t in state.items() if key.rpartition(".")[2] not in buffers]
    shapes = json.dumps(sorted((key, list(t.shape)) for key, t in state.items()))
    claims, settings = _claims_and_settings(checkpoint.riders)
    return Side(
        name=path.name,
        kind="checkpoint",
        path=path,
        digest=checkpoint.sha256,
        architecture="shapes:" + hashlib.sha256(shapes.encode()).hexdigest()[:16],
        parameters=sum(learned),
        settings=settings,
        claims=claims,
        trained_on=_trained_on(settings),
    )


def _trained_on(settings: Mapping[str, str]) -> str:
    return next((v.strip("'\"") for k, v in settings.items() if re.search(r"(data|windows)_?(digest|sha256)$", k)), "")


def _claims_and_settings(flat: Mapping[str, str]) -> tuple[tuple[Claim, ...], dict[str, str]]:
    """Tell numbers about the result from choices that led to it; a signature is taken where one stands beside them."""
    claims, settings = [], {}
    signature = next((v.strip("'\"") for k, v in flat.items() if k.endswith("signature") and "|" in v), "")
    for key, text in flat.items():
        number, leaf = _number(text), key.rpartition(".")[2].lower()
        if (
            number is not None
            and any(word in leaf for word in _METRIC_WORDS)
            and not key.startswith(("settings", "config"))
        ):
            named = Signature.parse(signature) if signature and signature.split("|")[0] in leaf else None
            claims.append(Claim(name=key, value=number, signature=named))
        elif not any(word in leaf for word in _NOT_SETTINGS):
            settings[key] = text
    return tuple(claims), settings


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def _run(path: Path) -> Side:
    """Read a folder of training runs: its best checkpoints, its settings, its seeds."""
    best = sorted(path.glob("best.pth")) or sorted(path.glob("seed*/best.pth"))
    if not best:
        raise InputError(
            f"folder {path.name} holds no best.pth and no seed*/best.pth",
            hint="give a folder that `rtserve train` wrote",
        )
    sides = [_checkpoint(file) for file in best]
    first = sides[0]
    shared = {k: v for k, v in first.settings.items() if all(s.settings.get(k) == v for s in sides)}
    varied = {k: ", ".join(s.settings.get(k, "absent") for s in sides) for k in first.settings if k not in shared}
    files = [file for file in (*path.glob("*.json"), *best[0].parent.glob("*.json")) if file.stem != "result"]
    for file in sorted(set(files)):
        shared |= {k: v for k, v in _flat(_json(file)).items() if k not in shared}
    names = [side.path.parent.name for side in sides]
    return Side(
        name=path.name,
        kind="run",
        path=path,
        digest="+".join(s.digest[:12] for s in sides),
        architecture=first.architecture if len({s.architecture for s in sides}) == 1 else "mixed",
        parameters=first.parameters,
        settings=shared | varied | ({"seeds": ", ".join(names)} if len(names) > 1 else {}),
        claims=tuple(
            Claim(name=f"{name}.{c.name}" if len(names) > 1 else c.name, value=c.value, signature=c.signature)
            for name, s in zip(names, sides, strict=True)
            for c in s.claims
        ),
        trained_on=first.trained_on or _trained_on(shared),
    )


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path.name} is not JSON ({error})", hint="remove or repair it") from None


def _flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Return nested JSON as dotted keys and short texts."""
    if isinstance(value, Mapping):
        return {
            k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}.{key}" if prefix else key).items()
        }
    text = json.dumps(value) if isinstance(value, list | tuple) else str(value)
    return {prefix: text if len(text) <= 80 else f"{type(value).__name__} of {len(value)}"}


def _graph(path: Path, graph: Graph, *, kind: str = "graph", more: Mapping[str, str] | None = None) -> Side:
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
        settings |= _flat(kept)
    architectures = [
        m.get("provenance", {}).get("details", {}).get("architecture", "") for m in details.get("members", ())
    ]
    return Side(
        name=path.name,
        kind=kind,
        path=path,
        digest=graph.digest,
        architecture="+".join(dict.fromkeys(architectures)) or str(details.get("architecture", "")),
        parameters=_learned(graph),
        settings=settings | dict(more or {}),
    )


def _learned(graph: Graph) -> int:
    """Return the learned values of the networks in a graph as their exports counted them, else the stored numbers."""
    details = graph.provenance.details
    members = [m.get("provenance", {}).get("details", {}).get("n_parameters") for m in details.get("members", ())]
    known = members or [details.get("n_parameters")]
    return sum(known) if all(isinstance(count, int) for count in known) else graph.n_parameters


def _zip(path: Path) -> Side:
    """Read a submission: of a bundle built here its graphs and manifest, of any other its file list."""
    try:
        with zipfile.ZipFile(path) as archive:  # noqa: TID251  (named members are read, nothing is unpacked)
            names = archive.namelist()
            manifest = json.loads(archive.read("manifest.json")) if "manifest.json" in names else {}
            graphs = {
                n: Graph.from_bytes(archive.read(n), name=n) for n in names if re.fullmatch(r"challenge_\d\.onnx", n)
            }
    except (zipfile.BadZipFile, OSError, ValueError, KeyError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path.name} is not a readable zip ({error})", hint="see `rtserve check`") from None
    settings = {"files": str(len(names)), "profile": str(manifest.get("profile", "unknown"))}
    for name, graph in graphs.items():
        settings |= {f"{name}: {k}": v for k, v in _graph(path, graph).settings.items()}
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    first = _graph(path, graphs[min(graphs)]) if graphs else None
    return Side(
        name=path.name,
        kind="zip",
        path=path,
        digest=digest,
        architecture=first.architecture if first else "",
        parameters=sum(map(_learned, graphs.values())) if graphs else None,
        settings=settings,
    )


def _result(path: Path) -> Side:
    document = load_result(path)
    kind = document["schema"].split(".")[1].split("/")[0]
    if kind == "evaluation":
        return _evaluation(path, document)
    if kind == "overall":
        return _overall(path, document)
    if kind == "bench":
        return _bench(path, document)
    raise InputError(f"{path.name} is a {kind}, which has no side to compare", hint="give an evaluation or a bench")


def _overall(path: Path, document: Mapping[str, Any]) -> Side:
    claims = [
        Claim(name=f"{c}.{s['metric']}", value=s["value"], signature=Signature.parse(s["signature"]))
        for c in ("c1", "c2")
        for s in document[c]["scores"]
    ]
    return Side(name=path.name, kind="result", path=path, claims=tuple(claims), settings={"of": "both challenges"})


def _evaluation(path: Path, document: Mapping[str, Any]) -> Side:
    scores = [Score.from_dict(values) for values in document["scores"]]
    raw = document.get("raw")
    return Side(
        name=path.name,
        kind="result",
        path=path,
        digest=document["graph_sha256"],
        parameters=document.get("parameters"),
        settings={"graph": document["name"], "engine": document["engine"]} | _flat(document["environment"]),
        claims=tuple(Claim(name=s.signature.metric, value=s.value, signature=s.signature) for s in scores),
        raw=Raw(
            data=document["data_sha256"],
            predictions=np.array(raw["predictions"], np.float32),
            targets=np.array(raw["targets"], np.float32),
            subject=np.array(raw["subject"], "U"),
        )
        if raw
        else None,
    )


def _bench(path: Path, document: Mapping[str, Any]) -> Side:
    mine = document["contenders"][0]
    return Side(
        name=path.name,
        kind="result",
        path=path,
        digest=document["graph_sha256"],
        settings={"graph": mine["name"], "engine": mine["engine"]} | _flat(document["environment"]),
        cost=Cost(
            latency_us=mine["latency_us"]["p50"],
            batch=document["batch"],
            threads=document["threads"],
            branches=mine["branches"] * mine["loop"],
            passes=mine.get("passes", 0),
        ),
    )
