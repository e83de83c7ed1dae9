"""Interrupts the demo at each of its stages, in processes of their own; what each left is printed as JSON.

``python demo_interrupts.py FOLDER SIGINT:1 SIGTERM:1 SIGINT:2 ... SIGINT:0`` goes on with one demo in FOLDER: at its
first stage it gets a signal, is run again and gets the other, is run again, and so on; stage 0 lets it run to its end, over
what an earlier run that ended would have left.
As Ctrl-C in a terminal does, SIGINT goes to the whole process group; SIGTERM goes to the one process, as from ``kill``.
What the command needs is imported once and every run is forked from there, so that all runs cost little more than one.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import importlib
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.warm_rtserve import end_fork

HEAVY = ("torch", "onnxruntime", "mne", "joblib", "scipy.stats", "matplotlib.figure", "jinja2", "rtserve.cli.demo")
HEAVY += ("rtserve.demo.path", "rtserve.measure.branches", "rtserve.measure.evaluate", "rtserve.submission.bundle")
HEAVY += ("rtserve.submission.validate", "rtserve.graphs.runners", "rtserve.fusion.fuse", "rtserve.report.figures")
HEAVY += ("onnx_ir", "onnxscript.optimizer", "mne.channels", "rtserve.graphs.witness", "rtserve.fusion.run.order")
INTO_A_STAGE_S = 0.15
WRITTEN_LAST = ("demo.json", "summary.html", "summary.md")
PR_SET_CHILD_SUBREAPER = 36


def run(folder: Path, name: str, reached: int) -> None:
    """Be the command: say each stage on the pipe `reached` when it begins; stdout and stderr go to a file."""
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM):  # a background shell's child ignores the first
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    tempfile.tempdir = os.environ["TMPDIR"] = str(folder / f"tmp-{name}")
    talk = os.open(folder / f"talk-{name}.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(talk, 1)
    os.dup2(talk, 2)

    @contextlib.contextmanager
    def bar(label: str, *, quiet: bool = False) -> Iterator[Any]:
        os.write(reached, label.encode() + b"\n")
        yield lambda done, total, what="": None

    sys.modules["rtserve.cli.demo"].progress = bar  # type: ignore[attr-defined]
    code: Any = 1
    try:
        sys.modules["rtserve.cli.main"].main(["demo", "--quick", "-o", str(folder / "out")])
    except SystemExit as ended:
        code = ended.code
    finally:
        end_fork(code)


def orphans() -> list[str]:
    """Return what is still running of what a run started; it was handed to this process when the run ended."""
    deadline = time.monotonic() + 120.0
    left: list[str] = []
    while time.monotonic() < deadline:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        left = [Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ") for pid in children]
        if not left:
            break
        time.sleep(0.05)
    return left


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file in a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def interrupt(folder: Path, name: str) -> dict[str, Any]:
    """Run the demo and send the signal a moment into a stage: ``SIGINT:3``; stage 0 lets it end by itself."""
    number, stage = signal.Signals[name.partition(":")[0]], int(name.partition(":")[2])
    (folder / f"tmp-{name}").mkdir()
    for last in WRITTEN_LAST if not stage else ():
        (folder / "out" / last).write_text("of an earlier run\n")
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(read)
        run(folder, name, write)
    os.close(write)
    seen = []
    with os.fdopen(read) as labels:
        for label in labels:
            seen.append(label.strip())
            if label.startswith(f"[{stage}/"):
                time.sleep(INTO_A_STAGE_S)
                (os.killpg if number == signal.SIGINT else os.kill)(pid, number)
                break
        _, status = os.waitpid(pid, 0)
    return {
        "name": name,
        "seen": seen,
        "code": os.waitstatus_to_exitcode(status),
        "talk": (folder / f"talk-{name}.txt").read_text(),
        "running": orphans(),
        "held": digests(folder / "out"),
        "half": [path.name for path in (folder / "out").rglob(".rtserve-*")],
        "temporary": [path.name for path in (folder / f"tmp-{name}").iterdir()],
    }


def main() -> None:
    """Interrupt at every stage in turn."""
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    importlib.import_module("rtserve.cli.main")
    for name in HEAVY:
        importlib.import_module(name)
    for name in names:
        print(json.dumps(interrupt(folder, name)), flush=True)


if __name__ == "__main__":
    main()
