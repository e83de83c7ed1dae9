"""The smaller rewrites: how many, which nodes, which numbers; and the check that undoes a wrong one."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnxscript import optimizer

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.ir.passes import Pass, PassResult
from rtserve.fusion.local import fold, fourier
from rtserve.fusion.lower.onnxruntime import channels, depth, elu, layout, pool
from rtserve.fusion.run.check import Reference
from rtserve.fusion.run.running import STRICT, run_passes
from rtserve.graphs import transforms
from rtserve.graphs.emit import Emitter
from rtserve.graphs.parity import relative_error
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner
from tests.fusion.networks import N_CHANS, N_TIMES, head, laid_out, network


def rewritten(module, graph, *, in_rank_four=False):
    """Run one pass on a copy and check its numbers; return the result and the node counts."""
    model = laid_out(graph) if in_rank_four else clean(graph.clone_model())
    result = module.run(model)
    model = clean(model)
    assert Reference(graph).check(model) == ""
    kinds = [node.op_type for node in model.graph]
    return result, kinds


def test_elu_is_written_with_exp_where_it_is_large():
    def body(emit, x, weights):
        h = emit("Elu", emit("Conv", emit("Unsqueeze", x, [2]), weights(64, N_CHANS, 1, 3)), alpha=0.7)
        return head(emit, h, weights, 64, axes=(2, 3))

    result, kinds = rewritten(elu, network(body))
    assert result.changed == 1
    assert "Elu" not in kinds
    assert "Clip" in kinds


def test_a_small_elu_stays():
    def body(emit, x, weights):
        return head(emit, emit("Elu", emit("Conv", x, weights(4, N_CHANS, 3))), weights, 4, axes=(2,))

    result, kinds = rewritten(elu, network(body))
    assert (result.changed, "Elu" in kinds) == (0, True)


def test_a_wide_pool_is_a_banded_matrix_and_a_narrow_one_stays():
    def body(window):
        def build(emit, x, weights):
            h = emit("Conv", emit("Unsqueeze", x, [2]), weights(5, N_CHANS, 1, 3))
            h = emit("AveragePool", h, kernel_shape=[1, window], strides=[1, 2])
            return head(emit, emit("Relu", h), weights, 5, axes=(2, 3))

        return build

    assert rewritten(pool, network(body(12)))[0].changed == 1
    assert rewritten(pool, network(body(3)))[0].changed == 0


def test_rank_three_convolutions_meet_at_rank_four():
    def body(emit, x, weights):
        h = emit("Relu", emit("Conv", x, weights(16, N_CHANS, 5), weights(16), pads=[2, 2]))
        h = emit("Relu", emit("Conv", h, weights(16, 16, 3), weights(16)))
        return head(emit, h, weights, 16, axes=(2,))

    result, kinds = rewritten(layout, network(body))
    assert result.changed >= 2
    assert kinds.count("Unsqueeze") == 1
    assert "GlobalAveragePool" in kinds


def test_channels_that_do_not_divide_are_split_or_filled():
    def body(emit, x, weights):
        return head(emit, emit("Relu", emit("Conv", x, weights(4, 33, 3), weights(4))), weights, 4, axes=(2,))

    _, kinds = rewritten(channels, network(body, n_chans=33), in_rank_four=True)
    assert kinds.count("Conv") == 2

    def other(emit, x, weights):
        return head(emit, emit("Relu", emit("Conv", x, weights(4, 22, 3), weights(4))), weights, 4, axes=(2,))

    _, kinds = rewritten(channels, network(other, n_chans=22), in_rank_four=True)
    assert "Pad" in kinds


def test_channels_are_left_whole_for_a_single_output():
    def body(emit, x, weights):
        return head(emit, emit("Relu", emit("Conv", x, weights(1, 33, 3), weights(1))), weights, 1, axes=(2,))

    result, _ = rewritten(channels, network(body, n_chans=33), in_rank_four=True)
    assert not result.changed


def test_time_before_a_trailing_one_is_turned():
    def body(emit, x, weights):
        h = emit("Unsqueeze", emit("Conv", x, weights(16, N_CHANS, 5)), [3])
        h = emit("Elu", h)
        h = emit("MaxPool", h, kernel_shape=[3, 1], strides=[3, 1])
        h = emit("Elu", emit("Conv", h, weights(16, 16, 3, 1), weights(16)))
        return head(emit, h, weights, 16, axes=(2, 3))

    result, _ = rewritten(layout, network(body))
    assert result.changed >= 3


def test_one_channel_convolution_over_phases():
    def body(emit, x, weights):
        h = emit("Relu", emit("Conv", emit("Unsqueeze", x, [1]), weights(8, 1, 1, 51), weights(8), pads=[0, 25, 0, 25]))
        return head(emit, h, weights, 8, axes=(2, 3))

    result, kinds = rewritten(depth, network(body, n_chans=64, n_times=200))
    assert result.changed == 1
    assert kinds.count("Transpose") == 2


@pytest.mark.parametrize(("inverse", "onesided", "parts"), [(0, 0, 1), (0, 1, 1), (0, 0, 2), (1, 0, 2), (1, 1, 2)])
def test_transforms_equal_numpy(inverse, onesided, parts):
    rng = np.random.default_rng(0)
    n = 12
    bins = n // 2 + 1 if onesided and not inverse else n
    length = n if not (inverse and onesided) else 2 * (n - 1)
    x = rng.standard_normal((n, parts))
    z = x[:, 0] + (1j * x[:, 1] if parts == 2 else 0)
    if inverse and onesided:
        expected, bins = np.fft.irfft(z, n=length), length
        got = x.reshape(-1) @ transforms.dft_matrix(n, length, bins, parts, inverse=True, onesided=True)
    else:
        whole = np.fft.ifft(z) if inverse else np.fft.fft(z)
        expected = np.stack([whole.real, whole.imag], -1)[:bins].reshape(-1)
        got = x.reshape(-1) @ transforms.dft_matrix(n, n, bins, parts, inverse=bool(inverse))
    np.testing.assert_allclose(got, expected, atol=1e-12)


def test_short_time_transform_is_a_strided_convolution():
    def body(emit, x, weights):
        signal = emit("Reshape", emit("ReduceMean", x, [1], keepdims=0), [0, -1, 1])
        window = np.hanning(16).astype(np.float32)
        z = emit("STFT", signal, np.array(4), window, np.array(16), onesided=1)
        power = emit("ReduceSum", emit("Mul", z, z), [3], keepdims=0)
        return emit("Gemm", emit("ReduceMean", power, [1], keepdims=0), weights(1, 9), weights(1), transB=1)

    result, kinds = rewritten(fourier, network(body))
    assert result.changed == 1
    assert "STFT" not in kinds


@pytest.mark.parametrize("idle", [False, True])
def test_constants_are_folded_only_where_there_may_be_some(idle, monkeypatch):
    def body(emit, x, weights):
        h = emit("Conv", x, weights(4, N_CHANS, 3))
        return head(emit, emit("Identity", h) if idle else h, weights, 4, axes=(2,))

    asked = []
    monkeypatch.setattr(optimizer, "fold_constants", lambda model, **_: asked.append(model))
    result = fold.run(clean(network(body).clone_model()))
    assert (len(asked), result.changed) == (idle, idle)


def test_idle_nodes_and_norms_are_folded():
    def body(emit, x, weights):
        h = emit("BatchNormalization", emit("Conv", x, weights(4, N_CHANS, 3), weights(4)), *weights.norm(4))
        h = emit("Mul", emit("Identity", emit("Relu", h)), np.float32(1.0))
        return head(emit, h, weights, 4, axes=(2,))

    result, kinds = rewritten(fold, network(body))
    assert result.changed >= 3
    assert not {"BatchNormalization", "Identity", "Mul"} & set(kinds)


def causal(emit, x, weights):
    """Residual layers, dilated, each cut as torch's older exporter writes ``conv(h)[..., :h.shape[-1]]``."""
    h = emit("Conv", x, weights(6, N_CHANS, 1), weights(6))
    for dilation in (1, 2, 4):
        over = 3 * dilation
        y = emit("Conv", h, weights(6, 6, 4), weights(6), pads=[over, over], dilations=[dilation])
        n = emit("Unsqueeze", emit("Gather", emit("Shape", h), np.array(2)), [0])
        y = emit("BatchNormalization", emit("Slice", y, [0], n, [2], [1]), *weights.norm(6))
        h = emit("Relu", emit("Add", h, emit("Relu", y)))
    return head(emit, h, weights, 6, axes=(2,))


