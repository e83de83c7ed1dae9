"""``rtserve.toml``: defaults for options, command by command, of a folder and those below it.

Where the file is, what it says of a command, and what is wrong with it. A submission's recipe and a contest's profile are
files of their own and are never touched: `rtserve build` takes no defaults at all.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from rtserve.cli.commands import entries
from rtserve.cli.options import NEVER, PLACE, key_of
from rtserve.errors import InputError
from rtserve.files import readable_file
from rtserve.nearest import meant

__all__ = ["NAME", "VARIABLE", "Defaults", "defaults_for", "find_defaults", "require_commands", "set_defaults"]

NAME, VARIABLE = "rtserve.toml", "RTSERVE_CONFIG"
WITHOUT = ("build",)
"""Commands that take none: what is in a zip follows from its recipe."""


@dataclass(frozen=True, kw_only=True)
class Defaults:
    """One file of defaults.

    Parameters
    ----------
    path : Path
        Where it is.
    tables : mapping
        What it says, by command.
    """

    path: Path
    tables: Mapping[str, Any]


def find_defaults() -> Defaults | None:
    """Return the file that RTSERVE_CONFIG names (none where it is empty), or the nearest from this folder upward.

    Raises
    ------
    InputError
        Where it cannot be read or is no TOML.
    """
    named = os.environ.get(VARIABLE)
    if named is not None:
        return _read(readable_file(named, f"file of defaults ({VARIABLE})")) if named else None
    here = Path.cwd()
    found = next((folder / NAME for folder in (here, *here.parents) if (folder / NAME).is_file()), None)
    return _read(found) if found else None


def _read(path: Path) -> Defaults:
    try:
        return Defaults(path=path, tables=tomllib.loads(path.read_text("utf-8-sig")))
    except ValueError as error:
        raise InputError(f"{path} is not TOML: {error}", hint="for example [bench], and rounds = 20 below it") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from None


def set_defaults(ctx: click.Context, name: str) -> None:
    """Put what the file says of a command into the root's context, from which click takes it."""
    file = find_defaults()
    if file is None:
        return
    require_commands(file)
    group = ctx.command
    assert isinstance(group, click.Group)
    command = group.get_command(ctx, name)
    if command is not None and (given := defaults_for(file, command, (name,))):
        ctx.default_map = {name: given}
        ctx.meta[PLACE] = str(file.path)


def require_commands(file: Defaults) -> None:
    """Raise `InputError` where a table of the file is of no command."""
    _require_known(file.tables, list(entries()), str(file.path), "command")


def defaults_for(file: Defaults, command: click.Command, words: tuple[str, ...]) -> dict[str, Any]:
    """Return what a file says of a command, as click takes it: values by parameter, those of its subcommands below.

    Raises
    ------
    InputError
        Where a key is unknown (the nearest is named) or a value has another type than the option.
    """
    table: Any = file.tables
    for word in words:
        table = table.get(word, {}) if isinstance(table, Mapping) else table
    where = f"{file.path}: [{'.'.join(words)}]"
    if not isinstance(table, Mapping):
        raise InputError(f"{where} is {table!r}, not a table", hint=f"write [{'.'.join(words)}] and options below it")
    if words[0] in WITHOUT and table:
        raise InputError(
            f"{where}: {words[0]} takes no defaults", hint="what is in a zip follows from its recipe alone"
        )
    if isinstance(command, click.Group):
        _require_known(table, list(command.commands), where, "command")
        return {name: defaults_for(file, command.commands[name], (*words, name)) for name in table}
    known = {key: parameter for parameter in command.params if (key := key_of(parameter))}
    waived = next((key for key in table if key in NEVER), None)
    if waived:
        raise InputError(f"{where}: {waived} waives a safeguard", hint=f"give --{waived} with the call that needs it")
    _require_known(table, list(known), where, "option")
    return {str(known[key].name): _value(known[key], value, f"{where}: {key}", command) for key, value in table.items()}


def _require_known(table: Mapping[str, Any], known: list[str], where: str, what: str) -> None:
    for key in table:
        if key not in known:
            hint = meant(key, known, f"{what}s are {', '.join(known)}")
            raise InputError(f"{where}: there is no {what} {key!r}", hint=hint)


def _value(parameter: click.Parameter, value: Any, where: str, command: click.Command) -> Any:
    """Return a value of the type that the option takes; numbers are not text, nor is text a number."""
    several = parameter.multiple or parameter.nargs != 1
    if several != isinstance(value, list):
        raise InputError(f"{where} is {value!r}", hint="write a list, as in [1, 2]" if several else "write one value")
    kind, called = _kind(parameter)
    for one in value if several else [value]:
        if isinstance(one, bool) is not (kind is bool) or not isinstance(one, kind):
            raise InputError(f"{where} is {value!r}", hint=f"it takes {called}")
        try:
            parameter.type.convert(one, parameter, click.Context(command))
        except click.BadParameter as error:
            hint = f"`rtserve {command.name} --help` says what it takes"
            raise InputError(f"{where}: {error.message}", hint=hint) from None
    return value


def _kind(parameter: click.Parameter) -> tuple[Any, str]:
    if getattr(parameter, "is_flag", False):
        return bool, "true or false"
    if isinstance(parameter.type, click.types.IntParamType):
        return int, "a whole number"
    if isinstance(parameter.type, click.types.FloatParamType):
        return (int, float), "a number"
    return str, "a text in quotes"
