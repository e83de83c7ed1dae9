"""How a command ends that is ended: by SIGTERM, by Ctrl-C, by a full disk."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rtserve.cli.main import main
from tests.conftest import ROOT

LONG = """import subprocess, sys, tempfile
import rtserve.cli.inspecting as inspecting
from rtserve.cli.main import main
def long(_):
    with tempfile.TemporaryDirectory(prefix="rtserve-") as folder:
        child = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
        subprocess.run([sys.executable, "-c", child], cwd=folder)
inspecting.inspect_file = long
main(["inspect", "any.npz"])
"""
"""A command that waits for a child with a temporary folder; the child says its number when it is there."""


def running(number):
    """Whether a process is there and has not ended; one that has stays until somebody asks how."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_children_and_the_temporary_folder(number, code, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", LONG], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert process.stdout is not None
    child = int(process.stdout.readline())
    assert [path.name.startswith("rtserve-") for path in tmp_path.iterdir()] == [True]
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said.splitlines()[-1]) == (code, "interrupted")
    assert list(tmp_path.iterdir()) == []
    deadline = time.monotonic() + 10.0
    while running(child) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not running(child)


def test_an_interruption_after_another_calls_end_is_its_own(monkeypatch):
    def interrupted(_):
        signal.raise_signal(interrupted.number)

    monkeypatch.setattr("rtserve.cli.inspecting.inspect_file", interrupted)
    before = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        codes = []
        for interrupted.number in (signal.SIGTERM, signal.SIGINT):
            with pytest.raises(SystemExit) as ended:
                main(["inspect", "any.npz"])
            codes.append(ended.value.code)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert codes == [143, 130]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_named(unbuffered):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rtserve", "list", "views"], stdout=full, stderr=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered}, check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "error: No space left on device (standard output)"
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("full", [True, False])
def test_a_full_disk_for_temporary_files_is_named(full, tmp_path, monkeypatch, capsys):
    def refused(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("rtserve.cli.inspecting.inspect_file", refused)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    usage = shutil.disk_usage(tmp_path)
    free = {str(tmp_path): 0 if full else usage.free}
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage._replace(free=free.get(str(path), 1 << 40)))
    with pytest.raises(SystemExit) as ended:
        main(["inspect", "any.npz"])
    assert ended.value.code == 2
    assert (f"({tmp_path}, for temporary files; TMPDIR names another)" in capsys.readouterr().err) is full


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "args", [("config",), ("--help",), ("list", "passes", "--json"), ("list", "nothing")], ids=" ".join
)
def test_a_reader_that_goes_away_is_no_failed_check(args, unbuffered):
    process = subprocess.Popen(
        [sys.executable, "-m", "rtserve", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    wrong = args == ("list", "nothing")  # what is wrong is said on stderr, which is read
    assert process.wait() == (2 if wrong else 141)
    assert bool(said) is wrong


def test_an_error_that_nobody_reads_ends_as_an_error():
    script = f"{shlex.quote(sys.executable)} -m rtserve list nothing 2>&1 | true; exit ${{PIPESTATUS[0]}}"
    assert subprocess.run(["bash", "-c", script], cwd=ROOT, check=False).returncode == 2


def test_a_broken_pipe_between_processes_is_said(monkeypatch, capsys):
    def broken(_):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("rtserve.cli.inspecting.inspect_file", broken)
    with pytest.raises(SystemExit) as ended:
        main(["inspect", "any.npz"])
    assert ended.value.code == 2
    assert "Broken pipe" in capsys.readouterr().err
