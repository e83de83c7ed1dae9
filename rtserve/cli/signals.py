"""Commands that make windows: simulated ones, and those cut from recordings."""

from __future__ import annotations

from pathlib import Path

import click

from rtserve.cli.output import emit_json, json_option, tell
from rtserve.cli.progress import progress

__all__ = ["simulate"]


@click.command()
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .npz or .h5 to write.")
@click.option("--windows", "n_windows", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--r", "r", type=click.FloatRange(0, 1), default=0.46, show_default=True, help="Planted correlation.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--target", default="response_time", show_default=True, help="response_time or externalizing.")
@click.option("--subjects", "n_subjects", type=click.IntRange(1), help="By default one per 62 windows, 24 at least.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
def simulate(
    output: Path, n_windows: int, r: float, seed: int, target: str, n_subjects: int | None, force: bool, as_json: bool
) -> None:
    """Simulate windows of EEG with a known amount of information about the target."""
    from rtserve.training.planted import simulate_to_file

    with progress("simulating", quiet=as_json) as bar:
        report = simulate_to_file(
            output, n_windows, r=r, seed=seed, target=target, n_subjects=n_subjects, force=force, progress=bar
        )
    if as_json:
        emit_json("simulation", report.to_dict() | {"output": str(output)})
    else:
        click.echo("\n".join(report.lines()))
    tell(f"wrote {output}")
