"""Views by one Gather for a CUDA device: the plan's numbers for any views and merges, and fewer nodes."""

from __future__ import annotations

import numpy as np
import pytest

from rtserve.fusion.fuse import fuse_with_report
from rtserve.graphs.runners import PlanRunner, make_runner
from tests.fusion.lower.test_views import KEPT, VIEWS, behind, net
from tests.fusion.networks import N_CHANS, N_TIMES, fused_with, network


def fused(body, views=VIEWS, **options):
    return fused_with("seams", body, views, engine="cuda", **options)


def test_the_executor_gives_its_numbers():
    graph, outcome = fused(net(), members=3)
    assert outcome.status == "applied", outcome.reason
    x = np.random.default_rng(0).standard_normal((4, N_CHANS, N_TIMES)).astype(np.float32)
    exact = PlanRunner(graph, double=True).infer(x)
    np.testing.assert_allclose(PlanRunner(graph).infer(x), exact, rtol=1e-5)


def test_a_window_that_several_views_read_is_computed_once():
    graph, outcome = fused(net(), "identity,roll:+2,roll:-2,scale:0.5")
    computed = int(outcome.reason.split()[0])
    assert N_TIMES // 2 < computed < 2 * N_TIMES // 2
    assert f"{computed} outputs computed for {4 * N_TIMES // 2} of 4 views" in outcome.reason
    first = next(node for node in graph.model.graph if node.op_type == "Conv")
    assert first.outputs[0].shape[2] == computed


@pytest.mark.parametrize(
    "views", ["identity,time-reverse,roll:+3", "identity,permute,roll:+3", "identity,drop:1+4,roll:+3"]
)
def test_views_with_other_weights_have_products_of_their_own(views, tmp_path):
    order = tmp_path / "order.txt"
    order.write_text(" ".join(map(str, range(N_CHANS - 1, -1, -1))))
    graph, report, parity = fuse_with_report(
        [network(net())], views=views.replace("permute", f"permute:{order}"), force=True, engine="cuda"
    )
    assert parity.passed
    outcome = next(o for o in report.outcomes if o.name == "seams")
    assert (outcome.status == "applied") == ("drop" not in views), outcome.reason


@pytest.mark.parametrize("merge", ["median", "trimmed:0.2"])
def test_merges_that_need_every_branch(merge):
    _, outcome = fused(net(n_outputs=3), members=2, merge=merge, n_outputs=3)
    assert outcome.status == "applied", outcome.reason


def test_weighted_views(tmp_path):
    path = tmp_path / "w.json"
    path.write_text(repr([0.5, -0.1, 0.2, 0.3, 0.3]))
    _, outcome = fused(net(), merge=f"weighted:{path}")
    assert outcome.status == "applied", outcome.reason


@pytest.mark.parametrize(
    ("body", "views", "why"),
    [(net(), "identity,scale:1.1", "kernels as they are"), (net(taps=1, pads=(0, 0)), "identity,roll:+2", "kernels")],
    ids=["nothing moved", "one tap"],
)
def test_others_are_left_alone(body, views, why):
    _, outcome = fused(body, views)
    assert outcome.status == "refused"
    assert why in outcome.reason


@pytest.mark.parametrize("between", KEPT.values(), ids=KEPT)
def test_views_are_gathered_in_front_of_whatever_keeps_windows_apart(between):
    _, outcome = fused(behind(between), "identity,roll:+3,roll:-3")
    assert outcome.status == "applied", outcome.reason


@pytest.mark.gpu
@pytest.mark.parametrize("views", [VIEWS, "identity,time-reverse,crop-shift:-9", "identity"])
def test_a_cuda_device_gives_the_plans_numbers(views):
    graphs = [network(net(n_outputs=2), seed=seed, n_outputs=2) for seed in range(3)]
    graph, report, _ = fuse_with_report(graphs, views=views, engine="cuda", force=True)
    assert report.laid_out.passed
    x = np.random.default_rng(0).standard_normal((64, N_CHANS, N_TIMES)).astype(np.float32)
    infer = make_runner(graph, "cuda").infer
    exact = PlanRunner(graph, double=True).infer(x)
    for _ in range(3):  # plainly, captured, replayed
        np.testing.assert_allclose(infer(x), exact, rtol=1e-5, atol=1e-5)
