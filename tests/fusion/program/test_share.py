"""Views share layers behind the first: every window is computed, few are computed twice, and the numbers stay."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.conv import ZERO, Conv1d
from rtserve.fusion.lower.onnxruntime import fast_fir, views
from rtserve.fusion.program.share import pack
from tests.fusion.networks import N_CHANS, head, network

C = 16
ROLLS = "identity,roll:+4,roll:-4,roll:+8,roll:-8,roll:+12,scale:1.1,roll:+16"


def geometry(n_in, taps, stride, dilation, left, right):
    weight = np.zeros((1, 1, taps))
    return Conv1d(weight=weight, stride=stride, dilation=dilation, left=left, right=right, n_in=n_in)


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


def require_whole(index, conv):
    """Require every window of every view to be an output of what is computed; return how many outputs that are."""
    packing = pack(index, conv)
    packed = packing.conv
    assert packed.n_in == len(packing.samples)
    np.testing.assert_array_equal(packed.reads(packing.samples)[packing.place], conv.reads(index))
    return packed.n_out


@settings(max_examples=200, deadline=None)
@given(cases())
def test_every_view_finds_all_its_windows(case):
    index, conv = case
    outputs = require_whole(index, conv)
    assert len(np.unique(conv.reads(index).reshape(-1, conv.taps), axis=0)) <= outputs


def test_shifts_by_the_stride_are_one_sequence_and_their_seams():
    index = np.stack([np.roll(np.arange(100), 2 * k) for k in range(10)])
    assert require_whole(index, geometry(100, 5, 2, 1, 2, 2)) < 50 + 9 * 8
    odd = np.stack([np.roll(np.arange(100), k) for k in range(10)])
    assert require_whole(odd, geometry(100, 5, 2, 1, 2, 2)) < 2 * 50 + 8 * 8


def test_signals_that_have_nothing_in_common_are_one_behind_the_other():
    index = np.arange(60).reshape(3, 20)
    assert require_whole(index, geometry(20, 5, 1, 1, 0, 0)) == 3 * 16 + 2 * 4


def test_zeros_between_the_end_of_one_stretch_and_the_beginning_of_another_are_there_once():
    index = np.arange(40).reshape(2, 20)
    packing = pack(index, geometry(20, 3, 1, 1, 1, 1))
    assert list(packing.samples) == [ZERO, *range(20), ZERO, *range(20, 40), ZERO]


def net(*, taps=5, stride=2, activation="Relu"):
    def body(emit, x, weights):
        h = emit("Conv", x, weights(C, N_CHANS, 7), weights(C), strides=[2], pads=[3, 3])
        for _ in range(2):
            h = emit(activation, h)
            pads = [taps // 2, taps // 2]
            h = emit("Conv", h, weights(C, C, taps), weights(C), strides=[stride], pads=pads)
        return head(emit, emit("Relu", h), weights, C, axes=(2,))

    return body


def fused(body, names=ROLLS, *, n_times=400, **options):
    members = options.pop("members", 1)
    graphs = [network(body, seed=seed, n_times=n_times) for seed in range(members)]
    graph, report, parity = fuse_with_report(graphs, views=names, **options)
    assert parity.passed
    return graph, report, next(o for o in report.outcomes if o.name == "views")


@pytest.fixture
def always(monkeypatch):
    """Let the rewrite be taken however small the convolutions."""
    monkeypatch.setattr(views, "_added", lambda packing, layers: 0.0)


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
    names = ["identity", *(f"{'roll' if k % 3 else 'crop-shift'}:{k:+d}" for k in shifts)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(views, "_added", lambda packing, layers: 0.0)
        graph = network(net(taps=taps, stride=stride), seed=seed, n_times=150)
        _, report, parity = fuse_with_report([graph], views=names)
    assert parity.passed
    outcome = next(o for o in report.outcomes if o.name == "views")
    assert outcome.status in ("applied", "refused", "nothing"), outcome.reason


def test_layers_are_chosen_by_what_they_save_together(monkeypatch):
    monkeypatch.setattr(views, "_added", lambda packing, layers: 0.0 if layers == 2 else 1e9)
    _, _, outcome = fused(net())
    assert outcome.reason.count("computes") == 2
    monkeypatch.setattr(views, "_added", lambda packing, layers: 0.0 if layers == 1 else 1e9)
    _, _, outcome = fused(net())
    assert outcome.reason.count("computes") == 1


def test_small_convolutions_are_left_alone():
    _, _, outcome = fused(net(), n_times=200, names="identity,roll:+4,roll:-4")
    assert outcome.status == "applied"
    assert "computes" not in outcome.reason


def test_views_stay_in_phases_where_fast_fir_is_worth_more(monkeypatch):
    monkeypatch.setattr(fast_fir, "pays", lambda conv, windows=1, in_turn=False: not in_turn and conv.taps >= 3)
    _, report, _ = fused(net(), "identity,roll:+3,roll:-3")
    outcomes = {o.name: o for o in report.outcomes if o.subject == "whole"}
    assert outcomes["views"].status == "refused"
    assert "fast FIR" in outcomes["views"].reason
    assert outcomes["fast-fir"].status == "applied"