def test_a_causal_convolution_pads_in_front_alone_and_residual_layers_stay_in_rank_four():
    result, left = rewritten(fold, network(causal))
    assert "3 batch normalisations" in result.did
    assert "3 cuts" in result.did
    assert not {"Shape", "Gather", "Slice", "BatchNormalization"} & set(left)
    graph, _, parity = fuse_with_report([network(causal)])
    assert parity.passed
    ops = [node.op_type for node in graph.model.graph]
    assert (ops.count("Unsqueeze"), ops.count("Squeeze"), ops.count("Conv")) == (1, 1, 4)
    pads = [tuple(node.attributes.get_ints("pads") or ()) for node in graph.model.graph if node.op_type == "Conv"]
    assert pads[1:] == [(0, 3, 0, 0), (0, 6, 0, 0), (0, 12, 0, 0)]


@pytest.mark.parametrize(
    ("stride", "pads", "cut", "expected"),
    [
        (1, (4, 2), (1, 9_999), (3, 2)),
        (1, (4, 2), (-20, -1), None),  # it cuts more than the padding
        (2, (4, 2), (1, -1), (2, 0)),
        (2, (1, 0), (1, 9_999), None),
        (1, (2, 2), (0, -3), None),
    ],
)
def test_a_cut_is_less_padding_only_as_far_as_there_is_padding(stride, pads, cut, expected):
    def body(emit, x, weights):
        h = emit("Conv", x, weights(4, N_CHANS, 5), weights(4), pads=list(pads), strides=[stride])
        return head(emit, emit("Relu", emit.slice(h, 2, *cut)), weights, 4, axes=(2,))

    graph = network(body)
    model = clean(graph.clone_model())
    result = fold.run(model)
    model = clean(model)
    assert Reference(graph).check(model) == ""
    assert result.changed == (expected is not None)
    assert ("Slice" not in {node.op_type for node in model.graph}) == (expected is not None)
    if expected is not None:
        conv = next(node for node in model.graph if node.op_type == "Conv")
        assert tuple(conv.attributes.get_ints("pads") or (0, 0)) == expected


