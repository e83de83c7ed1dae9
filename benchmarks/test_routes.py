"""The routes of a zip under pytest-benchmark, with the eager loop interleaved beside them.

python -m pytest benchmarks/test_routes.py -p benchmark
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from routes import CASES, LOOP, ROUTES, route_calls

from rtserve.measure.timing import interleave, set_threads


@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize(("family", "workload"), [(family, workload) for family, workload, _ in CASES])
def test_routes(benchmark: Any, tmp_path: Path, family: str, workload: str, batch: int) -> None:
    set_threads(1)
    calls = route_calls(family, workload, batch, tmp_path)
    expected = np.asarray(calls[LOOP]())
    for name, call in calls.items():
        np.testing.assert_allclose(np.asarray(call()), expected, rtol=1e-4, atol=1e-4, err_msg=name)
    timings = interleave(calls, rounds=14, threads=1)
    benchmark.extra_info |= {
        "batch": batch,
        "threads": 1,
        "ratio_to_eager_loop": {route: timings.ratio(route, LOOP)[0] for route in ROUTES},
    }
    benchmark.pedantic(calls["torch"], rounds=20, iterations=3, warmup_rounds=3)
