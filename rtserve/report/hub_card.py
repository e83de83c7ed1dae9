"""The card of a graph for the Hugging Face hub: what the file says of itself, what was measured, and what nobody knows."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rtserve.graphs.graph import Graph
from rtserve.graphs.macs import work_of

__all__ = ["Told", "hub_card"]

UNKNOWN = "not known"


@dataclass(frozen=True, kw_only=True)
class Told:
    """What goes into a card besides the graph.

    Parameters
    ----------
    title : str
        Its heading; made from the graph where empty.
    licence : str
        As the hub spells it (``"mit"``); empty where nobody said it.
    use : str
        What it is meant for; empty where nobody said it.
    parity : str
        What comparing it here gave; empty where it carries nothing to compare with.
    times : tuple of mapping
        Results of `rtserve bench` that timed exactly this graph, as `rtserve.report.push.times_of` reads them.
    """

    title: str = ""
    licence: str = ""
    use: str = ""
    parity: str = ""
    times: tuple[Mapping[str, Any], ...] = ()


def hub_card(graph: Graph, told: Told) -> str:
    """Return the card as Markdown behind the hub's front matter in YAML; the same graph and words give the same text."""
    sections = [
        _front(graph, told),
        f"# {_plain(told.title) or _title(graph)}\n",
        *_what(graph),
        *_use(graph),
        "## Made of\n",
        *_members(graph),
        *_views(graph),
        "## Parity\n",
        *_parity(graph, told),
        "## Latency\n",
        *_latency(told.times),
        "## Provenance\n",
        *_provenance(graph),
        "## Intended use\n",
        told.use.strip() + "\n" if told.use.strip() else "Not known: nobody has said it. It is no medical device.\n",
    ]
    return "\n".join(sections)


