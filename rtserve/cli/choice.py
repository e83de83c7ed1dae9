"""Words that an option takes, and the groups of commands: what is mistyped is told what is near."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rtserve.nearest import meant, nearest

__all__ = ["Group", "OneOf"]


if TYPE_CHECKING:
    Choice = click.Choice[str]
else:  # generic from click 8.2 on
    Choice = click.Choice


class OneOf(Choice):
    """One of a few words; of another that resembles one of them it is asked whether that is meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the word; `click.BadParameter` where it is none of them."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            near = nearest(str(value), [str(choice) for choice in self.choices])
            if not near:
                raise
            said = f"{error.message.rstrip('.')}; did you mean {near[0]}?"
            raise click.BadParameter(said, ctx=ctx, param=param) from None


class Group(click.Group):
    """A group of commands that names the nearest where there is none of that name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is asked for."""
        name, names = args[0] if args else "", self.list_commands(ctx)
        # A shell that asks what to complete (resilient) is told nothing; click 8.2.0 asks with words of the group above.
        if name and not name.startswith("-") and name not in names and not ctx.resilient_parsing:
            ctx.fail(f"no command {name!r}; {meant(name, names, f'see `{ctx.command_path} --help`', n=2)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command does, whole: click would cut it to a line."""
        found = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, one.get_short_help_str(limit=1000)) for name, one in found if one is not None])
