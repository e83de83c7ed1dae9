"""``rtserve fuse``: the command of the room fusion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rtserve.cli.choice import OneOf
from rtserve.cli.engine import EngineChoice
from rtserve.cli.output import conclude, emit_json, json_option, working
from rtserve.cli.stated import stated_options
from rtserve.graphs.engines import LAYOUTS

if TYPE_CHECKING:
    from rtserve.signals.fields import Stated


@click.command()
@click.argument("members", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--views", default="identity", show_default=True, help="Comma-separated, e.g. identity,roll:+3,scale:1.02."
)
@click.option(
    "--merge",
    default="mean",
    show_default=True,
    help="mean, weighted:FILE, median or trimmed:P; of classifiers mean-logits, ...",
)
@click.option("--average", type=OneOf(["logits", "probabilities"]), help="What a merge of classifiers is of.")
@click.option("--scale", default=1.0, help="Calibration: factor on the merged output.")
@click.option("--offset", default=0.0, help="Calibration: added after the factor.")
@click.option("--clip", metavar="LOW,HIGH", help="Calibration: bounds, applied last.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The .onnx to write, folder and all."
)
@click.option("--passes", metavar="NAMES", help="Run only these passes (comma-separated).")
@click.option("--no-optimize", is_flag=True, help="Join without any pass.")
@click.option("--explain", is_flag=True, help="Say which passes were applied or refused, and why.")
@click.option(
    "--engine", type=EngineChoice(LAYOUTS), default="onnxruntime", show_default=True,
    help="Lay the graph out for this engine; the numbers are the same in every one.",
)  # fmt: skip
@click.option("--tune", is_flag=True, help="Time the candidates on this machine and keep the fastest.")
@click.option("--force-views", is_flag=True, help="Use views even where they break the meaning of the target.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@stated_options
@json_option
def fuse(
    members: tuple[Path, ...], output: Path, explain: bool, as_json: bool, stated: Stated, **options: object
) -> None:
    """Fuse MEMBERS and views into one graph that gives the same numbers."""
    from rtserve.fusion.report import fuse_text, fuse_to_file

    with working(f"fusing {len(members)} member{'s' * (len(members) > 1)}", quiet=as_json):
        report = fuse_to_file(members, output, stated=vars(stated), **options)  # type: ignore[arg-type]
    conclude(fuse_text(report, explain=explain), as_json=as_json)
    if as_json:
        emit_json("fuse", report)
