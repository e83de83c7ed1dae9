"""Views share layers behind the first: every window is computed, few are computed twice, and the numbers stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.conv import ZERO, Conv1d
from rtserve.fusion.passes import deep_sharing, fast_fir, height, row_gather
from rtserve.fusion.passes.deep_sharing import pack
from tests.fusion.passes.networks import N_CHANS, head, network

C = 16
ROLLS = "identity,roll:+4,roll:-4,roll:+8,roll:-8,roll:+12,scale:1.1,roll:+16"


def geometry(n_in, taps, stride, dilation, left, right):
    weight = np.zeros((1, 1, taps))
    return Conv1d(weight=weight, stride=stride, dilation=dilation, left=left, right=right, n_in=n_in)


def windows(rows, conv):
    """Return the rows that every output reads, zeros for the padding, (..., n_out, taps)."""
    at = conv.stride * np.arange(conv.n_out)[:, None] + conv.dilation * np.arange(conv.taps) - conv.left
    inside = (at >= 0) & (at < conv.n_in)
    return np.where(inside, rows[..., np.clip(at, 0, conv.n_in - 1)], ZERO)


@st.composite
def cases(draw):
    """Views that are shifts of few sequences with edges of their own, and a convolution."""
    n_in = draw(st.integers(12, 60))
    taps, dilation = draw(st.integers(1, 5)), draw(st.integers(1, 2))
    pads = st.integers(0, 3)
    conv = geometry(n_in, taps, draw(st.integers(1, 3)), dilation, draw(pads), draw(pads))
    shifts = draw(st.lists(st.integers(-6, 6), min_size=1, max_size=7))
    fresh = 1000
    index = []
    for shift in shifts:
        rows = np.roll(np.arange(n_in), shift) + 100 * draw(st.integers(0, 1))
        edge = draw(st.integers(0, 3))
        rows[:edge] = fresh + np.arange(edge)
        fresh += edge
        index.append(rows)
    return np.stack(index), conv


@settings(max_examples=200, deadline=None)
@given(cases())
def test_every_view_finds_all_its_windows(case):
    index, conv = case
    packing = pack(index, conv)
    assert packing.rows.shape[1] == conv.n_in
    computed = windows(packing.rows, conv).reshape(-1, conv.taps)
    np.testing.assert_array_equal(computed[packing.place], windows(index, conv))
    assert len(packing.rows) <= len(index)


def test_shifts_by_the_stride_are_one_sequence_and_patches():
    index = np.stack([np.roll(np.arange(100), 2 * k) for k in range(10)])
    packing = pack(index, geometry(100, 5, 2, 1, 2, 2))
    assert len(packing.rows) == 3
    odd = np.stack([np.roll(np.arange(100), k) for k in range(10)])
    assert len(pack(odd, geometry(100, 5, 2, 1, 2, 2)).rows) == 4


def test_a_window_longer_than_a_patch_takes_a_whole_view():
    index = np.stack([np.arange(20), np.roll(np.arange(20), 1)])
    assert len(pack(index, geometry(20, 5, 1, 4, 2, 2)).rows) == 2


def net(*, taps=5, stride=2, activation="Relu"):
    def body(emit, x, weights):
        h = emit("Conv", x, weights(C, N_CHANS, 7), weights(C), strides=[2], pads=[3, 3])
        for _ in range(2):
            h = emit(activation, h)
            pads = [taps // 2, taps // 2]
            h = emit("Conv", h, weights(C, C, taps), weights(C), strides=[stride], pads=pads)
        return head(emit, emit("Relu", h), weights, C, axes=(2,))

    return body


def fused(body, views=ROLLS, *, n_times=400, **options):
    members = options.pop("members", 1)
    graphs = [network(body, seed=seed, n_times=n_times) for seed in range(members)]
    graph, report, parity = fuse_with_report(graphs, views=views, **options)
    assert parity.passed
    return graph, report, next(o for o in report.outcomes if o.name == deep_sharing.NAME)


@pytest.fixture
def always(monkeypatch):
    """Let the rewrite be taken however small the convolutions."""
    monkeypatch.setattr(deep_sharing, "pays", lambda conv, index, packing: len(packing.rows) < len(index))


@pytest.mark.parametrize("activation", ["Relu", "Elu", "Sigmoid"])
@pytest.mark.parametrize("stride", [1, 2])
def test_two_layers_behind_the_first(always, activation, stride):
    _, report, outcome = fused(net(activation=activation, stride=stride))
    assert outcome.status == "applied"
    assert outcome.reason.count("computes") == 2
    assert outcome.macs_after < 0.9 * outcome.macs_before


@pytest.mark.parametrize("merge", ["mean", "median"])
def test_members_and_merges(always, merge):
    _, _, outcome = fused(net(), members=2, merge=merge)
    assert outcome.status == "applied"


@settings(max_examples=10, deadline=None)
@given(
    shifts=st.lists(st.integers(-30, 30).filter(bool), min_size=2, max_size=6, unique=True),
    taps=st.sampled_from([1, 3, 4, 5]),
    stride=st.integers(1, 3),
    seed=st.integers(0, 3),
)
@example(shifts=[-3, -11, 20, 9, -1, 1], taps=3, stride=1, seed=0)  # an axis kept the name it had for all views
def test_any_shifts(shifts, taps, stride, seed):
    views = ["identity", *(f"{'roll' if k % 3 else 'crop-shift'}:{k:+d}" for k in shifts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deep_sharing, "pays", lambda conv, index, packing: len(packing.rows) < len(index))
        graph = network(net(taps=taps, stride=stride), seed=seed, n_times=150)
        _, report, parity = fuse_with_report([graph], views=views)
    assert parity.passed
    outcome = next(o for o in report.outcomes if o.name == deep_sharing.NAME)
    assert outcome.status in ("applied", "refused", "nothing"), outcome.reason


def test_small_convolutions_are_left_alone(monkeypatch):
    monkeypatch.setattr(height, "_pays", lambda plan: False)
    _, _, outcome = fused(net(), n_times=200, views="identity,roll:+4,roll:-4")
    assert outcome.status == "refused"
    assert "2 for 3 views" in outcome.reason


def test_views_stay_in_phases_where_fast_fir_is_worth_more(monkeypatch):
    monkeypatch.setattr(fast_fir, "pays", lambda conv, windows=1, in_turn=False: not in_turn and conv.taps >= 3)
    _, report, _ = fused(net(), "identity,roll:+3,roll:-3")
    outcomes = {o.name: o for o in report.outcomes if o.subject == "whole"}
    assert outcomes[row_gather.NAME].status == "refused"
    assert "fast FIR" in outcomes[row_gather.NAME].reason
    assert outcomes[fast_fir.NAME].status == "applied"
