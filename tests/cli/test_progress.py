"""Progress with a forecast and the name of what goes on: on any terminal, in a pipe, and for files called as anything."""

from __future__ import annotations

import re
import signal

import pytest

from rtserve.cli import progress as module
from rtserve.cli.output import hush
from rtserve.cli.progress import progress
from rtserve.stages import Stages, Together
from tests.cli.test_widths import on_a_terminal

SHOWN = """import time
from rtserve.cli.output import working
from rtserve.cli.progress import progress
with progress("checking") as bar:
    for done, what in enumerate(["reading the zip", "challenge 1: windows of other scales", "{x}[red].zip\\x1b[31m"]):
        bar(done, 4, what)
        time.sleep(0.2)
with working("exporting {x}[bold].pth, which has quite a long name", limit_s=9):
    time.sleep(0.2)
"""


def text_of(shown):
    """Return what was drawn without the escape codes that draw it."""
    return re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", shown)


@pytest.mark.parametrize("columns", [40, 60, 80, 200])
def test_stages_are_named_on_a_terminal_of_any_width(columns):
    code, shown = on_a_terminal([SHOWN], columns)
    assert code == 0, shown
    lines = [line for line in re.split(r"[\r\n]", text_of(shown)) if line.strip()]
    assert max(map(len, lines)) <= columns
    assert any("reading the zip" in line for line in lines)
    for done in (1, 2):  # whatever is cut, not this
        assert any(re.search(rf"{done}/4 (-:--:--|\d:\d\d:\d\d)", line) for line in lines)
    assert "\x1b[31m" not in shown
    if columns >= 80:
        assert any("challenge 1: windows of other scales" in line for line in lines)
        assert any("{x}[red].zip?[31m" in line for line in lines)
    assert any("exporting {x}[b" in line and "(at most 9 s) 0:00:0" in line for line in lines)


def plain(monkeypatch, capsys, calls, **options):
    """Return what is said in a pipe of calls, each a second after the one before it."""
    now = iter(range(1000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: float(next(now)))
    monkeypatch.setattr(module, "_EVERY_S", 0.0)
    with progress("checking", **options) as bar:
        for call in calls:
            bar(*call)
    return capsys.readouterr().err.splitlines()


CALLS = [(0, 4, "a"), (1, 4, "b"), (3, 4, "c"), (0, 2, "other"), (1, 2, "other")]


def test_a_pipe_is_told_the_stage_and_a_forecast(monkeypatch, capsys):
    assert plain(monkeypatch, capsys, CALLS) == [
        "checking: b: 1 of 4, about 6 s left",
        "checking: c: 3 of 4, about 1 s left",
        "checking: other: 1 of 2, about 1 s left",  # another kind of step has a clock of its own
    ]


def test_what_has_no_name_is_said_as_before(monkeypatch, capsys):
    assert plain(monkeypatch, capsys, [(1, 3)]) == ["checking: 1 of 3, about 2 s left"]


@pytest.mark.parametrize("how", ["quiet", "hushed"])
def test_nothing_is_said_where_nobody_listens(how, monkeypatch, capsys):
    hush(how == "hushed")
    try:
        assert plain(monkeypatch, capsys, CALLS, quiet=how == "quiet") == []
    finally:
        hush(False)


def test_stages_count_what_is_expected_of_them():
    told = []
    stages = Stages(lambda *one: told.append(one))
    stages.expect(2)
    stages.begin("a")
    stages.expect(2)
    stages.begin("b")
    stages.say("b, closer")
    stages.last("end")
    assert told == [(0, 2, "a"), (1, 4, "b"), (1, 4, "b, closer"), (3, 4, "end")]
    Stages().begin("nobody is told")


def test_pieces_side_by_side_are_told_of_as_one():
    told = []
    both = Together("windows", 2, lambda *one: told.append(one))
    one, two = both.of(0), both.of(1)
    one(5, 10)
    two(10, 20)
    one(10, 10)
    assert told == [(5, 20, "windows"), (15, 30, "windows"), (20, 30, "windows")]
    Together("windows", 1).of(0)(1, 2)


INTERRUPTED = """import os, signal, sys
from rtserve.cli.main import main
import rtserve.submission.custody as custody
def long(path, *, env, replay, progress):
    progress(1, 6, "digests")
    os.kill(os.getpid(), signal.SIGINT)
custody.verify = long
main(["verify", "any.zip"])
"""


def test_an_interruption_leaves_the_terminal_as_it_was():
    code, shown = on_a_terminal([INTERRUPTED], 60)
    assert code == 128 + signal.SIGINT
    assert shown.rstrip().endswith("interrupted")
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h")  # the cursor is there again
