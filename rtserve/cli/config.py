"""``rtserve config``: every value that is in force, and where it comes from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from rtserve.cli.commands import entries
from rtserve.cli.defaults import NAME, VARIABLE, Defaults, defaults_for, find_defaults, require_commands
from rtserve.cli.options import key_of, shown
from rtserve.cli.output import emit_json, json_option, show
from rtserve.errors import InputError
from rtserve.nearest import meant

__all__ = ["config"]


@click.command()
@click.argument("names", metavar="[COMMAND]...", nargs=-1)
@json_option
@click.pass_context
def config(ctx: click.Context, names: tuple[str, ...], as_json: bool) -> None:
    """Show what every option of COMMAND is when it is not given, and whether that comes from rtserve.toml.

    Without COMMAND: of all commands. The whole file is checked.
    """
    root, file = ctx.find_root(), find_defaults()
    for name in names:
        if name not in entries():
            raise InputError(f"no command {name!r}", hint=meant(name, entries(), "see `rtserve --help`"))
    if file:
        require_commands(file)
    group = root.command
    assert isinstance(group, click.Group)
    rows = []
    for name in entries():
        wanted = not names or name in names
        command = group.get_command(root, name) if wanted or (file and name in file.tables) else None
        if command is None:
            continue
        given = defaults_for(file, command, (name,)) if file else {}
        if wanted:
            rows += list(_rows(file, command, (name,), given))
    if as_json:
        emit_json("config", {"file": str(file.path) if file else None, "values": rows})
        return
    show(f"defaults: {file.path if file else f'no {NAME} here or above, and no {VARIABLE}'}")
    for row in rows:
        show(f"  {row['command']} --{row['option']} {shown(row['value'])}  ({row['from']})")


def _rows(
    file: Defaults | None, command: click.Command, words: tuple[str, ...], given: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield an option after the other with the value that it has where it is not given."""
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            yield from _rows(file, below, (*words, name), given.get(name, {}))
        return
    context = click.Context(command)
    for parameter in command.params:
        key = key_of(parameter)
        if not key or (parameter.required and parameter.name not in given):
            continue
        from_file = parameter.name in given
        value = given[str(parameter.name)] if from_file else parameter.get_default(context)
        value = value if isinstance(value, bool | int | float | str | list | None) else None
        yield {
            "command": " ".join(words),
            "option": key,
            "value": value,
            "from": str(file.path) if file and from_file else "default",
        }
