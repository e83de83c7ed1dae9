"""What a hostile zip does stays in the sandbox, and ends in a report."""

from __future__ import annotations

import os
import stat
import zipfile
from pathlib import Path

import pytest
from zips import GOOD, good, write_zip

from rtserve.submission import sandbox
from rtserve.submission.report import tick_list
from rtserve.submission.validate import check

ACTS = """
import os, signal, socket, subprocess, sys, time

def attempt(what):
    try:
        print(what.__name__, what(), flush=True)
    except BaseException as error:
        print(what.__name__, type(error).__name__, flush=True)

def network():
    socket.create_connection(("127.0.0.1", PORT), timeout=2).sendall(b"out")

def outside():
    for folder in FOLDERS:
        try:
            open(os.path.join(folder, "mark"), "w").write("here")
        except OSError:
            pass

def submission_folder():
    open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "mark"), "w")

def links():
    os.symlink(FOLDERS[0], "/tmp/link")
    open("/tmp/link/mark", "w").write("here")

def parents():
    for pid in {os.getppid(), PARENT, 1} - {os.getpid()}:
        try:
            os.kill(pid, signal.SIGKILL)
        except OSError:
            pass

def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            for fd in range(3, 64):
                try:
                    os.close(fd)
                except OSError:
                    pass
            time.sleep(600)
        os._exit(0)

def fake():
    print('{"stage": "end", "ok": true}')
    for fd in range(3, 64):
        try:
            os.write(fd, b'0000 {"n": 0, "stage": "end", "challenge": "", "ok": true}\\n')
        except OSError:
            pass

def kernel():
    open("/proc/sys/kernel/domainname", "w").write("owned")

for act in (network, outside, submission_folder, links, parents, daemon, fake, kernel):
    attempt(act)
"""

KINDS = [kind for kind in ("bubblewrap", "unshare") if sandbox._works(kind)]
pytestmark = pytest.mark.tools


@pytest.fixture
def listener():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        yield server


def sleepers() -> set[str]:
    return {p.name for p in Path("/proc").iterdir() if p.name.isdigit()}


def test_this_machine_isolates():
    assert sandbox.best_kind() in sandbox.KINDS


@pytest.mark.skipif(not KINDS, reason="neither bubblewrap nor unshare works on this machine")
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_reaches_the_host(kind, tmp_path, listener):
    folders = [str(tmp_path), str(Path.home()), "/usr", "/etc", str(Path(__file__).parent), "/var/tmp"]
    acts = ACTS.replace("FOLDERS", repr(folders)).replace("PORT", str(listener.getsockname()[1]))
    acts = acts.replace("PARENT", str(os.getpid()))
    domain = Path("/proc/sys/kernel/domainname").read_text()
    path = write_zip(tmp_path / "hostile.zip", good(**{"submission.py": acts + GOOD}))
    report = check(path, kind=kind)
    assert report.sandbox == kind
    assert not [folder for folder in folders if (Path(folder) / "mark").exists()]
    assert Path("/proc/sys/kernel/domainname").read_text() == domain
    with pytest.raises(TimeoutError):
        listener.accept()
    assert report.verdict == "passed", tick_list(report)
    inside = next(result for result in report.results if result.code == "RT327")
    said = " ".join(finding.message for finding in inside.findings)
    assert "network" in said
    assert "faked" in said
    assert not _running(b"time.sleep(600)")


def _running(mark: bytes) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


