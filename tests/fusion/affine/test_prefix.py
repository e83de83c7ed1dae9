"""The linear prefix: collapsed where it should be, exactly, refused with a reason where it should not."""

from __future__ import annotations

import tracemalloc

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.affine import prefix
from rtserve.fusion.affine.toeplitz import analyse
from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.graphs.macs import count_macs
from rtserve.graphs.runners import OnnxruntimeRunner
from tests.fusion.networks import N_CHANS, N_TIMES, eegnet, head, network, require_same
from tests.versions import release

fourier = pytest.mark.skipif(
    release(onnx.__version__) < (1, 22) or release(onnxruntime.__version__) < (1, 32),
    reason="an inverse one-sided DFT: onnxruntime before 1.32 refuses it, onnx before 1.22 does not know its shape",
)


def outcome(report, name):
    """Return the first outcome of a pass."""
    return next(o for o in report.outcomes if o.name == name)


def test_eegnet_collapses_to_space_first():
    graph = network(eegnet)
    fused, report, parity = fuse_with_report([graph])
    assert outcome(report, "linear-prefix").status == "applied"
    assert parity.passed
    assert report.macs_after < report.macs_before / 2
    first = next(iter(fused.model.graph))
    assert first.op_type == "Conv"
    assert list(first.inputs[1].shape) == [6, N_CHANS, 1]


def test_two_chained_padded_filters_need_and_get_their_edges():
    def body(emit, x, weights):
        h = emit("Conv", emit("Unsqueeze", x, [1]), weights(2, 1, 1, 7), weights(2), pads=[0, 3, 0, 3])
        h = emit("Conv", h, weights(4, 2, 1, 5), weights(4), pads=[0, 2, 0, 2])
        h = emit("Conv", h, weights(8, 1, N_CHANS, 1), group=4)
        return head(emit, emit("Elu", emit("BatchNormalization", h, *weights.norm(8))), weights, 8, axes=(2, 3))

    _, report, parity = fuse_with_report([network(body)])
    found = outcome(report, "linear-prefix")
    assert found.status == "applied"
    assert "11 taps, edges corrected" in found.reason
    assert parity.passed


@settings(max_examples=12)
@given(
    filters=st.integers(1, 3),
    taps=st.integers(1, 9),
    left=st.integers(0, 4),
    right=st.integers(0, 4),
    dilation=st.integers(1, 2),
    depth=st.integers(1, 2),
    norm=st.booleans(),
    pool=st.sampled_from([0, 2, 4]),
    bias=st.booleans(),
    seed=st.integers(0, 9),
)
def test_any_chain_is_exact(filters, taps, left, right, dilation, depth, norm, pool, bias, seed):
    def body(emit, x, weights):
        extra = [weights(filters)] if bias else []
        h = emit("Conv", emit("Unsqueeze", x, [1]), weights(filters, 1, 1, taps), *extra,
                 pads=[0, left, 0, right], dilations=[1, dilation])  # fmt: skip
        if norm:
            h = emit("BatchNormalization", h, *weights.norm(filters))
        h = emit("Conv", h, weights(filters * depth, 1, N_CHANS, 1), group=filters)
        if pool:
            h = emit("AveragePool", h, kernel_shape=[1, pool], strides=[1, pool])
        return head(emit, emit("Elu", h), weights, filters * depth, axes=(2, 3))

    _, report, parity = fuse_with_report([network(body, seed=seed)])
    found = outcome(report, "linear-prefix")
    assert parity.passed
    # Infinities of both signs in one pool are NaN; collapsed they may be one infinity, which an ELU makes finite. Then
    # the check undoes the rewrite, as it must.
    reason = {"refused": "multiply-adds now", "undone": "nan on an infinite sample", "applied": ""}[found.status]
    assert reason in found.reason


def test_dense_spatial_step_merges_with_its_filters():
    def body(emit, x, weights):
        h = emit("Conv", emit("Unsqueeze", x, [1]), weights(8, 1, 1, 5), weights(8))
        h = emit("Conv", h, weights(8, 8, N_CHANS, 1), weights(8))
        return head(emit, emit("Elu", h), weights, 8, axes=(2, 3))

    _, report, parity = fuse_with_report([network(body)])
    assert "dense spatial step merged" in outcome(report, "linear-prefix").reason
    assert parity.passed


