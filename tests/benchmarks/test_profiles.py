"""The profile page: what the profiler says is read right, and the nodes add up to the whole."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from tests.conftest import ROOT
from tests.fusion.networks import N_CHANS, N_TIMES, conv_net, network

sys.path.insert(0, str(ROOT / "benchmarks"))
import profiles


def node(us, macs=0):
    return profiles.Spent(name="n", kind="Conv", shape=(1, 2), us=us, macs=macs)


@pytest.mark.parametrize(
    ("kind", "inputs", "output", "macs"),
    [
        ("Conv", [[1, 4, 1, 20], [8, 4, 1, 3], [8]], [1, 8, 1, 10], 8 * 10 * 4 * 3),
        ("Conv", [[1, 8, 1, 20], [8, 1, 1, 3]], [1, 8, 1, 20], 8 * 20 * 3),
        ("FusedGemm", [[5, 128], [128, 64], [64]], [5, 64], 5 * 128 * 64),
        ("Relu", [[5, 64]], [5, 64], 0),
    ],
)
def test_multiply_adds(kind, inputs, output, macs):
    assert profiles.macs_of(kind, inputs, output) == macs


def test_every_node_of_a_graph_is_there():
    x = np.random.default_rng(0).standard_normal((1, N_CHANS, N_TIMES)).astype(np.float32)
    found = profiles.profiled(network(conv_net), x, runs=20)
    assert [n.kind for n in found if n.macs].count("Gemm") + [n.kind for n in found].count("FusedGemm") == 2
    assert {8 * 20 * N_CHANS * 7, 4 * 10 * 8 * 3} <= {n.macs for n in found}
    assert all(n.us >= 0 for n in found)


def test_the_profilers_share_is_taken_off_evenly():
    lines = profiles.part("W1", "net", [node(12.0, macs=500_000), node(4.0)], whole=10.0)
    cells = [line.split(" | ")[2:] for line in lines if line.startswith("| Conv")]
    assert [(c[0], c[1]) for c in cells] == [("9.0", "90%"), ("1.0", "10%")]
    assert cells[0][3].rstrip(" |") == f"{500_000 / 9.0 / 1e3:.0f}"


def test_nodes_beyond_those_shown_are_summed():
    nodes = [node(float(k)) for k in range(1, profiles.SHOWN + 4)]
    lines = profiles.part("W1", "net", nodes, whole=sum(n.us for n in nodes))
    assert lines[-2].startswith("| 3 others | | 6.0 |")
