"""Views at once while a core's cache holds them, branches apart where it does not: as the engine's table says."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest

from rtserve.fusion.engines import ENGINES
from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.run import pipeline
from rtserve.fusion.run.spilled import spilled, us_of
from rtserve.graphs.macs import count_macs
from tests.fusion.networks import conv_net, head, network

COSTS = ENGINES["onnxruntime"].costs
VIEWS = "identity,roll:+3,roll:-3,scale:1.02,scale:0.98,sign-flip,time-reverse"


def wide(emit, x, weights):
    """Attention over depth in front of long depthwise filters, as LMDA-Net: nothing that views could share."""
    h = emit("Einsum", emit("Unsqueeze", x, [1]), weights(9, 1, 22), equation="bdcw,hdc->bhcw")
    h = emit("Conv", h, weights(24, 9, 1, 1), weights(24))
    h = emit("Gelu", emit("Conv", h, weights(24, 1, 1, 75), weights(24), group=24))
    return head(emit, h, weights, 24, axes=(2, 3))


def fused(body, views, *, members=1, **shape):
    graphs = [network(body, seed=seed, **shape) for seed in range(members)]
    graph, report, _ = fuse_with_report(graphs, views=views, parity=False)
    return graphs, graph, {one.name: one for one in report.outcomes if one.subject == "plan"}


def table(monkeypatch, **costs):
    """Give the engine another table."""
    engine = ENGINES["onnxruntime"]
    monkeypatch.setitem(ENGINES, "onnxruntime", replace(engine, costs=replace(COSTS, **costs)))


def test_what_leaves_the_cache_is_computed_branch_by_branch():
    graphs, graph, outcomes = fused(wide, VIEWS, members=2, n_chans=22, n_times=256)
    assert outcomes["apart"].status == "applied"
    plain, _, _ = fuse_with_report(graphs, views=VIEWS, parity=False, optimize=False)
    assert count_macs(graph.model) == count_macs(plain.model)
    assert spilled(graph.model, COSTS) == 0
    assert "apart" in graph.provenance.details["passes"]


@pytest.mark.parametrize(("body", "shape"), [(wide, {"n_chans": 22, "n_times": 256}), (conv_net, {})])
def test_what_stays_in_it_is_computed_at_once(body, shape):
    _, graph, outcomes = fused(body, "identity,time-reverse", **shape)
    assert "apart" not in outcomes
    assert spilled(graph.model, COSTS) == 0


@pytest.mark.parametrize(("spilled_us", "status"), [(1.0, "applied"), (0.0, "refused")])
def test_it_is_the_table_that_decides(monkeypatch, spilled_us, status):
    table(monkeypatch, cached_numbers=900, spilled_us=spilled_us)
    graphs = [network(conv_net, seed=seed) for seed in range(2)]
    _, report, parity = fuse_with_report(graphs, views="identity,time-reverse", merge="median")
    (outcome,) = [one for one in report.outcomes if one.name == "apart"]
    assert (outcome.status, "would leave the cache" in outcome.reason) == (status, True)
    assert parity.passed


def test_branches_apart_that_are_wrong_are_undone(monkeypatch):
    table(monkeypatch, cached_numbers=900, spilled_us=1.0)
    right = pipeline._apart

    def wrong(task, members):
        model, macs = right(task, members)
        weight = next(v for v in model.graph.initializers.values() if v.const_value.numpy().ndim == 3)
        weight.const_value = ir.tensor(weight.const_value.numpy() * np.float32(1.1), name=weight.name)
        return model, macs

    monkeypatch.setattr(pipeline, "_apart", wrong)
    graphs = [network(conv_net, seed=seed) for seed in range(2)]
    _, report, parity = fuse_with_report(graphs, views="identity,time-reverse")
    (outcome,) = [one for one in report.outcomes if one.name == "apart"]
    assert (outcome.status, "the numbers changed" in outcome.reason) == ("undone", True)
    assert parity.passed


def test_an_estimate_is_nodes_multiply_adds_and_what_leaves():
    model = network(conv_net).model
    small = replace(COSTS, cached_numbers=0)
    rest = us_of(model, 50_000, replace(COSTS, cached_numbers=10**9))
    assert rest == pytest.approx(model.graph.num_nodes() * COSTS.node_us + 50_000 / COSTS.macs_per_us)
    assert us_of(model, 50_000, small) == pytest.approx(rest + spilled(model, small) * COSTS.spilled_us)