def test_parallel_filters_joined_before_the_spatial_step():
    def body(emit, x, weights):
        wide = emit("Unsqueeze", x, [1])
        banks = [emit("Conv", wide, weights(2, 1, 1, k), pads=[0, k // 2, 0, k // 2]) for k in (3, 5, 9)]
        h = emit("Conv", emit("Concat", *banks, axis=1), weights(6, 1, N_CHANS, 1), group=6)
        return head(emit, emit("Elu", h), weights, 6, axes=(2, 3))

    _, report, parity = fuse_with_report([network(body)])
    assert outcome(report, "linear-prefix").status == "applied"
    assert parity.passed


def test_branches_are_mixed_and_activated_together():
    def body(emit, x, weights):
        wide = emit("Unsqueeze", x, [1])
        parts = []
        for k in (3, 5, 9):
            h = emit("Conv", wide, weights(2, 1, 1, k), pads=[0, k // 2, 0, k // 2])
            parts.append(emit("Elu", emit("Conv", h, weights(2, 1, N_CHANS, 1), group=2)))
        return head(emit, emit("Concat", *parts, axis=1), weights, 6, axes=(2, 3))

    fused, report, parity = fuse_with_report([network(body)])
    assert outcome(report, "siblings").status == "applied"
    assert sum(node.op_type == "Elu" for node in fused.model.graph) == 1
    assert parity.passed


def filter_bank(emit, x, rng, n):
    """n filters by their gain at every frequency: (batch, n, channels, times)."""
    spectrum = emit("DFT", emit("Unsqueeze", x, [3]), np.array(N_TIMES), np.array(2), onesided=1)
    bands = []
    for _ in range(n):
        gain = rng.uniform(0, 1, (1, 1, N_TIMES // 2 + 1, 1)).astype(np.float32)
        back = emit("DFT", emit("Mul", spectrum, gain), np.array(N_TIMES), np.array(2), inverse=1, onesided=1)
        bands.append(emit("Unsqueeze", emit("Squeeze", back, [3]), [1]))
    return emit("Concat", *bands, axis=1)


@fourier
def test_filter_bank_by_fourier_transform_is_one_matrix():
    rng = np.random.default_rng(0)

    def body(emit, x, weights):
        h = emit("Conv", filter_bank(emit, x, rng, 2), weights(4, 1, N_CHANS, 1), group=2)
        return head(emit, emit("Elu", h), weights, 4, axes=(2, 3))

    fused, report, parity = fuse_with_report([network(body)])
    assert outcome(report, "linear-prefix").status == "applied"
    assert not [node for node in fused.model.graph if node.op_type == "DFT"]
    assert parity.passed


@fourier
@pytest.mark.parametrize("group", [1, 2])
def test_long_filters_before_a_dense_spatial_step_are_one_product(group):
    rng = np.random.default_rng(0)

    def body(emit, x, weights):
        h = emit("Conv", filter_bank(emit, x, rng, 4), weights(6, 4 // group, N_CHANS, 1), weights(6), group=group)
        return head(emit, emit("Elu", h), weights, 6, axes=(2, 3))

    fused, report, parity = fuse_with_report([network(body)])
    assert f"{4 // group} filters of an output as one product" in outcome(report, "linear-prefix").reason
    assert not [node for node in fused.model.graph if node.op_type == "DFT"]
    assert parity.passed


def test_a_bank_laid_end_to_end_is_mixed_group_by_group():
    def body(emit, x, weights):
        wide = emit("Unsqueeze", x, [1])
        banks = [emit("Conv", wide, weights(1, 1, 1, k), weights(1), pads=[0, k // 2, 0, k // 2]) for k in (5, 9)]
        rows = emit("Reshape", emit("Concat", *banks, axis=1), [-1, 2 * N_CHANS, N_TIMES])
        h = emit("Elu", emit("Conv", rows, weights(8, N_CHANS, 1), weights(8), group=2))
        return head(emit, h, weights, 8, axes=(2,))

    _, report, parity = fuse_with_report([network(body)])
    assert outcome(report, "linear-prefix").status == "applied"
    assert parity.passed


def test_a_bank_on_one_axis_that_is_mixed_across_filters_is_refused():
    def body(emit, x, weights):
        bank = emit("Conv", emit("Unsqueeze", x, [1]), weights(2, 1, 1, 5), pads=[0, 2, 0, 2])
        rows = emit("Reshape", bank, [-1, 2 * N_CHANS, N_TIMES])
        return head(emit, emit("Elu", emit("Conv", rows, weights(8, 2 * N_CHANS, 1))), weights, 8, axes=(2,))

    _, report, parity = fuse_with_report([network(body)])
    assert outcome(report, "linear-prefix").status == "refused"
    assert parity.passed


def test_a_nonlinearity_before_the_spatial_step_is_refused_with_the_node():
    def body(emit, x, weights):
        h = emit("Relu", emit("Conv", emit("Unsqueeze", x, [1]), weights(2, 1, 1, 5)))
        return head(emit, emit("Conv", h, weights(4, 1, N_CHANS, 1), group=2), weights, 4, axes=(2, 3))

    result = prefix.run(clean(network(body).clone_model()))
    assert result.changed == 0
    assert any(
        "non-linearity comes before the spatial step" in one.reason and one.node.startswith("Conv ")
        for one in result.refused
    )


@pytest.mark.parametrize("shared", [True, False])
def test_what_is_computed_in_any_case_is_no_saving(shared):
    """L (L x) collapsed is one product; where L x is read elsewhere, two take one product's place."""

    def body(emit, x, weights):
        laplacian = weights(N_CHANS, N_CHANS)
        once = emit("MatMul", laplacian, x)
        twice = emit("Relu", emit("MatMul", laplacian, once))
        other = emit("Relu", emit("MatMul", once if shared else x, weights(N_TIMES, N_TIMES)))
        return head(emit, emit("Add", twice, other), weights, N_CHANS, axes=(2,))

    graph = network(body)
    model = clean(graph.clone_model())
    result = prefix.run(model)
    model = clean(model)
    require_same(graph, model)
    assert bool(result.changed) != shared
    assert count_macs(model) == count_macs(graph.model) - (not shared) * N_CHANS**2 * N_TIMES
    if shared:
        assert any("that nothing else needs" in one.reason for one in result.refused)


def test_space_and_time_at_once_is_left_alone():
    def body(emit, x, weights):
        return head(emit, emit("Relu", emit("Conv", x, weights(4, N_CHANS, 7))), weights, 4, axes=(2,))

    result = prefix.run(clean(network(body).clone_model()))
    assert result.changed == 0
    assert any("already merged" in one.reason and one.node.startswith("Conv ") for one in result.refused)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_analyse_finds_a_strided_filter(stride):
    n_in, kernel = 60, np.array([1.0, -2.0, 0.5])
    n_out = (n_in + 2 - 3) // stride + 1
    operator = np.zeros((1, n_out, n_in))
    for t in range(n_out):
        for k, value in enumerate(kernel):
            if 0 <= stride * t + k - 1 < n_in:
                operator[0, t, stride * t + k - 1] = value
    found = analyse(operator)
    assert found is not None
    assert (found.conv.stride, found.conv.left, found.corners) == (stride, 1, ())
    np.testing.assert_array_equal(found.conv.weight[0, 0], kernel)


def test_analysing_takes_little_memory_beside_the_operator():
    noise = np.random.default_rng(0)
    kernels = noise.standard_normal((64, 21))
    at = np.arange(300) - np.arange(300)[:, None] + 10
    operator = np.where((at >= 0) & (at < 21), kernels[:, np.clip(at, 0, 20)], 0.0)
    operator[:, :5, :30] += noise.standard_normal((64, 5, 30))  # a corner
    tracemalloc.start()
    found = analyse(operator)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found is not None
    assert len(found.corners) == 1
    assert most < operator.nbytes / 4


def test_analyse_refuses_what_is_no_filter():
    assert analyse(np.random.default_rng(0).standard_normal((1, 20, 20))) is None


def filters_and_pool(emit, x, weights):
    """Filters of 3 samples, a spatial step, means of 12 samples at every ninth: the last 8 samples are not read."""
    h = emit("Conv", emit("Unsqueeze", x, [1]), weights(3, 1, 1, 3), weights(3))
    h = emit("AveragePool", emit("Conv", h, weights(6, 1, N_CHANS, 1), group=3), kernel_shape=[1, 12], strides=[1, 9])
    return head(emit, emit("Relu", h), weights, 6, axes=(2, 3))


def convolution_and_pool(emit, x, weights):
    """The same behind a convolution of space and time."""
    h = emit("Relu", emit("Conv", emit("Unsqueeze", x, [2]), weights(5, N_CHANS, 1, 3)))
    return head(emit, emit("AveragePool", h, kernel_shape=[1, 12], strides=[1, 9]), weights, 5, axes=(2, 3))


@pytest.mark.parametrize(
    ("body", "name"), [(filters_and_pool, "linear-prefix"), (convolution_and_pool, "pool-as-matrix")]
)
def test_a_product_with_a_matrix_reads_no_sample_that_the_network_does_not(body, name):
    graph = network(body)
    fused, report, _ = fuse_with_report([graph])
    assert next(o.status for o in report.outcomes if o.name == name) == "applied"
    x = np.random.default_rng(0).standard_normal((2, N_CHANS, N_TIMES)).astype(np.float32)
    x[0, :, -8:], x[1, 2, -1] = np.inf, np.nan
    got, expected = OnnxruntimeRunner(fused).infer(x), OnnxruntimeRunner(graph).infer(x)
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(got, expected, rtol=1e-5)
