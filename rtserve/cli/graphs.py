"""``rtserve export`` and ``rtserve inspect``: the commands of the room graphs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from rtserve.cli.choice import OneOf
from rtserve.cli.output import conclude, emit_json, json_option, show, width_of, working
from rtserve.errors import InputError
from rtserve.spec import FORMS

_SECONDS = click.FloatRange(0, min_open=True)


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("--exporter", default="", help="FILE.py, FILE.py:NAME or package.module:NAME; a hub's model needs none.")
@click.option("--network", default="", metavar="NAME", help="Class of braindecode.models, where a hub's card lacks it.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting for the exporter; repeatable.")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="The .onnx to write, folder and all."
)
@click.option("--timeout", "timeout_s", type=_SECONDS, default=600.0, show_default=True, help="For the torch exporter.")
@click.option("--weights", default="", metavar="KEY", help="Which weights, where CHECKPOINT holds several (EMA).")
@click.option("--unit", type=OneOf(["V", "mV", "uV", "1"]), help="Of its windows, where nothing says it.")
@click.option("--sfreq", type=click.FloatRange(0, min_open=True), help="Hz of its windows, where nothing says it.")
@click.option("--target", help="What it predicts, where nothing says it.")
@click.option("--classes", metavar="A,B,...", help="Names of its classes in order.")
@click.option("--form", type=OneOf(FORMS), help="What a classifier's numbers are, where its graph does not show it.")
@click.option("--trusted", is_flag=True, help="Load a joblib or pickle, which runs its code, without a sandbox.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
def export(
    checkpoint: Path,
    exporter: str,
    network: str,
    settings: tuple[str, ...],
    output: Path,
    timeout_s: float,
    weights: str,
    trusted: bool,
    force: bool,
    as_json: bool,
    **stated: Any,
) -> None:
    """Export CHECKPOINT to an ONNX graph proven equal to its network.

    CHECKPOINT is a file, or a model of the Hugging Face hub as braindecode writes it: hf:ORG/NAME, or a folder with
    config.json and model.safetensors, from which its class and arguments come.
    """
    from rtserve.cli.loading import child_for
    from rtserve.graphs.export_report import export_text, export_to_file
    from rtserve.graphs.exporter import parse_settings
    from rtserve.graphs.hub import is_hub

    options: dict[str, Any] = {
        "exporter": exporter,
        "settings": parse_settings(settings),
        "timeout_s": timeout_s,
        "force": force,
    }
    options |= {"weights": weights, "stated": {key: value for key, value in stated.items() if value}}
    hub = is_hub(checkpoint)  # nothing of such a model runs, whatever it is called
    if not (hub or exporter):
        raise InputError(
            f"{checkpoint} has no network in it, and no exporter is named",
            hint="--exporter exporters/braindecode_models.py:EEGNeX, or your own: exporters/README.md",
        )
    options |= {"network": network, "child": None if hub else child_for(checkpoint, trusted=trusted)}
    with working(f"exporting {checkpoint.name}", limit_s=timeout_s, quiet=as_json):
        report = export_to_file(checkpoint, output, **options)
    conclude(export_text(report), as_json=as_json)
    if as_json:
        emit_json("export", report)


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def inspect(file: Path, as_json: bool) -> None:
    """Say what FILE (.pth, .safetensors, .onnx, .npz, .h5 or .zip) holds, without running anything in it."""
    from rtserve.cli.inspecting import inspect_file, inspect_text

    report = inspect_file(file)
    if as_json:
        emit_json("inspect", report)
    else:
        show(inspect_text(report, width=width_of(sys.stdout)))
