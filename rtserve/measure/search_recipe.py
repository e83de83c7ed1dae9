"""The choice of a search as a ``submission.toml`` that `rtserve build` takes."""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.files import check_writable, readable_file, sha256_file, write_bytes
from rtserve.measure.search_report import Option

__all__ = ["write_recipe"]


def write_recipe(
    option: Option,
    files: Mapping[str, str | Path],
    output: str | Path,
    *,
    challenge: str = "1",
    profile: str = "eeg2025",
    base: str | Path | None = None,
    force: bool = False,
) -> list[Path]:
    """Write the recipe of an option.

    Parameters
    ----------
    option : Option
        The choice.
    files : mapping of str to path
        Where each member or whole graph that the option names lies; written relative to the recipe's folder.
    output : path
        The .toml; weights of branches go into ``NAME.weights.json`` beside it.
    challenge, profile : str
        Which challenge of which profile the option answers.
    base : path, optional
        A recipe whose other challenges and settings are kept.
    force : bool
        Replace existing files.

    Returns
    -------
    list of Path
        What was written, the recipe first.

    Raises
    ------
    InputError
        Where the base is no recipe, or an output may not be written.
    """
    output = check_writable(output, force=force)
    weights = output.with_suffix(".weights.json") if option.weights else None
    recipe: dict[str, Any] = _base(base) if base else {"profile": profile, "challenges": {}}
    challenges = dict(recipe.get("challenges", {}))
    challenges[challenge] = _challenge(option, files, output.parent, weights)
    recipe["challenges"] = dict(sorted(challenges.items()))
    written = [write_bytes(output, _toml(recipe).encode(), force=force)]
    if weights:
        written.append(write_bytes(weights, (json.dumps(list(option.weights)) + "\n").encode(), force=force))
    return written


def _base(path: str | Path) -> dict[str, Any]:
    try:
        return tomllib.loads(readable_file(path, "recipe").read_text("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is no recipe ({error})", hint="give a submission.toml") from None


def _challenge(option: Option, files: Mapping[str, str | Path], folder: Path, weights: Path | None) -> dict[str, Any]:
    names = option.members or (option.whole,)
    table: dict[str, Any] = {}
    if option.views:
        table["views"] = list(option.views)
        of = f"-{option.average}" if option.average else ""
        table["merge"] = f"weighted{of}:{weights.name}" if weights else f"mean{of}"
    if (option.scale, option.offset) != (1.0, 0.0):
        table["calibration"] = {"scale": option.scale, "offset": option.offset}
    table["members"] = [
        {"graph": _relative(Path(files[name]), folder), "sha256": sha256_file(files[name])} for name in names
    ]
    return table


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _toml(recipe: Mapping[str, Any]) -> str:
    """Return a recipe as TOML: scalars, then one table per challenge with its members."""
    lines = ["# Written by rtserve search. Build it: rtserve build THIS -o X.zip"]
    if len(recipe["challenges"]) == 1:
        lines.append(
            "# It holds one challenge; search again with --base THIS for the others, or add their members here."
        )
    lines += [f"{key} = {_value(value)}" for key, value in recipe.items() if key != "challenges"]
    for key, table in recipe["challenges"].items():
        lines += ["", f"[challenges.{key}]"]
        lines += [f"{name} = {_value(value)}" for name, value in table.items() if name != "members"]
        for member in table["members"]:
            lines += ["", f"[[challenges.{key}.members]]"]
            lines += [f"{name} = {_value(value)}" for name, value in member.items()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
