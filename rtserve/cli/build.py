"""``rtserve build``, ``rtserve verify`` and ``rtserve env``: from a recipe to a zip, and proof of what is in it."""

from __future__ import annotations

from pathlib import Path

import click

from rtserve.cli.choice import Group, OneOf
from rtserve.cli.output import conclude, emit_json, json_option, show, tell
from rtserve.cli.progress import progress


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the members (default: the recipe's own).")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .zip to write.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@click.option("--unit", type=OneOf(["V", "mV", "uV", "1"]), help="Of the windows the members take, if unsaid.")
@click.option("--sfreq", type=click.FloatRange(0, min_open=True), help="Their rate in Hz, if unsaid.")
@json_option
def build(
    recipe: Path, root: Path | None, output: Path, force: bool, unit: str | None, sfreq: float | None, as_json: bool
) -> None:
    """Build the zip that RECIPE (a submission.toml) describes; same inputs, same bytes."""
    from rtserve.submission.build_report import build_text
    from rtserve.submission.bundle import build as build_bundle

    with progress("build", quiet=as_json) as step:
        built = build_bundle(
            recipe, root=root, output=output, force=force, unit=unit or "", sfreq=sfreq or 0.0, progress=step
        )
    conclude(build_text(built), as_json=as_json)
    if as_json:
        emit_json("build", built.to_dict())


@click.command()
@click.argument("zip_path", metavar="ZIP", type=click.Path(path_type=Path))
@click.option("--env", type=click.Path(path_type=Path), help="Replay in this environment (`rtserve env create`).")
@click.option("--no-replay", is_flag=True, help="Compare digests only; run nothing.")
@json_option
@click.pass_context
def verify(ctx: click.Context, zip_path: Path, env: Path | None, no_replay: bool, as_json: bool) -> None:
    """Prove that ZIP is what `rtserve build` wrote, and that it still answers the same."""
    from rtserve.submission.custody import verification_text
    from rtserve.submission.custody import verify as verify_zip

    with progress("verifying", quiet=as_json) as bar:
        result = verify_zip(zip_path, env=env, replay=not no_replay, progress=bar)
    conclude(verification_text(result), as_json=as_json)
    if as_json:
        emit_json("verify", result.to_dict())
    ctx.exit(0 if result.passed else 1)


@click.group(cls=Group)
def env() -> None:
    """Build the environments that contests score in."""


@env.command()
@click.argument("profile")
@click.option("--path", required=True, type=click.Path(path_type=Path), help="Folder that is to hold them.")
@click.option("--only", multiple=True, metavar="NAME", help="Build this one (primary, older); repeatable.")
@click.option("--full", is_flag=True, help="With all CUDA libraries (gigabytes) instead of stubs.")
@click.option("--minimal", is_flag=True, help="torch and numpy alone.")
@click.option("--python", type=click.Path(path_type=Path), help="Interpreter to build from.")
@json_option
def create(
    profile: str, path: Path, only: tuple[str, ...], full: bool, minimal: bool, python: Path | None, as_json: bool
) -> None:
    """Build the pinned environments of PROFILE under --path; `rtserve check --env` runs in them."""
    from rtserve.submission import environments
    from rtserve.submission.profile import load_profile

    reports = environments.create(
        load_profile(profile), path, only=only, slim=not full, minimal=minimal, python=python, say=tell
    )
    for report in reports:
        torch = f", torch {report.versions['torch']}" if "torch" in report.versions else ""
        conclude(f"{report.name}: {report.python}{torch}, {report.megabytes:,} MB", as_json=as_json)
    if as_json:
        emit_json("env", {"environments": [report.to_dict() for report in reports]})


@env.command(name="try")
@click.argument("zip_path", metavar="ZIP", type=click.Path(path_type=Path))
@click.option("--profile", required=True, metavar="NAME[/CHALLENGE]", help="The contest.")
@click.option("--path", required=True, type=click.Path(path_type=Path), help="Folder that `env create` filled.")
@json_option
@click.pass_context
def try_(ctx: click.Context, zip_path: Path, profile: str, path: Path, as_json: bool) -> None:
    """Check ZIP in every environment of PROFILE under --path: does it load there, and what does a window cost?"""
    from rtserve.submission.tried import try_environments

    with progress("checking", quiet=as_json) as bar:
        trials = try_environments(zip_path, path, profile=profile, say=tell, progress=bar)
    if as_json:
        emit_json("env.try", {"trials": [trial.to_dict() for trial in trials]})
    else:
        show("\n".join(line for trial in trials for line in trial.lines()))
    ctx.exit(max(trial.report.exit_code for trial in trials))


@env.command()
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file of pins to write.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
def record(output: Path, force: bool) -> None:
    """Write down the versions here, for a recipe's `environment` key; pip installs them again with -c."""
    from rtserve.submission.pins import record_pins

    conclude(f"{output}: {len(record_pins(output, force=force))} versions")
