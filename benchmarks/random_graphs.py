"""Random small networks fused at random: how many are equal, refused by name, wrong, or end in a traceback.

``python benchmarks/random_graphs.py [--count 20000] [-o benchmarks/results]`` judges the seeds that are not yet recorded
(tests/fusion/random_graphs.py says how), and writes ``random_graphs.json`` and ``.md``; stopped, it goes on where it was.
``--again`` judges once more the seeds that were not equal, with the code as it is now; ``--jobs`` has several processes
judge. The record says which seeds which code judged. Exit 1 where one is wrong or crashed.
"""

from __future__ import annotations

import gc
import multiprocessing
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from measured_code import code_digest, require_beside

if TYPE_CHECKING:
    from tests.fusion.random_graphs import Verdict

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
EVERY = 50
MODULES = (
    "rtserve.fusion.fuse", "rtserve.fusion.plan", "rtserve.graphs.graph", "rtserve.graphs.runners",
    "rtserve.graphs.witness", "rtserve.runtime.executor",
)  # fmt: skip
"""What is on trial, with all that it imports of its own rooms."""
SCRIPTS = tuple(ROOT / "tests" / "fusion" / f"random_{name}.py" for name in ("graphs", "layers", "moves"))
UNKNOWN = "not recorded"


def load(path: Path) -> dict[str, Any]:
    """Return what is recorded, or nothing."""
    from rtserve.measure.results import load_result

    if path.exists():
        return load_result(path, "random_graphs")
    return {"seeds": 0, "equal": 0, "engines": {}, "others": {}, "undone": {}, "judged": []}


def enter_code(record: dict[str, Any], first: int, code: str) -> None:
    """Have the record say that the seeds from `first` to its last were judged by `code`; what it lacks is not known."""
    judged = record.setdefault("judged", [{"first": 0, "last": first - 1, "code": UNKNOWN}] if first else [])
    last = judged[-1] if judged else None
    if last is not None and last["code"] == code:
        last["last"] = record["seeds"] - 1
    elif record["seeds"] > first:
        judged.append({"first": first, "last": record["seeds"] - 1, "code": code})


def settle() -> None:
    """Have what is loaded left alone by the collector, which took a quarter of the time going through it."""
    import openvino  # noqa: F401
    import torch  # noqa: F401

    import tests.fusion.random_graphs  # noqa: F401

    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def judged(seed: int) -> Verdict:
    """Judge a seed."""
    from tests.fusion.random_graphs import judge

    return judge(seed)


def verdicts(seeds: list[int] | range, jobs: int) -> Iterator[Verdict]:
    """Yield what becomes of the seeds, in their order."""
    if jobs == 1:
        settle()
        yield from map(judged, seeds)
        return
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=settle) as pool:
        yield from pool.map(judged, seeds, chunksize=5)


def enter(record: dict[str, Any], verdict: Verdict, code: str) -> None:
    """Enter what became of a seed, and by which code where that is not the one of its neighbours."""
    seed = verdict.seed
    record["others"].pop(str(seed), None)
    record["undone"].pop(str(seed), None)
    if verdict.kind == "equal":
        record["equal"] += 1
    else:
        record["others"][str(seed)] = {"kind": verdict.kind, "why": last_lines(verdict.why), "code": code}
    if verdict.undone:
        record["undone"][str(seed)] = [last_lines(text) for text in verdict.undone]
    record["engines"][verdict.engine] = record["engines"].get(verdict.engine, 0) + 1


def last_lines(text: str) -> str:
    """Return a reason without what differs between machines: paths and line numbers of a traceback."""
    lines = [line for line in text.strip().splitlines() if line.strip() and not line.lstrip().startswith("File ")]
    return " | ".join(line.strip() for line in lines[-3:])[:500]


