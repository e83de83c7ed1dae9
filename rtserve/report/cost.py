"""Cost against accuracy: what each candidate scores, by its time or its work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rtserve.report.collect import Document
from rtserve.report.figures import Figure, Point, cost_accuracy
from rtserve.report.page import Section
from rtserve.report.stored import interval_text, metric_is

__all__ = ["cost_section"]


def cost_section(
    evaluations: Sequence[Document],
    benches: Sequence[Document],
    searches: Sequence[Document],
    fusions: Sequence[Document] = (),
) -> Section | None:
    """Cost against accuracy: of each search's options, and of the scored graphs by their times, else multiply-adds."""
    found = [_search_figure(name, document) for name, document in searches]
    timed = [figure for name, document in benches for figure in _bench_figures(name, document, evaluations)]
    found += timed or _work_figures(fusions, evaluations)
    if not found:
        return None
    notes = [_search_note(name, document) for name, document in searches]
    notes += [f"{name}: {note}" for name, document in searches for note in document["nested"].get("notes", ())]
    return Section(title="Cost against accuracy", figures=tuple(found), notes=tuple(notes))


def _search_figure(name: str, document: Mapping[str, Any]) -> Figure:
    metric = document["signature"].split("|")[0].upper()
    points = [
        Point(
            label=_short(option),
            cost=option["cost_us"]["value"],
            cost_low=option["cost_us"]["low"],
            cost_high=option["cost_us"]["high"],
            value=option["value"],
            low=option["interval"]["low"] if option["interval"] else None,
            high=option["interval"]["high"] if option["interval"] else None,
            chosen=option["chosen"],
        )
        for option in document["options"]
    ]
    return cost_accuracy(
        points,
        title=f"Search {name}",
        metric_label=metric,
        baseline=document["nested"]["gain"].get("constant"),
        higher_is_better=document["higher_is_better"],
    )


def _short(option: Mapping[str, Any]) -> str:
    if len(option["label"]) <= 36:
        return str(option["label"])
    extras = ("w" if option["weights"] else "") + ("c" if (option["scale"], option["offset"]) != (1.0, 0.0) else "")
    mark = f" +{extras}" if extras else ""
    return option["whole"] or f"{len(option['members'])} x {len(option['views'])}{mark}"


def _search_note(name: str, document: Mapping[str, Any]) -> str:
    nested = document["nested"]
    return (
        f"{name}: values in the picture are of the windows that were chosen on. On {nested['over']} without a say"
        f"{_folds(nested)} the choice scores {nested['value']:.4f} {interval_text(nested['interval'])};"
        f" against the best single member: {nested['gain']['sentence']}"
        " (labels: members x views; w weighted, c calibrated)"
    )


def _folds(nested: Mapping[str, Any]) -> str:
    return f" ({nested['folds']} folds)" if nested["folds"] else ""


def _bench_figures(name: str, document: Mapping[str, Any], evaluations: Sequence[Document]) -> list[Figure]:
    """Return a picture for each set of windows on which at least two of a benchmark's graphs were scored."""
    costs = {
        c["digest"]: (c["name"], c["latency_us"]["p50"])
        for c in reversed(document["contenders"])
        if c["loop"] == 1 and c["latency_us"]["p50"]
    }
    label = f"time per window, us (batch {document['batch']}, {document['threads']} thread)"
    return _scored_figures(costs, evaluations, title=f"Benchmark {name}", cost_label=label)


def _work_figures(fusions: Sequence[Document], evaluations: Sequence[Document]) -> list[Figure]:
    """Return a picture for each set of windows on which at least two fused graphs were scored that nobody timed."""
    names = {evaluation["graph_sha256"]: name for name, evaluation in evaluations}
    known = [(name, document) for name, document in fusions if not document.get("uncounted")]
    costs = {d["sha256"]: (names.get(d["sha256"], name), d["macs"]["after"] / 1e6) for name, d in known}
    return _scored_figures(costs, evaluations, title="By work: not timed", cost_label="multiply-adds per window, M")


def _scored_figures(
    costs: Mapping[str, tuple[str, float]], evaluations: Sequence[Document], *, title: str, cost_label: str
) -> list[Figure]:
    scored: dict[str, dict[str, Mapping[str, Any]]] = {}
    for _, evaluation in evaluations:
        scored.setdefault(str(evaluation["data_sha256"]), {})[str(evaluation["graph_sha256"])] = evaluation
    out = []
    for found in scored.values():
        points = [_scored_point(label, cost, found[key]) for key, (label, cost) in costs.items() if key in found]
        if len(points) < 2:
            continue
        first = next(iter(found.values()))
        constant = first["baseline"][0]
        out.append(
            cost_accuracy(
                points,
                title=title,
                cost_label=cost_label,
                metric_label=first["scores"][0]["metric"].upper(),
                baseline=constant["value"] if constant else None,
                higher_is_better=metric_is(first, "higher_is_better"),
            )
        )
    return out


def _scored_point(label: str, cost: float, evaluation: Mapping[str, Any]) -> Point:
    score = evaluation["scores"][0]
    return Point(
        label=label,
        cost=cost,
        value=score["value"],
        low=score["interval"]["low"] if score["interval"] else None,
        high=score["interval"]["high"] if score["interval"] else None,
    )
