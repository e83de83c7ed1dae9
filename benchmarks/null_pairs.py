"""A/A over 300 null pairs: how often `rtserve bench` calls one graph different from itself on this machine.

``python benchmarks/null_pairs.py [--pairs 300] [--graph M.onnx] [-o benchmarks/results/null_pairs.json]`` times two
sessions of the same bytes against each other, again and again, with the verdict that the command gives: the interval
excludes 1 and the A/A noise floor agrees. At most 8 % may be called different; exit 1 otherwise. Each pair is timed by
turns within one process, so a loaded machine widens intervals; how many pairs met one is recorded.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import click
from measured_code import code_digest

MOST = 0.08
ROOT = Path(__file__).resolve().parent.parent


def default_graph() -> Any:
    """Return CompactRT with a seeded initialiser, exported."""
    import tempfile

    import torch

    from rtserve.graphs.export import export
    from rtserve.training.networks import CompactRT

    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "seed0.pth"
        torch.save(CompactRT().state_dict(), path)
        return export(path, exporter="rtserve.training.networks:exporter")


def one_pair(graph: Any, seed: int, rounds: int) -> dict[str, Any]:
    """Bench a graph against itself."""
    from rtserve.measure.bench import bench

    report = bench(graph, graph, rounds=rounds, seed=seed)
    first, second = (contender.name for contender in report.contenders)
    ratio, low, high = report.timings.ratio(first, second)
    return {
        "ratio": ratio,
        "low": low,
        "high": high,
        "noise_floor": report.noise_floor,
        "interval_excludes_1": not low <= 1.0 <= high,
        "called_different": report.different(second),
        "loaded": list(report.machine.loaded) if report.machine else [],
    }


@click.command()
@click.option("--pairs", type=click.IntRange(1), default=300, show_default=True)
@click.option("--rounds", type=click.IntRange(2), default=54, show_default=True)
@click.option("--graph", type=click.Path(), help="Any graph; CompactRT with seeded weights by default.")
@click.option("-o", "--output", type=click.Path(), default=str(ROOT / "benchmarks" / "results" / "null_pairs.json"))
def main(pairs: int, rounds: int, graph: str | None, output: str) -> None:
    """Run the null pairs, write them, and say how many were called different."""
    from rtserve.cli.progress import progress
    from rtserve.graphs.graph import Graph
    from rtserve.measure.results import environment, save_result

    subject = Graph.load(graph) if graph else default_graph()
    gc.collect()
    gc.freeze()  # what is imported by now is not looked through again before every restart: half of the time otherwise
    rows: list[dict[str, Any]] = []
    with progress("null pairs") as tell:
        for seed in range(pairs):
            rows.append(one_pair(subject, seed, rounds))
            tell(seed + 1, pairs)
            if len(rows) % 20 == 0 or len(rows) == pairs:
                document = summary(rows) | {"rounds": rounds, "graph_sha256": subject.digest, "rows": rows}
                save_result(
                    output,
                    "null_pairs",
                    document | {"code": code_digest(["rtserve.measure.bench"]), "environment": environment(threads=1)},
                    force=True,
                )
    found = summary(rows)
    click.echo(
        f"{found['called_different']} of {pairs} null pairs called different ({found['interval_excludes_1']} by the"
        f" interval alone; at most {found['called_different_at_most']:.1%} with 95 % confidence); the machine was loaded"
        f" in {found['loaded']} of them; wrote {output}"
    )
    sys.exit(found["called_different"] > MOST * pairs)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the counts, and the largest rate that they leave possible (Clopper-Pearson, one-sided)."""
    from scipy import stats

    called = sum(row["called_different"] for row in rows)
    return {
        "pairs": len(rows),
        "called_different": called,
        "called_different_at_most": float(stats.beta.ppf(0.95, called + 1, len(rows) - called)),
        "interval_excludes_1": sum(row["interval_excludes_1"] for row in rows),
        "loaded": sum(bool(row["loaded"]) for row in rows),
    }


if __name__ == "__main__":
    main()
