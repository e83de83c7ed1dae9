"""Sides that are results on disk: evaluations, overall scores, benchmarks, trained seeds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.graphs.engines import engine_called
from rtserve.measure.cases import WINDOWS
from rtserve.measure.results import load_result
from rtserve.measure.sides import Claim, Cost, Raw, Side
from rtserve.measure.signature import Score, Signature

__all__ = ["evaluation_claims", "evaluation_raw", "flat", "result_side"]


def result_side(path: Path) -> Side:
    """Read a result written with -o: an evaluation, an overall score, a bench, a trained seed."""
    document = load_result(path)
    kind = document["schema"].split(".")[1].split("/")[0]
    try:
        return _side(path, document, kind)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} says it is {document['schema']}, but is not whole ({type(error).__name__}: {error})",
            hint="write it again with -o",
        ) from None


def _side(path: Path, document: dict[str, Any], kind: str) -> Side:
    if kind == "evaluation":
        return _evaluation(path, document)
    if kind == "overall":
        return _overall(path, document)
    if kind == "bench":
        return _bench(path, document)
    if kind == "training_result":
        return _evaluation(path, document["test"])
    raise InputError(f"{path.name} is a {kind}, which has no side to compare", hint="give an evaluation or a bench")


def _overall(path: Path, document: Mapping[str, Any]) -> Side:
    claims = [
        Claim(name=f"{c}.{s['metric']}", value=s["value"], signature=Signature.parse(s["signature"]))
        for c in ("c1", "c2")
        for s in document[c]["scores"]
    ]
    return Side(name=path.name, kind="result", path=path, claims=tuple(claims), settings={"of": "both challenges"})


def _evaluation(path: Path, document: Mapping[str, Any]) -> Side:
    return Side(
        name=path.name,
        kind="result",
        path=path,
        digest=document["graph_sha256"],
        parameters=document.get("parameters") or None,
        settings={"graph": document["name"], "engine": engine_called(document["engine"])}
        | flat(document["environment"]),
        claims=evaluation_claims(document),
        raw=evaluation_raw(document),
    )


def evaluation_claims(document: Mapping[str, Any]) -> tuple[Claim, ...]:
    """Return the signed scores of an evaluation."""
    scores = [Score.from_dict(values) for values in document["scores"]]
    return tuple(Claim(name=s.signature.metric, value=s.value, signature=s.signature) for s in scores)


def evaluation_raw(document: Mapping[str, Any]) -> Raw | None:
    """Return the stored predictions of an evaluation, or None where they were left out."""
    raw = document.get("raw")
    if not raw:
        return None
    return Raw(
        data=document["data_sha256"],
        predictions=np.array(raw["predictions"], np.float32),
        targets=np.array(raw["targets"], np.float32),
        subject=np.array(raw["subject"], "U"),
        probabilities=np.array(raw["probabilities"], np.float64) if "probabilities" in raw else None,
        columns={name: np.array(values) for name, values in raw.get("columns", {}).items()}
        | {"subject": np.array(raw["subject"], "U")},
        agg=str(document.get("agg", WINDOWS)),
    )


def flat(value: Any, prefix: str = "") -> dict[str, str]:
    """Return nested JSON as dotted keys and short texts."""
    if isinstance(value, Mapping):
        inner = ((f"{prefix}.{key}" if prefix else str(key), entry) for key, entry in value.items())
        return {k: v for key, entry in inner for k, v in flat(entry, key).items()}
    text = json.dumps(value) if isinstance(value, list | tuple) else str(value)
    return {prefix: text if len(text) <= 80 else f"{type(value).__name__} of {len(value)}"}


def _bench(path: Path, document: Mapping[str, Any]) -> Side:
    mine = document["contenders"][0]
    return Side(
        name=path.name,
        kind="result",
        path=path,
        digest=document["graph_sha256"],
        settings={"graph": mine["name"], "engine": engine_called(mine["engine"])} | flat(document["environment"]),
        cost=Cost(
            latency_us=mine["latency_us"]["p50"],
            batch=document["batch"],
            threads=document["threads"],
            branches=mine["branches"] * mine["loop"],
            passes=mine.get("passes", 0),
        ),
    )
