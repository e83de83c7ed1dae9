"""Where a window's time goes in native code, layer by layer, and what the core could do at most.

A layer's share of the peak is its multiply-adds over its time, over `peak_macs_per_ns`: multiply-adds of whole vectors in
registers, as many side by side as hide their latency, nothing read from memory.
"""

from __future__ import annotations

import ctypes
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rtserve.native.build import build
from rtserve.native.compiler import FLAGS, best_level, find_compiler
from rtserve.native.load import NativeModule
from rtserve.native.marks import Layer

if TYPE_CHECKING:
    from rtserve.native.generate import Generated

__all__ = ["Spent", "peak_macs_per_ns", "profile"]

CHAINS, WIDTHS = 12, {"x86-64-v4": 16, "x86-64-v3": 8}
"""Sums that are kept at once, and the numbers of a vector by instruction set; 4 in any other."""


@dataclass(frozen=True, kw_only=True)
class Spent:
    """A layer, and the nanoseconds that its statements took for one window (a mean over the runs)."""

    layer: Layer
    ns: float


def profile(generated: Generated, x: np.ndarray, runs: int) -> list[Spent]:
    """Return what every layer takes, in the order of the graph; layers without statements are left out.

    Parameters
    ----------
    generated : Generated
        Written with ``marks=True``.
    x : ndarray, (1, n_chans, n_times) float32
        The window.
    runs : int
        How many times; a fifth as many come before them.
    """
    module = NativeModule.of(build(generated, levels=[best_level()]))
    for _ in range(runs // 5):
        module.infer(x)
    count = len(generated.layers) + 1
    before = module.counters("rt_spent", count)
    for _ in range(runs):
        module.infer(x)
    took = (module.counters("rt_spent", count) - before) / runs
    answer = Layer(op="answer", shape=generated.layers[-1].shape, macs=0)
    found = zip((*generated.layers, answer), took.tolist(), strict=True)
    return [Spent(layer=layer, ns=ns) for layer, ns in found if ns > 0]


def peak_macs_per_ns(rounds: int = 20) -> float:
    """Return the multiply-adds of float32 that this core does in a nanosecond at most, the best of `rounds` trials."""
    level, calls = best_level(), 200_000
    width = WIDTHS.get(level.name, 4)
    sums = range(CHAINS)
    source = "\n".join(
        [
            f"typedef float v __attribute__((vector_size({4 * width})));",
            "float rt_peak(long n, float a, float b) {",
            "  v va = {0}, vb = {0};",
            "  va += a, vb += b;",
            *(f"  v s{k} = vb + {k}.f;" for k in sums),
            "  for (long i = 0; i < n; i++) {",
            *(f'    s{k} = s{k} * va + vb; __asm__ volatile("" : "+{_register()}"(s{k}));' for k in sums),
            "  }",
            f"  v all = {' + '.join(f's{k}' for k in sums)};",
            "  return all[0];",
            "}",
        ]
    )
    with tempfile.TemporaryDirectory(prefix="rtserve-native-") as name:
        folder = Path(name)
        (folder / "peak.c").write_text(source + "\n", "utf-8")
        find_compiler().run(
            [*FLAGS, *level.flags, "-fvisibility=default", "-shared", "peak.c", "-o", "peak.so"], folder
        )
        run = ctypes.CDLL(str(folder / "peak.so")).rt_peak
    run.argtypes, run.restype = [ctypes.c_long, ctypes.c_float, ctypes.c_float], ctypes.c_float
    best = 0.0
    for _ in range(rounds):
        start = time.perf_counter_ns()
        run(calls, 0.5, 1.0)
        best = max(best, calls * CHAINS * width / (time.perf_counter_ns() - start))
    return best


def _register() -> str:
    """Return how a compiler calls a vector register in a constraint."""
    import platform

    return "w" if platform.machine() in ("aarch64", "arm64") else "v" if "v4" in best_level().name else "x"
