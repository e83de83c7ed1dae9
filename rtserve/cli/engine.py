"""An engine on the command line: one list of names for all commands, and the names of version 0.1."""

from __future__ import annotations

from typing import Any

import click

from rtserve.cli.choice import OneOf
from rtserve.graphs.engines import engine_called

__all__ = ["EngineChoice"]


class EngineChoice(OneOf):
    """Some of `rtserve.graphs.engines.ENGINES`; a former name is taken for today's."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return today's name of an engine."""
        return super().convert(engine_called(value), param, ctx)
