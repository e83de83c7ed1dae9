"""Commands `check` and `profiles`."""

from __future__ import annotations

from pathlib import Path

import click

from rtserve.cli.choice import Group
from rtserve.cli.output import emit_json, json_option, show, tell
from rtserve.cli.progress import progress

__all__ = ["check", "profiles"]


def _reasons(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    for code, mark, reason in pairs:
        if not mark or not reason.strip():
            raise click.BadParameter(f'{code} needs a reason: --ignore {code}="why"')
    return {code: reason for code, _, reason in pairs}


def _codes(_ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(code.strip() for value in values for code in value.split(",") if code.strip())


@click.command()
@click.argument("zip_path", metavar="ZIP", type=click.Path(path_type=Path))
@click.option("--profile", default="eeg2025", show_default=True, help="Contest profile, or the path of a .toml file.")
@click.option("--env", type=click.Path(path_type=Path), help="Run in this environment (`rtserve env create`).")
@click.option("--select", multiple=True, callback=_codes, help="Only these codes or families (RT1,RT305).")
@click.option("--ignore", multiple=True, callback=_reasons, metavar='CODE="reason"', help="Do not count this rule.")
@click.option("--strict", is_flag=True, help="Uncalled work fails; an incomplete check exits with 4.")
@click.option(
    "--timeout", default=300.0, show_default=True, type=click.FloatRange(min=1), help="Seconds the run may take."
)
@click.option("--shape", default="", metavar="CxT@HZ", help="Size of the windows, where the contest leaves it open.")
@click.option("--against", type=click.Path(path_type=Path), metavar="KIT", help="Also run the contest's own kit.")
@click.option("--no-run", is_flag=True, help="Static rules only.")
@click.option("--verbose", is_flag=True, help="Show every finding.")
@json_option
@click.option("--sarif", "as_sarif", is_flag=True, help="Print SARIF 2.1.0 on stdout.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown on stdout.")
@click.pass_context
def check(
    ctx: click.Context,
    zip_path: Path,
    profile: str,
    env: Path | None,
    select: tuple[str, ...],
    ignore: dict[str, str],
    strict: bool,
    timeout: float,
    shape: str,
    against: Path | None,
    no_run: bool,
    verbose: bool,
    as_json: bool,
    as_sarif: bool,
    as_markdown: bool,
) -> None:
    """Check a submission ZIP as the contest's scorer would, and say what is wrong before the upload."""
    from rtserve.submission import report as shapes
    from rtserve.submission.sandbox import Limits
    from rtserve.submission.validate import check as validate

    tell(f"checking {zip_path} against {profile}")
    with progress("checking", quiet=as_json or as_sarif or as_markdown) as bar:
        report = validate(
            zip_path, profile=profile, env=env, strict=strict, select=select, ignore=ignore, run=not no_run,
            shape=shape, limits=Limits(wall_s=timeout), against=against, progress=bar,
        )  # fmt: skip
    if as_json:
        emit_json("check", shapes.to_dict(report))
    elif as_sarif or as_markdown:
        click.echo(shapes.sarif(report) if as_sarif else shapes.markdown(report))
    else:
        show(shapes.tick_list(report, verbose=verbose))
    ctx.exit(report.exit_code)


@click.group(cls=Group)
def profiles() -> None:
    """Contest profiles: what each asks of a zip, with the source of every clause."""


@profiles.command("list")
@json_option
def list_profiles(as_json: bool) -> None:
    """Name the profiles that come with rtserve."""
    from rtserve.submission.profile import load_profile, profile_names

    found = {name: load_profile(name).title for name in profile_names()}
    if as_json:
        emit_json("profiles", {"profiles": found})
        return
    for name, title in found.items():
        show(f"{name}  {title}")


@profiles.command("show")
@click.argument("name")
@json_option
def show_profile(name: str, as_json: bool) -> None:
    """Print a profile's clauses, sources, confidence and contradictions."""
    import dataclasses

    from rtserve.submission.profile import load_profile
    from rtserve.submission.report_profile import profile_text

    profile = load_profile(name)
    if as_json:
        emit_json("profile", dataclasses.asdict(profile))
        return
    show(profile_text(profile))
