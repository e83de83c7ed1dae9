"""The sandbox's three kinds show the same view; the drive's events cannot be forged."""

from __future__ import annotations

import hashlib
import hmac
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from zips import GOOD, good, write_zip

from rtserve.errors import InputError
from rtserve.submission import sandbox
from rtserve.submission.drive import probe_windows, verified
from rtserve.submission.validate import check
from rtserve.threads import side_by_side

KINDS = [*[kind for kind in ("bubblewrap", "unshare") if sandbox._works(kind)], "plain"]

pytestmark = pytest.mark.tools


def run(code: str, kind: str, tmp_path: Path, **limits: float) -> sandbox.Outcome:
    plain = kind == "plain"
    plan = sandbox.Plan(
        python=Path(sys.executable),
        code=code,
        mounts={} if plain else {"/app/input/res": tmp_path},
        folders=() if plain else ("/app/program",),
        cwd=str(tmp_path) if plain else "/app/program",
        limits=sandbox.Limits(**limits),  # type: ignore[arg-type]
    )
    return sandbox.run(plan, stdin=b"{fd}", kind=kind)


def test_a_probe_that_is_interrupted_leaves_nothing_running(monkeypatch, tmp_path):
    (tmp_path / "bwrap").write_text(f"#!/bin/sh\nsleep 300 & echo $! > {tmp_path}/pid; wait\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(sandbox, "command_of", lambda plan, kind, work: [str(tmp_path / "bwrap")])

    def interrupted(process, timeout):
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text().strip():
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess.Popen, "communicate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sandbox._works.__wrapped__("bubblewrap")
    left = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 30
    while sandbox._birth(left) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not sandbox._birth(left)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_nobody_waits_for_any_more_is_ended(kind, tmp_path):
    def fails():
        time.sleep(0.3)
        raise InputError("no", hint="")

    begun = time.monotonic()
    with pytest.raises(InputError):
        side_by_side([fails, lambda: run("import time; time.sleep(300)", kind, tmp_path)])
    assert time.monotonic() - begun < 200


@pytest.mark.parametrize("kind", KINDS)
def test_events_and_text_come_back_apart(kind, tmp_path):
    outcome = run(
        "import os, sys; os.write(int(sys.stdin.read()), b'event'); print('text'); sys.exit(3)", kind, tmp_path
    )
    assert (outcome.events, outcome.text.strip(), outcome.returncode) == (b"event", "text", 3)
    assert outcome.stopped == ""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "plain"])
def test_only_what_python_needs_is_seen(kind, tmp_path):
    code = """
import os
print(sorted(os.listdir("/app/input")), os.getcwd())
print([line for line in open("/proc/self/status") if line.startswith("CapEff")][0].split()[1])
for folder in ("/home", "/root/.ssh", "/var", "/mnt", "/srv"):
    assert not os.path.exists(folder), folder
for path in ("/app/input/res/x", "/usr/x", "/etc/x", "/x", "/proc/sys/kernel/core_pattern"):
    try:
        open(path, "w")
    except OSError:
        continue
    raise SystemExit(path)
open("/tmp/x", "w").write("private")
open("/app/program/x", "w").write("private")
"""
    outcome = run(code, kind, tmp_path)
    assert outcome.returncode == 0, outcome.text
    assert "['res'] /app/program" in outcome.text
    assert "0000000000000000" in outcome.text


@pytest.mark.parametrize("kind", KINDS)
def test_limits_end_a_run_and_say_which(kind, tmp_path):
    assert "longer" in run("import time; time.sleep(60)", kind, tmp_path, wall_s=0.5).stopped
    assert "printed" in run("while True: print('x' * 1000)", kind, tmp_path, output_bytes=10000).stopped
    endless = "import os, time\nfor _ in range(30):\n    if os.fork() == 0: time.sleep(60)\ntime.sleep(60)"
    assert "processes" in run(endless, kind, tmp_path, processes=8).stopped
    assert (
        "memory"
        in run("x = bytearray(300 * 2**20)\nimport time; time.sleep(60)", kind, tmp_path, memory_bytes=2**27).stopped
    )


def test_a_forged_line_is_counted_and_ignored():
    key = b"k" * 32

    def line(text: str, with_key: bytes = key) -> bytes:
        return hmac.new(with_key, text.encode(), hashlib.sha256).hexdigest().encode() + b" " + text.encode() + b"\n"

    first = line(json.dumps({"n": 0, "stage": "start"}))
    data = first + line(json.dumps({"n": 1, "stage": "end"}), b"x" * 32) + b"free text\n" + first
    events, forged = verified(data, key)
    assert [event["stage"] for event in events] == ["start"]
    assert forged == 3


def test_windows_are_in_volts_and_repeat():
    x = probe_windows(8, 129, 200, sfreq=100.0, scale=1e-5)
    assert x.shape == (8, 129, 200)
    assert x.dtype.name == "float32"
    assert 0.5e-5 < x.std() < 2e-5
    assert (x == probe_windows(8, 129, 200, sfreq=100.0, scale=1e-5)).all()
    assert (x != probe_windows(8, 129, 200, sfreq=100.0, scale=1e-5, seed=1)).any()


def test_the_plain_kind_says_so_and_shows_the_scorers_paths(tmp_path):
    script = GOOD.replace("Path(__file__).resolve().parent / name", '"/app/input/res/" + name')
    report = check(write_zip(tmp_path / "x.zip", good(**{"submission.py": script})), kind="plain")
    assert report.verdict == "passed"
    assert any("limits only" in note for note in report.notes)


def test_the_harness_speaks_the_scorers_python():
    import ast

    import rtserve.submission.harness as harness
    from rtserve.graphs import pure_torchaudio, without_compiler

    asked = {"against.py": {"pandas"}, "describe.py": {"numpy"}}  # where there is one; nothing is missed without
    beside = [Path(module.__file__) for module in (pure_torchaudio, without_compiler)]
    for path in [*Path(harness.__file__).parent.glob("*.py"), *beside]:
        known = {*sys.stdlib_module_names, "torch", *asked.get(path.name, ())}
        tree = ast.parse(path.read_text(), feature_version=(3, 10))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and node.level == 0 else []
            assert all(n.partition(".")[0] in known for n in names), path


def test_a_process_is_watched_whatever_it_calls_itself():
    """A name has 15 bytes, any, and ends within a letter where one of two bytes stands there."""
    code = "open('/proc/self/comm', 'wb').write(b'\\xff\\xfe'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-IS", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as named:  # fmt: skip
        assert named.stdout.readline()
        assert list(sandbox.descendants(named.pid)) == [named.pid]
        assert sandbox._name(named.pid)
        named.communicate(b"\n")
