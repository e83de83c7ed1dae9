"""Loads a compiled graph and runs it on numpy arrays, without copying them.

A library is code: only one that this process has just built, or whose digest its own description names and whose answers
hold, is loaded (`NativeModule.open`).
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.files import read_json, sha256_bytes
from rtserve.native.build import SCHEMA, Built
from rtserve.native.team import Team, require_shared

__all__ = ["NativeModule"]

CACHE_LINE = 64


class NativeModule:
    """A compiled graph at work.

    Parameters
    ----------
    library : bytes
        The ``.so``.
    weights : bytes
        Little-endian float32.
    level : str, optional
        An instruction set it was built for; the best that this processor has by default.
    threads : int
        That compute one window together, or share the windows of a batch; the answers are the same bits.

    Raises
    ------
    EnvironmentMissingError
        Where this processor has none that it was built for.
    InputError
        Where the weights are not as many as the code says, there is no such level, or it was built for one thread.
    """

    def __init__(self, library: bytes, weights: bytes, *, level: str | None = None, threads: int = 1) -> None:
        self._given = (library, weights, level, threads)
        self._library = _loaded(library)
        names = [self._library.rtserve_level_name(k).decode() for k in range(self._library.rtserve_levels())]
        self._level = self._library.rtserve_best_level() if level is None else _index(names, level)
        if self._level < 0:
            raise EnvironmentMissingError(
                f"this processor has none of the instruction sets that the code was built for ({', '.join(names)})",
                hint="compile it on this machine, or run the .onnx",
            )
        self.level = names[self._level]
        self.n_window = self._library.rtserve_window_floats()
        self.n_answer = self._library.rtserve_answer_floats()
        plain = np.frombuffer(weights, dtype="<f4").astype(np.float32)
        if plain.size != self._library.rtserve_weight_floats():
            raise InputError(
                f"{plain.size} weights are given, the code has {self._library.rtserve_weight_floats()}",
                hint="the .so and the .weights beside it must be of one compilation",
            )
        self._packed = _aligned(self._library.rtserve_packed_floats(self._level))
        self._library.rtserve_pack(self._level, plain.ctypes.data, self._packed.ctypes.data)
        self._run, self._weights = self._library.rtserve_run, self._packed.ctypes.data
        self._scratch = [self._room()]
        self.threads = threads
        self._team = self._new_team() if threads > 1 else None

    def counters(self, name: str, n: int) -> np.ndarray:
        """Return (n,) unsigned integers of 64 bits that the code keeps under a name, as they stand now."""
        return np.array((ctypes.c_uint64 * n).in_dll(self._library, name)[:], dtype=np.uint64)

    def _room(self) -> tuple[np.ndarray, int]:
        """Return memory for one window in flight, and where it is."""
        room = _aligned(self._library.rtserve_scratch_floats(self._level))
        return room, room.ctypes.data

    def _new_team(self) -> Team:
        require_shared(self._library)
        return Team(self._library, self._level, self.threads, self._packed, _aligned)

    @classmethod
    def of(cls, built: Built, *, level: str | None = None, threads: int = 1) -> NativeModule:
        """Return what was just built, at work."""
        return cls(built.library, built.weights, level=level, threads=threads)

    @classmethod
    def open(cls, path: str | Path, *, threads: int = 1) -> NativeModule:
        """Return a compiled graph from F.so and the F.json and F.weights beside it.

        Parameters
        ----------
        path : str or Path
            The .so.
        threads : int
            See `NativeModule`; more than one need code that was compiled with ``--threaded``.

        Raises
        ------
        InputError
            Where one is missing, or is not what F.json says that was compiled.
        """
        path = Path(path)
        told = read_json(
            path.with_suffix(".json"), "description of a compiled graph", hint="rtserve compile F.onnx -o F.so"
        )
        if not isinstance(told, dict) or told.get("schema") != SCHEMA:
            raise InputError(f"{path.with_suffix('.json')} does not describe a compiled graph", hint="rtserve compile")
        data = {}
        for kind in ("so", "weights"):
            file = path.with_suffix(f".{kind}")
            data[kind] = file.read_bytes() if file.is_file() else b""
            digest, wanted = sha256_bytes(data[kind]), str(told.get("sha256", {}).get(kind))
            if digest != wanted:
                raise InputError(
                    f"{file} has the digest {digest[:12]}, {path.stem}.json says {wanted[:12]}",
                    hint="compile the graph again: rtserve compile F.onnx -o F.so --force",
                )
        return cls(data["so"], data["weights"], threads=threads)

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Return (batch, n_outputs) float32 for x (batch, n_chans, n_times) float32; several threads may call it."""
        x = np.ascontiguousarray(x, dtype=np.float32)
        n = len(x)
        if x.size != n * self.n_window:
            raise InputError(
                f"windows of {x.size // max(n, 1)} numbers are given, the code takes {self.n_window}",
                hint="windows of (n_chans, n_times) as the graph says",
            )
        y = np.empty((n, self.n_answer), dtype=np.float32)
        if not (self._team is not None and self._together(x, y)):
            self._alone(x, y)
        return y

    def bound(self, x: np.ndarray, y: np.ndarray) -> Callable[[], None]:
        """Return a call that computes the answer to what is in x then, and writes it into y; one at a time.

        Parameters
        ----------
        x, y : ndarray, float32, contiguous
            Memory of one window and of one answer, apart from each other.

        Raises
        ------
        InputError
            Where one is something else.
        """
        for name, array, wanted in (("x", x, self.n_window), ("y", y, self.n_answer)):
            if (array.size, array.dtype, array.flags.c_contiguous) != (wanted, np.dtype(np.float32), True):
                raise InputError(
                    f"{name} is {array.dtype} of {array.shape}, the code wants {wanted} numbers of float32 in a row",
                    hint="np.zeros of that many, float32",
                )
        room, place = self._room()
        arguments = (self._level, self._weights, place, x.ctypes.data, y.ctypes.data, 1)

        def call(run: Any = self._run, held: Any = (self, room, x, y)) -> None:
            run(*arguments)

        return call

    def _alone(self, x: np.ndarray, y: np.ndarray) -> None:
        try:
            room = self._scratch.pop()
        except IndexError:  # another thread is at it
            room = self._room()
        self._run(self._level, self._weights, room[1], x.ctypes.data, y.ctypes.data, len(x))
        self._scratch.append(room)

    def _together(self, x: np.ndarray, y: np.ndarray) -> bool:
        if self._team is not None and not self._team.here:
            self._team = self._new_team()
        return self._team is not None and self._team.run(x, y)

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, self._given


