"""``rtserve completion``: the script with which a shell completes commands, options, words and files."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from rtserve.cli.choice import OneOf

__all__ = ["completion"]


@click.command()
@click.argument("shell", type=OneOf(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script with which SHELL completes rtserve's commands, options, words and files.

    For this shell: eval "$(rtserve completion bash)"; in fish: rtserve completion fish | source.
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    made = kind(ctx.find_root().command, {}, "rtserve", "_RTSERVE_COMPLETE")
    click.echo(ShellComplete.source(made))  # bash's own would start bash to ask for its version
