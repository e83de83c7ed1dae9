"""The engines' tables of measured constants on this machine: what each says, and what is found here.

    python benchmarks/engine_tables.py [--only TEXT] [--processes 9] [-o benchmarks/results/engine_tables.json]

The compiler's choices follow from `rtserve/fusion/engines/`. Every constant there has a row: tiny graphs of two or more
sizes, timed by turns in one process on one thread by its processor time, whose slope or difference the constant is, and for
a threshold the size from which a rewrite's form beats the plain one. Nine fresh processes give a median and an interval; a
constant that no time gives says why. Rows that the output has of the same code and machine are kept, so that several short
runs, each of some rows (`--only`), are one record.

Nothing is written into the tables: the page names the constants that are off by more than a factor of `OFF`, and what they
would be; a person decides, and times plans with the new values (`benchmarks/old_new.py`). Passes compare sums of these
constants, so a machine on which all work is faster by one factor decides as before: beside every ratio of a time stands the
same in units of the engine's median ratio, and that is what tells which choices are another machine's.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import os
import pkgutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from engine_tables_micro import Measure, Unmeasured
from engine_tables_onnxruntime import MEASURES as OF_ONNXRUNTIME
from engine_tables_others import MEASURES as OF_OTHERS
from measured_code import code_digest, require_beside

import rtserve.fusion.engines
from rtserve.errors import EnvironmentMissingError
from rtserve.files import write_bytes
from rtserve.fusion.engines.onnxruntime import COSTS
from rtserve.measure.results import environment, save_result
from rtserve.measure.timing import RESTARTS, interleave

HERE = Path(__file__).resolve().parent
CODE = (
    "rtserve.fusion.program.affine_end",
    "rtserve.fusion.program.stage",
    "rtserve.graphs.runners",
    "rtserve.measure.timing",
    "rtserve.runtime.executor",
)
"""What makes, runs and times the graphs."""
OFF = 1.5
MEASURES: dict[str, Measure | Unmeasured] = {one.name: one for one in (*OF_ONNXRUNTIME, *OF_OTHERS)}


def tables() -> dict[str, float]:
    """Return what the engines' tables say, by ``engine.constant``: every number in capitals and every field of `Costs`."""
    found = {}
    for module in pkgutil.iter_modules(rtserve.fusion.engines.__path__):
        values = vars(importlib.import_module(f"rtserve.fusion.engines.{module.name}")).items()
        numbers = {name: value for name, value in values if name.isupper() and type(value) in (int, float)}
        found |= {f"{module.name}.{name}": value for name, value in numbers.items()}
    return found | {f"onnxruntime.{name}": value for name, value in asdict(COSTS).items()}


def require_rows(said: Mapping[str, float]) -> None:
    """Stop where a constant has no row, or a row no constant."""
    if unmatched := sorted(said.keys() ^ MEASURES.keys()):
        raise SystemExit(
            f"{', '.join(unmatched)}: write how it is measured in benchmarks/engine_tables_*.py, or why not"
        )


def measured(measure: Measure, rounds: int) -> dict[str, Any]:
    """Return the constant as this process finds it, or why it cannot."""
    try:
        calls: Any = {key: form.call() for key, form in measure.forms.items()}
    except EnvironmentMissingError as error:
        return {"reason": error.message}
    timings = interleave(calls, rounds=rounds, warmup_us=20_000, threads=1, clock=time.process_time_ns)
    return {"value": measure.constant({key: timings.median_us(key) for key in calls})}


def in_processes(names: Sequence[str], processes: int, rounds: int) -> list[dict[str, Any]]:
    """Return what fresh processes find, one after the other."""
    command = [sys.executable, __file__, "--one", json.dumps(list(names)), "--rounds", str(rounds)]
    about = os.environ | {"PYTHONPATH": str(HERE.parent), "OMP_NUM_THREADS": "1"}
    found = []
    for number in range(1, processes + 1):
        print(f"[{number}/{processes}] {len(names)} constants ...", file=sys.stderr, flush=True)
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, env=about)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    return found


