"""Commands that train: networks from windows, and what is fitted on a trained graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from rtserve.cli.output import conclude, emit_json, json_option, resumable, show, tell
from rtserve.cli.progress import progress
from rtserve.cli.stated import stated_options

__all__ = ["ablate", "calibrate", "soup", "train"]


@click.command()
@click.argument("windows", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="RUNDIR; one folder per seed.")
@click.option("--seeds", default="42", show_default=True, help="Comma-separated; one network each.")
@click.option("--recipe", "base", default="default", show_default=True, help="Named settings to start from.")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings, over the recipe's.")
@click.option("--model", help="compact_rt, braindecode:NAME, or your own file.py:NAME, which is run here.")
@click.option("--set", "model_settings", multiple=True, metavar="KEY=VALUE", help="For your own network; repeatable.")
@click.option("--max-epochs", type=int, help="By default what makes enough steps for a small set.")
@click.option("--batch-size", type=int, help="Windows a step; by default the recipe's.")
@click.option("--lr", type=float, help="Learning rate; by default the recipe's.")
@click.option("--weight-decay", type=float, help="Of AdamW; by default the recipe's.")
@click.option("--loss", help="auto, mse, smooth_l1 or huber; of classes cross_entropy.")
@click.option("--class-weight", help="balanced (each class counts the same) or none.")
@click.option("--huber-delta", type=float, help="Where Huber's loss turns linear.")
@click.option("--scheduler", help="none, cosine or warm_restarts.")
@click.option("--restart-epochs", type=int, help="First cycle of warm restarts.")
@click.option("--dropout", help="CompactRT's three rates, e.g. 0.5,0.6,0.7.")
@click.option("--mixup-alpha", type=float, help="0 for none; 0.2 was the contest's.")
@click.option("--mixup-fraction", type=float, help="Share of batches that are mixed.")
@click.option("--mixup-per", help="batch or sample.")
@click.option("--clip-norm", type=float, help="0 for none.")
@click.option("--patience", type=int, help="Epochs without improvement; 0 for never.")
@click.option("--monitor", help="Metric that chooses the best epoch; also log_loss.")
@click.option("--standardise/--no-standardise", default=None, help="Learn numbers in units of their spread.")
@click.option("--ema", type=float, help="Decay of averaged weights; 0 for none.")
@click.option("--split", "split_by", default="auto", show_default=True, help="auto, file, subject, run or window.")
@click.option("--split-seed", type=int, default=0, show_default=True, help="Which people are left out.")
@click.option("--allow-leakage", is_flag=True, help="Train on a leaking split; every figure is marked.")
@click.option("--trust-subjects", is_flag=True, help="Guessed subjects are right: each file is another person's.")
@click.option("--gate", "gates", multiple=True, metavar="RULE", help="METRIC:marginal=A,stop=B[,after=N][,fallback=X].")
@click.option("--augment", multiple=True, metavar="NAME[:KEY=VALUE,...]", help="braindecode's transform; repeatable.")
@click.option("--device", help="auto (CUDA where there is any), cpu, cuda or cuda:1.")
@click.option("--amp/--no-amp", default=None, help="Mixed precision (bfloat16); off by default.")
@click.option("--init", type=click.Path(), help="Checkpoint to start from; what fits is loaded, the rest is named.")
@click.option("--workers", type=click.IntRange(0), default=0, show_default=True, help="Processes that make batches.")
@click.option("--log", "logs", multiple=True, metavar="csv|tensorboard", help="Curves per seed; repeatable.")
@click.option("--like", type=click.Path(), help="Checkpoint whose architecture the network must have.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Seeds at a time.")
@click.option("--dask", metavar="ADDRESS", help="Run seeds on this dask scheduler.")
@click.option("--resume", is_flag=True, help="Go on with unfinished seeds.")
@click.option("--background", is_flag=True, help="Go on without this terminal; log in RUNDIR.log.")
@stated_options
@json_option
def train(windows: Path, output: Path, as_json: bool, background: bool, **options: Any) -> None:
    """Train networks on WINDOWS (.npz or .h5), one per seed; the score is on held-out subjects.

    Numbers are regressed; where y is a class, a classifier is trained.
    """
    from rtserve.training.commands import in_background, run_train

    if background:
        conclude(in_background(output))
        return
    with resumable(output), progress("training (epochs)", quiet=as_json) as bar:
        run = run_train(windows, output, progress=bar, **options)
    if as_json:
        emit_json("training", run.to_dict())
    else:
        show("\n".join(run.lines()))
    tell(f"wrote {output}")
    if run.stopped_by_gate:
        conclude(run.stopped_by_gate, as_json=as_json)
        raise click.exceptions.Exit(1)


@click.command()
@click.argument("graph", type=click.Path())
@click.option("--data", required=True, type=click.Path(), help="Windows marked train, valid and test.")
@click.option("-o", "--output", required=True, type=click.Path(), help="The calibrated .onnx.")
@click.option("--split", default="valid", show_default=True, help="Windows to fit on.")
@click.option("--ridge", type=float, help="Pull towards the mean; chosen by leaving subjects out by default.")
@click.option("--clip", nargs=2, type=float, metavar="LOW HIGH", help="Bounds of the output.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@stated_options
@json_option
def calibrate(
    graph: str, data: str, output: str, clip: tuple[float, float] | None, as_json: bool, **options: Any
) -> None:
    """Fit scale, offset and clip on validation subjects and put them into GRAPH."""
    from rtserve.measure.calibrate import calibrate as fit

    report = fit(graph, data, output=output, clip=clip or (), **options)
    if as_json:
        emit_json("calibration", report.to_dict())
    else:
        show("\n".join(report.lines()))
    tell(f"wrote {output}")


@click.command()
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path())
@click.option("--exporter", required=True, help="FILE.py, FILE.py:NAME or package.module:NAME.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting for the exporter; repeatable.")
@click.option("--data", type=click.Path(), help="Windows to score the soup and its ingredients on.")
@click.option("--split", default="valid", show_default=True, help="Which of them.")
@click.option("-o", "--output", required=True, type=click.Path(), help="The .onnx; its .pth is written beside it.")
@click.option("--force", is_flag=True, help="Replace existing outputs.")
@json_option
def soup(checkpoints: tuple[str, ...], settings: tuple[str, ...], output: str, as_json: bool, **options: Any) -> None:
    """Average the weights of CHECKPOINTS of one architecture into one network and export it."""
    from rtserve.graphs.exporter import parse_settings
    from rtserve.training.soup import soup as mix

    report = mix(checkpoints, settings=parse_settings(settings), output=output, **options)
    if as_json:
        emit_json("soup", report.to_dict())
    else:
        show("\n".join(report.lines()))
    tell(f"wrote {output}")


@click.command()
@click.argument("windows", type=click.Path(path_type=Path))
@click.option(
    "--change", "changes", multiple=True, required=True, metavar="KEY=VALUE", help="What differs; repeatable."
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the two runs.")
@click.option("--seeds", default="42,123,456", show_default=True, help="Comma-separated; the same for both.")
@click.option("--recipe", "base", default="default", show_default=True, help="Named settings without the change.")
@click.option("--config", type=click.Path(path_type=Path), help="TOML file with settings, over the recipe's.")
@click.option("--max-epochs", type=int, help="Of each training; by default as `train` decides.")
@click.option("--split", "split_by", default="auto", show_default=True, help="auto, file, subject or run.")
@click.option("--trust-subjects", is_flag=True, help="Guessed subjects are right: each file is another person's.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Seeds at a time.")
@click.option("--resume", is_flag=True, help="Go on with unfinished seeds.")
@stated_options
@json_option
def ablate(windows: Path, output: Path, as_json: bool, **options: Any) -> None:
    """Train with and without a change (mixup_alpha=0.2) and give the paired difference with its interval."""
    from rtserve.training.commands import run_ablate

    with resumable(output), progress("training twice (epochs)", quiet=as_json) as bar:
        found = run_ablate(windows, output, progress=bar, **options)
    if as_json:
        emit_json("ablation", found.to_dict())
    else:
        show("\n".join(found.lines()))
    tell(f"wrote {output}")
