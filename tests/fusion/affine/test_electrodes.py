"""What is done to electrodes and time in front of the spatial step goes into it: exactly, whatever the order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.affine import operator, prefix
from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.graphs.runners import PlanRunner
from tests.fusion.networks import N_CHANS, N_TIMES, head, network, require_same

C = N_CHANS


def referenced(emit, x, axis):
    return emit("Sub", x, emit("ReduceMean", x, [axis], keepdims=1))


def bipolar(emit, x, w):
    ahead = emit.slice(emit("Pad", x, [0, 1, 0, 0, 0, 0]), 1, 0, C)
    return emit("Sub", x, ahead)


def same_filter(emit, x, w):
    return emit("Conv", x, np.repeat(w(1, 1, 5), C, 0), w(C), pads=[2, 2], group=C)


def by_itself(emit, x, w):
    """Filter every electrode as a window of its own."""
    alone = emit("Conv", emit("Reshape", x, [-1, 1, N_TIMES]), w(1, 1, 5), w(1), pads=[2, 2])
    return emit("Reshape", alone, [-1, C, N_TIMES])


ELECTRODES = {
    "a factor each": lambda emit, x, w: emit("Mul", x, w(C, 1) + np.float32(2)),
    "standardised": lambda emit, x, w: emit("Div", emit("Sub", x, w(C, 1)), np.abs(w(C, 1)) + np.float32(0.5)),
    "normalised": lambda emit, x, w: emit("BatchNormalization", x, *w.norm(C)),
    "common average": lambda emit, x, w: referenced(emit, x, 1),
    "a matrix": lambda emit, x, w: emit("MatMul", (np.eye(C) - 1 / C).astype(np.float32), x),
    "a dense step": lambda emit, x, w: emit("Conv", x, w(C, C, 1), w(C)),
    "in another order": lambda emit, x, w: emit("Gather", x, np.arange(C)[::-1].copy(), axis=1),
    "differences": bipolar,
    "differences by Gather": lambda emit, x, w: emit(
        "Sub", x, emit("Gather", x, np.roll(np.arange(C), 1), axis=1)
    ),
    "beside each other": lambda emit, x, w: emit("Concat", emit.slice(x, 1, 3, C), emit.slice(x, 1, 0, 3), axis=1),
    "halves exchanged": lambda emit, x, w: emit("Concat", *emit.many("Split", x, [2, 4], n=2, axis=1)[::-1], axis=1),
    "one filter for all": same_filter,
    "one filter, on the batch": by_itself,
}  # fmt: skip
TIME = {
    "nothing": lambda emit, x, w: x,
    "cropped": lambda emit, x, w: emit("Pad", emit.slice(x, 2, 3, N_TIMES), [0, 0, 0, 0, 0, 3]),
    "without its mean": lambda emit, x, w: referenced(emit, x, 2),
    "a running sum": lambda emit, x, w: emit("CumSum", x, np.array(2)),
    "a product": lambda emit, x, w: emit("MatMul", x, w(N_TIMES, N_TIMES)),
}


def net(*steps, taps=9, filters=3):
    """Steps on (batch, electrodes, time), then filters, a spatial step and a head."""

    def body(emit, x, weights):
        for step in steps:
            x = step(emit, x, weights)
        n = x.shape[1] if x.shape is not None else C
        h = emit("Conv", emit("Unsqueeze", x, [1]), weights(filters, 1, 1, taps), weights(filters), pads=[0, 4, 0, 4])
        h = emit("Conv", h, weights(2 * filters, 1, int(n), 1), weights(2 * filters), group=filters)
        return head(emit, emit("Elu", h), weights, 2 * filters, axes=(2, 3))

    return body


def of(report):
    return next(o for o in report.outcomes if o.name == "linear-prefix")


def on_the_batch(emit, x, w):
    """Filters, a sum and a pool on (batch x electrodes, 1, time)."""
    alone = emit("Reshape", emit("Mul", x, w(C, 1)), [-1, 1, N_TIMES])
    wide = emit("Conv", alone, w(3, 1, 5), w(3), pads=[2, 2])
    both = emit("Add", wide, emit("Conv", wide, w(3, 3, 3), pads=[1, 1]))
    return emit("Reshape", both, [-1, 1, C, 3, N_TIMES])


def test_encoders_of_one_channel_go_into_the_spatial_step():
    def body(emit, x, weights):
        h = emit("Transpose", on_the_batch(emit, x, weights), perm=[0, 1, 3, 2, 4])
        h = emit("Reshape", h, [-1, 3, C, N_TIMES])
        h = emit("Conv", h, weights(6, 1, C, 1), weights(6), group=3)
        return head(emit, emit("Elu", h), weights, 6, axes=(2, 3))

    fused, report, parity = fuse_with_report([network(body)])
    assert of(report).status == "applied", of(report).reason
    assert parity.passed


def test_one_electrode_is_reshaped_as_any():
    def body(emit, x, weights):
        one = emit("Reshape", emit.slice(x, 1, 0, 1), [-1, N_TIMES])
        h = emit("Reshape", one, [-1, 1, 1, N_TIMES])
        h = emit("Elu", emit("Conv", h, weights(3, 1, 1, 9)))
        return head(emit, h, weights, 3, axes=(2, 3))

    assert fuse_with_report([network(body)])[2].passed


def test_an_activation_on_the_batch_stops_the_electrodes_there():
    def body(emit, x, weights):
        h = emit("Elu", emit("Conv", emit("Reshape", x, [-1, 1, N_TIMES]), weights(3, 1, 9)))
        h = emit("Reshape", emit("ReduceMean", h, [2], keepdims=0), [-1, C * 3, 1, 1])
        return head(emit, h, weights, 3 * C, axes=(2, 3))

    fused, report, parity = fuse_with_report([network(body)])
    assert of(report).status != "applied"
    assert "comes before the spatial step" in of(report).reason
    assert parity.passed


@pytest.mark.parametrize("step", ELECTRODES.values(), ids=ELECTRODES)
def test_the_spatial_step_takes_what_is_done_to_electrodes(step):
    fused, report, parity = fuse_with_report([network(net(step))])
    assert of(report).status == "applied", of(report).reason
    assert parity.passed
    first = next(iter(fused.model.graph))
    assert (first.op_type, list(first.inputs[1].shape)) == ("Conv", [6, C, 1])
    assert not {"Sub", "Gather", "MatMul", "ReduceMean"} & {n.op_type for n in list(fused.model.graph)[:4]}


@settings(max_examples=15, deadline=None)
@given(
    steps=st.lists(st.sampled_from([*ELECTRODES.values(), *TIME.values()]), min_size=1, max_size=4),
    seed=st.integers(0, 9),
)
def test_any_steps_in_any_order_are_exact(steps, seed):
    graph = network(net(*steps), seed=seed)
    model = clean(graph.clone_model())
    result = prefix.run(model)
    assert result.changed or all("multiply-adds now" in one.reason for one in result.refused[:1]), result.refused
    require_same(graph, clean(model), tolerance=2e-5)


LEFT_OUT = {
    "a choice": lambda emit, x, w: emit("Gather", x, np.array([0, 2, 3, 5]), axis=1),
    "a part": lambda emit, x, w: emit.slice(x, 1, 1, C, 2),
    "a mask": lambda emit, x, w: emit(
        "Where", np.array([True, False, True, True, False, True]).reshape(1, C, 1), x, np.float32(0)
    ),
}


@pytest.mark.parametrize("step", LEFT_OUT.values(), ids=LEFT_OUT)
def test_what_is_in_an_electrode_that_is_left_out_is_not_read(step):
    def body(emit, x, weights):
        y = step(emit, x, weights)
        n = {"Gather": 4, "Slice": 3}.get(y.producer().op_type, C)
        h = emit("Conv", emit("Unsqueeze", y, [1]), weights(3, 1, 1, 9), pads=[0, 4, 0, 4])
        return head(emit, emit("Elu", emit("Conv", h, weights(6, 1, n, 1), group=3)), weights, 6, axes=(2, 3))

    graph = network(body)
    fused, report, parity = fuse_with_report([graph], views="identity,roll:+3,sign-flip")
    assert of(report).status == "applied", of(report).reason
    assert parity.passed
    x = np.random.default_rng(0).standard_normal((2, C, N_TIMES)).astype(np.float32)
    x[:, 4] = np.nan
    answer = PlanRunner(replace(fused), double=True).infer(x)
    assert np.isfinite(answer).all() == np.isfinite(PlanRunner(graph, double=True).infer(x)).all()


def own_filters(emit, x, w):
    return emit("Conv", x, w(C, 1, 5), pads=[2, 2], group=C)


@pytest.mark.parametrize(
    ("step", "why"),
    [
        (own_filters, "a filter of its own"),
        (lambda emit, x, w: emit("Mul", x, w(C, N_TIMES)), "differs between electrodes and along another axis"),
        (lambda emit, x, w: emit("Mul", x, np.arange(C, dtype=np.float32)[:, None]), "or is 0"),
        (lambda emit, x, w: emit("Where", np.arange(N_TIMES) > 3, x, np.float32(0)), "otherwise than by electrode"),
        (lambda emit, x, w: emit("Add", x, same_filter(emit, emit.slice(x, 1, -1, None, -1), w)), ""),
    ],
    ids=["filters of their own", "both at once", "a factor of nothing", "left out in time", "no longer one product"],
)
def test_what_is_no_product_of_space_and_time_is_refused(step, why):
    graph = network(net(step))
    model = clean(graph.clone_model())
    result = prefix.run(model)
    assert result.changed == 0
    assert any(why in one.reason for one in result.refused), result.refused


def test_a_dense_step_behind_a_reference_keeps_the_offsets_of_its_filters():
    def body(emit, x, weights):
        h = emit("Conv", emit("Unsqueeze", referenced(emit, x, 1), [1]), weights(8, 1, 1, 5), weights(8))
        h = emit("Conv", h, weights(8, 8, C, 1), weights(8))
        return head(emit, emit("Elu", h), weights, 8, axes=(2, 3))

    graph = network(body)
    model = clean(graph.clone_model())
    result = prefix.run(model)
    assert "dense spatial step merged" in result.did
    require_same(graph, clean(model), tolerance=2e-5)


def test_a_choice_of_samples_is_none_of_electrodes_where_there_are_as_many():
    def late(emit, x, w):
        return emit("Where", np.arange(C) > 3, x, np.float32(0))

    graph = network(net(late, taps=3), n_times=C)
    model = clean(graph.clone_model())
    result = prefix.run(model)
    assert any("otherwise than by electrode" in one.reason for one in result.refused)
    require_same(graph, clean(model), tolerance=2e-5)


UNREAD = {
    "cropped": (lambda emit, x: emit.slice(x, 2, 3, -5), [0, 2, -1, -5]),
    "every second": (lambda emit, x: emit.slice(x, 2, 1, None, 2), [0, 20, -2]),
    "weighed with 0": (lambda emit, x: emit("Mul", x, (np.arange(x.shape[2]) > 2).astype(np.float32)), [0, 1, 2]),
    "pooled with a rest": (lambda emit, x: emit("AveragePool", x, kernel_shape=[3], strides=[4]), [3, 19]),
}


@pytest.mark.parametrize("n_times", [N_TIMES, 400], ids=["short", "long"])
@pytest.mark.parametrize("name", UNREAD)
def test_a_sample_that_is_left_out_is_not_read(name, n_times, monkeypatch):
    monkeypatch.setattr(operator, "LONG", 64)
    step, places = UNREAD[name]

    def body(emit, x, weights):
        h = emit("Conv", emit("Unsqueeze", step(emit, x), [1]), weights(3, 1, 1, 7), weights(3), pads=[0, 3, 0, 3])
        return head(emit, emit("Elu", emit("Conv", h, weights(6, 1, 12 * C, 1), group=3)), weights, 6, axes=(2, 3))

    graph = network(body, n_chans=12 * C, n_times=n_times)
    model = clean(graph.clone_model())
    result = prefix.run(model)
    assert result.changed, result.refused
    fused = replace(graph, model=clean(model))
    require_same(graph, fused.model, tolerance=2e-5)
    x = np.random.default_rng(0).standard_normal((len(places), 12 * C, n_times)).astype(np.float32)
    for window, place in zip(x, places, strict=True):
        window[:, place] = np.nan
    expected = PlanRunner(graph).infer(x)
    assert np.isfinite(expected).all() == (name != "weighed with 0")
    np.testing.assert_allclose(PlanRunner(fused).infer(x), expected, rtol=1e-4)
