"""Work side by side ends with who waits for it: what fails, or is interrupted, is not waited behind what goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from rtserve.errors import InputError
from rtserve.threads import Unwanted, require_wanted, side_by_side
from tests.conftest import ROOT

HANGS_S = 60.0


def goes_on(ended):
    deadline = time.monotonic() + HANGS_S
    try:
        while time.monotonic() < deadline:
            require_wanted()
            time.sleep(0.01)
    except Unwanted:
        ended.append(threading.current_thread())
        raise


def test_results_come_in_the_order_of_the_calls():
    assert side_by_side([lambda: (time.sleep(0.05), 1)[1], lambda: 2]) == [1, 2]
    require_wanted()  # of a thread that nobody else waits for


def test_what_goes_on_ends_where_the_other_fails():
    def fails():
        raise InputError("no", hint="")

    ended = []
    with pytest.raises(InputError):
        side_by_side([fails, lambda: goes_on(ended)])
    assert len(ended) == 1
    assert side_by_side([lambda: require_wanted()]) == [None]  # the next ones are wanted


INTERRUPTED = """import sys
import rtserve.measure.rescore as rescore
from pathlib import Path
from rtserve.measure.sides import Side
from rtserve.threads import side_by_side
sides = [Side(name=n, kind="checkpoint", path=Path(n + ".pth"), digest="") for n in "AB"]
sys.executable = sys.argv[1]
side_by_side([lambda side=side: rescore.rescore(side, "w.npz") for side in sides])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_processes_that_score_end_with_an_interruption(number, tmp_path):
    child, begun = tmp_path / "python", tmp_path / "begun"
    child.write_text(f"#!/bin/sh\necho $$ >> {begun}\nexec sleep {HANGS_S:g}\n")
    child.chmod(0o755)
    code = "from rtserve.cli.main import _end_like_an_interrupt; _end_like_an_interrupt()\n" + INTERRUPTED
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(child)], cwd=ROOT, stderr=subprocess.DEVNULL,
        env=os.environ | {"TMPDIR": str(tmp_path)}, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + HANGS_S
    while time.monotonic() < deadline and not (begun.exists() and len(begun.read_text().split()) == 2):
        time.sleep(0.02)
    numbers = [int(one) for one in begun.read_text().split()]
    process.send_signal(number)
    assert process.wait(timeout=HANGS_S / 2) != 0
    for one in numbers:
        with pytest.raises(ProcessLookupError):
            os.kill(one, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"python", "begun"}
