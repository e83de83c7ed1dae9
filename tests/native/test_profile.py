"""Code that times its layers gives the answers that the same code gives without, and says where multiply-adds are."""

import numpy as np
import pytest

from rtserve.graphs.native import generate_graph
from rtserve.native.build import build
from rtserve.native.compiler import best_level
from rtserve.native.load import NativeModule
from rtserve.native.profile import peak_macs_per_ns, profile
from tests.native.test_native import windows

pytestmark = pytest.mark.tools


def test_marks_change_no_bit_and_layers_hold_every_multiply_add(fused):
    plain, marked = generate_graph(fused), generate_graph(fused, marks=True)
    x = windows(fused, 2, seed=1)
    level = [best_level()]
    answers = [NativeModule.of(build(one, levels=level)).infer(x).tobytes() for one in (plain, marked)]
    assert answers[0] == answers[1]
    assert "clock_gettime" not in plain.source
    found = profile(marked, x[:1], runs=20)
    assert sum(one.layer.macs for one in found) == marked.macs == sum(one.macs for one in plain.layers)
    assert found[-1].layer.op == "answer"
    assert all(np.isfinite(one.ns) and one.ns > 0 for one in found)


def test_the_peak_is_a_rate_of_whole_vectors():
    # at least a tenth of a multiply-add a nanosecond, at most four vectors of sixteen in a cycle of a tenth of it
    assert 0.1 < peak_macs_per_ns(rounds=3) < 16 * 4 * 10
