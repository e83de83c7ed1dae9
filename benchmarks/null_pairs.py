"""A/A over 300 null pairs: how often `rtserve bench` calls one graph different from itself on this machine.

``python benchmarks/null_pairs.py [--pairs 300] [--graph M.onnx] [-o benchmarks/results/null_pairs.json]`` times two
sessions of the same bytes against each other, again and again, with the verdict that the command gives: the interval
excludes 1 and the A/A noise floor agrees. At most 8 % may be called different; exit 1 otherwise.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

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
    rows = []
    with progress("null pairs") as tell:
        for seed in range(pairs):
            rows.append(one_pair(subject, seed, rounds))
            tell(seed + 1, pairs)
    called = sum(row["called_different"] for row in rows)
    excluded = sum(row["interval_excludes_1"] for row in rows)
    summary = {"pairs": pairs, "rounds": rounds, "called_different": called, "interval_excludes_1": excluded}
    document = summary | {"graph_sha256": subject.digest, "rows": rows, "environment": environment(threads=1)}
    save_result(output, "null_pairs", document, force=True)
    click.echo(f"{called} of {pairs} null pairs called different ({excluded} by the interval alone); wrote {output}")
    sys.exit(called > 0.08 * pairs)


if __name__ == "__main__":
    main()
