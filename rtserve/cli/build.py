"""``rtserve build``, ``rtserve verify`` and ``rtserve env``: from a recipe to a zip, and proof of what is in it."""

from __future__ import annotations

from pathlib import Path

import click

from rtserve.cli.output import emit_json, json_option, tell
from rtserve.cli.progress import progress


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the members (default: the recipe's own).")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The .zip to write.")
@click.option("--force", is_flag=True, help="Replace an existing output.")
@json_option
def build(recipe: Path, root: Path | None, output: Path, force: bool, as_json: bool) -> None:
    """Build the zip that RECIPE (a submission.toml) describes; same inputs, same bytes."""
    from rtserve.submission.build_report import build_text
    from rtserve.submission.bundle import build as build_bundle

    with progress("build") as step:
        built = build_bundle(recipe, root=root, output=output, force=force, progress=step)
    tell(build_text(built))
    if as_json:
        emit_json("build", built.to_dict())
