"""A convolution along time is what its formula says: read from a node, written again, moved, and taken apart."""

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from rtserve.fusion.ir.conv import ZERO, Conv1d, conv_of
from rtserve.fusion.ir.passes import Refused
from rtserve.graphs.emit import Emitter
from rtserve.graphs.macs import infer_shapes

RNG = np.random.default_rng(5)


@st.composite
def convs(draw):
    """Return a convolution on few samples, one output at least."""
    taps, stride, dilation = (draw(st.integers(1, 3)) for _ in range(3))
    left, right, groups, rows = (draw(st.integers(low, 3)) for low in (0, 0, 1, 0))
    n_in = draw(st.integers(max(1, dilation * (taps - 1) + 1 - left - right), 14))
    weight = RNG.integers(-3, 4, (2 * groups, draw(st.integers(1, 2)), taps)).astype(np.float32)
    bias = draw(st.sampled_from([None, np.arange(2 * groups, dtype=np.float32)]))
    return Conv1d(weight=weight, bias=bias, stride=stride, dilation=dilation, left=left, right=right, group=groups,
                  n_in=n_in, rows=rows, axis=draw(st.sampled_from((2, 3))) if rows else 2)  # fmt: skip


def signal(conv):
    return RNG.integers(-4, 5, (2, conv.channels, *conv.shaped(conv.n_in, conv.rows))).astype(np.float32)


def by_formula(conv, x, at):
    """Return what the outputs make of x, which read from the samples `at` on."""
    x = np.moveaxis(x, conv.axis, -1)
    per = conv.weight.shape[1]
    y = np.zeros((len(x), len(conv.weight), *x.shape[2:-1], len(at)), np.float32)
    for o, kernel in enumerate(conv.weight):
        first = o // (len(conv.weight) // conv.group) * per
        for c, taps in enumerate(kernel):
            for k, tap in enumerate(taps):
                for i, start in enumerate(at):
                    if 0 <= start + conv.dilation * k < conv.n_in:
                        y[:, o, ..., i] += tap * x[:, first + c, ..., start + conv.dilation * k]
        y[:, o] += 0 if conv.bias is None else conv.bias[o]
    return np.moveaxis(y, -1, conv.axis)


def written(conv, x):
    """Return the model that holds a convolution alone."""
    source = ir.Value(name="x", shape=ir.Shape(["batch", *x.shape[1:]]), type=ir.TensorType(ir.DataType.FLOAT))
    model = ir.Model(ir.Graph([source], [], nodes=[], opset_imports={"": 20}, name="one"), ir_version=10)
    model.graph.outputs.append(conv.emit(Emitter(model.graph), source))
    return infer_shapes(model)


def computed(conv, x):
    return ReferenceEvaluator(ir.to_proto(written(conv, x))).run(None, {"x": x})[0]


def starts(conv):
    return conv.stride * np.arange(conv.n_out) - conv.left


@settings(max_examples=60)
@given(convs())
def test_what_is_written_is_the_formula_and_is_read_again(conv):
    x = signal(conv)
    np.testing.assert_array_equal(computed(conv, x), by_formula(conv, x, starts(conv)))
    assume(conv.taps > 1 or not conv.rows or conv.axis == 3)  # a kernel of 1 x 1 does not say which axis is time
    node = next(one for one in written(conv, x).graph if one.op_type == "Conv")
    found = Conv1d.of(node)
    for name in ("stride", "dilation", "left", "right", "group", "n_in", "n_out", "rows", "axis"):
        assert getattr(found, name) == getattr(conv, name), name
    np.testing.assert_array_equal(found.weight, conv.weight)
    assert (conv_of(node) is None) == (conv.rows == 0 or conv.axis == 2)


@settings(max_examples=60)
@given(convs(), st.integers(-6, 9), st.integers(1, 6))
def test_it_begins_where_it_is_told_and_has_as_many_outputs(conv, start, n):
    x = signal(conv)
    moved = conv.from_sample(start, n)
    assert moved.n_out == n
    np.testing.assert_array_equal(computed(moved, x), by_formula(conv, x, start + conv.stride * np.arange(n)))


@settings(max_examples=60)
@given(convs(), st.integers(1, 3))
def test_its_phases_together_are_itself(conv, times):
    m = conv.stride
    conv = replace(conv, stride=m * times, dilation=conv.dilation if conv.dilation in (1, m) else 1)
    x = signal(conv)
    total = 0.0 if conv.bias is None else conv.bias.reshape(-1, *conv.shaped(1, 1))
    for p, first, taps in conv.phases(m):
        one = np.moveaxis(np.moveaxis(x, conv.axis, -1)[..., p::m], -1, conv.axis)
        if one.shape[conv.axis]:
            part = replace(conv, weight=taps, bias=None, stride=times, dilation=1, n_in=one.shape[conv.axis])
            total = total + computed(part.from_sample(first, conv.n_out), one)
    expected = by_formula(conv, x, starts(conv))
    np.testing.assert_array_equal(np.broadcast_to(total, expected.shape), expected)


@settings(max_examples=60)
@given(convs())
def test_it_reads_these_samples_and_no_others(conv):
    reads = conv.reads(np.arange(conv.n_in) + 7)
    assert reads.shape == (conv.n_out, conv.taps)
    at = starts(conv)[:, None] + conv.dilation * np.arange(conv.taps)
    np.testing.assert_array_equal(reads, np.where((at >= 0) & (at < conv.n_in), at + 7, ZERO))


def test_negative_padding_cuts_samples_off():
    conv = Conv1d(weight=np.array([[[1.0, 2.0]]], np.float32), left=-2, right=-1, n_in=9)
    x = signal(conv)
    assert conv.n_out == 5
    np.testing.assert_array_equal(computed(conv, x), by_formula(conv, x, 2 + np.arange(5)))


@pytest.mark.parametrize(
    ("kernel", "changes", "reason"),
    [
        ((3, 3), {}, "kernel"),
        ((1, 3), {"auto_pad": "SAME_UPPER"}, "left to the engine"),
        ((1, 3), {"strides": [2, 1]}, "another axis"),
        ((1, 3), {"pads": [1, 0, 0, 0]}, "another axis"),
        ((2, 2, 2), {}, "kernel"),
    ],
)
def test_another_convolution_is_refused_with_the_reason(kernel, changes, reason):
    weight = np.zeros((1, 1, *kernel), np.float32)
    source = ir.Value(name="x", shape=ir.Shape(["b", 1, *[8] * len(kernel)]), type=ir.TensorType(ir.DataType.FLOAT))
    model = ir.Model(ir.Graph([source], [], nodes=[], opset_imports={"": 20}, name="one"), ir_version=10)
    model.graph.outputs.append(Emitter(model.graph)("Conv", source, weight, **changes))
    node = next(iter(infer_shapes(model).graph))
    with pytest.raises(Refused, match=reason):
        Conv1d.of(node)
    assert conv_of(node) is None
