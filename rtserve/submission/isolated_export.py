"""An export in the sandbox: for files whose own library runs the code in them when it loads them.

The child of the export sees Python with its packages, rtserve, the folder of the exporter and the file; it has no
network and writes nowhere but in memory. What it made comes back over a pipe.
"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import rtserve
from rtserve.errors import EnvironmentMissingError, ExportError
from rtserve.graphs.exporter import exporter_file
from rtserve.submission import sandbox

__all__ = ["isolated_child"]

MADE = ("raw.onnx", "probes.npz", "result.json")
"""Files that come back."""
LARGEST = 2**30
_CODE = r"""
import io, json, os, sys, tarfile
told = json.loads(sys.stdin.read())
sys.path.insert(0, told["package"])
folder = "/tmp/export"
os.makedirs(folder)
with open(folder + "/job.json", "w") as handle:
    handle.write(told["job"])
sys.argv = ["export_child", folder]
from rtserve.graphs.export_child import main
main()
with os.fdopen(int(told["pipe"]), "wb") as pipe, tarfile.open(fileobj=pipe, mode="w|") as made:
    for name in told["made"]:
        if os.path.exists(folder + "/" + name):
            made.add(folder + "/" + name, arcname=name)
"""


def isolated_child(folder: Path, timeout_s: float) -> tuple[int, str]:
    """Run the export that ``job.json`` in `folder` describes in the sandbox, as `rtserve.graphs.warm.run_child`.

    Raises
    ------
    EnvironmentMissingError
        Where this machine has neither bubblewrap nor namespaces.
    ExportError
        Where the child broke a limit.
    subprocess.TimeoutExpired
        Where it took longer than `timeout_s`.
    """
    kind = sandbox.best_kind()
    job = json.loads((folder / "job.json").read_text("utf-8"))
    if kind == "plain":
        raise EnvironmentMissingError(
            f"loading {Path(job['checkpoint']).name} runs the code in it, and this machine has no sandbox for that",
            hint="install bubblewrap, or pass --trusted if you know who made the file",
        )
    package = Path(rtserve.__file__).resolve().parent
    mounts = {str(package): package, job["checkpoint"]: Path(job["checkpoint"])}
    file = exporter_file(job["exporter"])
    if file is not None:
        path = file.resolve()
        job["exporter"] = str(path) + job["exporter"].partition(".py")[2]
        mounts[str(path.parent)] = path.parent
    plan = sandbox.Plan(
        python=Path(sys.executable),
        code=_CODE,
        mounts=mounts,
        cwd="/tmp",
        limits=sandbox.Limits(wall_s=timeout_s, output_bytes=LARGEST),
    )
    told = {"package": str(package.parent), "job": json.dumps(job), "pipe": "{fd}", "made": MADE}
    outcome = sandbox.run(plan, stdin=json.dumps(told).encode(), kind=kind)
    if "longer than" in outcome.stopped:
        raise subprocess.TimeoutExpired("rtserve.graphs.export_child", timeout_s)
    if outcome.stopped:
        raise ExportError(f"the export was stopped in its sandbox: {outcome.stopped}", hint="is the file what it says?")
    _unpack(outcome.events, folder)
    return outcome.returncode, outcome.text


def _unpack(data: bytes, folder: Path) -> None:
    """Write the plain files with known names out of what came back; the rest stays out."""
    if not data:
        return
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as made:
            for member in made:
                handle = made.extractfile(member) if member.isreg() and member.name in MADE else None
                if handle is not None:
                    (folder / member.name).write_bytes(handle.read())
    except tarfile.TarError:
        raise ExportError("what came back from the sandbox is no archive", hint="is the file what it says?") from None
