"""The route ``native``: the graph as machine code, on a CPU that has what it needs.

A library is code: it is loaded only where its digest and its graph's are those of its description, and it answers only
where what it gives for the stored reference windows is what the graph gives.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rtserve.runtime.serving import OPENERS

NATIVE_SCHEMA = "rtserve.native/1"
NATIVE_KINDS = ("so", "weights")
CACHE_LINE = 64
SMALLEST = 1e-3
"""Answers are compared relative to the largest of them, or to this where all are smaller."""
LIBRARIES: dict[str, Any] = {}
"""Loaded code by digest: copies of a model share it."""


class NativeModel(nn.Module):  # type: ignore[misc]
    """Compiled code on the CPU; input from another device is brought there and back.

    Parameters
    ----------
    library, weights : bytes
        The code, and little-endian float32.
    told : mapping
        Its description.
    """

    route = "native"
    reason = ""

    def __init__(self, library: bytes, weights: bytes, told: Mapping[str, Any]) -> None:
        super().__init__()
        self.library, self.weights, self.told = library, weights, dict(told)
        self._open()

    def _open(self) -> None:
        code = loaded_code(self.library)
        levels = [code.rtserve_level_name(k).decode() for k in range(code.rtserve_levels())]
        if levels != self.told["levels"]:
            raise ValueError(f"the code has the instruction sets {levels}, its description says {self.told['levels']}")
        self.best = code.rtserve_best_level()
        if self.best < 0:
            raise RuntimeError(f"this processor has none of {', '.join(levels)}")
        numbers = torch.frombuffer(bytearray(self.weights), dtype=torch.float32) if self.weights else torch.zeros(0)
        self.n_window, self.n_answer = code.rtserve_window_floats(), code.rtserve_answer_floats()
        shape = tuple(self.told["window"])
        if numbers.numel() != code.rtserve_weight_floats() or shape[0] * shape[1] != self.n_window:
            raise ValueError("the weights or the window are not those of the code")
        packed = _aligned(code.rtserve_packed_floats(self.best))
        code.rtserve_pack(self.best, numbers.data_ptr(), packed[1])
        for name, value in (("code", code), ("packed", packed), ("rooms", [])):
            object.__setattr__(self, name, value)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        if x.device.type != "cpu":
            return self.forward(x.cpu()).to(x.device)
        if x.ndim != 3 or list(x.shape[1:]) != list(self.told["window"]):
            raise ValueError(f"windows of shape {tuple(x.shape[1:])} are given, the code takes {self.told['window']}")
        given = x.detach().to(torch.float32).contiguous()
        y = torch.empty((given.shape[0], self.n_answer), dtype=torch.float32)
        try:
            room = self.rooms.pop()
        except IndexError:  # the first call, or another thread is at it
            room = _aligned(self.code.rtserve_scratch_floats(self.best))
        self.code.rtserve_run(self.best, self.packed[1], room[1], given.data_ptr(), y.data_ptr(), given.shape[0])
        self.rooms.append(room)
        return y

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("code", "packed", "rooms")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._open()


def _aligned(n: int) -> tuple[Tensor, int]:
    """Return memory for `n` floats, and its first cache line."""
    room = torch.zeros(n + CACHE_LINE // 4, dtype=torch.float32)
    return room, room.data_ptr() + -room.data_ptr() % CACHE_LINE


def loaded_code(library: bytes) -> Any:
    """Return the code of these bytes, loaded from a file in memory where the system has such, so that none is left."""
    digest = hashlib.sha256(library).hexdigest()
    if digest not in LIBRARIES:
        try:
            handle = os.memfd_create("rtserve-native")
            # The loader knows what it has loaded by name, and numbers of files come again: the digest is in the name.
            name = (
                f"/proc/self/fd/{''.join('./' if bit == '1' else './/' for bit in f'{int(digest[:16], 16):b}')}{handle}"
            )
        except (AttributeError, OSError):
            handle, name = tempfile.mkstemp(prefix="rtserve-native-", suffix=".so")
        try:
            with os.fdopen(handle, "wb", closefd=False) as file:
                file.write(library)
            LIBRARIES[digest] = _declared(ctypes.CDLL(name))
        finally:
            os.close(handle)
            if not name.startswith("/proc/"):
                os.unlink(name)
    return LIBRARIES[digest]


def _declared(code: Any) -> Any:
    """Return a library with the types of its functions."""
    number, size, pointer = ctypes.c_int, ctypes.c_size_t, ctypes.c_void_p
    types = {
        "level_name": ([number], ctypes.c_char_p), "weight_floats": ([], size), "window_floats": ([], size),
        "answer_floats": ([], size), "packed_floats": ([number], size), "scratch_floats": ([number], size),
        "pack": ([number, pointer, pointer], None), "run": ([number, *[pointer] * 4, size], None),
    }  # fmt: skip
    for name, (given, result) in types.items():
        function = getattr(code, f"rtserve_{name}")
        function.argtypes, function.restype = given, result
    return code


def open_native(folder: Path, name: str, device: torch.device) -> nn.Module:
    """Open NAME.native.so; every doubt about it is an error: another graph's, another processor, other answers."""
    if device.type != "cpu":
        raise RuntimeError(f"compiled code runs on the CPU, not on {device}")
    told = json.loads((folder / f"{name}.native.json").read_text("utf-8"))
    if told["schema"] != NATIVE_SCHEMA or told["machine"] != platform.machine():
        raise RuntimeError(f"the code is {told['schema']} for {told['machine']}, this is a {platform.machine()}")
    data = {kind: (folder / f"{name}.native.{kind}").read_bytes() for kind in NATIVE_KINDS}
    wanted = {f"{name}.native.{kind}": (told["sha256"][kind], data[kind]) for kind in NATIVE_KINDS}
    wanted[f"{name}.onnx"] = told["graph"], (folder / f"{name}.onnx").read_bytes()
    for file, (digest, content) in wanted.items():
        actual = hashlib.sha256(content).hexdigest()
        if actual != digest:
            raise ValueError(f"{file} has sha256 {actual[:12]}, {name}.native.json says {digest[:12]}")
    model = NativeModel(data["so"], data["weights"], told)
    _require_answers(model, folder, name)
    return model


def _require_answers(model: NativeModel, folder: Path, name: str) -> None:
    """Raise `ValueError` unless a model answers the stored reference windows as its graph does."""
    reference = torch.load(folder / "reference.pt", map_location="cpu", weights_only=True)  # noqa: TID251
    got, wanted = model.forward(reference["windows"]).double(), reference[name].double()
    fine = torch.isfinite(wanted)
    if got.shape != wanted.shape or not torch.equal(fine, torch.isfinite(got)):
        raise ValueError(f"the code's answers to the reference windows are not {name}'s")
    if not fine.any():
        return
    error = float((got - wanted)[fine].abs().max()) / max(SMALLEST, float(wanted[fine].abs().max()))
    if not error <= model.told["tolerance"]:
        raise ValueError(f"the code's answers to the reference windows are {error:.1e} from {name}'s")


OPENERS["native"] = open_native
