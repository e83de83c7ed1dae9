"""The record of `benchmarks/gpu.py` as JSON and as a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

BARS = (
    ("CompactRT", "W4", (1,), "rtserve", "vmap, CUDA graph", 0.8),
    ("CompactRT", "W1", (1,), "rtserve", "one eager forward", 0.30),
    ("EEGNeX", "W1", (1,), "rtserve", "one eager forward", 0.22),
    ("CompactRT", "W4", (64, 512), "rtserve", "vmap, CUDA graph", 0.5),
)
"""Family, workload, batch sizes, what, in units of what, at most."""
FIRSTS = ("first, plainly", "second, captured", "third, replayed")
TITLE = "# Plans on a CUDA device"


def write_table(record: dict[str, Any], folder: Path) -> None:
    """Write FOLDER/gpu.json and gpu.md."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "gpu.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    (folder / "gpu.md").write_text("\n".join(page(record)) + "\n", "utf-8")


def page(record: dict[str, Any]) -> list[str]:
    """Return the page's lines."""
    names = list(dict.fromkeys(name for row in record["rows"] for name in row["us"] or row["errors"]))
    head = [TITLE, "", f"{record['device']}, torch {record['torch']}; float32 with TF32 off unless named.", ""]
    return [
        *head,
        *_times(record, names),
        *_bars(record),
        *_firsts(record),
        *_kernels(record),
        *_errors(record),
        *_refused(record),
    ]


def _rows(record: dict[str, Any], names: list[str], field: str, shape: str) -> list[str]:
    lines = [f"| | batch | {' | '.join(names)} |", f"|---|---:|{'---:|' * len(names)}"]
    for row in record["rows"]:
        cells = [format(row[field][name], shape) if name in row[field] else "" for name in names]
        lines.append(f"| {row['family']} {row['workload']} | {row['batch']} | {' | '.join(cells)} |")
    return [*lines, ""]


def _times(record: dict[str, Any], names: list[str]) -> list[str]:
    if not any(row["us"] for row in record["rows"]):
        return []
    return ["## Microseconds a call", "", *_rows(record, names, "us", ",.0f")]


def _firsts(record: dict[str, Any]) -> list[str]:
    """The first calls of a batch size, beside those that follow."""
    rows = [{**row, "first_ms": dict(zip(FIRSTS, row["first_ms"], strict=True))} for row in record["rows"]
            if row.get("first_ms")]  # fmt: skip
    lines = ["## Milliseconds of rtserve's first calls", "", *_rows({"rows": rows}, list(FIRSTS), "first_ms", ",.1f")]
    return lines if rows else []


def _kernels(record: dict[str, Any]) -> list[str]:
    names = list(dict.fromkeys(name for row in record["rows"] for name in row.get("kernels", {})))
    rows = [row for row in record["rows"] if "kernels" in row]
    return ["## Kernels a call launches", "", *_rows({"rows": rows}, names, "kernels", ",d")] if rows else []


def _errors(record: dict[str, Any]) -> list[str]:
    names = list(dict.fromkeys(name for row in record["rows"] for name in row["errors"]))
    return [
        "## Largest deviation from float64, relative to the largest answer",
        "",
        *_rows(record, names, "errors", ".1e"),
    ]


def _bars(record: dict[str, Any]) -> list[str]:
    lines = []
    for family, workload, batches, what, unit, most in BARS:
        for row in record["rows"]:
            if (row["family"], row["workload"]) == (family, workload) and row["batch"] in batches:
                us = row["us"]
                if what in us and unit in us:
                    ratio = us[what] / us[unit]
                    verdict = "holds" if ratio <= most else "does NOT hold"
                    lines.append(
                        f"- {family} {workload}, batch {row['batch']}: {ratio:.2f} of {unit}; at most {most:g} {verdict}"
                    )
    slow = [
        f"- {row['family']} {row['workload']}, batch {row['batch']}: {ratio:.2f} of {unit}; at most 1.05 does NOT hold"
        for row in record["rows"]
        for unit in ("one eager forward, CUDA graph",)
        if row["workload"] == "W1" and unit in row["us"] and "rtserve" in row["us"]
        if (ratio := row["us"]["rtserve"] / row["us"][unit]) > 1.05
    ]
    return ["## Bars", "", *lines, *slow, ""] if lines or slow else []


def _refused(record: dict[str, Any]) -> list[str]:
    lines = [
        f"- {row['family']} {row['workload']}, batch {row['batch']}: {name}: {why}"
        for row in record["rows"]
        for name, why in row["refused"].items()
    ]
    if record["left_out"]:
        lines.append(f"- no time left for {', '.join(record['left_out'])}")
    return ["## What did not run", "", *lines] if lines else []
