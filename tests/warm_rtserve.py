"""The command `rtserve` without a fresh Python for each call: a script that has it done by a fork of a warm process.

``with warm_rtserve(folder) as bin:`` puts a script named ``rtserve`` into a folder; a shell that finds it first on its
PATH runs the very command line, `rtserve.cli.main.main`, in a process of its own that starts with what the commands
import already there. Folder, environment, stdin, stdout and stderr are those of the caller, and so is the exit code.
A fresh start of the installed command is tried by ``.ci/run``, ``make test-install`` and tests/test_demo.py.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

HEAVY = ("torch", "onnxruntime", "onnx_ir", "onnxscript.optimizer", "mne", "mne.channels", "joblib", "scipy.stats")
HEAVY += ("skorch", "matplotlib.figure", "jinja2", "rich.progress", "rtserve.cli.signals", "rtserve.cli.training")
HEAVY += ("rtserve.cli.graphs", "rtserve.cli.fusion", "rtserve.cli.measure", "rtserve.cli.build", "rtserve.cli.check")
HEAVY += ("rtserve.training.fit", "rtserve.fusion.fuse", "rtserve.fusion.run.order", "rtserve.graphs.export")
HEAVY += ("rtserve.graphs.witness", "rtserve.measure.evaluate", "rtserve.submission.bundle")
HEAVY += ("rtserve.submission.validate",)
CLIENT = """\
import json, os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.connect({where!r})
job = {{"argv": sys.argv[1:], "cwd": os.getcwd(), "environ": dict(os.environ)}}
socket.send_fds(server, [b"."], [0, 1, 2])
server.sendall(json.dumps(job).encode())
server.shutdown(socket.SHUT_WR)
sys.exit(int(server.makefile().read() or 1))
"""


def command(job: dict, files: list[int]) -> None:
    """Be the command, and end as it does."""
    code: object = 1
    try:
        for old, new in zip(files, (0, 1, 2), strict=True):
            os.dup2(old, new)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(job["cwd"])
        os.environ.clear()
        os.environ.update(job["environ"])
        sys.argv = ["rtserve", *job["argv"]]
        importlib.import_module("rtserve.cli.main").main(job["argv"])
    except SystemExit as ended:
        code = ended.code or 0
    finally:
        end_fork(code)


def end_fork(code: object) -> NoReturn:
    """End a fork as a process ends, but for C libraries: their threads were not forked along and would be waited for."""
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 1)


def answer(connection: socket.socket) -> None:
    """Do one call in a fork, and say how it ended."""
    _, files, _, _ = socket.recv_fds(connection, 1, 3)
    text = connection.makefile().read()
    pid = os.fork()
    if not pid:
        command(json.loads(text), files)
    for file in files:
        os.close(file)
    _, status = os.waitpid(pid, 0)
    connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    connection.close()


def serve(where: str) -> None:
    """Import what the commands need, say so, and do one call after the other until stdin ends."""
    for name in HEAVY:
        importlib.import_module(name)
    warm = importlib.import_module("rtserve.graphs.warm")
    warm._POOL.depth, warm._POOL.idle = 1, [warm._Server()]  # every fork has its pipes; one is at work at a time
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(where)
    listening.listen()
    print("ready", flush=True)
    threading.Thread(target=lambda: (sys.stdin.read(), warm._POOL.end(), os._exit(0)), daemon=True).start()
    while True:
        answer(listening.accept()[0])


@contextlib.contextmanager
def warm_rtserve(folder: Path) -> Iterator[Path]:
    """Yield a folder for the front of PATH, whose ``rtserve`` is the warm one for as long as this lasts."""
    script, client = folder / "rtserve", folder / "client.py"
    with tempfile.TemporaryDirectory(prefix="warm-") as short:  # a socket's path has 107 bytes at most
        where = str(Path(short) / "socket")
        client.write_text(CLIENT.format(where=where))
        # Not by its first line: the kernel takes no interpreter whose path has a space or is long.
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -IS {shlex.quote(str(client))} "$@"\n')
        script.chmod(0o755)
        with _server(where):
            yield folder


@contextlib.contextmanager
def _server(where: str) -> Iterator[None]:
    """Have the warm process listen there."""
    command = [sys.executable, "-W", "ignore", __file__, where]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield
        server.stdin.close()


if __name__ == "__main__":
    serve(sys.argv[1])