def row(name: str, said: float, found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one constant's row: what the table says, and every process's value or the reason why there is none."""
    one = MEASURES[name]
    if isinstance(one, Unmeasured):
        return {"name": name, "table": said, "reason": one.reason}
    reasons = [process["reason"] for process in found if "reason" in process]
    made = {"name": name, "table": said, "how": one.how, "ladder": list(one.ladder)}
    if reasons:
        return made | {"reason": reasons[0]}
    values = [process["value"] for process in found]
    if not all(map(math.isfinite, values)) or interval(values)[1] <= 0:
        return made | {"reason": "lost in what else the graphs take here: its interval holds 0 or less"}
    return made | {"values": values}


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Return median and ends: of nine the second smallest and second largest, which hold it in 96 of 100 cases."""
    ordered, cut = sorted(values), int(len(values) >= RESTARTS)
    return median(ordered), ordered[cut], ordered[-1 - cut]


def engine_of(one: Mapping[str, Any]) -> str:
    """Return which engine's table a row is of."""
    return str(one["name"]).partition(".")[0]


def slower(one: Mapping[str, Any]) -> float | None:
    """Return how many times as long as the table says work takes here; None for what is no time, or was not measured."""
    name = one["name"].lower()
    if "values" not in one or not name.endswith("_us"):
        return None
    ratio = interval(one["values"])[0] / one["table"]
    return 1 / ratio if name.endswith("_per_us") else ratio


def speeds(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return by engine the median of how many times as long work takes here."""
    found: dict[str, list[float]] = {}
    for one in rows:
        if (ratio := slower(one)) is not None:
            found.setdefault(engine_of(one), []).append(ratio)
    return {engine: median(ratios) for engine, ratios in found.items()}


def verdict(one: Mapping[str, Any]) -> str:
    """Return whether a constant is ``off`` with all of its interval, ``unsure``, ``near``, or not measured."""
    if "values" not in one:
        return "not measured"
    low, high = (end / one["table"] for end in interval(one["values"])[1:])
    if low > OFF or high < 1 / OFF:
        return "off"
    return "near" if low >= 1 / OFF and high <= OFF else "unsure"


def number(value: float) -> str:
    """Return a constant in two digits, as a table would say it."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:.7f}".rstrip("0").rstrip(".")


def here(one: Mapping[str, Any]) -> str:
    """Return what was found; that it lies beyond what was tried where it is an end of its ladder."""
    middle, ladder = interval(one["values"])[0], one["ladder"]
    bound = {middle <= ladder[0]: "at most ", middle >= ladder[-1]: "at least "}.get(True, "") if ladder else ""
    return bound + number(middle)


def cells(one: Mapping[str, Any], speed: Mapping[str, float]) -> list[str]:
    """Return a row of the page."""
    if "values" not in one:
        return [one["name"], number(one["table"]), "", "", "", f"not measured: {one['reason']}"]
    middle, low, high = interval(one["values"])
    ratio = slower(one)
    evenly = "" if ratio is None else f"{ratio / speed[engine_of(one)]:.2f}"
    found = f"{here(one)} [{number(low)}, {number(high)}]"
    return [one["name"], number(one["table"]), found, f"{middle / one['table']:.2f}", evenly, one["how"]]


def page(record: Mapping[str, Any]) -> str:
    """Return the record as Markdown."""
    rows, about = record["rows"], record["environment"]
    speed = speeds(rows)
    lines = [
        "# The engines' tables, measured again", "",
        "What the compiler's choices follow from, as the tables say it and as this machine has it.", "",
        f"{about['cpu']}, one thread, onnxruntime {about['versions'].get('onnxruntime')}, torch"
        f" {about['versions'].get('torch')}, OpenVINO {about['versions'].get('openvino', 'none')}; processor time, by turns;"
        f" median of {record['processes']} processes and its interval. Code {record['code']}.", "",
        *(f"- {engine}: work takes {ratio:.2f} of what the table says (the median of its times)."
          for engine, ratio in speed.items()), "",
        "\"Evenly\" is how much longer a piece of work takes than the table says, in units of that: passes compare sums of"
        " these, and 1 everywhere would decide as the table does.", "",
        "| constant | table | here | ratio | evenly | measured by |", "|---|---:|---:|---:|---:|---|",
        *(f"| {' | '.join(cells(one, speed))} |" for one in rows), "",
        *proposals(rows),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def uneven(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which times are off by more than `OFF` in units of their engine's median ratio."""
    speed = speeds(rows)
    ratios = {one["name"]: ratio / speed[engine_of(one)] for one in rows if (ratio := slower(one)) is not None}
    return [name for name, ratio in ratios.items() if abs(math.log(ratio)) > math.log(OFF)]


def proposals(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return which constants are off, and what they would be here."""
    off = [one for one in rows if verdict(one) == "off"]
    unsure = ", ".join(one["name"] for one in rows if verdict(one) == "unsure")
    return [
        f"## Off by more than a factor of {OFF}", "",
        *(f"- {one['name']}: {number(one['table'])} -> {here(one)}" for one in off),
        *([] if off else ["None."]), "",
        f"Unsure, their interval reaches beyond and within: {unsure or 'none'}.", "",
        "Off in units of their engine's median as well, so that choices may differ here, as by the sizes in the list:"
        f" {', '.join(uneven(rows)) or 'none'}.", "",
        "The tables were not changed. What is changed is tried on plans: `python benchmarks/old_new.py CHECKOUT --times`.",
    ]  # fmt: skip


def kept(output: Path | None, known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows that a file has of the same code, machine and number of processes."""
    earlier = json.loads(output.read_text()) if output is not None and output.exists() else {}
    same = all(earlier.get(key) == value for key, value in known.items())
    return {one["name"]: one for one in earlier["rows"]} if same else {}


def main() -> None:
    """Measure, print the page, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="constants whose ENGINE.NAME holds this")
    parser.add_argument("--processes", type=int, default=RESTARTS)
    parser.add_argument("--rounds", type=int, default=8, help="by turns, in a process")
    parser.add_argument("-o", "--output", type=Path, help="the record (JSON, and a table beside it)")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        chosen = [one for name in arguments.one if isinstance(one := MEASURES[name], Measure)]
        print(json.dumps({one.name: measured(one, arguments.rounds) for one in chosen}))
        return
    require_beside()
    said = tables()
    require_rows(said)
    names = [name for name in MEASURES if arguments.only in name]
    found = in_processes(names, arguments.processes, arguments.rounds)
    scripts = sorted(HERE.glob("engine_tables*.py"))
    known = {
        "code": code_digest(CODE, scripts),
        "environment": environment(threads=1),
        "processes": arguments.processes,
    }
    rows = kept(arguments.output, known) | {
        name: row(name, said[name], [process.get(name, {}) for process in found]) for name in names
    }
    record = known | {"rows": [rows[name] for name in MEASURES if name in rows]}
    if arguments.output:
        save_result(arguments.output, "engine_tables", record, force=True)
        write_bytes(arguments.output.with_suffix(".md"), page(record).encode(), force=True)
    print(page(record))


if __name__ == "__main__":
    main()
