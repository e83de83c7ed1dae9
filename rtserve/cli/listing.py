"""Command `list`: the names that options take, with what each means."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import click

from rtserve.cli.choice import OneOf
from rtserve.cli.help import HelpText
from rtserve.cli.output import emit_json, json_option

__all__ = ["LISTS", "list_names"]

MERGES = {
    "mean": ("mean", "of what the branches answer; of classifiers mean:logits or mean:probabilities"),
    "weighted": ("weighted:FILE", "with the weights of a file, as `rtserve search` writes them"),
    "median": ("median", "of what the branches answer"),
    "trimmed": ("trimmed:0.2", "mean without that share at both ends"),
}


def _views() -> dict[str, str]:
    from rtserve.fusion.views import KINDS

    return {kind.example: kind.meaning for kind in KINDS.values()}


def _merges() -> dict[str, str]:
    return {name: text for name, text in MERGES.values()}


def _metrics() -> dict[str, str]:
    from rtserve.measure.metrics import METRICS, names_of_metrics
    from rtserve.submission.profile import load_profile, profile_names

    found = {}
    for name in names_of_metrics():
        metric = METRICS.get(name)
        kind = f"of a {metric.reads}, {'higher' if metric.higher_is_better else 'lower'} is better" if metric else ""
        found[name] = kind or "takes settings: docs/metrics.md"
    ranked = [
        f"{profile}/{challenge.key}"
        for profile in profile_names()
        for challenge in load_profile(profile).challenges
        if challenge.metric
    ]
    return found | {"profile": f"what a contest ranks by: --profile {', '.join(ranked)}"}


def _engines() -> dict[str, str]:
    import importlib.util

    from rtserve.graphs.engines import ENGINE_NAMES

    missing = ": not installed (pip install rtserve[openvino])" if not importlib.util.find_spec("openvino") else ""
    return {name: said + (missing if name == "openvino" else "") for name, said in ENGINE_NAMES.items()}


def _exporters() -> dict[str, str]:
    """Return exporters that come with rtserve and those under ./exporters."""
    found = {"rtserve.training.networks:exporter": "CompactRT, what `rtserve train` trains by default"}
    for path in sorted(Path("exporters").glob("*.py")):
        found |= _exporters_in(path)
    return found


def _exporters_in(path: Path) -> dict[str, str]:
    """Return the exporters that a file defines by how they are named, each with what the file says of itself.

    The file is read, not run. A helper that defines none is not named.
    """
    try:
        module = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError) as error:
        return {str(path): f"cannot be read as Python: {error}"}
    said = (ast.get_docstring(module) or "").partition("\n")[0]
    names = [name for statement in module.body for name in _exporters_of(statement)]
    return {f"{path}:{name}" if name != "exporter" else str(path): said for name in names}


def _exporters_of(statement: ast.stmt) -> list[str]:
    """Return the names of exporters that a statement of a module binds; NAME where the module makes one of any name."""
    if isinstance(statement, ast.FunctionDef):
        asked = [argument.arg for argument in statement.args.args]
        if statement.name == "__getattr__":
            return ["NAME"]
        return [statement.name] if statement.name == "exporter" or asked[:2] == ["shapes", "settings"] else []
    if isinstance(statement, ast.ImportFrom):
        bound = [alias.asname or alias.name for alias in statement.names]
    elif isinstance(statement, ast.AnnAssign):
        bound = [getattr(statement.target, "id", "")]
    else:
        bound = [getattr(target, "id", "") for target in getattr(statement, "targets", ())]
    return ["exporter"] if "exporter" in bound else []


def _profiles() -> dict[str, str]:
    from rtserve.submission.profile import load_profile, profile_names

    found = {}
    for name in profile_names():
        profile = load_profile(name)
        found[name] = profile.title
        for challenge in profile.challenges:
            found[f"{name}/{challenge.key}"] = f"{challenge.target}, {profile.signal_of(challenge.key)}"
        for phase in profile.phases[1:]:
            found[f"{name}/CHALLENGE:{phase}"] = "another phase of it"
    return found


def _passes() -> dict[str, str]:
    from rtserve.fusion.run.order import PASSES

    return {one.name: f"{one.why} ({one.scope}; {', '.join(one.engines)})" for one in PASSES}


LISTS: dict[str, Callable[[], dict[str, str]]] = {
    "views": _views,
    "merges": _merges,
    "metrics": _metrics,
    "engines": _engines,
    "exporters": _exporters,
    "profiles": _profiles,
    "passes": _passes,
}


@click.command("list")
@click.argument("what", type=OneOf(tuple(LISTS)))
@json_option
def list_names(what: str, as_json: bool) -> None:
    """Name the views, merges, metrics, engines, exporters, profiles or passes there are, each with what it means."""
    found = LISTS[what]()
    if as_json:
        emit_json("list", {"what": what, "names": found})
        return
    formatter = HelpText()
    formatter.write_dl(list(found.items()), col_max=36)
    click.echo(formatter.getvalue().rstrip("\n"))
