"""The route ``onnxruntime``: the ONNX file itself, on a CPU, with the package installed or travelling along."""

from __future__ import annotations

import atexit
import importlib
import platform
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rtserve.runtime.serving import OPENERS

VENDORED = "onnxruntime-*.zip"
"""An onnxruntime package that travels along; its name ends in the Python it is for, e.g. ``-cp310-x86_64.zip``."""


class OnnxruntimeModel(nn.Module):  # type: ignore[misc]
    """The ONNX file in onnxruntime on the CPU; input from another device is brought there and back.

    Parameters
    ----------
    data : bytes
        The ONNX file.
    """

    route = "onnxruntime"
    reason = ""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.data = data
        self._open()

    def _open(self) -> None:
        onnxruntime = importlib.import_module("onnxruntime")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        session = onnxruntime.InferenceSession(self.data, options, providers=["CPUExecutionProvider"])
        self.names = session.get_inputs()[0].name, [session.get_outputs()[0].name]
        object.__setattr__(self, "session", session)
        if _has_numpy_bridge():
            object.__setattr__(self, "run", self._run_numpy)
        else:
            object.__setattr__(self, "native", importlib.import_module("onnxruntime.capi._pybind_state").OrtValue)
            object.__setattr__(self, "run", self._run_dlpack)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        if x.device.type == "cpu":
            y: Tensor = self.run(x)
            return y
        return self.run(x.cpu()).to(x.device)

    def _run_numpy(self, x: Tensor) -> Tensor:
        return torch.from_numpy(self.session.run(self.names[1], {self.names[0]: x.detach().numpy()})[0])

    def _run_dlpack(self, x: Tensor) -> Tensor:
        """Pass tensors without numpy: torch 2.2 cannot talk to numpy 2."""
        x = x.detach().clone(memory_format=torch.contiguous_format)
        value = self.native.from_dlpack(torch.utils.dlpack.to_dlpack(x))
        outputs = self.session._sess.run_with_ort_values({self.names[0]: value}, self.names[1], None)
        return torch.utils.dlpack.from_dlpack(outputs[0].to_dlpack()).clone()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("session", "native", "run")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._open()


def _has_numpy_bridge() -> bool:
    try:
        torch.zeros(1).numpy()
    except Exception:  # torch built against another numpy says so in several ways
        return False
    return True


def make_importable(folder: Path) -> None:
    """Make onnxruntime importable: the installed one, or the one that travels along, unpacked to a temporary folder.

    Raises
    ------
    ImportError
        Where there is neither for this Python and processor.
    """
    try:
        importlib.import_module("onnxruntime")
    except ImportError:
        tag = f"-cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}.zip"
        archives = [path for path in sorted(folder.glob(VENDORED)) if path.name.endswith(tag)]
        if not archives or not sys.platform.startswith("linux"):
            raise ImportError(f"no onnxruntime installed, and none travels along for {tag[1:-4]}") from None
        target = tempfile.mkdtemp(prefix="onnxruntime-")
        atexit.register(shutil.rmtree, target, ignore_errors=True)
        with zipfile.ZipFile(archives[0]) as archive:  # noqa: TID251
            archive.extractall(target)
        sys.path.insert(0, target)
        importlib.import_module("onnxruntime")


def open_onnxruntime(folder: Path, name: str, device: torch.device) -> nn.Module:
    """Open NAME.onnx; onnxruntime serves CPUs here, any other device is an error."""
    if device.type != "cpu":
        raise RuntimeError(f"onnxruntime runs on the CPU here, not on {device}")
    make_importable(folder)
    return OnnxruntimeModel((folder / f"{name}.onnx").read_bytes())


OPENERS["onnxruntime"] = open_onnxruntime
