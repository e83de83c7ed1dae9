"""What every command has: `--quiet`, and help at any width."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import click
from click.core import ParameterSource

from rtserve.cli.help import HelpContext
from rtserve.cli.options import PLACE, key_of, shown
from rtserve.cli.output import document_alone, hush, tell

__all__ = ["COMMON", "dressed"]

COMMON = ("quiet",)
"""Options that every command has; the reference names them once."""


def _be_quiet(ctx: click.Context, _parameter: click.Parameter, quiet: Any) -> None:
    if quiet:
        hush(True)
        ctx.find_root().call_on_close(lambda: hush(False))


class Context(HelpContext):
    """The context of a command; what it takes from rtserve.toml is said when it begins."""

    def invoke(self, callback: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call what the command does."""
        used = [
            p for p in self.command.params if self.get_parameter_source(p.name or "") is ParameterSource.DEFAULT_MAP
        ]
        if used:
            values = ", ".join(f"--{key_of(p)} {shown(self.lookup_default(p.name or ''))}" for p in used)
            tell(f"from {self.find_root().meta[PLACE]}: {values}")
        with document_alone() if self.params.get("as_json") else nullcontext():
            return super().invoke(callback, *args, **kwargs)


def dressed(command: click.Command) -> click.Command:
    """Give a command, and those under it, what every command has; one that has it already stays as it is."""
    command.context_class = Context
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
