"""What a generated file keeps beside its statements: weights in the forms that kernels read, tables, functions, kernels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rtserve.files import sha256_bytes
from rtserve.native.view import Buffer, View, steps_of

__all__ = ["Kept"]


class Kept:
    """Weights, tables, functions and kernels, each once however often it is asked for."""

    def __init__(self) -> None:
        self.packing: list[str] = []
        self.weights: list[np.ndarray] = []
        self.n_weights = 0
        self.places: list[tuple[str, int | str]] = []
        self.plain_at: dict[str, int] = {}
        self.forms: dict[tuple[str, str, str], str] = {}
        self.kernels: dict[str, str] = {}
        self.tables: list[str] = []
        self.functions: dict[str, tuple[str, str]] = {}

    def weight(self, value: np.ndarray) -> View:
        """Keep an array as it is, and return where it will lie."""
        value = np.ascontiguousarray(value, dtype=np.float32)
        buffer = self.packed(value, value.size, f"memcpy({{packed}}, {{plain}}, {value.size} * sizeof(float));")
        return View(buffer=buffer, shape=value.shape, steps=steps_of(value.shape))

    def packed(self, value: np.ndarray, room: int | str, how: str) -> Buffer:
        """Keep an array in another form: `how` is the statement that makes it at load, `room` its size in floats."""
        value = np.ascontiguousarray(value, dtype=np.float32)
        key = sha256_bytes(value.tobytes())
        if (key, str(room), how) not in self.forms:
            self.forms[key, str(room), how] = self._packed(value, key, room, how)
        return Buffer(name=f"(w + {self.forms[key, str(room), how]})", size=0, first=0, last=0)

    def _packed(self, value: np.ndarray, key: str, room: int | str, how: str) -> str:
        name = f"W{len(self.packing)}"
        if key not in self.plain_at:
            self.plain_at[key] = self.n_weights
            self.weights.append(value.reshape(-1))
            self.n_weights += value.size
        self.packing.append(how.format(packed=f"packed + {name}", plain=f"plain + {self.plain_at[key]}"))
        self.places.append((name, room))
        return name

    def filled(self, bias: np.ndarray | None) -> str:
        """Keep a bias filled up to whole panels; return its name, or no place where there is none."""
        if bias is None:
            return "0"
        n = bias.size
        return self.packed(bias, f"RT_FILLED({n})", f"rt_fill({{plain}}, 1, {n}, {{packed}});").name

    def reals(self, values: Sequence[float]) -> str:
        """Keep float64 constants; return their name."""
        text = f"[] = {{{', '.join(repr(float(value)) for value in values)}}};"
        known = next((line for line in self.tables if line.endswith(text)), None)
        if known is None:
            known = f"static const double R{len(self.tables)}{text}"
            self.tables.append(known)
        return known.split()[3].partition("[")[0]

    def function(self, key: str, text: str) -> str:
        """Keep a function, parameters and body; return its name."""
        if key not in self.functions:
            self.functions[key] = (f"f{len(self.functions)}", text)
        return self.functions[key][0]

    def table(self, values: Sequence[int]) -> str:
        """Keep integers that a statement looks up; return their name."""
        name = f"T{len(self.tables)}"
        self.tables.append(f"static const int {name}[] = {{{', '.join(map(str, values))}}};")
        return name

    def kernel(self, macro: str, *arguments: int) -> str:
        """Return the name of a kernel's instance."""
        text = ", ".join(map(str, arguments))
        key = f"{macro}({text})"
        if key not in self.kernels:
            self.kernels[key] = f"k{len(self.kernels)}"
        return self.kernels[key]
