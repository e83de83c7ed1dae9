"""Commands that make windows: simulated ones, and those cut from recordings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rtserve.cli.choice import OneOf
from rtserve.cli.output import emit_json, json_option, resumable, show, tell
from rtserve.cli.progress import progress

__all__ = ["prepare", "simulate"]


if TYPE_CHECKING:
    _Number = click.ParamType[int]
else:  # it takes no parameter at run time
    _Number = click.ParamType


class _Integer(_Number):
    """An integer, 0x for hexadecimal."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number that a text says."""
        try:
            return int(str(value), 0)
        except ValueError:
            self.fail(f"{value!r} is no integer (0x for hexadecimal)", param, ctx)


class _Unit(OneOf):
    """A unit, with either letter that stands for micro."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the unit as it is called here."""
        return super().convert(
            str(value).replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u"), param, ctx
        )


_INTEGER = _Integer()


@click.command()
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .npz or .h5 to write.")
@click.option("--windows", "n_windows", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--r", "r", type=click.FloatRange(0, 1), default=0.46, show_default=True, help="Planted correlation.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--target", default="response_time", show_default=True, help="response_time or externalizing.")
@click.option("--subjects", "n_subjects", type=click.IntRange(1), help="By default 96, fewer of few windows.")
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
        show("\n".join(report.lines()))
    tell(f"wrote {output}")


@click.command()
@click.argument("sources", nargs=-1, required=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .npz or .h5 to write.")
@click.option(
    "--target",
    default="response_time",
    show_default=True,
    metavar="NAMES",
    help="Or class, events:COLUMN, number, number:TEMPLATE, a column of participants.tsv; with commas, the first is y.",
)
@click.option("--classes", help="left=1,right=2 or left,right or all: values that are classes, of events by name.")
@click.option("--stimulus", help="Event names with commas; HBN's contrast change targets by default.")
@click.option("--response", help="Event names with commas; HBN's button presses by default.")
@click.option("--trial-start", help="Event that begins a trial; every stimulus does where none is named.")
@click.option(
    "--trial-end", help="Event that ends the last trial (HBN: end_experiment, without which it is left out); none."
)
@click.option(
    "--event-column", default="", help="Column of events.tsv that holds the names; by default where they are."
)
@click.option("--stim-channel", default="", help="Trigger channel to read events from; by default any.")
@click.option("--trigger-mask", type=_INTEGER, help="Bits of it that count; 0xFFFF for BioSemi's Status by default.")
@click.option("--window", default="0.5,2.5", show_default=True, metavar="A,B", help="s from the stimulus, half-open.")
@click.option("--fixed", metavar="LENGTH,STEP", help="Windows for a subject's target, in s; 4,2 by default.")
@click.option("--crop", type=float, help="A random piece of each fixed window, in s; 2 by default, 0 for all of it.")
@click.option("--sfreq", default=100.0, show_default=True, help="New rate in Hz; 0 keeps the recording's.")
@click.option("--band", metavar="LOW,HIGH", help="Hz, 0 for an open end; by default 0.5,50 where not filtered already.")
@click.option("--drop", help="Channels to leave out, with commas.")
@click.option("--channels", default="auto", show_default=True, help="contest, all, or names with commas, in order.")
@click.option(
    "--bads",
    type=OneOf(["auto", "drop", "keep", "interpolate"]),
    default="auto",
    show_default=True,
    help="Channels marked as bad.",
)
@click.option(
    "--bad-segments",
    type=OneOf(["drop", "keep"]),
    default="drop",
    show_default=True,
    help="Windows in a segment marked BAD_...",
)
@click.option(
    "--left-out",
    type=OneOf(["drop", "keep"]),
    default="drop",
    show_default=True,
    help="The nine children whom the start kit leaves out.",
)
@click.option("--missing", type=OneOf(["refuse", "interpolate"]), default="refuse", show_default=True)
@click.option("--reference", default="none", show_default=True, help="none, average, or a channel.")
@click.option(
    "--unit",
    type=_Unit(["V", "mV", "uV", "nV", "1"]),
    help="Unit of the samples where the file's is wrong; 1 for none.",
)
@click.option("--max-uv", default=0.0, help="Drop windows with a larger range in a channel; 0 for none.")
@click.option("--task", default="", help="Only this task of a BIDS folder.")
@click.option("--subject", default="", metavar="PATTERN", help="Whose the files are: a name, or '{subject}_*'.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Recordings at a time.")
@click.option("--keep-going", is_flag=True, help="Go on past recordings that fail, and report them.")
@click.option("--resume", is_flag=True, help="Go on with an interrupted run.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
def prepare(sources: tuple[str, ...], output: Path, as_json: bool, **options: Any) -> None:
    """Cut windows from SOURCES: recordings, BIDS folders, eegdash:DATASET, or one HDF5 cache of windows."""
    from rtserve.signals.commands import run_prepare

    source = click.get_current_context().get_parameter_source
    given = [name for name in options if source(name) is not ParameterSource.DEFAULT]
    kept = output.with_name(f"{output.name}.parts")
    with resumable(kept), progress("preparing recordings", quiet=as_json) as bar:
        report = run_prepare(sources, output, progress=bar, given=given, **options)
    if as_json:
        emit_json("preparation", report.to_dict())
    else:
        show("\n".join(report.lines()))
    tell(f"wrote {output}")
