"""The first convolution reads the window as one plane, where its electrodes were split; nothing else changes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.lower.onnxruntime import channels
from rtserve.graphs.fold import constant
from tests.fusion.networks import head, laid_out, network, require_same


def first(taps, stride, dilation, pads, *, n_chans, outputs=16, more=None):
    def body(emit, x, weights):
        h = x if more != "step in front" else emit("Tanh", x)
        h = emit("Conv", h, weights(outputs, n_chans, taps), weights(outputs), strides=[stride],
                 dilations=[dilation], pads=list(pads))  # fmt: skip
        h = emit("Relu", h)
        h = emit("Relu", emit("Conv", h, weights(16, outputs, 3), weights(16), strides=[2]))
        return head(emit, h, weights, 16, axes=(2,))

    return body


def rewritten(graph):
    """Lay the graph out, run the pass, check the numbers in float64; return the result and the nodes."""
    model = laid_out(graph)
    result = channels.run_on_window(model)
    model = clean(model)
    require_same(graph, model)
    return result, list(model.graph)


@settings(max_examples=20, deadline=None)
@given(
    taps=st.integers(2, 9),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    n_chans=st.sampled_from([17, 33, 34]),
    seed=st.integers(0, 3),
)
def test_any_first_convolution_that_was_split(taps, stride, dilation, pads, n_chans, seed):
    graph = network(first(taps, stride, dilation, pads, n_chans=n_chans), n_chans=n_chans, n_times=40, seed=seed)
    result, nodes = rewritten(graph)
    assert result.changed == 1
    shapes = [constant(node.inputs[1]).shape for node in nodes if node.op_type == "Conv"]
    assert shapes[0] == (16, 1, n_chans, taps)
    assert "Split" not in [node.op_type for node in nodes]


@pytest.mark.parametrize(
    ("n_chans", "more"), [(32, None), (33, "step in front")], ids=["whole blocks", "not the window itself"]
)
def test_other_convolutions_stay(n_chans, more):
    graph = network(first(5, 2, 1, (2, 2), n_chans=n_chans, more=more), n_chans=n_chans, n_times=40)
    result, _ = rewritten(graph)
    assert (result.changed, result.refused) == (0, [])


@pytest.mark.parametrize("views", ["identity", "identity,scale:1.1", "identity,roll:+2,roll:-4"])
def test_it_is_part_of_fusing(views):
    graphs = [network(first(5, 2, 1, (2, 2), n_chans=33), n_chans=33, n_times=60, seed=seed) for seed in (0, 1)]
    _, report, parity = fuse_with_report(graphs, views=views)
    assert parity.passed
    assert next(o for o in report.outcomes if o.name == "whole-window").status == "applied"
    _, report, _ = fuse_with_report(graphs, views=views, engine="torch")
    assert "whole-window" not in {o.name for o in report.outcomes}
