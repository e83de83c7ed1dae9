"""Starts the child processes of several exports from one that has loaded what each of them needs.

Loading torch, its exporter and onnxscript takes longer than exporting a small network. So this process loads them once,
and forks for each job: an export still has a process of its own, which nothing that an earlier export did can reach.
Called as ``python -m rtserve.graphs.export_server``; `rtserve.graphs.warm` talks with it. A line on stdin is a job as
JSON: ``folder``, ``cwd`` and ``environ``. Two lines come back on stdout: the child's process id, and how it ended, as
`subprocess` counts. What the child says is in ``said.txt`` in the folder. The server ends when its stdin does. Its
arguments name what to load besides.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib
import json
import os
import pkgutil
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Any

from rtserve.graphs.graph import OPSET

LOADED = (
    "rtserve.graphs.export_child",
    "torch.onnx",
    "torch._dynamo",
    "torch._export.utils",
    "torch.export._trace",
    "torch.onnx._internal.exporter._core",
    "torch.onnx._internal.exporter._torchlib.ops",
    "onnxscript.rewriter.rules.common",
    "onnxscript.optimizer",
    "onnxscript.function_libs.torch_lib.ops",
)
"""What an export imports; a name that another version of a package lacks is imported by the child that needs it."""


def share_registry(opset: int) -> None:
    """Read torch's table of what is written as which ONNX operators once: each export would read it from source again."""
    kind = importlib.import_module("torch.onnx._internal.exporter._registration").ONNXRegistry
    plain, shared, had = kind.from_torchlib, kind.from_torchlib(opset), _registered()

    def from_torchlib(cls: Any, opset_version: int = opset) -> Any:
        if opset_version != opset or _registered() != had:  # somebody's exporter has entered an operator of its own
            return plain(opset_version)
        own = copy.copy(shared)
        own.functions = {target: list(found) for target, found in shared.functions.items()}
        return own

    kind.from_torchlib = classmethod(from_torchlib)


def _registered() -> tuple[int, int]:
    """Return how many functions torch and onnxscript have in their tables."""
    ours = importlib.import_module("torch.onnx._internal.exporter._torchlib._torchlib_registry").get_torchlib_ops()
    theirs = importlib.import_module("onnxscript.function_libs.torch_lib.registration").default_registry.values()
    return len(ours), sum(len(one.overloads) + len(one.complex) for one in theirs)


def child(job: dict[str, Any]) -> None:
    """Be the child process of one export, as `rtserve.graphs.export_child` is by itself."""
    code = 1
    try:
        said = os.open(Path(job["folder"]) / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for old, new in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(old, new)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
        os.chdir(job["cwd"])
        os.environ.clear()
        os.environ.update(job["environ"])
        sys.argv[1:] = [job["folder"]]
        importlib.import_module("rtserve.graphs.export_child").main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def main() -> None:
    """Load, then fork for each job until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the child at work, and for whoever waits for it
    warnings.simplefilter("ignore")
    for name in LOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with contextlib.suppress(Exception):  # names private to torch
        share_registry(OPSET)
    for name in sys.argv[1:]:
        with contextlib.suppress(Exception):  # what a child cannot do without, it says itself
            found = pkgutil.resolve_name(name)
            _ = found() if callable(found) else None
    gc.freeze()  # a child's collector would copy what it shares with this process by going through it
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if not pid:
            child(job)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
