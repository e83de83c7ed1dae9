"""Views as gathered rows for the torch executor: the plan's numbers at any batch, few nodes, and left alone elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.fuse import fuse_with_report
from rtserve.graphs.runners import PlanRunner
from tests.fusion.lower.test_views import CROSSED, VIEWS, behind, moving, net, others
from tests.fusion.networks import N_CHANS, N_TIMES, fused_with, kinds, network


def fused(body, views=VIEWS, **options):
    return fused_with("gathered", body, views, engine="torch", **options)


@settings(max_examples=15, deadline=None)
@given(
    names=st.lists(st.one_of(moving, others), min_size=2, max_size=5, unique=True),
    taps=st.integers(1, 8),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    members=st.integers(1, 2),
    seed=st.integers(0, 3),
)
def test_any_views(names, taps, stride, pads, members, seed):
    graphs = [network(net(taps=taps, stride=stride, pads=pads), seed=seed + k) for k in range(members)]
    _, report, parity = fuse_with_report(graphs, views=names, force=True, engine="torch")
    assert parity.passed
    assert report.laid_out.passed
    outcome = next(o for o in report.outcomes if o.name == "gathered")
    assert outcome.status in ("applied", "refused", "nothing"), outcome.reason


def test_a_batch_is_its_windows_and_what_is_not_finite_stays_so():
    graph, outcome = fused(net(channels=32), members=3)
    assert outcome.status == "applied", outcome.reason
    runner = PlanRunner(graph)
    x = np.random.default_rng(0).standard_normal((64, N_CHANS, N_TIMES)).astype(np.float32)
    exact = PlanRunner(graph, double=True).infer(x)
    for batch in (0, 1, 2, 5, 64):
        np.testing.assert_allclose(runner.infer(x[:batch]), exact[:batch], rtol=1e-5)
    x[1, 0, 0] = np.nan
    assert np.isfinite(runner.infer(x[:3])).ravel().tolist() == [True, False, True]


def test_every_further_view_costs_no_node():
    few, first = fused(net(), "identity,roll:+3,scale:0.5")
    many, second = fused(net(), "identity,roll:+3,roll:-3,roll:+5,crop-shift:-9,scale:1.5,scale:0.98")
    assert (first.status, second.status) == ("applied", "applied")
    assert kinds(many) == kinds(few)
    assert kinds(many).count("Gather") == 2
    assert not {"Concat", "Slice", "Split"} & set(kinds(many))


@pytest.mark.parametrize(
    ("body", "views", "why"),
    [
        (net(), "identity,scale:1.1", "as they are"),
        (net(activation="", twice=True), "identity,roll:+3", "no convolution"),
    ],
)
def test_others_are_left_alone(body, views, why):
    _, outcome = fused(body, views)
    assert outcome.status == "refused"
    assert why in outcome.reason


@pytest.mark.parametrize("between", CROSSED.values(), ids=CROSSED)
def test_no_view_is_gathered_where_a_network_looks_across_windows(between):
    _, report, parity = fuse_with_report([network(behind(between))], views="identity,roll:+3,roll:-3", engine="torch")
    assert parity.passed
    assert not {"gathered"} & {o.name for o in report.outcomes if o.status == "applied"}
