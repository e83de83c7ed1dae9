"""The zoo: does it work for this network, and how much faster? One table, one command.

    python benchmarks/zoo.py [--only NAME,...] [--shape 129x200@100]

Every network goes through three processes of its own, each with a timeout: prepare (build, export), judge (optimise,
fuse, parity) and time. A row is written as soon as it is whole, so an interrupted run goes on where it stopped; rows
made by other code than today's are made anew. Results: ``results/zoo.json`` and ``results/zoo.md``.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click
from zoo_catalogue import ROOT, Entry, Shape, catalogue
from zoo_store import Store, blank_row, code_digest

from rtserve.errors import InputError, RtserveError
from rtserve.graphs.exporter import parse_settings
from rtserve.nearest import meant

HERE = Path(__file__).resolve().parent
CACHE = ROOT / ".zoo-cache"
STAGES = ("prepare", "judge", "time")


class StageError(Exception):
    """A stage that died or ran out of time; the text says which and why."""


def run_stage(stage: str, job: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
    """Run one stage in its own process and return what it found.

    Raises
    ------
    StageError
        Where the process dies, or takes longer than `timeout_s`.
    """
    with tempfile.TemporaryDirectory(prefix="rtserve-zoo-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job))
        command = [sys.executable, str(HERE / f"zoo_{stage}.py"), str(folder / "job.json"), str(folder / "result.json")]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "RTSERVE_STRICT": "1"}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=ROOT, env=environment
            )
        except subprocess.TimeoutExpired:
            raise StageError(f"{stage}: longer than {timeout_s:g} s") from None
        if not (folder / "result.json").exists():
            last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no message")
            raise StageError(f"{stage}: the process died (exit {done.returncode}): {last.strip()[:200]}")
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return result


def stage_job(entry: Entry, options: dict[str, Any]) -> dict[str, Any]:
    """Return what the stages are told about an entry."""
    named = {key: getattr(entry, key) for key in ("model", "family", "exporter", "settings")}
    return named | options | {"shape": str(entry.shape), "openvino": True}


def make_row(entry: Entry, options: dict[str, Any]) -> dict[str, Any]:
    """Return the row of one network; a stage that fails leaves its reason and ends the row."""
    timeout_s, job = options["timeout_s"], stage_job(entry, options)
    row = blank_row(entry)
    try:
        row |= run_stage("prepare", job, timeout_s=timeout_s)
        if row["export"] != "ok":
            return row
        job["folder"] = str(Path(options["cache"]) / row.pop("cache"))
        row |= run_stage("judge", job, timeout_s=timeout_s)
        row |= _timed(job | _digests(row), timeout_s)
    except StageError as error:
        row["failed"] = str(error)
        if row["export"] is None:
            row["export"] = str(error)
    return row


def _digests(row: dict[str, Any]) -> dict[str, Any]:
    """Return which graphs were judged."""
    return {key: value for key, value in row.items() if key.startswith("sha256_ours")}


def _timed(job: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Time the row; where the process dies, once more without OpenVINO, whose plugin has crashed before."""
    try:
        return run_stage("time", job, timeout_s=timeout_s)
    except StageError as error:
        again = run_stage("time", job | {"openvino": False}, timeout_s=timeout_s)
        return again | {"missing": dict.fromkeys(("openvino", "openvino_ours"), str(error))}


def verdict(row: dict[str, Any]) -> str:
    """Return a row as one line for the log."""
    if "excluded" in row:
        return f"not in the zoo: {row['excluded']}"
    if row["export"] != "ok":
        return f"no export: {row['export']}"
    if row["ratio"] is None:
        return f"exported, then failed: {row['failed']}"
    ratio = {k: f"{v:.2f}" if v else "-" for k, v in row["ratio"].items()}
    fused = "fused ok" if row["fused"] == "ok" else f"not fused: {row['fused']}"
    applied = ", ".join(dict.fromkeys(p["name"] for p in row["passes"] if p["status"] == "applied")) or "no pass"
    return (
        f"eager {ratio['eager']}, onnxruntime {ratio['onnxruntime']}, openvino {ratio['openvino']}; {fused}; {applied}"
    )


def select(entries: list[Entry], only: str | None) -> list[Entry]:
    """Return the entries named in `only` (all where it is None).

    Raises
    ------
    InputError
        Where a name is not in the zoo.
    """
    if only is None:
        return entries
    wanted = [name.strip() for name in only.split(",") if name.strip()]
    known = {entry.model: entry for entry in entries}
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise InputError(
            f"the zoo has no network {', '.join(unknown) or '(none named)'}",
            hint=meant(" ".join(unknown[:1]), known, f"it has {', '.join(known)}"),
        )
    return [known[name] for name in wanted]


