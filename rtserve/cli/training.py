"""Commands that train: networks from windows, and what is fitted on a trained graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rtserve.cli.output import emit_json, json_option, tell
from rtserve.cli.progress import progress

__all__ = ["train"]


@click.command()
@click.argument("windows", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="RUNDIR; one folder per seed.")
@click.option("--seeds", default="42", show_default=True, help="Comma-separated; one network each.")
@click.option("--recipe", "base", default="default", show_default=True, help="Named settings to start from.")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings, over the recipe's.")
@click.option("--model", help="compact_rt or braindecode:NAME.")
@click.option("--max-epochs", type=int)
@click.option("--batch-size", type=int)
@click.option("--lr", type=float)
@click.option("--weight-decay", type=float)
@click.option("--loss", help="mse, smooth_l1 or huber.")
@click.option("--huber-delta", type=float, help="Where Huber's loss turns linear.")
@click.option("--scheduler", help="none, cosine or warm_restarts.")
@click.option("--restart-epochs", type=int, help="First cycle of warm restarts.")
@click.option("--dropout", help="CompactRT's three rates, e.g. 0.5,0.6,0.7.")
@click.option("--mixup-alpha", type=float, help="0 for none; 0.2 was the contest's.")
@click.option("--mixup-fraction", type=float, help="Share of batches that are mixed.")
@click.option("--mixup-per", help="batch or sample.")
@click.option("--clip-norm", type=float, help="0 for none.")
@click.option("--patience", type=int, help="Epochs without improvement; 0 for never.")
@click.option("--monitor", help="Metric that chooses the best epoch.")
@click.option("--ema", type=float, help="Decay of averaged weights; 0 for none.")
@click.option("--split", "split_by", default="auto", show_default=True, help="auto, file, subject, run or window.")
@click.option("--split-seed", type=int, default=0, show_default=True)
@click.option("--allow-leakage", is_flag=True, help="Train on a leaking split; every figure is marked.")
@click.option("--gate", "gates", multiple=True, metavar="RULE", help="METRIC:marginal=A,stop=B[,after=N][,fallback=X].")
@click.option("--like", type=click.Path(), help="Checkpoint whose architecture the network must have.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Seeds at a time.")
@click.option("--dask", metavar="ADDRESS", help="Run seeds on this dask scheduler.")
@click.option("--resume", is_flag=True, help="Go on with unfinished seeds.")
@click.option("--background", is_flag=True, help="Go on without this terminal; log in RUNDIR.log.")
@json_option
def train(windows: Path, output: Path, as_json: bool, background: bool, **options: Any) -> None:
    """Train networks on WINDOWS (.npz or .h5), one per seed; the score is on held-out subjects."""
    from rtserve.training.commands import in_background, run_train

    if background:
        tell(in_background(output))
        return
    with progress("training (epochs)", quiet=as_json) as bar:
        run = run_train(windows, output, progress=bar, **options)
    if as_json:
        emit_json("training", run.to_dict())
    else:
        click.echo("\n".join(run.lines()))
    tell(f"wrote {output}")
    if run.stopped_by_gate:
        tell(run.stopped_by_gate)
        raise click.exceptions.Exit(1)
