"""The command of a container, once for each recording, as an evaluation runs it; says what came of it and judges nothing.

The file that is to be written is there beforehand, empty, and others may write it; its folder they may not. There is no
network, and who asks for one is counted by the kernel and, where it is a Python, written down by name.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["run_container"]

TEXT = 4000
TABLE = 2 * 2**20
ASKED, PRINTED = "/tmp/rtserve-asked", "/tmp/rtserve-printed"
_COUNTED = {("Ip", "OutNoRoutes"), ("Udp", "NoPorts")}


def run_container(spec: Mapping[str, Any], channel: Any) -> None:
    """Put the image's files in their places and run its command on every recording of `spec`."""
    for source, target in spec["files"]:
        shutil.copytree(source, target, dirs_exist_ok=True)
    for recording in spec["recordings"]:
        channel.emit("begin", what=recording["name"])
        channel.emit("recording", **_answered(spec, recording))
    channel.emit("end")


def _answered(spec: Mapping[str, Any], recording: Mapping[str, str]) -> dict[str, Any]:
    target = os.path.join(spec["output"], recording["table"])
    with open(target, "wb"):
        pass
    os.chmod(target, 0o666)
    os.chmod(spec["output"], 0o555)
    variables = {spec["input_variable"]: recording["file"], spec["output_variable"]: recording["table"]}
    begun, before = time.perf_counter(), _counted()
    try:
        with open(PRINTED, "wb") as printed:
            code = subprocess.Popen(
                spec["command"], cwd=spec["cwd"], env={**spec["environment"], **variables, "RTSERVE_ASKED": ASKED},
                stdin=subprocess.DEVNULL, stdout=printed, stderr=subprocess.STDOUT,
            ).wait()  # fmt: skip
        failed = ""
    except OSError as error:
        code, failed = 127, str(error)
    seconds = time.perf_counter() - begun
    os.chmod(spec["output"], 0o755)
    found = {
        "recording": recording["name"], "code": code, "seconds": seconds, "text": failed or _read(PRINTED, TEXT, last=True),
        "table": _read(target, TABLE), "others": sorted(set(os.listdir(spec["output"])) - {recording["table"]}),
        "asked": list(_asked()), "unreachable": _counted() - before,
    }  # fmt: skip
    _clean(spec["output"])
    return found


def _asked() -> Iterator[str]:
    """Yield whom Python asked for, each once."""
    yield from dict.fromkeys(_read(ASKED, TEXT).splitlines())
    with contextlib.suppress(OSError):
        os.unlink(ASKED)


def _clean(folder: str) -> None:
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)


def _read(path: str, limit: int, *, last: bool = False) -> str:
    """Return a file's text, its first or last bytes where it is long; empty where there is none."""
    try:
        with open(path, "rb") as handle:
            if last:
                handle.seek(max(0, os.path.getsize(path) - limit))
            return handle.read(limit).decode("utf-8", "replace")
    except OSError:
        return ""


def _counted() -> int:
    """Return how many packets of this network had nowhere to go (/proc/net, a header and a row for each protocol)."""
    found = 0
    with contextlib.suppress(OSError, ValueError):
        rows = open("/proc/net/snmp", encoding="ascii").read().splitlines()  # noqa: SIM115
        for names, values in zip(rows[::2], rows[1::2], strict=False):
            kind = names.partition(":")[0]
            pairs = zip(names.split()[1:], values.split()[1:], strict=False)
            found += sum(int(value) for name, value in pairs if (kind, name) in _COUNTED)
    return found