def test_what_is_refused_names_a_node_and_a_reason_and_nothing_found_is_no_refusal():
    def body(emit, x, weights):
        h = emit("Elu", emit("Conv", emit("Unsqueeze", x, [1]), weights(2, 1, 1, 12)))
        h = emit("AveragePool", h, kernel_shape=[1, 2], strides=[1, 2])
        return head(emit, emit("Conv", h, weights(4, 1, N_CHANS, 1), group=2), weights, 4, axes=(2, 3))

    _, report, _ = fuse_with_report([network(body)], views="identity,roll:+3")
    names = {f"{node.op_type} {node.outputs[0].name}" for node in network(body).model.graph}
    told = {o.name: [(one.node, one.reason) for one in o.refused] for o in report.outcomes if o.subject != "plan"}
    assert all(node and reason for refusals in told.values() for node, reason in refusals)
    assert {node for node, _ in told["linear-prefix"]} <= names
    for outcome in report.outcomes:
        assert (outcome.status == "refused") <= bool(outcome.refused)
        assert (outcome.status == "nothing") <= (not outcome.refused)
        assert all(str(one) in outcome.reason for one in outcome.refused)
    assert {"applied", "refused", "nothing"} <= {o.status for o in report.outcomes}


def relu_net(emit, x, weights):
    return head(emit, emit("Relu", emit("Conv", x, weights(4, N_CHANS, 3))), weights, 4, axes=(2,))


