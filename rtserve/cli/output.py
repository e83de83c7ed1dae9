"""How every command speaks: JSON on stdout for machines, talk on stderr, tables for people."""

from __future__ import annotations

import json
from typing import Any

import click

__all__ = ["emit_json", "json_option", "tell"]

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on stdout (talk goes to stderr).")


def emit_json(kind: str, payload: dict[str, Any], *, version: int = 1) -> None:
    """Print one JSON document on stdout with its schema, e.g. ``{"schema": "rtserve.bench/1", ...}``."""
    click.echo(json.dumps({"schema": f"rtserve.{kind}/{version}"} | payload, indent=2, ensure_ascii=False))


def tell(message: str, *, quiet: bool = False) -> None:
    """Say something to the person at the terminal (stderr), unless `quiet`."""
    if not quiet:
        click.echo(message, err=True)
