"""Options with which a command is told what a file of windows does not say, and ``rtserve annotate`` that writes it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from rtserve.cli.choice import OneOf
from rtserve.cli.output import emit_json, json_option, show, tell
from rtserve.errors import InputError
from rtserve.spec import FORMS

__all__ = ["annotate", "stated_options"]

F = TypeVar("F", bound=Callable[..., Any])
_UNITS = OneOf(["V", "mV", "uV", "1"])


def stated_options(command: F) -> F:
    """Add --unit, --sfreq, --target and --classes; the command gets them as one `Stated`, ``stated``."""

    @functools.wraps(command)
    def told(
        *args: Any, unit: str | None, sfreq: float | None, target: str | None, classes: str | None, **options: Any
    ) -> Any:
        from rtserve.signals.fields import Stated, class_names

        stated = Stated(unit=unit, sfreq=sfreq or 0.0, target=target or "", classes=class_names(classes))
        return command(*args, stated=stated, **options)

    for option in (
        click.option("--classes", metavar="A,B,...", help="Names of the classes 0, 1, ... where the file has none."),
        click.option("--target", help="What y is where the file does not say, or which of its targets is meant."),
        click.option("--sfreq", type=click.FloatRange(0, min_open=True), help="Hz, where the file does not say."),
        click.option("--unit", type=_UNITS, help="Of the samples where the file does not say; 1 is standardised."),
    ):
        told = option(told)
    return told  # type: ignore[return-value]


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@stated_options
@click.option("--columns", type=click.Path(path_type=Path), help="Table (.tsv, .csv) with a row per window to add.")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here instead; .npz or .h5 by its ending.")
@click.option("--form", type=OneOf(FORMS), help="What a graph's numbers of classes are.")
@click.option("--n-chans", type=click.IntRange(1), help="Channels, where a graph leaves them open.")
@click.option("--n-times", type=click.IntRange(1), help="Samples, where a graph leaves them open.")
@click.option("--force", is_flag=True, help="Also change what FILE says already; replace an existing output.")
@json_option
def annotate(
    file: Path,
    columns: Path | None,
    output: Path | None,
    form: str | None,
    n_chans: int | None,
    n_times: int | None,
    force: bool,
    as_json: bool,
    stated: Any,
) -> None:
    """Write into FILE (a window set or a graph) what it does not say: unit, rate, target, classes, columns of a table.

    A graph (.onnx) whose batch is frozen, or whose sizes are open, is rewritten to take any batch.
    """
    if file.suffix.lower() == ".onnx":
        _annotate_graph(
            file, vars(stated) | {"form": form}, n_chans or 0, n_times or 0, output, force=force, as_json=as_json
        )
        return
    if form:
        raise InputError(
            f"--form is of a graph's numbers, and {file.name} is no graph (.onnx)", hint="leave --form out"
        )
    from rtserve.signals.annotate import annotate_windows

    report = annotate_windows(file, stated, columns=columns, output=output, force=force)
    if as_json:
        emit_json("annotation", report.to_dict())
    else:
        show("\n".join(report.lines()))
    tell(f"wrote {report.path}")


def _annotate_graph(
    file: Path, stated: dict[str, Any], n_chans: int, n_times: int, output: Path | None, *, force: bool, as_json: bool
) -> None:
    from rtserve.graphs.annotate import annotate_graph

    report = annotate_graph(file, stated, n_chans=n_chans, n_times=n_times, output=output, force=force)
    if as_json:
        emit_json("annotation", report)
    else:
        changes = [f"  changed {text}" for text in report["changes"]]
        show("\n".join([report["path"], f"  input   {report['input']}; output {report['output']}", *changes]))
    tell(f"wrote {report['path']}")