def wrong(model):
    next(node for node in model.graph if node.op_type == "Relu").op_type = "Sigmoid"
    return PassResult(changed=1, did="a mistake")


def test_a_pass_that_changes_the_numbers_is_undone_and_reported(monkeypatch):
    def crash(model):
        raise ValueError("no such thing")

    graph = network(relu_net)
    reference, passes = Reference(graph), [Pass(name="wrong", run=wrong, why=""), Pass(name="crash", run=crash, why="")]

    def optimised():
        return run_passes(graph.clone_model(), passes, subject="t", check=reference.check)

    with pytest.raises(ValueError, match="no such thing"):  # here and in the zoo a rewrite that raises is a failure
        optimised()
    monkeypatch.delenv(STRICT)
    model, outcomes = optimised()
    assert [o.status for o in outcomes] == ["undone", "undone"]
    assert "numbers changed" in outcomes[0].reason
    assert outcomes[1].reason == "failed: ValueError: no such thing"
    assert reference.check(model) == ""


def test_steps_are_checked_one_by_one_only_where_they_are_wrong_together():
    def right(model):
        return PassResult(changed=1, did="nothing to speak of")

    graph = network(relu_net)
    reference, asked = Reference(graph), []

    def check(model):
        asked.append(model)
        return reference.check(model)

    def optimised(*runs):
        asked.clear()
        passes = [Pass(name=run.__name__, run=run, why="") for run in runs]
        return run_passes(graph.clone_model(), passes, subject="t", check=check)

    _, outcomes = optimised(right, right)
    assert ([o.status for o in outcomes], len(asked)) == (["applied", "applied"], 1)
    model, outcomes = optimised(right, wrong, right)
    assert [o.status for o in outcomes] == ["applied", "undone", "applied"]
    assert reference.check(model) == ""


def test_passes_can_be_chosen_and_switched_off():
    def body(emit, x, weights):
        return head(emit, emit("Relu", emit("Conv", x, weights(4, N_CHANS, 3))), weights, 4, axes=(2,))

    graph = network(body)
    _plain, report, _ = fuse_with_report([graph], optimize=False)
    assert report.outcomes == ()
    _, report, _ = fuse_with_report([graph], passes=["layout"])
    assert {o.name for o in report.outcomes} <= {"layout", "stack"}


@pytest.mark.parametrize("axis", [1, 2, -1, -2])
def test_layout_joins_along_an_axis_counted_from_either_end(axis):
    size = 8 if axis in (1, -2) else N_TIMES - 2

    def body(emit, x, weights):
        parts = emit.many("Split", emit("Conv", x, weights(8, N_CHANS, 3)), [3, size - 3], n=2, axis=axis)
        h = emit("Concat", emit("Tanh", parts[0]), parts[1], axis=axis)
        return head(emit, emit("Relu", emit("Conv", h, weights(8, 8, 3))), weights, 8, axes=(2,))

    graph, report, _ = fuse_with_report([network(body)], passes=["layout"])
    assert next(o for o in report.outcomes if o.name == "layout").status == "applied"
    assert [node.op_type for node in graph.model.graph].count("Squeeze") <= 2  # the join is of rank 4


def pooled(emit, x, weights):
    """A MaxPool of rank 3, whose NaN onnxruntime drops, and a number of it."""
    h = emit("MaxPool", emit("Mul", x, np.float32(1.5)), kernel_shape=[6], strides=[2], pads=[1, 2])
    return head(emit, emit("Sigmoid", h), weights, N_CHANS, axes=(2,))


