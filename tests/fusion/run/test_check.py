"""What the check asks: few windows, each once, and none less than a user could notice."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.passes import Pass, PassResult
from rtserve.fusion.join import join, prepare_member
from rtserve.fusion.plan import make_plan
from rtserve.fusion.run import check, pipeline
from rtserve.fusion.run.check import Reference
from rtserve.graphs import runners
from rtserve.graphs.macs import count_macs
from rtserve.graphs.runners import PlanRunner
from tests.fusion.networks import conv_net, network


def windows_of(reference):
    return [window.tobytes() for _, x in reference.probes for window in x]


@pytest.mark.parametrize(("share", "once", "asked"), [(2.0, 36, 51), (0.5, 23, 27), (0.05, 13, 19)])
def test_probes_share_their_windows(monkeypatch, share, once, asked):
    graph = network(conv_net)
    monkeypatch.setattr(check, "HEAVY", share * count_macs(graph.model))
    reference = Reference(graph)
    windows = windows_of(reference)
    assert (len(set(windows)), len(windows)) == (once, asked)
    assert {1, 2, 5} <= {len(x) for _, x in reference.probes}
    names = " ".join(name for name, _ in reference.probes)
    assert all(f" x {scale:g}," in names for scale in (1e-6, 1e-3, 1.0, 1e2))


def test_what_is_beside_a_broken_window_is_asked_anyway():
    probes = dict(Reference(network(conv_net)).probes)
    nan, inf = probes.pop("a NaN channel"), probes.pop("an infinite sample")
    known = {window.tobytes() for x in probes.values() for window in x}
    for x in (nan, inf):
        broken = [not np.isfinite(window).all() for window in x]
        assert sum(broken) == 1
        assert {window.tobytes() for window, odd in zip(x, broken, strict=True) if not odd} <= known
    assert not np.isfinite(nan[0]).all()
    assert not np.isfinite(inf[1]).all()  # one in front of others, one behind another


def test_windows_that_answer_alone_are_asked_once(monkeypatch):
    asked, infer = [], PlanRunner.infer
    monkeypatch.setattr(PlanRunner, "infer", lambda self, x: (asked.append(len(x)), infer(self, x))[1])
    x = np.random.default_rng(0).standard_normal((5, 6, 40)).astype("f4")
    inputs, answers = [x, x[[4, 0]], x[1:2]], {}
    for alone in (True, None):
        asked.clear()
        answers[alone] = PlanRunner(network(conv_net), double=True, alone=alone).infer_all(inputs)
        assert sum(asked) == (5 if alone else 8)
    for one, other in zip(*answers.values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_as_many_windows_at_once_as_the_cache_holds(monkeypatch):
    graph, asked, infer = network(conv_net), [], PlanRunner.infer
    monkeypatch.setattr(PlanRunner, "infer", lambda self, x: (asked.append(len(x)), infer(self, x))[1])
    plan = make_plan([graph.digest], [f"roll:{k:+d}" for k in range(20)], "mean", None, "")
    plan = replace(plan, views=tuple(v.bind(graph.input_spec) for v in plan.views))
    members = {graph.digest: prepare_member(graph, "member 1")}
    joined = replace(graph, model=join(members, plan, graph.input_spec, graph.output_spec))
    monkeypatch.setattr(runners, "CACHED", 20 * 6 * 40 * 3)  # 20 views, of three windows
    x = [np.random.default_rng(0).standard_normal((7, 6, 40)).astype("f4")]
    PlanRunner(graph, double=True, alone=True).infer_all(x)
    PlanRunner(joined, double=True, alone=True).infer_all(x)
    assert asked == [7, *[2] * 3, 1]


@pytest.mark.parametrize("members", [1, 2])
def test_a_wrong_step_on_a_member_is_undone(monkeypatch, members):
    def wrong(model):
        next(node for node in model.graph if node.op_type == "Relu").op_type = "Sigmoid"
        return PassResult(changed=1, did="a mistake")

    real = pipeline.passes_for
    mistake = Pass(name="wrong", run=wrong, scope="member", why="")
    monkeypatch.setattr(pipeline, "passes_for", lambda e, scope: (*real(e, scope), *[mistake] * (scope == "member")))
    graphs = [network(conv_net, seed=seed) for seed in range(members)]
    _, report, parity = fuse_with_report(graphs, views="identity,roll:+3")
    found = [one for one in report.outcomes if one.name == "wrong"]
    assert [one.status for one in found] == ["undone"] * members
    assert parity.passed
