"""The graphs of a report, each with its own scores and times: one row where its files say one thing each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rtserve.measure.sides import Side
from rtserve.report.attempts import Judged
from rtserve.report.collect import Document, Material
from rtserve.report.page import Section, Table
from rtserve.report.stored import interval_text

__all__ = ["graph_section"]


def graph_section(material: Material, judged: Judged) -> Section | None:
    """Return a table of every graph that is here as a file, in a zip or as a benchmark's.

    Files, scores, times and fusions are joined by the digest of the graph; a graph that was scored on two sets of
    windows has a row for each. None where there are only scores, which have a section of their own.
    """
    named = _names(material)
    if not named:
        return None
    rows = [row for digest, name in named.items() for row in _rows(digest, name, material, judged)]
    spare = [key for key in rows[0] if all(row[key] is None for row in rows)]
    kept = [{key: value for key, value in row.items() if key not in spare} for row in rows]
    unscored = sum("score" in row and row["score"] is None for row in kept)
    notes = [f"{unscored} of {len(kept)} were not scored here"] if unscored and unscored < len(kept) else []
    return Section(title="Graphs", tables=(Table.of(kept),), notes=tuple(notes))


def _names(material: Material) -> dict[str, str]:
    """Return digest and name of each graph: the file's name, else what its zip, times or scores call it.

    Those with scores come first, in the order of the results.
    """
    files = {side.digest: side.name for side in material.sides if side.kind == "graph"}
    timed = {c["digest"]: c["name"] for _, d in material.benches for c in d["contenders"] if c["loop"] == 1}
    zipped = {
        digest: f"a graph of {side.name}" for side in material.sides if side.kind == "zip" for digest in side.graphs
    }
    scored = {d["graph_sha256"]: name for name, d in material.evaluations if d.get("graph_sha256")}
    if not (files or timed or zipped):
        return {}
    named = zipped | scored | timed | files
    return {digest: named[digest] for digest in (*scored, *timed, *files, *zipped)}


def _rows(digest: str, name: str, material: Material, judged: Judged) -> list[dict[str, Any]]:
    side = next((side for side in material.sides if side.digest == digest and side.kind == "graph"), None)
    fusion = next((document for _, document in material.fusions if document.get("sha256") == digest), None)
    zips = [one.name for one in material.sides if one.kind == "zip" and digest in one.graphs]
    about = {
        "time per window, us": "; ".join(_times(digest, material.benches)) or None,
        "multiply-adds, M": fusion["macs"]["after"] / 1e6 if fusion and not fusion.get("uncounted") else None,
        "members x views": _branches(side, fusion),
        "parameters": f"{side.parameters:,}" if side and side.parameters else None,
        "in the zip": ", ".join(zips) or None,
        "sha256": digest,
    }
    scores = {
        (score["signature"], score["value"]): {"score": _score(score), "verdict": where.verdict if where else None}
        for (_, document), where in judged.evaluations
        if document.get("graph_sha256") == digest
        for score in document["scores"][:1]
    }
    return [{"graph": name, **scored, **about} for scored in scores.values() or [{"score": None, "verdict": None}]]


def _score(score: Mapping[str, Any]) -> str:
    return f"{score['metric']} {score['value']:.4f} {interval_text(score['interval'])}".rstrip()


def _times(digest: str, benches: Sequence[Document]) -> list[str]:
    """Return the median of each benchmark of a graph, with what it depends on."""
    return list(
        dict.fromkeys(
            f"{contender['latency_us']['p50']:,.4g} ({contender['engine']}, batch {document['batch']},"
            f" {document['threads']} thread{'s' * (document['threads'] > 1)})"
            for _, document in benches
            for contender in document["contenders"]
            if contender["digest"] == digest and contender["loop"] == 1 and contender["latency_us"]["p50"]
        )
    )


def _branches(side: Side | None, fusion: Mapping[str, Any] | None) -> str | None:
    if side is not None and "views" in side.settings:
        return f"{side.settings['members']} x {len(side.settings['views'].split(','))}"
    return f"{fusion['members']} x {len(fusion['views'])}" if fusion else None
