"""An engine on the command line: one list of names for all commands, and the names of version 0.1."""

from __future__ import annotations

from typing import Any

import click

from rtserve.cli.choice import OneOf
from rtserve.graphs.engines import LAYOUTS, engine_called, layout_hint, only_measured

__all__ = ["EngineChoice"]


class EngineChoice(OneOf):
    """Some of `rtserve.graphs.engines.ENGINES`; a former name is taken for today's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return today's name of an engine; `click.BadParameter` where it is none of them."""
        name = engine_called(value)
        if tuple(self.choices) == LAYOUTS and only_measured(name):
            raise click.BadParameter(f"{name!r} is no layout: {layout_hint(name)}", ctx=ctx, param=param)
        return super().convert(name, param, ctx)
