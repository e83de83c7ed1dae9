"""Streaming as the command line does it: check the output first, write only what passed, report what was done."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.files import check_writable
from rtserve.graphs.graph import Graph
from rtserve.streaming.build import stream
from rtserve.tables import aligned

__all__ = ["stream_text", "stream_to_file"]

NAMES = ("layer", "computed", "kept", "M per hop", "M per window", "")


def stream_to_file(
    path: Path, output: Path, *, hop: int, engine: str = "onnxruntime", force: bool = False
) -> dict[str, Any]:
    """Write the step of a graph and return the report as JSON values; nothing is written unless parity holds.

    Raises
    ------
    RtserveError
        As `rtserve.streaming.build.stream`, and where `output` may not be written.
    """
    check_writable(output, force=force)
    if output.resolve() == path.resolve():
        raise InputError(f"output {output} is the graph itself", hint="choose another name")
    graph = Graph.load(path)
    step, report = stream(graph, hop=hop, engine=engine)
    step.save(output, force=force)
    return {
        "output": str(output),
        "sha256": step.digest,
        "bytes": output.stat().st_size,
        "window": {"graph": str(path), "sha256": graph.digest, "n_times": graph.input_spec.n_times},
        "hop": hop,
        "sfreq": graph.input_spec.sfreq,
        "input": str(graph.input_spec),
        "output_spec": str(graph.output_spec),
        "first_answer": step.first_answer,
        "states": [{"name": name, "shape": list(shape)} for name, shape in step.states],
        "state_numbers": report.state_numbers,
        "macs": {"window": report.macs_window, "form": report.macs_form, "step": report.macs_step},
        "nodes": {"window": report.nodes_window, "step": report.nodes_step},
        "layers": [dataclasses.asdict(layer) for layer in report.layers],
        "parity": report.parity.to_dict() | {"summary": report.parity.summary()},
    }


def stream_text(report: dict[str, Any], *, explain: bool, width: int | None = None) -> str:
    """Return the report as a few lines for a person; `width` are a terminal's columns."""
    macs, nodes, hop = report["macs"], report["nodes"], report["hop"]
    every = f" ({1e3 * hop / report['sfreq']:g} ms)" if report["sfreq"] else ""
    return "\n".join(
        [
            f"{report['output']}  an answer every {hop} samples{every}, {report['bytes']:,} bytes",
            f"  window  {report['input']}; output {report['output_spec']}",
            f"  answers are the windows' from step {report['first_answer']} on",
            f"  state   {len(report['states'])} arrays, {report['state_numbers']:,} numbers for each stream",
            *(_layer_lines(report["layers"], width) if explain else ()),
            f"  work    {_work(macs)}; {nodes['window']} -> {nodes['step']} nodes",
            f"  parity  {report['parity']['summary']}",
            f"  sha256  {report['sha256']}",
        ]
    )


def _work(macs: dict[str, int]) -> str:
    """Say what a window and a step cost; the form that is streamed may do more than the graph, transforms as products."""
    window, form, step = (macs[key] / 1e6 for key in ("window", "form", "step"))
    other = f" ({form:.2f} M in the form that is streamed)" if abs(form - window) > 0.01 * window else ""
    fewer = f", {window / step:.1f} times fewer" if 0 < step < window else ""
    return f"{window:.2f} M multiply-adds per window{other} -> {step:.2f} M per hop{fewer}"


def _layer_lines(layers: list[dict[str, Any]], width: int | None) -> list[str]:
    """Return a table: what is computed and kept of every layer, with multiply-adds per hop against per window."""
    rows = []
    for one in layers:
        columns = one["columns"]
        computed = f"{one['computed']} of {columns}" if columns else "all"
        other = f"{one['elsewhere']} as an earlier layer has them" if one["elsewhere"] else ""
        step, window = (f"{one[key] / 1e6:.3f}" if one["macs_window"] else "" for key in ("macs_step", "macs_window"))
        note = "; ".join(part for part in (one["why"], other) if part)
        rows.append((f"{one['op']} {one['name']}", computed, str(one["kept"] or ""), step, window, note))
    return aligned(NAMES, rows, width, right=range(1, 5), wraps=True, indent=2)
