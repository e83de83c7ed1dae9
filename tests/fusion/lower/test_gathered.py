"""Views as gathered rows for the torch executor: the plan's numbers at any batch, few nodes, and left alone elsewhere."""

from __future__ import annotations

import numpy as np
import pytest

from rtserve.graphs.runners import PlanRunner
from tests.fusion.lower.test_views import VIEWS, net
from tests.fusion.networks import N_CHANS, N_TIMES, fused_with


def fused(body, views=VIEWS, **options):
    return fused_with("gathered", body, views, engine="torch", **options)


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
