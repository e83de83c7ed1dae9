"""Few filters over many channels, channels summed first: the numbers kept, whatever the geometry, in every engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.ir.clean import clean
from rtserve.fusion.local import fold
from rtserve.fusion.lower.onnxruntime import layout, turned
from rtserve.graphs.macs import count_macs
from rtserve.graphs.parity import relative_error
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner, make_runner
from tests.fusion.networks import head, network, require_same

N_TIMES = 60


def few(filters, channels, taps, *, axis=3, rows=1, pads=(0, 0), dilation=1, stride=1, group=1, bias=True):
    """A convolution along time over many channels, and a tail."""

    def along(a, b):
        return [a, b] if axis == 3 else [b, a]

    def body(emit, x, weights):
        h = emit("Reshape", x, [-1, channels, *along(rows, N_TIMES)])
        kernel = weights(filters, channels // group, *along(1, taps))
        extra = [weights(filters)] if bias else []
        attributes = {"strides": along(1, stride), "dilations": along(1, dilation), "group": group}
        h = emit("Conv", h, kernel, *extra, pads=[*along(0, pads[0]), *along(0, pads[1])], **attributes)
        return head(emit, emit("Elu", h), weights, filters, axes=(2, 3))

    return network(body, n_chans=channels * rows, n_times=N_TIMES)


def turn(graph, *, lay_out=True):
    """Run the pass; return what it did and the model."""
    model = clean(graph.clone_model())
    if lay_out:
        layout.run(model)
        model = clean(model)
    result = turned.run(model)
    return result, clean(model)


def operators(model):
    return [node.op_type for node in model.graph]


@given(
    filters=st.sampled_from([1, 2, 3]),
    channels=st.sampled_from([18, 24, 30]),
    taps=st.integers(5, 20),
    axis=st.sampled_from([2, 3]),
    rows=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 45), st.integers(0, 45)),
    dilation=st.integers(1, 3),
    group=st.sampled_from([1, 3]),
    bias=st.booleans(),
)
@settings(max_examples=20, deadline=None)
def test_the_numbers_are_kept(filters, channels, taps, axis, rows, pads, dilation, group, bias):
    graph = few(
        filters * group, channels, taps, axis=axis, rows=rows, pads=pads, dilation=dilation, group=group, bias=bias
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(turned, "WORTH", 0.0)
        result, model = turn(graph, lay_out=False)
    x = np.random.default_rng(0).standard_normal((2, channels * rows, N_TIMES)).astype(np.float32)
    expected, got = (PlanRunner(g, double=True).infer(x) for g in (graph, replace(graph, model=model)))
    assert relative_error(got, expected) < 2e-6
    assert result.changed == 1
    assert operators(model).count("ConvTranspose") == 1
    assert "Conv" not in operators(model)


def test_what_it_counts_is_what_the_convolution_did():
    graph = few(1, 20, 11, pads=(5, 5))
    _, model = turn(graph)
    assert count_macs(model) == count_macs(graph.model)


def test_a_kernel_as_long_as_what_it_reads_is_a_product():
    graph = few(2, 300, N_TIMES)
    result, model = turn(graph)
    require_same(graph, model)
    assert result.changed == 1
    assert "MatMul" in operators(model)
    assert "Conv" not in operators(model)


@pytest.mark.parametrize(
    ("reason", "form"),
    [
        ("fast as they are", {"filters": 12, "channels": 16, "taps": 30}),
        ("strides by 2", {"filters": 2, "channels": 40, "taps": 9, "stride": 2}),
    ],
)
def test_it_says_why_not(reason, form):
    result, model = turn(few(**form))
    assert not result.changed
    assert reason in str(result.refused[0])
    assert "Conv" in operators(model)


def test_whole_blocks_of_filters_are_not_asked():
    result, _ = turn(few(16, 40, 9))
    assert (result.changed, result.refused) == (0, [])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_is_where_it_was(bad):
    def body(emit, x, weights):
        y = emit("Conv", emit("Unsqueeze", x, [2]), weights(1, 40, 1, 7), weights(1), pads=[0, 3, 0, 3])
        return emit("Reshape", y, [-1, N_TIMES])

    graph = network(body, n_chans=40, n_times=N_TIMES, n_outputs=N_TIMES)
    _, model = turn(graph)
    assert "ConvTranspose" in operators(model)
    x = np.random.default_rng(0).standard_normal((2, 40, N_TIMES)).astype(np.float32)
    x[1, 7, 30] = bad
    plain, ours = (OnnxruntimeRunner(g).infer(x) for g in (graph, replace(graph, model=model)))
    assert np.array_equal(np.isfinite(plain), np.isfinite(ours))
    assert (~np.isfinite(ours)).sum() == 7


@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=pytest.mark.needs("openvino"))])
@pytest.mark.parametrize("group", [1, 3])
def test_other_engines_give_its_numbers(engine, group):
    graph = few(3, 24, 9, pads=(4, 20), dilation=2, group=group)
    _, model = turn(graph)
    assert "ConvTranspose" in operators(model)
    x = np.random.default_rng(0).standard_normal((3, 24, N_TIMES)).astype(np.float32)
    expected = PlanRunner(graph, double=True).infer(x)
    assert relative_error(make_runner(replace(graph, model=model), engine).infer(x), expected) < 1e-5


@pytest.mark.parametrize(("kernel", "idle"), [(1, True), (2, False)])
def test_a_pool_of_single_samples_goes(kernel, idle):
    def body(emit, x, weights):
        h = emit("MaxPool", emit("Unsqueeze", x, [2]), kernel_shape=[1, kernel], strides=[1, 1])
        return head(emit, h, weights, 6, axes=(2, 3))

    graph = network(body, n_times=N_TIMES)
    model = clean(graph.clone_model())
    fold.run(model)
    model = clean(model)
    require_same(graph, model)
    assert ("MaxPool" not in operators(model)) == idle
