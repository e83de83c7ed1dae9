"""What a stream costs: the answers of a benchmark hop after hop, and the work of a step against that of a window."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.hops import HopTimes
from rtserve.report.collect import Document
from rtserve.report.figures import Figure
from rtserve.report.page import Section, Table
from rtserve.report.svg import ROLES, canvas, log_scale, to_svg

__all__ = ["hop_trace", "stream_section"]

DRAWN = 1200
"""More hops than this are drawn as the longest answer of as many stretches: no stall is left out."""
_LINES = ("first", "second", "third", "fourth", "good", "ink")


def hop_trace(hops: Mapping[str, HopTimes], *, title: str) -> Figure:
    """Draw when the answer of each hop was there, after the hop was due, against the time of the stream.

    Parameters
    ----------
    hops : mapping of str to HopTimes
        Name and times of each graph that was called at one pace.
    title : str
        Heading.

    Raises
    ------
    InputError
        Where there is nothing to draw.
    """
    if not hops:
        raise InputError("no hop to draw", hint="give at least one stream of calls")
    hop_ms = next(iter(hops.values())).hop_ms
    summaries = {name: times.summary() for name, times in hops.items()}
    said = "; ".join(
        f"{name} p50 {s['answer_us']['p50']:.4g}, longest {s['answer_us']['max']:.4g} us, {s['misses']['count']} of"
        f" {s['hops']} hops missed, {s['stalls']['count']} in stalls"
        for name, s in summaries.items()
    )
    alt = f"Time to the answer of each hop of {hop_ms:g} ms: {said}."
    longest = max(s["answer_us"]["max"] for s in summaries.values())
    with canvas(5.6, 3.4) as (figure, axes):
        for k, (name, times) in enumerate(hops.items()):
            at, answer = _longest_of_stretches(times)
            axes.plot(at, answer, color=ROLES[_LINES[k % len(_LINES)]], linewidth=1.1, label=name)
        if 1e3 * hop_ms <= 3 * longest:  # a deadline far above every answer would flatten them all
            axes.axhline(1e3 * hop_ms, color=ROLES["bad"], linewidth=1.2, linestyle=(0, (5, 3)), label="the next hop")
        axes.margins(y=0.3)
        if longest > 8 * min(float(times.answer_us.min()) for times in hops.values()):
            axes.set_yscale("log")  # margins in what is drawn: a stall is many times the others
            log_scale(axes.yaxis)
        axes.set_xlabel("time of the stream, s")
        axes.set_ylabel("time to the answer, us")
        axes.legend(loc="upper right", fontsize=8.5)
        svg = to_svg(figure, alt=alt)
    rows = tuple(
        (
            name,
            s["hops"],
            s["answer_us"]["p50"],
            s["jitter_us"],
            s["answer_us"]["max"],
            f"{s['misses']['share']:.2%} [{s['misses']['low']:.2%}, {s['misses']['high']:.2%}]",
            s["stalls"]["count"],
        )
        for name, s in summaries.items()
    )
    columns = ("what", "hops", "p50 us", "jitter us", "longest us", "missed", "hops in stalls")
    return Figure(title=title, svg=svg, alt=alt, columns=columns, rows=rows, caption=f"a call every {hop_ms:g} ms")


def _longest_of_stretches(times: HopTimes) -> tuple[np.ndarray, np.ndarray]:
    """Return seconds and microseconds to draw: every hop, or the longest answer of each stretch of many."""
    answer = times.answer_us
    parts = np.array_split(np.arange(len(answer)), min(DRAWN, len(answer)))
    worst = np.array([part[np.argmax(answer[part])] for part in parts])
    return worst * times.hop_ms / 1e3, answer[worst]


def stream_section(benches: Sequence[Document], streams: Sequence[Document]) -> Section | None:
    """Return the part on streams; None where nothing was streamed.

    Parameters
    ----------
    benches : sequence of (str, dict)
        Those with ``--hop-ms`` and raw times have a picture.
    streams : sequence of (str, dict)
        What ``rtserve stream --json`` says.
    """
    figures = []
    for name, document in benches:
        raw = (document.get("raw") or {}).get("hops") or {}
        if raw:
            hops = {key: HopTimes.from_dict(values) for key, values in raw.items()}
            figures.append(hop_trace(hops, title=f"Answers, {name}"))
    tables = [Table.of([_stream_row(document) for _, document in streams])] if streams else []
    tables += [_layer_table(name, document) for name, document in streams]
    if not figures and not tables:
        return None
    return Section(title="Streaming", tables=tuple(tables), figures=tuple(figures))


def _stream_row(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a step costs against its window, and whether it gives the window's answers."""
    macs, rate = document["macs"], document["sfreq"]
    every = f" ({1e3 * document['hop'] / rate:g} ms)" if rate else ""
    return {
        "step": _file(document["output"]),
        "of": _file(document["window"]["graph"]),
        "an answer every": f"{document['hop']} samples{every}",
        "M per window": macs["window"] / 1e6,
        "M per hop": macs["step"] / 1e6,
        "of a window's": f"{macs['step'] / macs['window']:.1%}" if macs["window"] else None,
        "kept numbers": f"{document['state_numbers']:,}",
        "its answers": f"{document['parity']['verdict']}, worst {document['parity']['max_error']:.2g}",
        "sha256": document["sha256"],
    }


def _file(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _layer_table(name: str, document: Mapping[str, Any]) -> Table:
    """Return what is computed and kept of every layer of a step."""
    rows = [
        {
            "layer": f"{layer['op']} {layer['name']}",
            "computed": f"{layer['computed']} of {layer['columns']}" if layer["columns"] else "all",
            "kept": layer["kept"] or None,
            "M per hop": layer["macs_step"] / 1e6 if layer["macs_window"] else None,
            "M per window": layer["macs_window"] / 1e6 if layer["macs_window"] else None,
            "why": layer["why"] or None,
        }
        for layer in document["layers"]
    ]
    return Table.of(rows, caption=f"{name}: samples computed anew and kept by each layer, with multiply-adds")
