"""The operator of a long window is the one that an impulse at every sample would show, or it is refused."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.affine import operator, prefix
from rtserve.fusion.affine.operator import operator_of, probes
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.ir.passes import Refused
from tests.fusion.networks import N_CHANS, head, network, require_same

N_TIMES = 400


@pytest.fixture(autouse=True, scope="module")
def _long():
    """Windows of 400 samples are long, and impulses lie 8, 16 or 32 apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operator, "LONG", 64)
        patch.setattr(operator, "APART", (8, 16, 32))
        yield


def matrix(taps, stride, left, right, corner=0, seed=0):
    """Return P (2, n_out, N_TIMES) of two filters, with other numbers in the first and the last rows."""
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((2, taps))
    n_out = (N_TIMES + left + right - taps) // stride + 1
    found = np.zeros((2, n_out, N_TIMES))
    for t in range(n_out):
        for k in range(taps):
            if 0 <= (at := stride * t + k - left) < N_TIMES:
                found[:, t, at] = kernel[:, k]
    for rows in (slice(0, corner), slice(n_out - corner, n_out)):
        found[:, rows] *= rng.uniform(1, 2, (2, corner, 1))
    return found


def answers(found, apart=32):
    return np.einsum("ptf,fnt->pfn", np.repeat(probes(N_TIMES, apart)[..., None], len(found), -1), found)


@settings(max_examples=25, deadline=None)
@given(
    taps=st.integers(1, 30),
    stride=st.integers(1, 3),
    left=st.integers(-20, 40),
    right=st.integers(-20, 20),
    corner=st.integers(0, 4),
    seed=st.integers(0, 9),
)
def test_it_is_the_filter_with_its_corners(taps, stride, left, right, corner, seed):
    whole = matrix(taps, stride, left, right, corner, seed)
    found = operator_of(answers(whole), N_TIMES)
    assert (found.n_out, found.n_in) == whole.shape[1:]
    shape = found.filter
    assert shape is not None
    read = np.arange(N_TIMES) if shape.read is None else shape.read
    written = np.zeros_like(whole[..., read])
    offset = np.arange(len(read)) - shape.conv.stride * np.arange(found.n_out)[:, None] + shape.conv.left
    inside = (offset >= 0) & (offset < shape.conv.taps)
    written += np.where(inside, shape.conv.weight[:, 0][:, np.clip(offset, 0, shape.conv.taps - 1)], 0.0)
    for part in shape.corners:
        written[:, part.rows, part.columns] += part.matrix.transpose(0, 2, 1)
    np.testing.assert_allclose(written, whole[..., read], atol=1e-12)
    assert not np.delete(whole, read, axis=2).any()
    assert shape.conv.n_in == len(read)


def test_what_is_kept_does_not_grow_with_the_window():
    found = operator_of(answers(matrix(5, 1, 2, 2)), N_TIMES)
    assert found.cut
    assert max(found.array.shape) < 100


