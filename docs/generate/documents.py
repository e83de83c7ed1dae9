"""The JSON documents that commands print: which command prints which, and the keys that were seen in a run.

Kinds are found in the source, where `emit_json` is called; keys and their types are read off documents that the commands of
``documents.sh`` printed, in a run that is kept as those of tutorials are.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from docs.generate.cells import read
from docs.generate.markdown import code, fence
from docs.generate.tutorials import kept_at, outcome, warm
from rtserve.cli.commands import entries

__all__ = ["HELD", "INSIDE", "documents_page", "kinds", "named", "seen", "shape"]

OPENING = """# JSON documents

`--json` prints one document on stdout. Its first key says its kind and the version of its shape, `rtserve.KIND/VERSION`; a
result that a command writes into a file has the same form. What stands under a kind are the keys of a document that its
command printed when this site was built. Keys that are names of yours (a class, a challenge) are those of that run.
"""
HELD = {
    "demo_settings": "`settings.json` in the folder of `rtserve demo`",
    "demo_timing": "`results/timing.json` there: the raw times of the branches",
    "environment": "the record in an environment that `rtserve env create` made",
    "manifest": "`manifest.json` in a zip that `rtserve build` wrote",
    "native": "the description in what `rtserve compile` wrote",
    "plan": "what the torch executor in a zip runs",
    "training_checkpoint": "`best.pth` and `last.pth` of `rtserve train`",
    "training_record": "what a checkpoint, and a graph made from it, was trained on, as hashes",
    "training_result": "`result.json` of a trained seed: its test, its gates, raw predictions",
    "training_run": "`run.json` of `rtserve train`: settings, data, split, versions",
    "tuning": "`OUTPUT.tuning.json` of `rtserve fuse --tune`: the candidates' times",
}
"""Kinds that no command prints, and what holds them."""
INSIDE = {"error": "what one process of rtserve tells another", "simulate": "the generator that windows name"}
"""Names of that form that are no document that anybody is given."""
HELD_TITLE = """## Documents that are written only

A result that is written with `-o` is of the kind that its command prints, with raw values where it prints none. These are
written beside it, or inside what is written:
"""
NAMES = {int: "integer", float: "number", str: "string", bool: "boolean", type(None): "null"}


def kinds(root: Path) -> dict[str, list[str]]:
    """Return the kinds of documents, each with the commands that print it."""
    named = {entry.place.removeprefix("rtserve.cli."): name for name, entry in entries().items()}
    alone = {place.partition(":")[0]: name for place, name in named.items()}
    found: dict[str, list[str]] = {}
    for path in sorted((root / "rtserve" / "cli").glob("*.py")):
        for function in ast.parse(path.read_text("utf-8")).body:
            for call in ast.walk(function) if isinstance(function, ast.FunctionDef) else ():
                if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "emit_json":
                    command = (
                        named.get(f"{path.stem}:{function.name}") or _subcommand(function) or alone.get(path.stem, "")
                    )
                    for kind in _constants(call.args[0]):
                        if command not in found.setdefault(kind, []):
                            found[kind].append(command)
    return found


def named(root: Path) -> set[str]:
    """Return the kinds that are named anywhere in the source: ``rtserve.KIND/VERSION``, or saved under their name."""
    found = set()
    for path in (root / "rtserve").rglob("*.py"):
        text = path.read_text("utf-8")
        found |= set(re.findall(r"\"rtserve\.([a-z_.]+)/\d*\"", text))
        found |= set(re.findall(r"save_result\([^()\"]*\"([a-z_.]+)\"", text))
    return found


def _subcommand(function: ast.FunctionDef) -> str:
    """Return what a function is called by that a decorator such as ``@env.command("try")`` puts under a command."""
    for one in function.decorator_list:
        if isinstance(one, ast.Call) and isinstance(one.func, ast.Attribute) and one.func.attr == "command":
            given = next((a.value for a in one.args if isinstance(a, ast.Constant)), function.name.rstrip("_"))
            return f"{ast.unparse(one.func.value)} {given}"
    return ""


def _constants(node: ast.expr) -> Iterator[str]:
    """Yield the texts that an expression may be: itself, or either side of a choice."""
    if isinstance(node, ast.IfExp):
        yield from _constants(node.body)
        yield from _constants(node.orelse)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value


def seen(root: Path) -> dict[str, tuple[str, dict[str, Any]]]:
    """Run the commands, or take what they printed last, and return by kind the command and its document."""
    script = read(Path(__file__).with_suffix(".sh"))
    if kept_at(script, root).is_file():
        printed = outcome(script, root)
    else:
        with warm() as first:
            printed = outcome(script, root, first)
    found = {}
    for cell, text in zip(script.cells, printed, strict=True):
        document = json.loads(text)
        found[document["schema"].removeprefix("rtserve.").partition("/")[0]] = (cell.code.splitlines()[-1], document)
    return found


def shape(value: Any, depth: int = 0) -> list[str]:
    """Return the keys below a value as lines: indented, each with its type; objects of an array are taken together."""
    lines = []
    for key, item in _keys(value).items():
        lines.append(f"{'  ' * depth}{key}: {_type(item)}")
        lines += shape(item, depth + 1)
    return lines


def _keys(value: Any) -> Mapping[str, Any]:
    if isinstance(value, list):
        together: dict[str, Any] = {}
        for item in value:
            together |= {key: below for key, below in _keys(item).items() if below not in (None, [], {})}
        return together
    return value if isinstance(value, dict) else {}


def _type(value: Any) -> str:
    if isinstance(value, list):
        return f"array of {' or '.join(sorted({_type(item) for item in value})) or 'nothing here'}"
    return NAMES.get(type(value), "object")


def documents_page(root: Path) -> str:
    """Return the page."""
    found, parts = seen(root), [OPENING]
    for kind, commands in sorted(kinds(root).items()):
        parts.append(f"## rtserve.{kind}\n")
        if kind in found:
            command, document = found[kind]
            parts.append(f"Printed by {code(command.removesuffix(' 2>/dev/null'))}, as {code(document['schema'])}:\n")
            parts.append(fence("\n".join(shape(document))))
        else:
            parts.append(f"Printed by {' and '.join(code(f'rtserve {name}') for name in commands)}.\n")
    parts += [HELD_TITLE, *(f"- {code(f'rtserve.{kind}')}: {what}" for kind, what in sorted(HELD.items())), ""]
    return "\n".join(parts)
