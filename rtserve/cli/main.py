"""The command line: one command per arrow of the path, imported only when it is called.

Exit codes: 0 ok; 1 a check, parity or gate failed; 2 usage or bad input; 3 not comparable; 4 environment missing;
130 interrupted by Ctrl-C, 143 by SIGTERM; 141 whoever read the output went away.
"""

from __future__ import annotations

import errno
import importlib
import io
import os
import shutil
import signal
import sys
import tempfile
import threading
import traceback
from types import FrameType
from typing import Any

import click
from click.shell_completion import CompletionItem

import rtserve
from rtserve.cli.choice import Group
from rtserve.cli.commands import GROUPS, entries
from rtserve.cli.common import dressed
from rtserve.cli.output import warn
from rtserve.cli.plain import speak_plainly
from rtserve.cli.reader import GONE, BrokenPipe, pipes_apart, reader_went
from rtserve.errors import InputError, RtserveError
from rtserve.files import is_full

LEAST_FREE = 1 << 20
"""Bytes below which a disk counts as full."""


WITHOUT_FILE = ("config", "completion", "doctor", "list")
"""Commands that answer whatever is wrong with rtserve.toml."""


class LazyGroup(Group):
    """A group that knows its commands by name and imports each on first use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order of the path of data."""
        return list(entries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command with examples under its help, or None where there is none of that name."""
        entry = entries().get(cmd_name)
        if entry is None:
            return None
        module, _, attribute = entry.place.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        command.epilog = "\n".join(["\b", "Examples:", *(f"  {example}" for example in entry.examples)])
        return dressed(command)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is asked for, with the defaults that rtserve.toml has for it; help needs none."""
        found = super().resolve_command(ctx, args)
        name = found[0]
        if name and name not in WITHOUT_FILE and not ctx.resilient_parsing and not {"-h", "--help"} & set(args):
            from rtserve.cli.defaults import set_defaults

            set_defaults(ctx, name)
        return found

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments; help is printed while that is done."""
        with pipes_apart():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with pipes_apart():
            return super().invoke(ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands, or options of none, that what is typed may become; no command is imported for that."""
        found = [(name, entry.summary) for name, entry in entries().items() if name.startswith(incomplete)]
        return [CompletionItem(name, help=said) for name, said in found] + click.Command.shell_complete(
            self, ctx, incomplete
        )

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands in groups, each in one line, without importing any."""
        for title, group in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in group.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(rtserve.__version__, prog_name="rtserve")
def cli() -> None:
    """Turn trained EEG networks into exact, fast ONNX graphs and proven contest submissions."""


dressed(cli)


def main(argv: list[str] | None = None) -> None:
    """Run the command line and exit with the code that the outcome has.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; those of the process by default.
    """
    _end_like_an_interrupt()
    speak_plainly()
    try:
        code = cli.main(args=argv, prog_name="rtserve", standalone_mode=False)
    except (KeyboardInterrupt, click.exceptions.Abort):
        _tell_last("interrupted")
        code = 128 + (_ENDED_BY[-1] if _ENDED_BY else signal.SIGINT)
    except click.ClickException as error:
        _say_usage(error)
        code = 2
    except RtserveError as error:
        if os.environ.get("RTSERVE_DEBUG"):
            raise
        _say(error)
        code = error.exit_code
    except (BrokenPipe, OSError) as error:
        code = GONE if isinstance(error, BrokenPipe | BrokenPipeError) and reader_went() else _end_by_system(error)
    sys.exit(code if isinstance(code, int) else 0)


def _end_like_an_interrupt() -> None:
    """Let SIGTERM (`kill`, a batch system's time limit) end a command as Ctrl-C does: temporary files go, exit 143."""
    _ENDED_BY.clear()
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)


_ENDED_BY: list[int] = []
"""SIGTERM, once it came: what is raised for it is a KeyboardInterrupt, which every command knows how to end on."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    _ENDED_BY.append(number)
    signal.default_int_handler(number, frame)


def _end_by_system(error: BrokenPipe | OSError) -> int:
    """Say what the system refused; a broken pipe is one between processes of ours here."""
    if os.environ.get("RTSERVE_DEBUG"):
        raise error
    _say(_from_system(error if isinstance(error, OSError) else BrokenPipeError(errno.EPIPE, str(error))))
    return 2


def _from_system(error: OSError) -> InputError:
    """Say what the system refused: a full disk, a name too long, a file that vanished meanwhile."""
    place = str(error.filename or "")
    if not place and is_full(error):
        place = _full_place(error)
    named = f" ({place})" if place else ""
    return InputError(f"{error.strerror or error}{named}", hint="check the path, its permissions and the free space")


def _full_place(error: OSError) -> str:
    """Return what is full where the system does not say it: stdout, the folder for temporary files, or this folder."""
    if any(frame.f_code is click.echo.__code__ for frame, _ in traceback.walk_tb(error.__traceback__)):
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), sys.stdout.fileno())  # Python would try once more when it ends
        return "standard output"
    for folder, name in ((tempfile.gettempdir(), "for temporary files; TMPDIR names another"), (os.getcwd(), "")):
        if shutil.disk_usage(folder).free < LEAST_FREE:
            return f"{folder}{', ' * bool(name)}{name}"
    return ""


def _say(error: RtserveError) -> None:
    """Print an error on one line and its hint on the next."""
    _tell_last(f"error: {' '.join(error.message.split())}")
    if error.hint:
        _tell_last(f"hint: {' '.join(error.hint.split())}")


def _say_usage(error: click.ClickException) -> None:
    """Print what click says of a call that cannot be right."""
    said = io.StringIO()
    error.show(file=said)
    if said.getvalue():
        _tell_last(said.getvalue().rstrip("\n"))


def _tell_last(message: str) -> None:
    """Say how it ended, to whoever still reads stderr."""
    try:
        warn(message)
    except BrokenPipeError:
        reader_went()


if __name__ == "__main__":
    main()