def _again(library: bytes, weights: bytes, level: str | None, threads: int = 1) -> NativeModule:
    return NativeModule(library, weights, level=level, threads=threads)


def _index(names: list[str], level: str) -> int:
    if level not in names:
        raise InputError(f"the code was not built for {level}", hint=f"it was for {', '.join(names)}")
    return names.index(level)


def _aligned(n: int) -> np.ndarray:
    """Return `n` zeros that begin at a cache line."""
    room = np.zeros(n + CACHE_LINE // 4, dtype=np.float32)
    skip = -room.ctypes.data % CACHE_LINE // 4
    return room[skip : skip + n]


def _loaded(library: bytes) -> Any:
    """Return the library of these bytes; its file is needed no more once it is loaded."""
    handle, name = tempfile.mkstemp(prefix="rtserve-native-", suffix=".so")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(library)
        loaded = ctypes.CDLL(name)
    except OSError as error:
        raise EnvironmentMissingError(
            f"this machine cannot load the code: {error}", hint="compile it on this machine, or run the .onnx"
        ) from None
    finally:
        os.unlink(name)
    loaded.rtserve_level_name.restype = ctypes.c_char_p
    for size in ("weight_floats", "window_floats", "answer_floats"):
        getattr(loaded, f"rtserve_{size}").restype = ctypes.c_size_t
    for size in ("packed_floats", "scratch_floats"):
        function = getattr(loaded, f"rtserve_{size}")
        function.restype, function.argtypes = ctypes.c_size_t, [ctypes.c_int]
    pointer = ctypes.c_void_p
    loaded.rtserve_pack.argtypes, loaded.rtserve_pack.restype = [ctypes.c_int, pointer, pointer], None
    loaded.rtserve_run.argtypes = [ctypes.c_int, *[pointer] * 4, ctypes.c_size_t]
    loaded.rtserve_run.restype = None
    if hasattr(loaded, "rtserve_pool_open"):
        loaded.rtserve_pool_bytes.argtypes, loaded.rtserve_pool_bytes.restype = [ctypes.c_int] * 2, ctypes.c_size_t
        loaded.rtserve_pool_open.argtypes = [ctypes.c_int, ctypes.c_int, pointer, pointer]
        loaded.rtserve_pool_open.restype = pointer
        loaded.rtserve_pool_run.argtypes = [pointer, pointer, pointer, ctypes.c_size_t]
        loaded.rtserve_pool_close.argtypes = [pointer]
        loaded.rtserve_pool_run.restype = loaded.rtserve_pool_close.restype = None
    return loaded