def _plain(text: Any, most: int = 200) -> str:
    """Return a text of somebody's file so that Markdown takes it as words: one line, and no character that means more."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(str(text).split())[:most])


def _front(graph: Graph, told: Told) -> str:
    named = sorted({network for network in (_network(one) for one in _leaves(graph)) if network})
    bases = sorted(
        {source for one in _leaves(graph) if (source := str(_mapping(one.get("hub")).get("source", ""))[3:])}
    )
    lines = ["---", "library_name: onnx", f"license: {json.dumps(told.licence or 'unknown')}"]
    lines += ["tags:", *(f"- {json.dumps(tag)}" for tag in ("eeg", "onnx", "rtserve", *named))]
    if bases:
        lines += ["base_model:", *(f"- {json.dumps(base.partition('@')[0])}" for base in bases)]
    return "\n".join([*lines, "---", ""])


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _leaves(graph: Graph) -> Iterator[Mapping[str, Any]]:
    """Yield the details of every exported network in a graph, however often it was fused."""
    yield from _leaves_of({"kind": graph.provenance.kind, "details": graph.provenance.details})


def _leaves_of(provenance: Mapping[str, Any], depth: int = 16) -> Iterator[Mapping[str, Any]]:
    details = _mapping(provenance.get("details"))
    members = details.get("members")
    if not isinstance(members, list) or not members or depth == 0:
        yield details
        return
    for member in members:
        yield from _leaves_of(_mapping(_mapping(member).get("provenance")), depth - 1)


def _network(details: Mapping[str, Any]) -> str:
    return str(details.get("network") or "")


def _title(graph: Graph) -> str:
    names = [_network(one) or "a network" for one in _leaves(graph)]
    counted = ", ".join(
        f"{names.count(n)} x {_plain(n)}" if names.count(n) > 1 else _plain(n) for n in sorted({*names})
    )
    views = len(_view_names(graph))
    return counted + (f", {views} views" if views > 1 else "")


def _what(graph: Graph) -> list[str]:
    spec, work = graph.input_spec, work_of(graph.model)
    rows = [
        ("takes `x`", f"(batch, {spec.n_chans}, {spec.n_times}) float32: {_plain(spec)}"),
        ("channels", _plain(", ".join(spec.ch_names), 2000) if spec.ch_names else UNKNOWN),
        ("sampling rate", f"{spec.sfreq:g} Hz" if spec.sfreq else UNKNOWN),
        ("unit", {None: UNKNOWN, "1": "standardised"}.get(spec.unit, spec.unit or "")),
        ("preprocessing", _plain(", ".join(f"{k} {v}" for k, v in spec.preprocessing)) or UNKNOWN),
        ("gives `y`", f"(batch, {graph.output_spec.n_outputs})"),
        ("which is", _plain(graph.output_spec.target) or ("classes" if graph.output_spec.classes else UNKNOWN)),
        ("classes", _plain(", ".join(graph.output_spec.classes)) or UNKNOWN),
        ("form", graph.output_spec.form or UNKNOWN),
        (
            "work",
            f"{UNKNOWN if work.unknown else f'{work.macs / 1e6:.2f} M'} multiply-adds a window,"
            f" {graph.n_parameters:,} numbers stored",
        ),
    ]
    notes = (
        [f"Its answer to a window depends on the others in its batch: {_plain(graph.coupling)}.\n"]
        if graph.coupling
        else []
    )
    return ["An EEG network as an ONNX graph, made by rtserve.\n", _table(("", ""), rows), *notes]


def _use(graph: Graph) -> list[str]:
    spec = graph.input_spec
    code = [
        "```python",
        "import numpy as np, onnxruntime",
        'session = onnxruntime.InferenceSession("model.onnx")',
        f"x = np.zeros((1, {spec.n_chans}, {spec.n_times}), np.float32)",
        f'y = session.run(None, {{"{graph.model.graph.inputs[0].name}": x}})[0]',
        "```",
        "",
    ]
    return ["\n".join(code)]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(head)} |", "|" + "--|" * len(head)]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows), ""])


def _members(graph: Graph) -> list[str]:
    rows = []
    for details in _leaves(graph):
        checkpoint, size = _mapping(details.get("checkpoint")), details.get("n_parameters")
        digest = str(checkpoint.get("sha256", ""))[:12]
        weights = f"{_plain(checkpoint.get('name', ''))} ({_plain(digest)})" if digest else UNKNOWN
        hub = _mapping(details.get("hub"))
        source = _plain(" ".join(str(hub[key]) for key in ("source", "revision") if hub.get(key))) or UNKNOWN
        quirks = ", ".join(_plain(_mapping(quirk).get("name", "")) for quirk in details.get("quirks") or ()) or "-"
        parameters = f"{size:,}" if isinstance(size, int) else UNKNOWN
        rows.append((_plain(_network(details)) or UNKNOWN, parameters, weights, source, quirks))
    return [_table(("network", "parameters", "weights (sha256)", "fetched from", "rewrites"), rows)]


def _view_names(graph: Graph) -> list[str]:
    views = _mapping(graph.provenance.details.get("plan")).get("views") or ()
    return [str(_mapping(view).get("name", "")) for view in views]


def _views(graph: Graph) -> list[str]:
    names = _view_names(graph)
    if not names:
        return ["No views: each window is answered once.\n"]
    merge = _mapping(_mapping(graph.provenance.details.get("plan")).get("merge"))
    of = f" of {_plain(merge['average'])}" if merge.get("average") else ""
    kind = _plain(merge.get("kind", UNKNOWN)) + of + _calibrated(graph)
    return [f"Views (test-time augmentation): {_plain(', '.join(names), 1000)}; merged by {kind}.\n"]


def _calibrated(graph: Graph) -> str:
    """Say what is done to the merged answers, where it is anything."""
    found = _mapping(_mapping(graph.provenance.details.get("plan")).get("calibration"))
    nothing = {"scale": 1.0, "offset": 0.0, "low": None, "high": None}
    done = [f"{key} {_plain(found[key])}" for key in nothing if found.get(key, nothing[key]) != nothing[key]]
    return f"; then {', '.join(done)}" if done else ""


def _parity(graph: Graph, told: Told) -> list[str]:
    made = {
        "export": "When it was exported, its answers were compared with those of its network in float64 and found equal.",
        "fuse": "When it was fused, its answers were compared in float64 with members, views and merge, each computed by"
        " itself, and found equal.",
    }.get(graph.provenance.kind, "It was made elsewhere, and compared with nothing here.")
    return [made + "\n", (told.parity or "It carries no reference answers that could be compared.") + "\n"]


def _latency(times: Sequence[Mapping[str, Any]]) -> list[str]:
    if not times:
        return ["Not measured.\n"]
    rows = [
        (
            _plain(one["engine"]), one["batch"], one["threads"],
            *(f"{one['latency_us'][q]:,.0f}" if one["latency_us"].get(q) else "-" for q in ("p50", "p90", "p99")),
            _plain(one["cpu"]), _plain(one["versions"]),
        )
        for one in times
    ]  # fmt: skip
    head = ("engine", "batch", "threads", "p50, us a window", "p90", "p99", "processor", "versions")
    notes = [f"- {_plain(one['engine'])}: {_plain(note, 500)}" for one in times for note in one["notes"]]
    return [_table(head, rows), *(["\n".join([*notes, ""])] if notes else [])]


def _provenance(graph: Graph) -> list[str]:
    details, lines = graph.provenance.details, []
    lines.append(f"- sha256 of the graph: `{graph.digest}`")
    lines.append(f"- made by: {_plain(graph.provenance.kind)}" + _by(details))
    if passes := details.get("passes"):
        lines.append(f"- rewrites that were applied: {_plain(', '.join(map(str, passes)))}")
    known = sum(1 for one in _leaves(graph) if one.get("trained_on"))
    lines.append(
        f"- trained on: {UNKNOWN}" if not known else f"- trained on: {known} members keep hashes of their windows"
    )
    lines.append("- all of it stands in the file: `rtserve inspect model.onnx`")
    return ["\n".join([*lines, ""])]


def _by(details: Mapping[str, Any]) -> str:
    said = [f"{key} {_plain(details[key])}" for key in ("exporter", "torch", "producer") if details.get(key)]
    return f" ({', '.join(said)})" if said else ""
