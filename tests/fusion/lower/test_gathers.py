"""Views by one Gather, for a CUDA device and for the torch executor: what holds of either."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.fuse import fuse_with_report
from tests.fusion.lower.test_views import CROSSED, behind, moving, net, others
from tests.fusion.networks import fused_with, kinds, network

pytestmark = pytest.mark.parametrize(("name", "engine"), [("seams", "cuda"), ("gathered", "torch")])


@settings(max_examples=15, deadline=None)
@given(
    names=st.lists(st.one_of(moving, others), min_size=2, max_size=5, unique=True),
    taps=st.integers(1, 8),
    stride=st.integers(1, 3),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    members=st.integers(1, 2),
    seed=st.integers(0, 3),
)
def test_any_views(name, engine, names, taps, stride, pads, members, seed):
    graphs = [network(net(taps=taps, stride=stride, pads=pads), seed=seed + k) for k in range(members)]
    _, report, parity = fuse_with_report(graphs, views=names, force=True, engine=engine)
    assert parity.passed
    assert engine == "cuda" or report.laid_out.passed  # a device for it may not be here
    outcome = next(o for o in report.outcomes if o.name == name)
    assert outcome.status in ("applied", "refused", "nothing"), outcome.reason


def test_every_further_view_costs_no_node(name, engine):
    few, first = fused_with(name, net(), "identity,roll:+3,scale:0.5", engine=engine)
    views = "identity,roll:+3,roll:-3,roll:+5,crop-shift:-9,scale:1.5,scale:0.98"
    many, second = fused_with(name, net(), views, engine=engine)
    assert (first.status, second.status) == ("applied", "applied")
    assert kinds(many) == kinds(few)
    assert kinds(many).count("Gather") == 2
    assert not {"Concat", "Slice", "Split"} & set(kinds(many))


@pytest.mark.parametrize("between", CROSSED.values(), ids=CROSSED)
def test_no_view_is_gathered_where_a_network_looks_across_windows(name, engine, between):
    _, report, parity = fuse_with_report([network(behind(between))], views="identity,roll:+3,roll:-3", engine=engine)
    assert parity.passed
    assert name not in {o.name for o in report.outcomes if o.status == "applied"}
