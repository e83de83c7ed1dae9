"""The command line's reference, from click: every command of every group, its usage, options and examples."""

from __future__ import annotations

from collections.abc import Iterator

import click

from docs.generate.markdown import code, definition, fence, paragraphs, plain
from rtserve.cli.commands import GROUPS
from rtserve.cli.common import COMMON
from rtserve.cli.main import cli

__all__ = ["command_pages", "walk"]


def walk(name: str, parent: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield a command and what is under it, each with the words that call it and its context."""
    group = parent.command
    assert isinstance(group, click.Group)
    command = group.get_command(parent, name)
    if command is None:
        raise LookupError(f"{parent.command_path} has no command {name}")
    context = click.Context(command, info_name=name, parent=parent)
    yield context.command_path, command, context
    if isinstance(command, click.Group):
        for below in command.list_commands(context):
            yield from walk(below, context)


def command_pages() -> dict[str, str]:
    """Return one page of each group of commands by its name in the reference, and the page that leads to them."""
    root = click.Context(cli, info_name="rtserve")
    pages, lines = {}, []
    for title, group in GROUPS.items():
        page = f"commands-{title.lower()}"
        parts = [f"# {title}\n"]
        for name, entry in group.items():
            lines.append(definition(f"[`rtserve {name}`]({page}.md#rtserve-{name})", plain(entry.summary)))
            parts += [_section(path, command, context) for path, command, context in walk(name, root)]
        pages[page] = "\n".join(parts)
    menu = "\n".join(f"commands-{title.lower()}" for title in GROUPS)
    common = (
        "Every command takes `--help`, and `--quiet`, with which talk and progress are left out; results, warnings and "
        "errors stay. Those that report take `--json`, which puts one JSON document on stdout and talk on "
        "stderr ([documents](documents.md)). What a command writes is written whole or not at all, and a file that is there "
        "is kept without `--force`. How a command ends is one of a few [exit codes](outcomes.md).\n"
    )
    pages["commands"] = "\n".join(
        ["# Command line\n", common, *lines, fence(f":maxdepth: 1\n:hidden:\n\n{menu}", "{toctree}")]
    )
    return pages


def _section(path: str, command: click.Command, context: click.Context) -> str:
    usage = " ".join([path, *command.collect_usage_pieces(context)])
    parts = [f"## {path}\n", fence(usage, "sh"), paragraphs(command.help or "")]
    own = [one for one in command.get_params(context) if one.name not in COMMON]
    options = [record for one in own if (record := one.get_help_record(context))]
    parts += [definition(code(names), plain(said)) for names, said in options if said and "--help" not in names]
    examples = [line.strip() for line in (command.epilog or "").splitlines() if line.strip().startswith("rtserve")]
    if examples:
        parts.append(fence("\n".join(examples), "sh"))
    return "\n".join(parts)
