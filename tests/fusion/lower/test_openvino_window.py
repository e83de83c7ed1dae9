"""OpenVINO reads the window as one plane where that pays, and a network of mixed ranks is of rank 4 throughout."""

from __future__ import annotations

import numpy as np
import pytest

from rtserve.fusion.engines.openvino import PLANE_CHANNELS, PLANE_OUTPUTS
from rtserve.fusion.fuse import fuse_with_report
from rtserve.graphs.fold import constant
from tests.fusion.networks import head, kinds, network

FEW = 6
"""Channels for which a plane is slower."""


def first(outputs, taps, n_chans, **attributes):
    """A convolution of the window along time, another, and a dense tail, as CompactRT: of rank 3 throughout."""

    def body(emit, x, weights):
        group = attributes.get("group", 1)
        h = emit("Conv", x, weights(outputs, n_chans // group, taps), weights(outputs), strides=[2], **attributes)
        h = emit("Relu", emit("Conv", emit("Relu", h), weights(8, outputs, 3), weights(8), strides=[2]))
        return head(emit, h, weights, 8, axes=(2,))

    return body


def turned(outputs, taps, n_chans):
    """A convolution over the turned window, squared, pooled and in a logarithm, as ShallowFBCSPNet."""

    def body(emit, x, weights):
        rows = emit("Unsqueeze", emit("Transpose", x, perm=[0, 2, 1]), [1])
        h = emit("Conv", rows, weights(outputs, 1, taps, n_chans), weights(outputs))
        h = emit("AveragePool", emit("Mul", h, h), kernel_shape=[10, 1], strides=[5, 1])
        return head(emit, emit("Log", emit("Clip", h, np.float32(1e-6))), weights, outputs, axes=(2, 3))

    return body


def laid_out(body, n_chans, views="identity", members=1):
    """Return the kernels' shapes, the operators and what became of rank and window of the plan laid out for OpenVINO."""
    graphs = [network(body, seed=seed, n_chans=n_chans) for seed in range(members)]
    graph, report, parity = fuse_with_report(graphs, views=views, engine="openvino")
    assert parity.passed
    rank, plane = (one.status for one in report.outcomes if one.name in ("openvino-rank", "openvino-window"))
    kernels = [constant(node.inputs[1]).shape for node in graph.model.graph if node.op_type == "Conv"]
    return kernels, kinds(graph), (rank, plane)


@pytest.mark.parametrize("views", ["identity", "identity,roll:+3,scale:1.1"])
@pytest.mark.parametrize(("members", "outputs"), [(1, PLANE_OUTPUTS), (2, PLANE_OUTPUTS // 2)])
def test_many_electrodes_are_one_plane(members, outputs, views):
    kernels, _, statuses = laid_out(first(outputs, 5, PLANE_CHANNELS), PLANE_CHANNELS, views, members=members)
    assert statuses == ("applied", "applied")
    assert kernels[0] == (members * outputs, 1, PLANE_CHANNELS, 5)
    assert all(len(kernel) == 4 for kernel in kernels)


@pytest.mark.parametrize(
    ("outputs", "taps", "n_chans", "attributes"),
    [
        (8, 5, PLANE_CHANNELS - 1, {}),
        (PLANE_OUTPUTS + 1, 5, PLANE_CHANNELS, {}),
        (8, 1, PLANE_CHANNELS, {}),
        (8, 5, PLANE_CHANNELS, {"group": 2}),
    ],
    ids=["few electrodes", "many outputs", "one sample", "groups"],
)
def test_what_is_faster_as_it_is_stays(outputs, taps, n_chans, attributes):
    kernels, _, statuses = laid_out(first(outputs, taps, n_chans, **attributes), n_chans)
    assert statuses == ("nothing", "nothing")
    assert all(len(kernel) == 3 for kernel in kernels)


@pytest.mark.parametrize("n_chans", [FEW, PLANE_CHANNELS])
def test_a_window_that_was_turned_is_read_as_it_lies(n_chans):
    kernels, operators, statuses = laid_out(turned(8, 5, n_chans), n_chans)
    assert statuses == ("applied", "applied" if n_chans == PLANE_CHANNELS else "nothing")
    assert kernels == [(8, 1, n_chans, 5) if n_chans == PLANE_CHANNELS else (8, n_chans, 1, 5)]
    assert "Transpose" not in operators
    assert operators[: operators.index("Log")].count("Unsqueeze") == 1