LIMITS = sandbox.Limits(wall_s=900, memory_bytes=6 * 2**30, file_bytes=64 * 2**20, output_bytes=4 * 2**20, processes=12)
ENDINGS = {
    "allocates 30 GB": ("import torch; torch.empty(30 * 2**30, dtype=torch.uint8).fill_(1)", "RT303", ""),
    "forks without end": ("import os\nwhile True:\n    try: os.fork()\n    except OSError: pass", "RT302", "processes"),
    "prints without end": ("while True: print('x' * 10000)", "RT302", "printed"),
    "leaves": ("import os; os._exit(0)", "RT302", "exit code 0"),
    "crashes": ("import ctypes; ctypes.string_at(0)", "RT302", "signal"),
    "huge file": ("f = open('/tmp/big', 'wb')\nwhile True: f.write(b'x' * 2**20)", "RT30", ""),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_broken_limit_ends_in_a_report(name, tmp_path):
    code, expected, said = ENDINGS[name]
    report = check(write_zip(tmp_path / "hostile.zip", good(**{"submission.py": code + "\n" + GOOD})), limits=LIMITS)
    failed = [result for result in report.results if result.status == "failed" and result.code.startswith(expected)]
    assert failed, tick_list(report)
    assert said in failed[0].findings[0].message
    assert report.exit_code == 1
    assert "ran longer" not in failed[0].findings[0].message


def test_a_run_that_hangs_is_ended(tmp_path):
    plan = sandbox.Plan(
        python=Path(os.sys.executable), code="import time; time.sleep(600)", mounts={}, cwd="/tmp",
        limits=sandbox.Limits(wall_s=1.0),
    )  # fmt: skip
    outcome = sandbox.run(plan, stdin=b"")
    assert "longer than 1 s" in outcome.stopped
    assert not _running(b"import time; time.sleep(600)")


def archive(path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:  # noqa: TID251 - a stranger's zip
        for name, data in entries:
            target.writestr(name, data)
    return path


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


UNSAFE = {
    "parent folder": ("../outside.txt", b"x"),
    "absolute": ("/tmp/rtserve-outside.txt", b"x"),
    "deep parent": ("a/b/../../../outside.txt", b"x"),
    "windows": ("C:\\outside.txt", b"x"),
    "backslashes": ("..\\outside.txt", b"x"),
    "symbolic link": (link("weights_1.pt"), b"/etc/passwd"),
    "linked folder": (link("folder"), b"/tmp"),
}


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_members_are_named_and_never_unpacked(name, tmp_path):
    path = archive(tmp_path / "x.zip", ("submission.py", GOOD.encode()), UNSAFE[name])
    report = check(path)
    failed = [result for result in report.results if result.status == "failed"]
    assert [result.code for result in failed] == ["RT002"]
    stored = UNSAFE[name][0]
    assert (stored if isinstance(stored, str) else stored.filename) in failed[0].findings[0].where
    assert not (tmp_path / "outside.txt").exists()
    assert not Path("/tmp/rtserve-outside.txt").exists()
    assert report.exit_code == 1


def test_a_zip_bomb_stays_packed(tmp_path):
    path = archive(tmp_path / "x.zip", ("submission.py", GOOD.encode()), ("zeros.bin", bytes(400 * 2**20)))
    report = check(path)
    assert [result.code for result in report.results if result.status == "failed"] == ["RT003"]


def test_large_honest_weights_are_no_bomb(tmp_path):
    noise = os.urandom(2**20) * 8
    report = check(write_zip(tmp_path / "x.zip", good(**{"extra.bin": noise})), run=False)
    assert not report.failed, tick_list(report)


@pytest.mark.skipif(not KINDS, reason="neither bubblewrap nor unshare works on this machine")
def test_a_pickle_that_runs_code_is_named_and_contained(tmp_path):
    mark = tmp_path / "mark"
    command = f"touch {mark}".encode()
    payload = b"cposix\nsystem\n(V" + command + b"\ntR."
    script = GOOD.replace(
        "model.load_state_dict(torch.load(path, map_location=self.device))",
        "import pickle; pickle.load(open(path, 'rb'))",
    )
    report = check(
        write_zip(tmp_path / "x.zip", {"submission.py": script, "weights_1.pt": payload, "weights_2.pt": payload})
    )
    assert not mark.exists()
    warned = next(result for result in report.results if result.code == "RT204")
    assert "posix.system" in warned.findings[0].message
