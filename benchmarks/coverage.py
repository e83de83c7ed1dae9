"""How often intervals hold the truth, and how often a report calls nothing something: by simulation.

    python benchmarks/coverage.py [--sets 400] [--only TABLE] [-o benchmarks/results]

Every row is kept as soon as it is done, with a digest of the code that it measured, so an interrupted run goes on where
it stopped and a row of other code is done again; ``--stale`` lists those. Writes ``coverage.json`` and ``coverage.md``.
What is simulated stands in `coverage_parts`; small versions of all parts are tests.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import click
from coverage_parts import Row, code_of, parts

from rtserve.files import write_bytes
from rtserve.measure.results import environment

HERE = Path(__file__).resolve().parent
LEAD = (
    "`python benchmarks/coverage.py`; shares of simulated studies, nominal level 0.95. Under *marked* the intervals say",
    "that tails are heavy; *called different* is two equally good predictors, *difference* how often its interval holds 0;",
    "*better* and *worse* are answers that are exactly as good as the constant (NRMSE 1) or as unrelated ones (r 0).",
    "In 4b the sets that are called better are those that drew none of the noisiest people, who have most of the error in",
    "the population: nothing in such a set shows it, and a mark on all sets in which noise goes with windows would silence",
    "most of the others and miss half of these.",
)


def table(rows: list[Row]) -> list[str]:
    """Return rows as Markdown."""
    keys = [key for key in rows[0] if key != "code"]

    def cell(value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = [f"| {' | '.join(keys)} |", f"|{'--|' * len(keys)}"]
    return lines + [f"| {' | '.join(cell(row[key]) for key in keys)} |" for row in rows]


def page(known: dict[str, dict[str, Row]], sets: int) -> str:
    """Return all that is recorded as Markdown; of rows that measured other code, that they did."""
    lines = ["# How often intervals hold the truth, by simulation", "", *LEAD, ""]
    for name, jobs in parts(sets).items():
        keys = [key for key, _ in jobs if key in known.get(name, {})]
        if not keys:
            continue
        lines += [f"## {name}", "", *table([known[name][key] for key in keys]), ""]
        old = sum(known[name][key].get("code") != code_of(name) for key in keys)
        lines += [f"{old} of these {len(keys)} rows measured other code than there is now.", ""] if old else []
    return "\n".join(lines).rstrip() + "\n"


@click.command()
@click.option("--sets", default=400, show_default=True, type=click.IntRange(8))
@click.option("--only", default="", help="Tables whose name begins so.")
@click.option("--stale", is_flag=True, help="Say which rows are missing or of other code, and stop.")
@click.option("-o", "--output", type=click.Path(path_type=Path), default=HERE / "results")
def main(sets: int, only: str, stale: bool, output: Path) -> None:
    """Run what is not yet recorded, or was of other code, and write both files."""
    file = output / "coverage.json"
    known: dict[str, dict[str, Row]] = json.loads(file.read_bytes())["tables"] if file.exists() else {}
    for name, jobs in parts(sets).items():
        done, code = known.setdefault(name, {}), code_of(name)
        for key, job in jobs:
            if done.get(key, {}).get("code") == code or not name.startswith(only):
                continue
            if stale:
                click.echo(f"{name}: {key}: {'of other code' if key in done else 'missing'}")
                continue
            begun = time.perf_counter()
            done[key] = job() | {"code": code}
            click.echo(f"{name}: {key}: {time.perf_counter() - begun:.0f} s: {done[key]}", err=True)
            document = {"schema": "rtserve.coverage/1", "simulated": True, "level": 0.95, "tables": known}
            document["environment"] = environment()
            write_bytes(file, (json.dumps(document, indent=1) + "\n").encode(), force=True)
    if not stale:
        write_bytes(output / "coverage.md", page(known, sets).encode(), force=True)


if __name__ == "__main__":
    main()
