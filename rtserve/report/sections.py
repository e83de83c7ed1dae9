"""The parts of a report, one function each: from results to text, tables and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtserve.measure.sides import Side
from rtserve.measure.timing import Timings
from rtserve.report.collect import Document
from rtserve.report.figures import Figure
from rtserve.report.page import Section, Table, environment_table
from rtserve.report.plots import Effect, effects, latencies, predicted_against_true
from rtserve.report.stored import interval_text, metric_is

__all__ = [
    "branch_sections",
    "comparison_section",
    "environment_section",
    "latency_section",
    "prediction_section",
    "score_section",
]


def score_section(
    evaluations: Sequence[Document], overalls: Sequence[Document], notes: Sequence[tuple[str, str]]
) -> Section:
    """Scores with their intervals and signatures, each beside the constant of the same data; notes by graph under them."""
    rows = [
        {
            "graph": name,
            "metric": score["metric"],
            "value": score["value"],
            "interval": interval_text(score["interval"]),
            "constant": constant["value"] if constant else None,
            "over": f"{score['interval']['units']} {score['interval']['over']}" if score["interval"] else "",
            "trained on": _trained_on(document.get("trained_on") or {}),
            "signature": score["signature"],
        }
        for name, document in evaluations
        for score, constant in zip(document["scores"], document["baseline"], strict=True)
    ]
    total = [
        {
            "of": name,
            "overall": document["overall"],
            "interval": interval_text(document["interval"]),
            "constant": document["constant"],
            "signature": document["signature"],
        }
        for name, document in overalls
    ]
    said = list(notes)
    said += [
        (
            name,
            f"the mean of a subject's other windows scores {document['subject_mean_oracle']['value']:.4f}; it uses the"
            " labels, so no network is compared with it",
        )
        for name, document in evaluations
        if document.get("subject_mean_oracle")
    ]
    tables = (
        Table.of(rows),
        *((Table.of(total, caption="overall: C1 and C2 by the contest's weights"),) if total else ()),
    )
    return Section(title="Scores", tables=tables, notes=tuple(_grouped(said)))


def _trained_on(counts: Mapping[str, Any]) -> str:
    """Say how many of the windows of a score its graph was trained on; nothing where nobody asked."""
    if not counts:
        return ""
    return f"{counts['trained']} of {counts['n']}" if counts["known"] else "not said"


def _grouped(said: Sequence[tuple[str, str]]) -> list[str]:
    """Return each note once, after the names of all that it is about."""
    notes = dict.fromkeys(note for _, note in said)
    return [f"{', '.join(dict.fromkeys(name for name, other in said if other == note))}: {note}" for note in notes]


def branch_sections(evaluations: Sequence[Document]) -> list[Section]:
    """Views and members on trial, for each evaluation that judged them."""
    out = []
    for name, document in evaluations:
        judged = document.get("branches")
        if not judged:
            continue
        kinds = dict.fromkeys(trial["kind"] for trial in judged["trials"])
        figures = [f for kind in kinds if (f := _trial_figure(kind, judged))]
        whole = [
            Effect(label=q["question"], value=q["value"], **_low_high(q["interval"]), verdict=q["verdict"])
            for q in judged["whole"]
        ]
        if whole:
            figures.append(effects(whole, title="The whole", metric_label=judged["metric"].upper()))
        table = Table.of([_trial_row(trial, judged["metric"]) for trial in judged["trials"]])
        sentences = [f"{q['question']}: {q['sentence']}" for q in judged["whole"]]
        out.append(
            Section(
                title=f"Branches of {name} on trial",
                text=tuple(sentences),
                tables=(table,),
                figures=tuple(figures),
                notes=(*_family_notes(judged), *judged["notes"]),
            )
        )
    return out


def _low_high(interval: Mapping[str, Any] | None) -> dict[str, Any]:
    return {"low": interval["low"], "high": interval["high"]} if interval else {"low": None, "high": None}


def _trial_figure(kind: str, judged: Mapping[str, Any]) -> Figure | None:
    trials = [t for t in judged["trials"] if t["kind"] == kind and t["change"]]
    rows = [
        Effect(
            label=t["name"],
            value=t["change"]["value"],
            **_low_high(t["change"]["interval"]),
            verdict=t["change"]["verdict"] if t["status"] == "active" else t["status"],
            note=t["change"]["sentence"],
        )
        for t in trials
    ]
    caption = f"with each {kind} against without it"
    return effects(rows, title=f"Per {kind}", metric_label=judged["metric"].upper(), caption=caption) if rows else None


def _trial_row(trial: Mapping[str, Any], metric: str) -> dict[str, Any]:
    """Return what was found of a view or member; p is the one corrected for all verdicts of its report, where stored."""
    change, cost = trial["change"], trial["cost"]
    active = change if change and trial["status"] == "active" else None
    ends = active["interval"] if active else None
    span = f" [{ends['low']:+.3g}, {ends['high']:+.3g}]" if ends else ""
    return {
        "kind": trial["kind"],
        "name": trial["name"],
        "verdict": active["verdict"] if active else trial["status"],
        f"changes {metric} by": f"{active['value']:+.3g}{span}" if active else None,
        "p": active.get("p") if active else None,
        "p, corrected": active.get("p_corrected") if active else None,
        "alone": trial["alone"],
        "corrects": f"{change['corrected']:.0%}" if change else None,
        "corrupts": f"{change['corrupted']:.0%}" if change else None,
        "r with the rest": trial["correlation"],
        "adds us": f"{cost['us']:+.1f} [{cost['low']:+.1f}, {cost['high']:+.1f}]" if cost else None,
    }


def _family_notes(judged: Mapping[str, Any]) -> list[str]:
    """Return what the corrected p are corrected for."""
    families = [t["change"].get("family") for t in judged["trials"] if t["change"] and t["status"] == "active"]
    return [f"p is corrected for {family}" for family in dict.fromkeys(families) if family]


def latency_section(benches: Sequence[Document]) -> Section | None:
    """Latency distributions and ratios of each benchmark."""
    tables, figures, notes = [], [], []
    for name, document in benches:
        where = f"batch {document['batch']}, {document['threads']} thread{'s' * (document['threads'] > 1)}"
        rows = [_contender_row(contender) for contender in document["contenders"]]
        tables.append(Table.of(rows, caption=f"{name}: {where}"))
        if "raw" in document:
            timings = Timings.from_dict(document["raw"])
            calls = {c["name"]: timings.calls_us(c["name"]) for c in document["contenders"]}
            figures.append(latencies(calls, title=f"Latency, {name}", caption=where))
        if document["noise_floor"] is not None:
            notes.append(f"{name}: differences under {100 * document['noise_floor']:.1f} % are noise here (A/A)")
        notes += [f"{name}: {note}" for note in document["notes"]]
        notes += [
            f"{name}: {c['name']} is unstable: {reason}" for c in document["contenders"] for reason in c["unstable"]
        ]
    if not tables:
        return None
    return Section(title="Latency", tables=tuple(tables), figures=tuple(figures), notes=tuple(notes))


def _contender_row(contender: Mapping[str, Any]) -> dict[str, Any]:
    ratio = contender.get("ratio")
    loop = f" x {contender['loop']}" if contender["loop"] > 1 else ""
    row = {
        "what": f"{contender['name']} [{contender['engine']}]{loop}",
        **{f"{key}, us": value for key, value in contender["latency_us"].items()},
        "windows/s": contender["throughput"],
        "ours takes of it": f"{ratio['value']:.3f} [{ratio['low']:.3f}, {ratio['high']:.3f}]" if ratio else None,
    }
    if "deadline_misses" in contender:
        low, high = contender.get("deadline_interval", (None, None))
        ends = f" [{low:.2%}, {high:.2%}]" if low is not None else ""
        row["deadline misses"] = f"{contender['deadline_misses']:.2%}{ends}"
    return row


def prediction_section(evaluations: Sequence[Document]) -> Section | None:
    """Predicted against true, for each evaluation of a number that stores its predictions."""
    figures = []
    for name, document in evaluations:
        raw = document.get("raw")
        if raw and not metric_is(document, "classes"):
            y, p = np.array(raw["targets"]), np.array(raw["predictions"])
            if y.ndim > 1:
                continue
            figures.append(predicted_against_true(y, p, title=name))
    return Section(title="Predicted against true", figures=tuple(figures)) if figures else None


def comparison_section(comparisons: Sequence[Document]) -> Section | None:
    """What `rtserve compare` found, refusals and warnings included."""
    text, notes, rows = [], [], []
    for name, document in comparisons:
        a, b = document["first"]["name"], document["second"]["name"]
        if not document["comparable"]:
            text.append(f"{name}: {a} and {b} are not comparable; {document['hint']}")
        for d in document["differences"]:
            rows.append(
                {
                    "A": a,
                    "B": b,
                    "A's": d["first"],
                    "B's": d["second"],
                    "B against A": d["sentence"],
                    "signature": d["signature"],
                }
            )
        notes += [f"{name}: {reason}" for reason in (*document["refusals"], *document["warnings"])]
    if not comparisons:
        return None
    return Section(
        title="Comparisons",
        text=tuple(text),
        tables=(Table.of(rows),) if rows else (),
        notes=tuple(dict.fromkeys(notes)),
    )


def environment_section(documents: Sequence[Document], sides: Sequence[Side]) -> list[Section]:
    """Digests of everything named, and each environment once."""
    digests = [{"what": n, "kind": "graph", "sha256": d["graph_sha256"]} for n, d in documents if d.get("graph_sha256")]
    digests += [
        {"what": n, "kind": "windows", "sha256": d["data_sha256"]} for n, d in documents if d.get("data_sha256")
    ]
    digests += [{"what": side.name, "kind": side.kind, "sha256": side.digest} for side in sides if side.digest]
    environments = {str(d["environment"]): d["environment"] for _, d in documents if d.get("environment")}
    tables = tuple(environment_table(environment) for environment in environments.values())
    unique = list({(row["what"], row["kind"], row["sha256"]): row for row in digests}.values())
    out = [Section(title="Digests", tables=(Table.of(unique),), folded=True)] if unique else []
    return out + ([Section(title="Environment", tables=tables, folded=True)] if tables else [])
