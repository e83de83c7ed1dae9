"""Few filters over phases of time, pools on whole blocks, volumes as planes: the numbers kept, whatever the geometry."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.lower.onnxruntime import depth, planes, pool
from rtserve.graphs.fold import constant
from tests.fusion.networks import head, network, require_same


def rewritten(module, graph):
    """Run one pass and check the numbers in float64; return its result and the nodes."""
    model = clean(graph.clone_model())
    result = module.run(model)
    model = clean(model)
    require_same(graph, model)
    return result, list(model.graph)


def kinds(nodes):
    return [node.op_type for node in nodes]


def temporal(filters, taps, pads, *, axis=3, channels=1, steps=("Elu",), end=None, rows=12):
    """A temporal convolution on (batch, channels, rows, time) or (batch, channels, time, rows), steps, and an end."""

    def turned(a, b):
        return [a, b] if axis == 3 else [b, a]

    def body(emit, x, weights):
        h = emit("Reshape", x, [-1, channels, rows, x.shape[2]])
        h = h if axis == 3 else emit("Transpose", h, perm=[0, 1, 3, 2])
        kernel = weights(filters, channels, *turned(1, taps))
        h = emit("Conv", h, kernel, weights(filters), pads=[*turned(0, pads[0]), *turned(0, pads[1])])
        for step in steps:
            h = emit(step, h)
        if end == "depthwise":
            h = emit("Conv", h, weights(2 * filters, 1, *turned(rows, 1)), weights(2 * filters), group=filters)
            return head(emit, emit("Relu", h), weights, 2 * filters, axes=(2, 3))
        if end == "dense":
            h = emit("Conv", h, weights(5, filters, *turned(3, 1)), weights(5), strides=turned(2, 1))
            return head(emit, emit("Relu", h), weights, 5, axes=(2, 3))
        return head(emit, h, weights, filters, axes=(2, 3))

    return body


@settings(max_examples=30, deadline=None)
@given(
    filters=st.sampled_from([5, 8, 9]),
    taps=st.integers(8, 21),
    pads=st.tuples(st.integers(0, 12), st.integers(0, 12)),
    axis=st.sampled_from([2, 3]),
    channels=st.sampled_from([1, 2]),
    end=st.sampled_from([None, "depthwise", "dense"]),
    phases=st.sampled_from([2, 4, 8]),
    n_times=st.integers(30, 43),
    seed=st.integers(0, 3),
)
def test_any_temporal_convolution_over_phases(filters, taps, pads, axis, channels, end, phases, n_times, seed):
    body = temporal(filters, taps, pads, axis=axis, channels=channels, end=end)
    graph = network(body, n_chans=12 * channels, n_times=n_times, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(depth, "_phases", lambda found: phases)
        result, nodes = rewritten(depth, graph)
    assert result.changed == 1
    wide = max(constant(node.inputs[1]).shape[0] for node in nodes if node.op_type == "Conv")
    assert wide == phases * filters * (2 if end == "depthwise" else 1)


def test_phases_are_put_in_turn_behind_the_spatial_convolution():
    graph = network(temporal(8, 32, (16, 15), end="depthwise", rows=64), n_chans=64, n_times=200)
    result, nodes = rewritten(depth, graph)
    assert result.changed == 1
    order = kinds(nodes)
    assert order.index("Elu") < max(i for i, kind in enumerate(order) if kind == "Conv") < len(order) - 1
    assert order[: order.index("Elu")].count("Transpose") == 1  # the input alone is taken apart before the step
    spatial = [node for node in nodes if node.op_type == "Conv"][1]
    assert spatial.attributes.get_int("group") == 2 * 8


@pytest.mark.parametrize(
    ("filters", "taps", "rows", "reason"),
    [(16, 32, 64, "as fast as they are"), (8, 5, 64, "a kernel of"), (8, 32, 2, "as fast as they are")],
    ids=["sixteen filters", "few taps", "small"],
)
def test_other_temporal_convolutions_stay(filters, taps, rows, reason):
    result, _ = rewritten(depth, network(temporal(filters, taps, (0, 0), rows=rows), n_chans=rows, n_times=200))
    assert not result.changed
    assert reason in "".join(map(str, result.refused))


def convolved_pool(filters, kind, window, stride, step):
    def body(emit, x, weights):
        h = emit("Conv", emit("Unsqueeze", x, [1]), weights(filters, 1, 1, 9), weights(filters))
        h = h if step is None else emit(step, h)
        h = emit(kind, h, kernel_shape=[1, window], strides=[1, stride])
        return head(emit, h, weights, filters, axes=(2, 3))

    return body


@pytest.mark.parametrize("kind", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize("step", [None, "Relu", "LeakyRelu"])
@pytest.mark.parametrize("window", [2, 12])
def test_a_pool_behind_a_convolution_works_on_whole_blocks(kind, step, window):
    graph = network(convolved_pool(9, kind, window, 2, step), n_chans=32, n_times=150)
    result, nodes = rewritten(pool, graph)
    assert result.changed == 1
    (conv,) = [node for node in nodes if node.op_type == "Conv"]
    assert constant(conv.inputs[1]).shape[0] == 16
    assert kinds(nodes).index("Slice") > kinds(nodes).index(kind)


@pytest.mark.parametrize(("filters", "step"), [(16, "Relu"), (3, "Relu"), (9, "Tanh")])
def test_other_pools_are_not_filled_up(filters, step):
    graph = network(convolved_pool(filters, "MaxPool", 4, 4, step), n_chans=32, n_times=150)
    result, _ = rewritten(pool, graph)
    assert not result.changed


def volume(kernel, *, stride=1, pads=(0, 0), group=1, pool_kind=None, window=2, channels=8):
    """(batch, 8, 2, 20, 6): a rank-5 convolution along the last axis and a rank-5 pool along the one before."""

    def body(emit, x, weights):
        h = emit("Reshape", x, [-1, channels, 2, 20, 6])
        h = emit("Conv", h, weights(channels, channels // group, 1, 1, kernel), weights(channels), group=group,
                 strides=[1, 1, stride], pads=[0, 0, pads[0], 0, 0, pads[1]])  # fmt: skip
        h = emit("Relu", h)
        if pool_kind:
            h = emit(pool_kind, h, kernel_shape=[1, window, 1], strides=[1, window, 1])
        return head(emit, h, weights, channels, axes=(2, 3, 4))

    return body


@settings(max_examples=20, deadline=None)
@given(
    kernel=st.integers(1, 6),
    stride=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    group=st.sampled_from([1, 2, 8]),
    seed=st.integers(0, 3),
)
def test_any_convolution_along_the_last_axis_of_a_volume(kernel, stride, pads, group, seed):
    graph = network(volume(kernel, stride=stride, pads=pads, group=group), n_chans=48, n_times=40, seed=seed)
    result, nodes = rewritten(planes, graph)
    assert result.changed == 1
    assert [constant(node.inputs[1]).ndim for node in nodes if node.op_type == "Conv"] == [4]


@pytest.mark.parametrize("kind", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize("window", [2, 3, 5])
def test_pools_of_a_volume_are_pools_of_planes(monkeypatch, kind, window):
    monkeypatch.setattr(planes, "COSTS", replace(planes.COSTS, plane_pool_from=0))
    graph = network(volume(3, pool_kind=kind, window=window), n_chans=48, n_times=40)
    result, nodes = rewritten(planes, graph)
    assert result.changed == 2
    (pooled,) = [node for node in nodes if node.op_type == kind]
    assert list(pooled.attributes.get_ints("kernel_shape")) == [window, 1]
    assert len(pooled.outputs[0].shape) == 4


def test_rows_are_pooled_on_planes_where_channels_do_not_fit(monkeypatch):
    monkeypatch.setattr(planes, "COSTS", replace(planes.COSTS, plane_pool_from=0))

    def body(channels):
        def build(emit, x, weights):
            h = emit("Reshape", x, [-1, channels, 40, 6])
            h = emit("AveragePool", emit("Relu", h), kernel_shape=[5, 1], strides=[5, 1])
            return head(emit, h, weights, channels, axes=(2, 3))

        return build

    assert rewritten(planes, network(body(6), n_chans=36, n_times=40))[0].changed == 1
    assert rewritten(planes, network(body(16), n_chans=96, n_times=40))[0].changed == 0  # blocked as they are


def overlapping(emit, x, weights):
    h = emit("Reshape", x, [-1, 8, 2, 20, 6])
    h = emit("MaxPool", h, kernel_shape=[1, 4, 1], strides=[1, 2, 1])
    return head(emit, h, weights, 8, axes=(2, 3, 4))


def deep(emit, x, weights):
    h = emit("Reshape", x, [-1, 8, 2, 20, 6])
    return head(emit, emit("Conv", h, weights(8, 8, 2, 1, 3)), weights, 8, axes=(2, 3, 4))


@pytest.mark.parametrize("body", [overlapping, deep])
def test_volumes_that_need_all_axes_stay(monkeypatch, body):
    monkeypatch.setattr(planes, "COSTS", replace(planes.COSTS, plane_pool_from=0))
    result, _ = rewritten(planes, network(body, n_chans=48, n_times=40))
    assert (result.changed, result.refused) == (0, [])


def test_members_and_views_over_phases():
    graphs = [
        network(temporal(8, 32, (16, 15), end="depthwise", rows=64), n_chans=64, n_times=200, seed=s) for s in (0, 1)
    ]
    _, report, parity = fuse_with_report(graphs[:1], views="identity,scale:1.1")
    assert parity.passed
    assert next(o for o in report.outcomes if o.name == "space-to-depth").status == "applied"
    _, _, parity = fuse_with_report(graphs, views="identity,roll:+3")
    assert parity.passed


def attended(emit, x, weights):
    """A temporal convolution of channels that were weighed before, so that members share no input of it."""
    weighed = emit("Sigmoid", emit("Gemm", emit("ReduceMean", x, [2], keepdims=0), weights(64, 64), weights(64)))
    h = emit("Unsqueeze", emit("Mul", x, emit("Unsqueeze", weighed, [2])), [1])
    h = emit("Conv", h, weights(8, 1, 1, 50), weights(8), pads=[0, 25, 0, 25])
    h = emit("Elu", emit("Conv", h, weights(16, 1, 64, 1), weights(16), group=8))
    return head(emit, h, weights, 16, axes=(2, 3))


@pytest.mark.parametrize("merge", ["mean", "median"])
def test_members_with_an_input_of_their_own_are_convolved_over_phases_one_by_one(merge):
    graphs = [network(attended, seed=seed, n_chans=64, n_times=200) for seed in range(3)]
    fused, report, parity = fuse_with_report(graphs, merge=merge)
    assert parity.passed
    depths = next(o for o in report.outcomes if o.name == "space-to-depth")
    assert depths.status == "applied", depths.reason
    long = [node for node in fused.model.graph if node.op_type == "Conv" and node.inputs[1].shape[3] > 4]
    assert [node.attributes.get_int("group", 1) for node in long] == [1, 1, 1]
    assert all(node.inputs[1].shape[1] > 1 for node in long)
