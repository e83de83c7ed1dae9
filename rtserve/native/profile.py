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

from rtserve.native.build import HERE, build
from rtserve.native.compiler import FLAGS, best_level, find_compiler
from rtserve.native.costs import FAR, NEAR
from rtserve.native.load import NativeModule
from rtserve.native.marks import Layer

if TYPE_CHECKING:
    from rtserve.native.generate import Generated

__all__ = ["Spent", "peak_macs_per_ns", "profile"]

CHAINS, CALLS = 12, 200_000
"""Sums that are kept at once, and how often each takes a product in one trial."""
_PEAK = f"""
#define RT_FAR {FAR}
#define RT_NEAR {NEAR}
#include "kernels.h"
#if defined(__AVX512F__)
#define RT_REGISTER "v"
#elif defined(__aarch64__)
#define RT_REGISTER "w"
#else
#define RT_REGISTER "x"
#endif
int rt_width(void) {{ return RT_WIDTH; }}
float rt_peak(long n, float a, float b) {{
  rt_vec va = rt_splat(a), vb = rt_splat(b), s[{CHAINS}];
  RT_UNROLL
  for (int k = 0; k < {CHAINS}; k++) s[k] = vb + (float)k;
  for (long i = 0; i < n; i++) {{
    RT_UNROLL
    for (int k = 0; k < {CHAINS}; k++) {{
      s[k] = s[k] * va + vb;
      __asm__ volatile("" : "+" RT_REGISTER(s[k]));
    }}
  }}
  rt_vec all = s[0];
  RT_UNROLL
  for (int k = 1; k < {CHAINS}; k++) all += s[k];
  return all[0];
}}
"""
"""A loop of multiply-adds that stay in registers; a statement that does nothing keeps the compiler from doing fewer."""


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
    with tempfile.TemporaryDirectory(prefix="rtserve-native-") as name:
        folder = Path(name)
        (folder / "peak.c").write_text(_PEAK, "utf-8")
        flags = [*FLAGS, *best_level().flags, f"-I{HERE}", "-fvisibility=default"]
        find_compiler().run([*flags, "-shared", "peak.c", "-o", "peak.so"], folder)
        library = ctypes.CDLL(str(folder / "peak.so"))
    run = library.rt_peak
    run.argtypes, run.restype = [ctypes.c_long, ctypes.c_float, ctypes.c_float], ctypes.c_float
    macs, best = CALLS * CHAINS * library.rt_width(), 0.0
    for _ in range(rounds):
        start = time.perf_counter_ns()
        run(CALLS, 0.5, 1.0)
        best = max(best, macs / (time.perf_counter_ns() - start))
    return best
