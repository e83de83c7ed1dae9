"""Processes of joblib's: deaf to Ctrl-C, which their parent takes whenever it comes, and which ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from rtserve.processes import born_deaf, in_processes
from tests.conftest import HANGS_S

BLOCKED = "import signal, sys; sys.exit(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
INTERRUPTED = """
import signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell's child ignores it
from rtserve.processes import in_processes
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()  # as one that reports progress
print("go", flush=True)
try:
    list(in_processes(time.sleep, [(60,), (60,)], n_jobs=2))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def ctrl_c():
    """Answer Ctrl-C as Python does in a terminal: what a background shell starts ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_sigterm_waits_too_and_is_heard_by_those_who_are_started():
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    children = []

    def interrupted():
        with born_deaf():
            os.kill(os.getpid(), signal.SIGTERM)
            code = "import os, signal, time; os.kill(os.getpid(), signal.SIGTERM); time.sleep(5)"
            children.append(subprocess.run([sys.executable, "-c", code], check=False).returncode)

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert children == [-signal.SIGTERM]


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("watched", [True, False])
def test_ctrl_c_while_processes_are_started_waits_and_is_not_lost(watched):
    ended, children = threading.Event(), []
    watcher = threading.Thread(target=ended.wait)  # takes the signal that the main thread blocks
    if watched:
        watcher.start()

    def interrupted():
        with born_deaf():
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
            children.append(subprocess.run([sys.executable, "-c", BLOCKED], check=False).returncode)

    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        ended.set()
    assert children == [1]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("delay_s", [0.02, 0.4, 1.2])
def test_ctrl_c_in_a_terminal_ends_all_of_them_without_a_word(delay_s):
    command = [sys.executable, "-c", INTERRUPTED]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout.readline() == "go\n"
        time.sleep(delay_s)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=HANGS_S)
    assert (process.returncode, said) == (130, "")
    assert left_of(process.pid) == 0


LOST = """
from joblib.externals.loky.process_executor import _ExecutorManagerThread as Manager
added = Manager.add_call_item_to_queue
def add(self):  # as where the list of calls is cleared while one is queued still
    added(self)
    if self.is_shutting_down():
        raise KeyError(1)
Manager.add_call_item_to_queue = add
"""


def test_a_call_that_is_queued_when_loky_is_closed_costs_no_traceback():
    with subprocess.Popen(
        [sys.executable, "-c", LOST + INTERRUPTED], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "go\n"
        time.sleep(1.2)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=HANGS_S)
    assert (process.returncode, said) == (130, "")
    assert left_of(process.pid) == 0


def left_of(group, within_s=120.0):
    """Return 1 where a process of the group is left after a while."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return 0
        time.sleep(0.05)
    return 1


def test_what_is_left_undone_is_not_warned_of():
    results = in_processes(after, [(0.0, "first"), (5.0, "never")], n_jobs=2)
    assert next(results) == "first"
    results.close()  # pytest makes an error of a warning


def test_results_come_in_the_order_of_the_calls_where_that_is_asked_for():
    calls = [(0.3, "late"), (0.0, "soon")]
    assert list(in_processes(after, calls, n_jobs=2, ordered=True)) == ["late", "soon"]


def after(seconds, text):
    time.sleep(seconds)
    return text
