"""Model files as opcodes: which globals a pickle would call, read and never run."""

from __future__ import annotations

import io
import pickletools
import re
import time
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from rtserve.submission.checks.needs import read_needs

__all__ = ["ModelFile", "read_model_file"]

SUFFIXES = (".pt", ".pth", ".pkl", ".pickle", ".joblib", ".ckpt", ".bin", ".npz", ".npy", ".pt2", ".ts", ".jit", ".sav")
PICKLED = (".pkl", ".joblib", ".pickle", ".sav")
"""What is a pickle by its name, packed or not."""
SECONDS = 1.0
_DANGER = re.compile(
    r"^(os|posix|nt|subprocess|sys|shutil|socket|pty|commands|runpy|importlib|webbrowser|ctypes|asyncio)\."
    r"|^(builtins|__builtin__)\.(eval|exec|compile|open|__import__|getattr|input|globals)$|^urllib|^requests|^http"
)
_TENSOR_ONLY = re.compile(
    r"^(collections\.(OrderedDict|Counter|defaultdict)|builtins\.(set|bytearray|complex|frozenset|int|float|dict|list|tuple|str|bool)"
    r"|__builtin__\.(set|bytearray|complex)|_codecs\.encode|copy_reg\._reconstructor.*"
    r"|torch\.(_utils\._rebuild_.*|_tensor\._rebuild_.*|Size|Tensor|device|nn\.parameter\.(Parameter|Buffer|UninitializedParameter)"
    r"|storage\.\w+|\w*Storage|serialization\._get_layout|_C\._\w+|nn\.Parameter|float\d+|bfloat16|u?int\d+|bool|complex\d+|half|double"
    r"|qint\w+|quint\w+|per_\w+|strided|sparse_\w+|contiguous_format|channels_last|_sparse.*|get_device_module|torch_version\.TorchVersion))$"
)
"""What torch.load(weights_only=True) builds without being told (torch/_weights_only_unpickler.py)."""


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """What one file of the zip is.

    Parameters
    ----------
    kind : str
        ``"torch"``, ``"torchscript"``, ``"torch export"``, ``"torch (old)"``, ``"pickle"``, ``"numpy"``, or empty.
    problem : str
        Why it cannot be loaded, or empty.
    globals : tuple of str
        What its pickles import, as ``module.name``.
    devices : tuple of str
        Devices its tensors were on.
    strings : frozenset of str
        Short texts in its pickles.
    versions : dict of str to tuple of str
        Packages to the versions that wrote its objects, where those say so.
    """

    kind: str = ""
    problem: str = ""
    globals: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    strings: frozenset[str] = field(default_factory=frozenset)
    versions: dict[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def unsafe(self) -> tuple[str, ...]:
        """Globals that run commands or reach outside."""
        return tuple(name for name in self.globals if _DANGER.search(name))

    @property
    def beyond_tensors(self) -> tuple[str, ...]:
        """Globals that torch.load refuses by default from torch 2.6 on."""
        return tuple(name for name in self.globals if not _TENSOR_ONLY.match(name))


def read_model_file(path: Path) -> ModelFile:
    """Look into one file without loading it."""
    try:
        with open(path, "rb") as handle:
            start = handle.read(256)
            handle.seek(0)
            return _read(path, start, handle)
    except (OSError, ValueError, zlib.error, zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        return ModelFile(problem=f"{type(error).__name__}: {error}"[:200])


def _read(path: Path, start: bytes, handle: IO[bytes]) -> ModelFile:
    if not start:
        return ModelFile(problem="the file is empty")
    if start.startswith(b"version https://git-lfs"):
        return ModelFile(problem="it is a git-lfs pointer, not the weights: run `git lfs pull` before zipping")
    if start.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return ModelFile(problem="it is a web page, not weights: the download went wrong")
    if start.startswith(b"PK"):
        return _archive(path)
    if start.startswith(b"\x93NUMPY"):
        return ModelFile(kind="numpy", problem="")
    if start[:1] in (b"\x80", b"(", b"c", b"}", b"]") or path.suffix in PICKLED:
        names, strings = _globals(handle)
        needs = read_needs(path)
        old = start[:2] == b"\x80\x02" and b"l\xfc\x9cF\xf9 j\xa8P\x19" in start
        return ModelFile(
            kind="torch (old)" if old else "pickle", globals=tuple(dict.fromkeys((*names, *needs.globals))),
            strings=strings, devices=_devices(strings), versions=needs.versions,
        )  # fmt: skip
    return ModelFile()


def _archive(path: Path) -> ModelFile:
    try:
        archive = zipfile.ZipFile(path)  # noqa: TID251 - a torch file is a zip too
    except zipfile.BadZipFile:
        return ModelFile(kind="torch", problem="it is cut off: torch wrote more than there is")
    with archive:
        names = archive.namelist()
        kind = _archive_kind(names)
        found: list[str] = []
        strings: set[str] = set()
        for name in names:
            pickled = name.endswith("data.pkl") if kind != "numpy" else name.endswith(".npy")
            if not pickled or kind == "torchscript":
                continue
            with archive.open(name) as handle:
                more, texts = _globals(io.BytesIO(handle.read(64 * 2**20)) if kind != "numpy" else io.BytesIO())
            found += more
            strings |= texts
    return ModelFile(
        kind=kind, globals=tuple(dict.fromkeys(found)), strings=frozenset(strings), devices=_devices(strings)
    )


def _archive_kind(names: list[str]) -> str:
    if any("/code/" in name and name.endswith(".py") for name in names):
        return "torchscript"
    if any(name.endswith(".npy") for name in names):
        return "numpy"
    if any("models/" in name and name.endswith(".json") for name in names):
        return "torch export"
    return "torch" if any(name.endswith("data.pkl") for name in names) else ""


def _devices(strings: frozenset[str] | set[str]) -> tuple[str, ...]:
    return tuple(sorted(text for text in strings if re.fullmatch(r"(cuda|mps|xpu)(:\d+)?", text)))


def _globals(handle: IO[bytes]) -> tuple[tuple[str, ...], frozenset[str]]:
    """Return the globals and short strings of the pickles at the start of a stream, as far as they can be read."""
    names: dict[str, None] = {}
    strings: set[str] = set()
    until = time.perf_counter() + SECONDS
    try:
        for _ in range(8):
            recent: list[str] = []
            memo: dict[int, str] = {}
            for opcode, argument, _position in pickletools.genops(handle):
                _step(opcode.name, argument, recent, memo, names, strings)
                if time.perf_counter() > until:
                    return tuple(names), frozenset(strings)
    except Exception:  # arrays behind the pickle, or its end: what was read counts
        pass
    return tuple(names), frozenset(strings)


def _step(
    name: str, argument: object, recent: list[str], memo: dict[int, str], names: dict[str, None], strings: set[str]
) -> None:
    if name == "GLOBAL":
        names[str(argument).replace(" ", ".", 1)] = None
    elif name == "STACK_GLOBAL" and len(recent) >= 2:
        names[f"{recent[-2]}.{recent[-1]}"] = None
    elif isinstance(argument, str):
        recent.append(argument)
        if len(argument) < 40:
            strings.add(argument)
        del recent[:-4]
    elif name == "MEMOIZE":
        memo[len(memo)] = recent[-1] if recent else ""
    elif name in ("BINGET", "LONG_BINGET") and isinstance(argument, int) and argument in memo:
        recent.append(memo[argument])
