"""Starts a drive: reads what to do from stdin, guards the process, imports the submission, makes the calls.

Run as ``python -I -B -c "import sys; sys.path.insert(0, FOLDER); import rtserve_harness.main as m; m.main()"``, with
this folder as FOLDER/rtserve_harness.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import platform
import sys
import tempfile
import warnings
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Drive the submission that the specification on stdin names."""
    spec: dict[str, Any] = json.loads(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    del sys.path[0]
    from . import channel as channel_module
    from . import guards

    channel = channel_module.Channel(spec.pop("fd"), bytes.fromhex(spec.pop("key")))
    guards.limit_resources(spec["limits"])
    if spec.get("container"):
        _contain(spec["container"], channel)
    # Copied here from rtserve.graphs: this machine's torchaudio may lack what the scorer's has.
    importlib.import_module(f"{__package__}.pure_torchaudio").allow_pure_torchaudio()
    warnings.simplefilter("ignore")
    sys.dont_write_bytecode = True
    try:
        import torch
    except BaseException as error:
        channel.emit("start", ok=False, error=channel_module.describe_error(error, spec["folder"]))
        return
    channel.emit("start", ok=True, **_environment(torch, spec))
    _prepare(spec, channel, guards)
    if spec.get("kit"):
        _against(spec, channel, guards)
    else:
        _drive(spec, channel, guards)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(0)  # threads and exit handlers of a submission have nothing left to say


def _contain(spec: dict[str, Any], channel: Any) -> None:
    """Run a container's command, which needs no torch here, and end."""
    from .container import run_container

    channel.emit("start", ok=True, python=platform.python_version(), versions={})
    try:
        run_container(spec, channel)
    except Exception as error:  # a fault of these calls, not of the submission
        channel.emit("broken", ok=False, text=f"{type(error).__name__}: {error}")
    os._exit(0)


def _drive(spec: dict[str, Any], channel: Any, guards: Any) -> None:
    import torch

    watch = guards.Watch(spec["folder"])
    guards.block_absent(spec["folder"], spec["allowed"], lambda name: channel.emit("hidden", module=name))
    windows = {challenge["key"]: _read_windows(torch, challenge) for challenge in spec["challenges"]}
    from .channel import describe_error
    from .scorer import Drive

    os.chdir(spec["cwd"])
    if not spec["entry"]["every_script"]:
        sys.path.insert(0, spec["folder"])
    try:
        Drive(spec, channel, watch, windows).run()
    except BaseException as error:  # a fault of these calls, not of the submission
        channel.emit("broken", ok=False, error=describe_error(error, spec["folder"]))


def _against(spec: dict[str, Any], channel: Any, guards: Any) -> None:
    guards.block_absent(spec["folder"], spec["allowed"], lambda name: None)
    from .against import run_kit

    os.chdir(tempfile.gettempdir())
    run_kit(spec["kit"] | {"folder": spec["folder"]}, channel)


def _prepare(spec: dict[str, Any], channel: Any, guards: Any) -> None:
    if spec.get("threads"):
        import torch

        torch.set_num_threads(spec["threads"])
    if spec.get("fence"):
        scratch = os.path.join(spec["fence"], "tmp")
        os.makedirs(scratch, exist_ok=True)
        os.environ["TMPDIR"] = os.environ["HOME"] = tempfile.tempdir = scratch
        guards.map_paths(spec.get("mounts", {}))
        guards.fence(spec["fence"], lambda what: channel.emit("refused", what=what))


def _read_windows(torch: Any, challenge: dict[str, Any]) -> Any:
    signal = challenge["signal"]
    with open(challenge["windows"], "rb") as handle:
        numbers = torch.frombuffer(bytearray(handle.read()), dtype=torch.float32)
    return numbers.reshape(-1, signal["n_chans"], signal["n_times"]).clone()


def _environment(torch: Any, spec: dict[str, Any]) -> dict[str, Any]:
    from importlib import metadata

    versions: dict[str, str | None] = {}
    for name in spec.get("packages", ()):
        try:
            versions[name] = metadata.version(name)
        except Exception:  # not installed here, which is an answer
            versions[name] = None
    versions["torch"] = str(torch.__version__)
    return {"python": platform.python_version(), "versions": versions, "cuda": bool(torch.cuda.is_available())}
