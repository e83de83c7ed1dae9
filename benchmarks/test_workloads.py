"""W1..W4 under pytest-benchmark: ours as the benchmark, every peer interleaved with it beside it as ratios.

make bench
python -m pytest benchmarks/test_workloads.py -p benchmark -k "W1 and CompactRT"
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from workloads import FAMILIES, WORKLOADS, members, peers

from rtserve.measure.timing import interleave, set_threads

OURS, UNIT = "rtserve, onnxruntime", "one eager forward"


@pytest.mark.parametrize("threads", [1])
@pytest.mark.parametrize("batch", [1, 16, 64])
@pytest.mark.parametrize("workload", list(WORKLOADS))
@pytest.mark.parametrize("family", FAMILIES)
def test_workload(benchmark: Any, family: str, workload: str, batch: int, threads: int) -> None:
    set_threads(threads)
    calls = peers(family, workload, batch=batch, threads=threads)
    expected = np.asarray(calls["torch eager, loop"]())
    for name in set(calls) - {UNIT}:
        np.testing.assert_allclose(np.asarray(calls[name]()), expected, rtol=1e-4, atol=1e-5, err_msg=name)
    timings = interleave(calls, rounds=14, threads=threads)
    benchmark.extra_info |= {
        "weights": members(family).weights,
        "batch": batch,
        "threads": threads,
        "ratio_to_one_eager_forward": {name: timings.ratio(name, UNIT)[0] for name in calls},
    }
    benchmark.pedantic(calls[OURS], rounds=30, iterations=5, warmup_rounds=3)