def counts(record: dict[str, Any]) -> dict[str, int]:
    """Return how many ended how."""
    kinds = Counter(entry["kind"] for entry in record["others"].values())
    return {"equal": record["equal"], **{kind: kinds[kind] for kind in ("refused", "wrong", "crash")}}


def page(record: dict[str, Any]) -> str:
    """Return the record as Markdown."""
    found = counts(record)
    engines = ", ".join(f"{count} for {engine}" for engine, count in sorted(record["engines"].items()))
    lines = [
        "# Random networks fused at random",
        "",
        f"{record['seeds']} seeds ({engines}): one to three networks of up to seven random layers, one to five views, mean,",
        "weighted, median or trimmed merge. Truth: each member in onnxruntime on windows that numpy transformed, merged in",
        "numpy. The fused graph is run in onnxruntime, in the torch executor, and in OpenVINO where it was laid out for it.",
        "",
        "| ended | seeds |",
        "|---|--:|",
        *(f"| {kind} | {count} |" for kind, count in found.items()),
        "",
        f"In {len(record['undone'])} of them the compiler took a step back that had raised or changed the numbers.",
        "",
        f"By which code (a digest of what is on trial and of the generator): {codes(record)}. What was not equal is judged"
        " again by later code (`--again`), and then says by which.",
    ]
    for title, entries in (("Not equal", {s: told(e) for s, e in record["others"].items()}),
                           ("Steps taken back", {s: "; ".join(e) for s, e in record["undone"].items()})):  # fmt: skip
        if entries:
            lines += ["", f"## {title}", ""]
            lines += [
                f"- {seed}: {text}" for seed, text in sorted(entries.items(), key=lambda item: int(item[0]))[:200]
            ]
    return "\n".join(lines) + "\n"


def told(entry: dict[str, str]) -> str:
    """Return how a seed ended that was not equal, and by which code where that is known."""
    code = entry.get("code", UNKNOWN)
    return f"{entry['kind']}{f' by {code}' if code != UNKNOWN else ''}: {entry['why']}"


def codes(record: dict[str, Any]) -> str:
    """Return which seeds were judged by which code."""
    return ", ".join(f"seeds {part['first']} to {part['last']} {part['code']}" for part in record["judged"])


def save(folder: Path, record: dict[str, Any]) -> None:
    """Write both files."""
    from rtserve.files import write_bytes
    from rtserve.measure.results import environment, save_result

    payload = {key: value for key, value in record.items() if key != "schema"} | {"environment": environment()}
    save_result(folder / "random_graphs.json", "random_graphs", payload, force=True)
    write_bytes(folder / "random_graphs.md", page(record).encode(), force=True)


@click.command()
@click.option("--count", type=click.IntRange(1), default=20000, show_default=True, help="Seeds to have judged in all.")
@click.option("--again", is_flag=True, help="Judge once more what was not equal.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Processes that judge.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "results")
def main(count: int, again: bool, jobs: int, output: Path) -> None:
    """Judge the seeds that are missing, and write the record."""
    record = load(output / "random_graphs.json")
    require_beside()
    code, first = code_digest(MODULES, SCRIPTS), record["seeds"]
    enter_code(record, first, code)
    repeated = sorted({*map(int, record["others"]), *map(int, record["undone"])}) if again else []
    for verdict in verdicts(repeated, jobs) if repeated else ():
        record["equal"] -= str(verdict.seed) not in record["others"]
        engines = dict(record["engines"])
        enter(record, verdict, code)
        record["engines"] = engines
    for verdict in verdicts(range(record["seeds"], count), jobs):
        enter(record, verdict, code)
        record["seeds"] = verdict.seed + 1
        enter_code(record, first, code)
        if record["seeds"] % EVERY == 0:
            save(output, record)
    save(output, record)
    found = counts(record)
    click.echo(f"{record['seeds']} seeds: {found}, steps taken back in {len(record['undone'])}")
    sys.exit(1 if found["wrong"] or found["crash"] else 0)


if __name__ == "__main__":
    main()
