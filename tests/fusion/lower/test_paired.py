"""Two filters one sample apart: any offsets, the numbers kept, three filters for four, and left alone otherwise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.ir.conv import Conv1d
from rtserve.fusion.lower.onnxruntime import fast_fir, paired
from rtserve.graphs.macs import count_macs
from tests.fusion.networks import head, laid_out, network, require_same

C = 16


@pytest.fixture
def always(monkeypatch):
    """Let the rewrite be taken however small the convolutions."""
    monkeypatch.setattr(paired, "_pays", lambda first, second: True)


def twice(taps, first, second, *, n_chans=C, cut=None, stride=2):
    """The same filter twice with other paddings; its outputs joined along time, the second perhaps cut."""

    def body(emit, x, weights):
        kernel = weights(C, n_chans, taps)
        offset = weights(C)
        a = emit("Conv", x, kernel, offset, strides=[stride], pads=list(first))
        b = emit("Conv", x, kernel, offset, strides=[stride], pads=list(second))
        b = b if cut is None else emit.slice(b, 2, *cut)
        return head(emit, emit("Relu", emit("Concat", a, b, axis=2)), weights, C, axes=(2,))

    return body


def rewritten(graph):
    """Lay the graph out, run the pass, check the numbers in float64; return the result, and the model before and after."""
    before = laid_out(graph)
    model = clean(before.clone())
    result = paired.run(model)
    model = clean(model)
    require_same(graph, model)
    return result, before, model


@settings(max_examples=25, deadline=None)
@given(
    taps=st.integers(2, 9),
    left=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    right=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    n_times=st.integers(30, 43),
    n_chans=st.sampled_from([C, C + 1]),
    cut=st.sampled_from([None, (1, 9), (0, 4)]),
    seed=st.integers(0, 3),
)
def test_any_two_offsets(taps, left, right, n_times, n_chans, cut, seed):
    body = twice(taps, (left[0], right[0]), (left[1], right[1]), n_chans=n_chans, cut=cut)
    graph = network(body, n_chans=n_chans, n_times=n_times, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paired, "_pays", lambda first, second: True)
        result, _, model = rewritten(graph)
    apart = (left[0] - left[1]) % 2 == 1
    assert result.changed == apart
    dilated = [n for n in model.graph if n.op_type == "Conv" and (n.attributes.get_ints("dilations") or [1])[-1] == 2]
    assert len(dilated) == apart  # the term that both outputs read


def test_three_filters_of_half_the_taps_for_four(always):
    graph = network(twice(8, (4, 4), (3, 5)), n_chans=C, n_times=64)
    result, before, after = rewritten(graph)
    assert result.did == "1 pairs of filters one sample apart"
    dense = C * C * 8 * 33
    saved = count_macs(before) - count_macs(after)
    assert 0.4 * dense < saved < 0.5 * dense  # a quarter of two filters, less two depthwise differences


def test_channels_left_over_are_added_along_the_whole(always):
    graph = network(twice(7, (3, 2), (0, 0), n_chans=C + 1, cut=(1, 9)), n_chans=C + 1, n_times=40)
    result, _, after = rewritten(graph)
    assert result.changed
    assert [n.op_type for n in after.graph].count("Slice") == 1  # the cut alone; the sum is not cut before it


@pytest.mark.parametrize(
    ("stride", "first", "second"), [(2, (3, 3), (1, 1)), (1, (3, 3), (2, 2)), (3, (3, 3), (2, 2))],
    ids=["even", "stride 1", "stride 3"],
)  # fmt: skip
def test_other_filters_are_left_alone(always, stride, first, second):
    result, _, _ = rewritten(network(twice(5, first, second, stride=stride), n_chans=C, n_times=40))
    assert not result.changed


def test_small_filters_are_left_alone():
    result, _, _ = rewritten(network(twice(5, (2, 2), (1, 1)), n_chans=C, n_times=40))
    assert not result.changed


def strided(emit, x, weights):
    h = emit("Relu", emit("Conv", x, weights(C, C, 7), weights(C), strides=[2], pads=[3, 3]))
    h = emit("Relu", emit("Conv", h, weights(C, C, 5), weights(C), strides=[2], pads=[2, 2]))
    return head(emit, h, weights, C, axes=(2,))


@pytest.mark.parametrize("views", ["identity,roll:+3,roll:-3,scale:1.02", "identity,crop-shift:+5", "roll:+1,roll:+2"])
@pytest.mark.parametrize("deeper", [False, True], ids=["as it is", "and fast FIR"])
def test_views_moved_by_an_odd_number(always, monkeypatch, views, deeper):
    if deeper:
        monkeypatch.setattr(fast_fir, "pays", lambda conv, windows=1, *, in_turn=False: conv.taps > 1 and not in_turn)
    graphs = [network(strided, n_chans=C, n_times=60, seed=seed) for seed in range(2)]
    _, report, parity = fuse_with_report(graphs, views=views)
    assert parity.passed
    assert next(o for o in report.outcomes if o.name == "paired").status == "applied"
    if deeper:
        assert next(o for o in report.outcomes if o.name == "fast-fir").status == "applied"


def test_torch_gets_none_of_it(always):
    _, report, parity = fuse_with_report(
        [network(strided, n_chans=C, n_times=60)], views="identity,roll:+3", engine="torch"
    )
    assert parity.passed
    assert not {"paired", "channel-step", "fast-fir"} & {o.name for o in report.outcomes}


def test_a_pair_that_reads_the_window_must_save_more_than_its_plane(monkeypatch):
    weight = np.zeros((32, 128, 7), np.float32)
    one = Conv1d(weight=weight, stride=2, left=3, right=2, n_in=200)
    two = (one, replace(one, left=0, right=5))
    monkeypatch.setattr(paired, "splits_window", lambda conv: False)
    monkeypatch.setattr(paired, "COSTS", replace(paired.COSTS, window_us=0.0))
    assert paired._pays(*two)
    monkeypatch.setattr(paired, "splits_window", lambda conv: True)
    monkeypatch.setattr(paired, "COSTS", replace(paired.COSTS, window_us=100.0))
    assert not paired._pays(*two)
