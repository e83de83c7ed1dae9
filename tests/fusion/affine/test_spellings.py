"""One linear step has many spellings: each is followed to its numbers, windows with NaN too, or truly refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtserve.fusion.affine import prefix
from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.graphs.macs import count_macs
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner
from tests.fusion.affine.test_electrodes import of
from tests.fusion.networks import head, network, require_same

C, T = 28, 80
half = np.float32(0.5)


def net(step, *, rows=C, taps=9, filters=3):
    """A step on (batch, electrodes, time), then filters, a spatial step over what are rows then, and a head."""

    def body(emit, x, weights):
        h = emit("Unsqueeze", step(emit, x, weights), [1])
        h = emit("Conv", h, weights(filters, 1, 1, taps), weights(filters), pads=[0, taps // 2, 0, taps // 2])
        h = emit("Conv", h, weights(2 * filters, 1, rows, 1), weights(2 * filters), group=filters)
        return head(emit, emit("Elu", h), weights, 2 * filters, axes=(2, 3))

    return network(body, n_chans=C, n_times=T)


def mean(emit, x, axis=1, keepdims=1):
    return emit("ReduceMean", x, [axis], keepdims=keepdims)


def rolled(emit, x, by):
    return emit("Gather", x, np.roll(np.arange(C), by), axis=1)


def row(emit, x, k):
    return emit.slice(x, 1, k, k + 1)


def centred(w):
    return (np.eye(C) - 1 / C + 0 * w(C, C)).astype(np.float32)


def pooled(emit, x, rank=1, **how):
    """Return an average pool over the last `rank` axes of (batch, electrodes, time)."""
    y = emit("AveragePool", x if rank == 1 else emit("Unsqueeze", x, [1]), **how)
    return y if rank == 1 else emit("Squeeze", y, [1])


def slope(emit, x, w):
    t = (np.arange(T) - (T - 1) / 2).astype(np.float32)
    part = emit("ReduceSum", emit("Mul", x, t), [2], keepdims=1)
    return emit("Sub", x, emit("Mul", emit("Mul", part, np.float32(1 / (t**2).sum())), t))


SPELLINGS = {
    "a sum over their number": lambda e, x, w: e("Sub", x, e("Div", e("ReduceSum", x, [1], keepdims=1), np.float32(C))),
    "two references": lambda e, x, w: e("Sub", x, e("Div", e("Add", row(e, x, 1), row(e, x, 4)), np.float32(2))),
    "each reference weighed": lambda e, x, w: e(
        "Sub", e("Sub", x, e("Mul", row(e, x, 0), half)), e("Mul", row(e, x, 1), half)
    ),
    "a laplacian": lambda e, x, w: e("Sub", x, e("Mul", e("Add", rolled(e, x, 1), rolled(e, x, -1)), half)),
    "a neighbour's part": lambda e, x, w: e("Add", x, e("Mul", rolled(e, x, 1), np.float32(0.3))),
    "the same factors twice": lambda e, x, w: e("Add", e("Mul", x, (f := w(C, 1) + 2)), e("Mul", x, np.float32(3) * f)),
    "a weighed copy beside": lambda e, x, w: e("Concat", x, e("Mul", x, half), axis=1),
    "a row times the window": lambda e, x, w: e("Sub", x, e("MatMul", w(1, C), x)),
    "that row beside": lambda e, x, w: e("Concat", x, e("MatMul", w(1, C), x), axis=1),
    "a mean without its axis": lambda e, x, w: e("Sub", x, e("Unsqueeze", mean(e, x, keepdims=0), [1])),
    "one electrode without its axis": lambda e, x, w: e("Sub", x, e("Unsqueeze", e("Gather", x, np.array(3), axis=1), [1])),
    "expanded": lambda e, x, w: e("Sub", x, e("Expand", mean(e, x), np.array([1, C, 1]))),
    "tiled": lambda e, x, w: e("Sub", x, e("Tile", mean(e, x), np.array([1, C, 1]))),
    "time tiled": lambda e, x, w: e("Sub", e("Tile", row(e, x, 2), np.array([1, C, 1])), x),
    "weights times a mean": lambda e, x, w: e("Sub", x, e("Mul", mean(e, x), w(C, 1))),
    "offsets of a mean": lambda e, x, w: e("Sub", x, e("Add", mean(e, x), w(C, 1))),
    "an Einsum": lambda e, x, w: e("Einsum", centred(w), x, equation="ij,bjt->bit"),
    "an Einsum turned": lambda e, x, w: e("Einsum", x, centred(w), equation="bjt, ji -> bit"),
    "an Einsum of rank 4": lambda e, x, w: e(
        "Squeeze", e("Einsum", centred(w), e("Unsqueeze", x, [1]), equation="ij,bajt->bait"), [1]
    ),
    "a product of rank 4": lambda e, x, w: e("Squeeze", e("MatMul", centred(w), e("Unsqueeze", x, [1])), [1]),
    "a pool over all": lambda e, x, w: e("Sub", x, pooled(e, x, 2, kernel_shape=[C, 1])),
    "a pool over pairs": lambda e, x, w: pooled(e, x, 2, kernel_shape=[2, 1], strides=[2, 1]),
    "a pool over time": lambda e, x, w: pooled(e, x, kernel_shape=[4], strides=[4]),
    "a mean over a part of time": lambda e, x, w: e("ReduceMean", e("Reshape", x, [-1, C, T // 4, 4]), [3], keepdims=0),
    "a moving mean": lambda e, x, w: e("Sub", x, pooled(e, x, kernel_shape=[5], pads=[2, 2], count_include_pad=1)),
    "a moving mean of what is there": lambda e, x, w: e("Sub", x, pooled(e, x, kernel_shape=[5], pads=[2, 2])),
    "a moving mean to one side": lambda e, x, w: pooled(e, x, kernel_shape=[3], pads=[2, 1], strides=[2]),
    "a pool of both that pads": lambda e, x, w: pooled(e, x, 2, kernel_shape=[3, 3], strides=[1, 2], pads=[1, 1, 1, 1]),
    "a pool rounded up": lambda e, x, w: pooled(e, x, kernel_shape=[5], strides=[3], pads=[1, 1], ceil_mode=1),
    "a dilated pool": lambda e, x, w: pooled(e, x, kernel_shape=[3], dilations=[2]),
}  # fmt: skip
ROWS = {"a weighed copy beside": 2 * C, "that row beside": C + 1, "a pool over pairs": C // 2}
DENSE = {
    "a slope": slope,
    "a window's mean, weighed": lambda e, x, w: e("Sub", x, e("Mul", mean(e, x, 2), w(T))),
    "an Einsum over time": lambda e, x, w: e("Einsum", x, w(T, T), equation="bct,tu->bcu"),
    "a mean over time, expanded": lambda e, x, w: e("Sub", x, e("Expand", mean(e, x, 2), np.array([1, 1, T]))),
}


def odd_windows():
    """Windows with a NaN or an infinity: inside, at both ends, in a whole electrode, in all of them at once."""
    x = np.random.default_rng(1).standard_normal((6, C, T)).astype(np.float32)
    x[0, 3, 10], x[1, 0, -1], x[2, C - 1, 0], x[3, :, 20], x[4, 5] = np.nan, np.inf, np.nan, np.nan, np.nan
    return x


@pytest.mark.parametrize("name", SPELLINGS)
def test_it_goes_into_the_spatial_step(name):
    graph = net(SPELLINGS[name], rows=ROWS.get(name, C))
    fused, report, parity = fuse_with_report([graph])
    assert of(report).status == "applied", of(report).reason
    assert parity.passed
    assert report.macs_after < report.macs_before
    first = next(iter(fused.model.graph))
    assert (first.op_type, list(first.inputs[1].shape)) == ("Conv", [6, C, 1])
    require_same(graph, fused.model, tolerance=2e-5)
    got, expected = (OnnxruntimeRunner(one).infer(odd_windows()) for one in (fused, graph))
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    np.testing.assert_allclose(got, expected, rtol=1e-4)


@pytest.mark.parametrize("step", DENSE.values(), ids=DENSE)
def test_what_is_dense_in_time_is_one_product_where_that_pays(step):
    graph = net(step, taps=39, filters=8)
    model = clean(graph.clone_model())
    result = prefix.run(model)
    model = clean(model)
    assert "dense in time" in result.did, result.refused
    assert count_macs(model) < count_macs(graph.model)
    require_same(graph, model, tolerance=2e-5)
    got, expected = (
        PlanRunner(replace(graph, model=one), double=True).infer(odd_windows()) for one in (model, graph.model)
    )
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))


REFUSED = {
    "two filters": (
        lambda e, x, w: e("Sub", x, e("Mul", e("Conv", x, w(C, 1, 5), pads=[2, 2], group=C), half)),
        "a filter of its own",
    ),
    "of rank 2": (
        lambda e, x, w: e("Sub", e("Mul", x, half), e("Gather", mean(e, x, 2), np.arange(C)[::-1].copy(), axis=1)),
        "a sum of different spatial filters (rank 2)",
    ),
    "a mask that keeps NaN": (
        lambda e, x, w: e("Mul", x, (np.arange(C)[:, None] > 2).astype(np.float32)),
        "or is 0",
    ),
    "pads by itself": (lambda e, x, w: pooled(e, x, kernel_shape=[3], auto_pad="SAME_UPPER"), "automatic padding"),
    "behind its padding": (
        lambda e, x, w: pooled(e, x, kernel_shape=[5], strides=[3], pads=[1, 1], ceil_mode=1, count_include_pad=1),
        "reach beyond the padding",
    ),
    "more than one number tiled": (
        lambda e, x, w: e.slice(e("Tile", x, np.array([1, 2, 1])), 1, 0, C),
        "repeats more than one number",
    ),
    "a diagonal": (lambda e, x, w: e("Einsum", w(C), x, equation="j,bjt->bjt"), "an Einsum of an unusual kind"),
    "resized": (
        lambda e, x, w: e("Resize", x, None, np.array([1, 1, 0.5], np.float32), mode="linear"),
        "operators of its kind are not followed",
    ),
}


@pytest.mark.parametrize(("step", "why"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_says_what_is_true(step, why):
    """No non-linearity is in front of the spatial step, and none is blamed."""
    graph = net(step)
    model = clean(graph.clone_model())
    result = prefix.run(model)
    assert not result.changed
    assert any(why in one.reason for one in result.refused), result.refused
    assert not any("non-linearity" in one.reason for one in result.refused), result.refused
    require_same(graph, clean(model), tolerance=2e-5)


def test_two_spatial_steps_of_one_filter_are_one():
    def body(emit, x, weights):
        both = emit("Add", emit("MatMul", weights(8, C), x), emit("Mul", emit("MatMul", weights(8, C), x), half))
        return head(emit, emit("Elu", both), weights, 8, axes=(2,))

    graph = network(body, n_chans=C, n_times=T)
    model = clean(graph.clone_model())
    assert prefix.run(model).changed
    model = clean(model)
    require_same(graph, model, tolerance=2e-5)
    assert count_macs(model) == count_macs(graph.model) - 8 * C * T


@pytest.mark.parametrize("form", ["a product", "an Einsum", "behind"])
def test_a_matrix_with_zeros_reads_what_it_weighs_with_zero(form):
    matrix = np.eye(C, dtype=np.float32)
    matrix[:, 4] = 0

    def step(emit, x, w):
        if form == "an Einsum":
            return emit("Einsum", matrix, x, equation="ij,bjt->bit")
        if form == "a product":
            return emit("Squeeze", emit("MatMul", matrix, emit("Unsqueeze", x, [1])), [1])
        return emit("Transpose", emit("MatMul", emit("Transpose", x, perm=[0, 2, 1]), matrix.T.copy()), perm=[0, 2, 1])

    graph = net(step)
    fused, report, _ = fuse_with_report([graph])
    assert of(report).status == "applied", of(report).reason
    x = np.random.default_rng(0).standard_normal((2, C, T)).astype(np.float32)
    x[:, 4] = np.nan
    assert np.isnan(PlanRunner(graph).infer(x)).all()
    assert np.isnan(PlanRunner(fused).infer(x)).all()


def test_one_number_of_a_window_is_followed_too():
    def body(emit, x, weights):
        alone = emit("Mul", emit("ReduceMean", x, [1, 2], keepdims=0), np.float32(3))
        h = emit("Elu", emit("MatMul", weights(4, C), x))
        return emit("Add", head(emit, h, weights, 4, axes=(2,)), emit("Unsqueeze", alone, [1]))

    graph = network(body, n_chans=C, n_times=T)
    fused, _, parity = fuse_with_report([graph])
    assert parity.passed
    require_same(graph, fused.model, tolerance=2e-5)