def test_a_step_is_not_taken_back_for_what_an_engine_makes_of_nan():
    graph = network(pooled)
    probes = {name: x for name, x in Reference(graph).probes if name == "a NaN channel"}
    single, exact = OnnxruntimeRunner(graph), PlanRunner(graph, double=True)
    ((name, x),) = probes.items()
    assert np.isnan(exact.infer(x)[0]).all()
    assert not np.isnan(single.infer(x)[0]).any()  # a number made of the smallest float32
    fused, report, parity = fuse_with_report([graph], views="identity,roll:+3,roll:+7", engine="torch")
    assert not [o for o in report.outcomes if o.status == "undone"]
    assert parity.passed
    assert any(name in note for note in parity.notes) or np.isnan(OnnxruntimeRunner(fused).infer(x)[0]).all()


def test_a_rewrite_that_loses_nan_itself_is_taken_back():
    graph = network(pooled)
    model = graph.clone_model()
    pool = next(node for node in model.graph if node.op_type == "MaxPool")
    emit = Emitter(model.graph, before=pool)
    clean = emit("Where", emit("IsNaN", pool.inputs[0]), np.float32(0), pool.inputs[0])
    pool.replace_input_with(0, clean)
    assert "NaN channel" in Reference(graph).check(model)


def test_a_step_is_not_blamed_for_what_onnxruntime_is_off_by_on_the_plain_graph():
    rng = np.random.default_rng(0)
    w, r = (rng.standard_normal((1, 1, width)).astype("f4") for width in (N_CHANS, 1))

    def body(emit, x, weights):
        h = emit("RNN", emit("Transpose", x, perm=[2, 0, 1]), w, np.abs(r) + 0.5, hidden_size=1)
        h = emit("Mul", emit("Squeeze", h, [1]), np.float32(1.0))
        return emit("ReduceMean", h, [0], keepdims=0)

    graph = network(body)
    reference = Reference(graph)
    worst = max(relative_error(a.single, a.truth) / max(a.rounding * 4, 1e-5) for a in reference._heard.answers)
    assert worst > 1  # its tanh is off near zero
    model = graph.clone_model()
    mul = next(node for node in model.graph if node.op_type == "Mul")
    emit = Emitter(model.graph, before=mul)
    mul.replace_input_with(0, emit("Identity", mul.inputs[0]))
    assert reference.check(model) == ""
    mul.replace_input_with(1, emit.constant(np.array(1.001, np.float32)))
    assert reference.check(model) != ""


def test_a_broken_window_that_nobody_can_judge_refuses_no_graph():
    def body(emit, x, weights):  # the executor lacks these; of an infinite sample onnxruntime makes the largest int8
        scale, zero = np.array(0.05, np.float32), np.array(0, np.int8)
        coarse = emit("QuantizeLinear", x, scale, zero)
        coarse.type = ir.TensorType(ir.DataType.INT8)
        h = emit("DequantizeLinear", coarse, scale, zero)
        h.type = ir.TensorType(ir.DataType.FLOAT)
        return head(emit, h, weights, N_CHANS, axes=(2,))

    _, _, parity = fuse_with_report([network(body)], views="identity,roll:+2")
    assert parity.passed


@pytest.mark.parametrize("kind", ["AveragePool", "MaxPool"])
@pytest.mark.parametrize("auto", ["SAME_LOWER", "SAME_UPPER", "VALID"])
def test_layout_keeps_how_a_pool_is_padded(kind, auto):
    def body(emit, x, weights):
        h = emit(kind, x, kernel_shape=[4], strides=[3], auto_pad=auto)
        return head(emit, emit("Conv", h, weights(4, N_CHANS, 3)), weights, 4, axes=(2,))

    result, _ = rewritten(layout, network(body))
    assert result.changed
