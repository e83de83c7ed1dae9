"""Drives without a fresh Python each: a server that has torch loaded forks a child per drive.

The child runs the very harness that the sandbox runs, in the sandbox's plain kind. Isolation has its own tests.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import time

from rtserve.submission import sandbox


def _child(write_fd, stdin: bytes, where: str, cwd: str, out: int) -> None:
    import sys
    import types

    os.dup2(out, 1)
    os.dup2(out, 2)
    read, write = os.pipe()
    threading.Thread(target=lambda: (os.write(write, stdin), os.close(write)), daemon=True).start()
    os.dup2(read, 0)
    sys.stdin = types.SimpleNamespace(buffer=open(0, "rb", closefd=False))  # noqa: SIM115 - lives as long as the process
    os.chdir(cwd)
    sys.path.insert(0, where)
    import rtserve_harness.main as main

    sys.path.insert(0, where)
    main.main()
    os._exit(0)


def forked_run(plan: sandbox.Plan, *, stdin: bytes, kind: str | None = None, env=None, seen=None) -> sandbox.Outcome:
    """Stand in for `rtserve.submission.sandbox.run`."""
    context = multiprocessing.get_context("forkserver")
    read_fd, write_fd = os.pipe()
    text_read, text_write = os.pipe()
    where = plan.code.split("'")[1]
    start = time.perf_counter()
    from multiprocessing.reduction import DupFd

    process = context.Process(
        target=_entry, args=(DupFdLater(write_fd), stdin, where, plan.cwd, DupFdLater(text_write))
    )
    del DupFd
    process.start()
    os.close(write_fd)
    os.close(text_write)
    parts: dict[str, bytes] = {}

    def drain(name: str, fd: int) -> None:
        with open(fd, "rb") as handle:
            parts[name] = handle.read()

    threads = [threading.Thread(target=drain, args=pair) for pair in (("events", read_fd), ("text", text_read))]
    for thread in threads:
        thread.start()
    process.join(plan.limits.wall_s)
    stopped = ""
    if process.is_alive():
        stopped = f"it ran longer than {plan.limits.wall_s:g} s"
        process.kill()
        process.join()
    for thread in threads:
        thread.join()
    if seen:
        seen(bytearray(parts["events"]))
    return sandbox.Outcome(
        kind="plain",
        returncode=process.exitcode or 0,
        stopped=stopped,
        events=parts["events"],
        text=parts["text"].decode("utf-8", "replace")[-20000:],
        seconds=time.perf_counter() - start,
        peak_bytes=0,
        peak_processes=1,
        left_over=0,
    )


class DupFdLater:
    """A file descriptor that travels to the child when the process is spawned."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self):
        from multiprocessing.reduction import DupFd

        return _same, (DupFd(self.fd),)


def _same(dup):
    return dup.detach()


def _entry(write_fd, stdin: bytes, where: str, cwd: str, out) -> None:
    _child(write_fd, stdin.replace(b"{fd}", str(write_fd).encode()), where, cwd, out)
