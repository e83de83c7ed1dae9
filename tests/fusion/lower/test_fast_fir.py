"""Fast FIR: the products promised, the numbers kept, and left alone where it would not pay."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.ir.conv import conv_of
from rtserve.fusion.lower.onnxruntime import fast_fir, rows
from tests.fusion.networks import head, laid_out, network, require_same

C = 16


@pytest.fixture
def always(monkeypatch):
    """Let the rewrite be taken however small the convolution."""
    monkeypatch.setattr(fast_fir, "pays", only_in_phases)


def only_in_phases(conv, windows=1, *, in_turn=False):
    return conv.dilation in (1, conv.stride) and conv.taps > 1 and not in_turn


def only_in_turn(conv, windows=1, *, in_turn=False):
    return conv.dilation in (1, conv.stride) and conv.taps > 1 and in_turn


def rewritten(graph):
    """Run the pass and check the numbers; return its result and the operators."""
    model = laid_out(graph)
    result = fast_fir.run(model)
    model = clean(model)
    require_same(graph, model)
    return result, [node.op_type for node in model.graph]


@pytest.mark.parametrize("taps", [1, 2, 3, 4])
def test_two_outputs_take_one_product_more_than_taps(taps):
    a, g, b = fast_fir.toom_cook(taps)
    rng = np.random.default_rng(taps)
    w, d = rng.standard_normal(taps), rng.standard_normal(taps + 1)
    assert a.shape == (2, taps + 1)
    np.testing.assert_allclose(a @ ((g @ w) * (b @ d)), [w @ d[:taps], w @ d[1:]], atol=1e-12)


def two_strided(taps, stride, pads, second, n_chans=C):
    def body(emit, x, weights):
        h = emit("Relu", emit("Conv", x, weights(C, n_chans, taps), weights(C), strides=[stride], pads=list(pads)))
        h = emit("Relu", emit("Conv", h, weights(C, C, second), weights(C), strides=[2], pads=[second // 2] * 2))
        return head(emit, h, weights, C, axes=(2,))

    return body


@settings(max_examples=12)
@given(
    taps=st.integers(2, 11),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    second=st.integers(1, 5),
    n_times=st.integers(30, 43),
    seed=st.integers(0, 3),
)
def test_any_convolution_before_one_of_stride_two(taps, stride, pads, second, n_times, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_fir, "pays", only_in_phases)
        graph = network(two_strided(taps, stride, pads, second), n_chans=C, n_times=n_times, seed=seed)
        result, kinds = rewritten(graph)
    assert result.changed == 1
    assert kinds.count("Conv") > 4


@settings(max_examples=12)
@given(
    taps=st.integers(2, 13),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    outputs=st.sampled_from([16, 20, 40]),
    rows=st.sampled_from([1, 2]),
    n_times=st.integers(30, 43),
    seed=st.integers(0, 3),
)
def test_any_convolution_by_itself(taps, stride, pads, outputs, rows, n_times, seed):
    def body(emit, x, weights):
        h = emit("Reshape", x, [-1, C, rows, n_times])
        h = emit("Conv", h, weights(outputs, C, 1, taps), weights(outputs), strides=[1, stride],
                 pads=[0, pads[0], 0, pads[1]])  # fmt: skip
        return head(emit, emit("Relu", h), weights, outputs, axes=(2, 3))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fast_fir, "pays", only_in_turn)
        result, kinds = rewritten(network(body, n_chans=C * rows, n_times=n_times, seed=seed))
    assert result.changed == 1
    assert "1 put in turn again" in result.did
    assert "Transpose" in kinds


def test_odd_channels_and_a_rest_go_the_same_way(always):
    result, kinds = rewritten(network(two_strided(7, 2, (3, 3), 5, n_chans=C + 1), n_chans=C + 1, n_times=40))
    assert result.changed == 1
    assert "Split" in kinds  # the channels in blocks, and the rest


@pytest.mark.parametrize("views", ["identity,roll:+3,roll:-3,scale:1.02,scale:0.98", "roll:+1,crop-shift:-4,sign-flip"])
@pytest.mark.parametrize("members", [1, 3])
def test_members_and_views_stay_in_phases(always, views, members):
    graphs = [network(two_strided(7, 2, (3, 3), 5), n_chans=C, n_times=60, seed=seed) for seed in range(members)]
    _, report, parity = fuse_with_report(graphs, views=views)
    assert parity.passed
    outcome = next(o for o in report.outcomes if o.name == "fast-fir")
    assert outcome.status == "applied"
    assert outcome.macs_after < outcome.macs_before


def three_strided(emit, x, weights):
    h = emit("Relu", emit("Conv", x, weights(C, C, 7), weights(C), strides=[2], pads=[3, 3]))
    h = emit("Relu", emit("Conv", h, weights(C, C, 5), weights(C), strides=[2], pads=[2, 2]))
    h = emit("Relu", emit("Conv", h, weights(C, C, 3), weights(C), strides=[2], pads=[1, 1]))
    return head(emit, h, weights, C, axes=(2,))


@pytest.mark.parametrize("n_times", [60, 61, 62, 63])
def test_what_reads_phases_stays_in_phases_again(always, n_times):
    result, _ = rewritten(network(three_strided, n_chans=C, n_times=n_times))
    assert "3 convolutions in phases" in result.did  # the first, and the two that read its phases


def test_stacked_members_keep_their_groups_in_phases(always):
    graphs = [network(three_strided, n_chans=C, n_times=60, seed=seed) for seed in range(3)]
    fused, report, parity = fuse_with_report(graphs, views="identity,scale:1.1")
    assert parity.passed
    assert next(o for o in report.outcomes if o.name == "fast-fir").status == "applied"
    groups = [node.attributes.get_int("group", 1) for node in fused.model.graph if node.op_type == "Conv"]
    assert 3 in groups


def test_views_on_the_batch_count_as_windows():
    model = laid_out(network(two_strided(3, 1, (1, 1), 3, n_chans=64), n_chans=64, n_times=40))
    conv = next(conv_of(node) for node in model.graph if node.op_type == "Conv")
    wide = replace(conv, weight=np.zeros((64, 64, 3), np.float32), bias=None)
    assert not fast_fir.pays(wide)
    assert fast_fir.pays(wide, 40)


def test_broken_windows_stay_broken(always):
    _, report, parity = fuse_with_report([network(two_strided(7, 2, (3, 3), 5), n_chans=C, n_times=60)])
    assert parity.passed
    assert {"a NaN channel", "an infinite sample"} <= {case.name for case in parity.cases}


def test_a_small_convolution_stays():
    result, _ = rewritten(network(two_strided(7, 2, (3, 3), 5), n_chans=C))
    assert result.changed == 0
    assert "too small" in result.refused[0].reason


def test_a_value_that_others_read_stays_whole(always):
    def body(emit, x, weights):
        h = emit("Relu", emit("Conv", x, weights(C, C, 7), weights(C), pads=[3, 3]))
        y = emit("Conv", h, weights(C, C, 3), strides=[2], pads=[1, 1])
        z = emit("Conv", h, weights(C, C, 3), strides=[4], pads=[1, 1])
        both = emit("Add", emit("ReduceMean", y, [2], keepdims=0), emit("ReduceMean", z, [2], keepdims=0))
        return emit("Gemm", both, weights(1, C), weights(1), transB=1)

    result, _ = rewritten(network(body, n_chans=C))
    assert result.changed == 0


def test_five_members_of_the_contest_network_pay_and_one_does_not():
    def conv(outputs):
        def body(emit, x, weights):
            h = emit("Conv", emit("Unsqueeze", x, [2]), weights(outputs, 128, 1, 7), strides=[1, 2], pads=[0, 3, 0, 3])
            return head(emit, h, weights, outputs, axes=(2, 3))

        model = clean(network(body, n_chans=128, n_times=200).clone_model())
        return conv_of(next(node for node in model.graph if node.op_type == "Conv"))

    assert fast_fir.pays(conv(160))
    assert not fast_fir.pays(conv(32))
    assert not fast_fir.pays(conv(64), in_turn=True)


def test_axes_that_are_a_multiple_of_the_batch_are_named():
    def body(emit, x, weights):
        both = emit("Concat", x, emit("Neg", x), axis=0)
        h = emit("ReduceMean", emit("Relu", emit("Conv", both, weights(4, C, 3))), [2], keepdims=0)
        return emit(
            "Gemm", emit("ReduceMean", emit("Reshape", h, [2, -1, 4]), [0], keepdims=0), weights(1, 4), transB=1
        )

    model = clean(network(body, n_chans=C).clone_model())
    assert rows.run(model).changed >= 3
    model = clean(model)
    named = {str(node.outputs[0].shape[0]) for node in model.graph if node.op_type in ("Concat", "Conv", "Relu")}
    assert named == {"2*batch"}
    folded = next(node for node in model.graph if node.op_type == "Reshape")
    assert [str(d) for d in folded.outputs[0].shape] == ["2", "batch", "4"]
