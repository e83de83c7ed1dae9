"""What options are called in rtserve.toml, and how their values are shown."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["NEVER", "PLACE", "key_of", "shown"]

NEVER = ("force", "trusted", "allow-leakage", "trust-subjects", "force-views")
"""Options that waive a safeguard are given each time."""
PLACE = "rtserve.defaults"
"""Where a call's context holds which file its defaults are from."""


def key_of(parameter: click.Parameter) -> str:
    """Return what an option is called in the file: its long name without dashes in front; empty for none of the file's."""
    long = [name for name in parameter.opts if name.startswith("--")]
    key = long[0].removeprefix("--") if isinstance(parameter, click.Option) and long else ""
    return "" if key in (*NEVER, "help", "quiet", "version") else key


def shown(value: Any) -> str:
    """Return a value as a person reads it."""
    if value is None:
        return "not given"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value) or "(empty)"
