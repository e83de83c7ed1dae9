"""Help, results and errors at any width: nothing is cut, no word that fits is broken, no escape code where none may be."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios

import click
import pytest
from click.testing import CliRunner

from rtserve.cli.commands import entries
from rtserve.cli.help import fold, folded_call
from rtserve.cli.main import cli
from tests.conftest import ROOT

WIDTHS = (40, 60, 80, 120, 200)
PATHS = [(), *((name,) for name in entries())]
PATHS += [(name, below) for name in ("env", "profiles") for below in cli.get_command(click.Context(cli), name).commands]


def words(text):
    """Return text without what layout adds."""
    return re.sub(r" \\\n|\s", "", text)


@pytest.mark.parametrize("path", PATHS, ids="-".join)
def test_no_line_of_help_is_cut_or_too_long(path, monkeypatch):
    shown = {}
    for width in WIDTHS:
        monkeypatch.setenv("COLUMNS", str(width))
        shown[width] = CliRunner().invoke(cli, [*path, "--help"], prog_name="rtserve").output
        for line in shown[width].splitlines():
            assert len(line) <= width or len(line.removesuffix(" \\").split()) == 1, (width, line)
    assert len({words(text) for text in shown.values()}) == 1


def test_summaries_of_subcommands_are_whole(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = " ".join(CliRunner().invoke(cli, ["env", "--help"]).output.split())
    assert (
        "Check ZIP in every environment of PROFILE under --path: does it load there, and what does a window cost?"
        in text
    )


@pytest.mark.parametrize("width", range(12, 60, 7))
def test_folding_loses_nothing(width):
    text = (
        "May be binned_mae:edges=A,B,..[:weights=..][:by=recording] or [onnxruntime|torch|openvino] aaaaaaaaaaaaaaaaaa"
    )
    lines = fold(text, width)
    assert max(map(len, lines)) <= width
    assert words("".join(lines)) == words(text)


def test_a_long_word_breaks_at_its_joints_and_a_short_one_nowhere():
    assert fold("{views|merges|metrics}", 16) == ["{views|merges|", "metrics}"]
    assert fold("take a:b now", 8) == ["take a:b", "now"]


def test_a_folded_call_is_one_call_for_a_shell():
    call = "echo one --two three --four five"
    lines = folded_call(call, 18)
    assert len(lines) > 1
    assert max(map(len, lines)) <= 18
    done = subprocess.run(["sh", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout == "one --two three --four five\n"


def on_a_terminal(args, columns, **environment):
    """Run a command on a terminal of so many columns; return its exit code and all that it wrote there."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    plain = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "NO_COLOR", "TERM", "CI")}
    process = subprocess.Popen(
        [sys.executable, "-c", *args] if args[0].startswith("import ") else [sys.executable, "-m", "rtserve", *args],
        stdin=slave, stdout=slave, stderr=slave, cwd=ROOT, env=plain | {"TERM": "xterm-256color"} | environment,
    )  # fmt: skip
    os.close(slave)
    written = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:
            break
        if not chunk:
            break
        written += chunk
    os.close(master)
    return process.wait(), written.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("columns", [40, 80, 200])
@pytest.mark.parametrize(
    "args", [("list", "views"), ("profiles", "list"), ("inspect", "no-such-folder-at-all/no-such-window-set.npz")]
)
def test_lines_on_a_terminal_break_between_words(args, columns, tmp_path):
    _, text = on_a_terminal(args, columns)
    piped = subprocess.run(
        [sys.executable, "-m", "rtserve", *args], capture_output=True, text=True, cwd=ROOT,
        env=os.environ | {"COLUMNS": str(columns)}, check=False,
    )  # fmt: skip
    said = piped.stdout + piped.stderr
    assert text.split() == said.split()
    assert all(len(line) <= columns or len(line.split()) == 1 for line in text.splitlines())


PROGRESS = """import time
from rtserve.cli.output import working, tell
from rtserve.cli.progress import progress
with progress("counting") as bar:
    for done in range(5):
        bar(done, 5)
        time.sleep(0.05)
with working("thinking"):
    time.sleep(0.1)
tell("done")
"""


def test_progress_moves_on_a_terminal():
    code, text = on_a_terminal([PROGRESS], 80)
    assert code == 0, text
    assert "\x1b[" in text
    assert "counting" in text


@pytest.mark.parametrize("environment", [{"TERM": "dumb"}, {"NO_COLOR": "1"}], ids=str)
def test_no_escape_codes_where_none_may_be(environment):
    code, text = on_a_terminal([PROGRESS], 40, **environment)
    assert (code, text) == (0, "done\n")


def test_the_width_is_that_of_the_terminal():
    assert shutil.get_terminal_size()  # what rtserve asks
    _, narrow = on_a_terminal(("--help",), 40)
    _, wide = on_a_terminal(("--help",), 200)
    assert len(narrow.splitlines()) > len(wide.splitlines())