def run(entries: list[Entry], store: Store, options: dict[str, Any], *, again: bool) -> None:
    """Make the rows that are missing or stale (all of `entries` with `again`), saving after each."""
    digest = code_digest()
    todo = [entry for entry in entries if again or not store.current(entry, digest)]
    if len(todo) < len(entries):
        click.echo(f"{len(entries) - len(todo)} rows are of today's code and are kept", err=True)
    begun = time.perf_counter()
    for done, entry in enumerate(todo):
        left = (time.perf_counter() - begun) / done * (len(todo) - done) / 60 if done else None
        forecast = f", about {left:.0f} min left" if left is not None else ""
        click.echo(f"[{done + 1}/{len(todo)}{forecast}] {entry.key()} ...", err=True)
        start = time.perf_counter()
        row = make_row(entry, options) | {"code": digest}
        store.put(entry, row | {"seconds": round(time.perf_counter() - start, 1)})
        click.echo(f"    {verdict(row)}", err=True)


def retime_rows(entries: list[Entry], store: Store, options: dict[str, Any], *, again: bool) -> None:
    """Time the rows again that have been timed, of today's code (of any code with `again`)."""
    digest = code_digest()
    rows = {entry: store.rows.get(entry.key()) for entry in entries if again or store.current(entry, digest)}
    todo = {entry: row for entry, row in rows.items() if row and row["ratio"]}
    for done, (entry, row) in enumerate(todo.items(), start=1):
        click.echo(f"[{done}/{len(todo)}] {entry.key()} ...", err=True)
        job = stage_job(entry, options)
        try:
            job["folder"] = str(
                Path(options["cache"]) / run_stage("prepare", job, timeout_s=options["timeout_s"])["cache"]
            )
            row |= _timed(job | _digests(row), options["timeout_s"])
        except StageError as error:
            row["failed"] = str(error)
        store.put(entry, row)
        click.echo(f"    {verdict(row)}", err=True)


@click.command(help=__doc__.split("\n\n")[0])
@click.option("--only", help="Names, comma-separated: make just these rows anew.")
@click.option("--shape", default="129x200@100", show_default=True, help="CHANNELSxSAMPLES@HZ.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting for every exporter, e.g. n_outputs=4."
)
@click.option("--timeout", "timeout_s", default=1200.0, show_default=True, help="Seconds each stage of a row may take.")
@click.option("--rounds", default=30, show_default=True, help="Rounds of interleaved bursts.")
@click.option("--fresh", is_flag=True, help="Export again even where the export of the same code is kept.")
@click.option("--all", "again", is_flag=True, help="Make every row anew.")
@click.option(
    "--lock", type=click.Path(dir_okay=False), help="File locked while timing, for machines that others time on."
)
@click.option(
    "--clock",
    type=click.Choice(["wall", "cpu"]),
    default="wall",
    show_default=True,
    help="cpu: processor time of the process, for a machine that others use at the same time.",
)
@click.option("--retime", is_flag=True, help="Time rows again that are of today's code; their other fields stay.")
@click.option("--cache", default=str(CACHE), show_default=".zoo-cache", help="Folder that keeps exports.")
@click.option(
    "-o", "--output", default=str(HERE / "results"), show_default="benchmarks/results", help="Folder of zoo.json."
)
def main(
    only: str | None, shape: str, settings: tuple[str, ...], timeout_s: float, rounds: int, fresh: bool, again: bool,
    lock: str | None, clock: str, retime: bool, cache: str, output: str,
) -> None:  # fmt: skip
    try:
        entries = select(catalogue(Shape.parse(shape), parse_settings(settings)), only)
        store = Store(Path(output))
        options = {
            "timeout_s": timeout_s,
            "rounds": rounds,
            "fresh": fresh,
            "lock": lock,
            "cache": cache,
            "clock": clock,
        }
        work = retime_rows if retime else run
        work(entries, store, options, again=again or only is not None)
        store.write_table()
    except RtserveError as error:
        click.echo(f"error: {error.message}\n  hint: {error.hint}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted; the rows made so far are kept, the same command goes on", err=True)
        sys.exit(130)
    click.echo(str(Path(output) / "zoo.md"))


if __name__ == "__main__":
    main()