@pytest.mark.parametrize(("taps", "apart"), [(3, 8), (13, 16), (25, 32)])
def test_impulses_lie_as_close_as_the_filter_allows(monkeypatch, taps, apart):
    tried = []
    trace = prefix.trace
    monkeypatch.setattr(prefix, "trace", lambda model, at: tried.append(at) or trace(model, at))

    def body(emit, x, weights):
        h = emit("Conv", emit("Unsqueeze", x, [1]), weights(2, 1, 1, taps), pads=[0, taps // 2, 0, taps // 2])
        return head(emit, emit("Elu", emit("Conv", h, weights(4, 1, N_CHANS, 1), group=2)), weights, 4, axes=(2, 3))

    assert prefix.run(clean(network(body, n_times=N_TIMES).clone_model())).changed
    assert tried == [at for at in (8, 16, 32) if at <= apart]


@pytest.mark.parametrize("apart", [8, 16])
def test_impulses_too_close_are_told_by_noise(apart):
    with pytest.raises(Refused, match=f"reads {apart} samples or more"):
        operator_of(answers(matrix(20, 1, 10, 10), apart), N_TIMES)


NONE = {
    "too many samples": lambda: matrix(40, 1, 20, 20),
    "no filter": lambda: np.random.default_rng(0).standard_normal((2, 60, N_TIMES)),
    "backwards": lambda: matrix(5, 1, 2, 2)[:, ::-1],
    "another place in every row": lambda: np.eye(N_TIMES)[None, np.random.default_rng(0).permutation(N_TIMES)],
    "one row that differs": lambda: matrix(5, 1, 2, 2) * (1 + (np.arange(N_TIMES) == 150))[:, None],
    "nothing": lambda: np.zeros((1, 100, N_TIMES)),
}


@pytest.mark.parametrize("made", NONE.values(), ids=NONE)
def test_what_is_no_short_filter_is_refused(made):
    try:
        found = operator_of(answers(made()), N_TIMES)
        shape = found.filter
    except Refused:
        return
    assert shape is None
    np.testing.assert_allclose(found.array, made(), atol=1e-12)  # what is no filter is there whole


@settings(max_examples=10, deadline=None)
@given(
    taps=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    pads=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    pool=st.sampled_from([0, 2, 4]),
    centred=st.booleans(),
    seed=st.integers(0, 9),
)
def test_long_windows_are_collapsed_as_short_ones(taps, pads, pool, centred, seed):
    def body(emit, x, weights):
        x = emit("Sub", x, emit("ReduceMean", x, [1], keepdims=1)) if centred else x
        h = emit(
            "Conv", emit("Unsqueeze", x, [1]), weights(2, 1, 1, taps[0]), weights(2), pads=[0, pads[0], 0, pads[1]]
        )
        h = emit("Conv", h, weights(2, 1, 1, taps[1]), pads=[0, pads[1], 0, pads[0]], group=2)
        h = emit("Conv", h, weights(4, 1, N_CHANS, 1), weights(4), group=2)
        h = emit("AveragePool", h, kernel_shape=[1, pool], strides=[1, pool]) if pool else h
        return head(emit, emit("Elu", h), weights, 4, axes=(2, 3))

    graph = network(body, n_times=N_TIMES, seed=seed)
    model = clean(graph.clone_model())
    result = prefix.run(model)
    assert result.changed or "multiply-adds now" in result.refused[0].reason, result.refused
    require_same(graph, clean(model), tolerance=2e-5)


@pytest.mark.parametrize("front", ["nothing", "turned", "filtered"])
def test_a_long_window_is_held_about_once(monkeypatch, front):
    """What is followed of 8 filters is held, not what is in front of them, nor a copy for every spatial filter."""
    monkeypatch.setattr(operator, "APART", (64,))
    n_times, filters = 8000, 8

    def body(emit, x, weights):
        x = emit.slice(x, 2, -1, -n_times - 1, -1) if front == "turned" else x
        h = emit("Unsqueeze", x, [1])
        h = emit("Conv", h, weights(1, 1, 1, 9), pads=[0, 4, 0, 4]) if front == "filtered" else h
        h = emit("Conv", h, weights(filters, 1, 1, 31), pads=[0, 15, 0, 15])
        h = emit("Conv", h, weights(4 * filters, 1, N_CHANS, 1), group=filters)
        return head(emit, emit("Elu", h), weights, 4 * filters, axes=(2, 3))

    model = clean(network(body, n_times=n_times).clone_model())
    tracemalloc.start()
    try:
        result = prefix.run(model)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert bool(result.changed) == (front != "turned"), result
    assert peak < 2.2 * (64 + operator.NOISES) * filters * n_times * 8


def test_filters_count_once_however_many_spatial_ones_read_them(monkeypatch):
    monkeypatch.setattr(operator, "LARGEST", 50_000)

    def body(emit, x, weights):
        h = emit("Conv", emit("Unsqueeze", x, [1]), weights(8, 1, 1, 5), pads=[0, 2, 0, 2])
        h = emit("Elu", emit("Conv", h, weights(16, 1, N_CHANS, 1), group=8))
        return head(emit, h, weights, 16, axes=(2, 3))

    graph = network(body, n_times=N_TIMES)
    model = clean(graph.clone_model())
    result = prefix.run(model)
    assert "5 taps" in result.did, result.refused
    require_same(graph, clean(model), tolerance=2e-5)


def test_a_window_that_is_weighed_is_said_to_be_no_filter(monkeypatch):
    monkeypatch.setattr(operator, "LARGEST", 200_000)

    def body(emit, x, weights):
        h = emit("Unsqueeze", emit("Mul", x, np.hanning(N_TIMES + 2)[1:-1].astype(np.float32)), [1])
        h = emit("Conv", h, weights(2, 1, 1, 5), pads=[0, 2, 0, 2])
        return head(emit, emit("Elu", emit("Conv", h, weights(4, 1, N_CHANS, 1), group=2)), weights, 4, axes=(2, 3))

    result = prefix.run(clean(network(body, n_times=N_TIMES).clone_model()))
    assert any("no filter, on a window too long for a product" in one.reason for one in result.refused), result.refused
