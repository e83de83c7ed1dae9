"""What every command has: `--quiet`, and help at any width."""

from __future__ import annotations

from typing import Any

import click

from rtserve.cli.help import HelpContext
from rtserve.cli.output import hush

__all__ = ["COMMON", "dressed"]

COMMON = ("quiet",)
"""Options that every command has; the reference names them once."""


def _be_quiet(ctx: click.Context, _parameter: click.Parameter, quiet: Any) -> None:
    if quiet:
        hush(True)
        ctx.find_root().call_on_close(lambda: hush(False))


def dressed(command: click.Command) -> click.Command:
    """Give a command, and those under it, what every command has; one that has it already stays as it is."""
    command.context_class = HelpContext
    if not any(parameter.name in COMMON for parameter in command.params):
        command.params.append(
            click.Option(
                ["--quiet"],
                is_flag=True,
                expose_value=False,
                callback=_be_quiet,
                is_eager=True,
                help="Leave out talk and progress; results, warnings and errors stay.",
            )
        )
    for below in command.commands.values() if isinstance(command, click.Group) else ():
        dressed(below)
    return command
