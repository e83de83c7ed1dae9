"""Products with a stack of matrices: one for each where the matrices are large."""

from __future__ import annotations

import numpy as np
import pytest

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.lower.onnxruntime import packed
from tests.fusion.networks import head, network


def dense(width):
    """Dense layers on every channel, as a transformer's."""

    def body(emit, x, weights):
        h = emit("Relu", emit("Add", emit("MatMul", x, weights(40, width)), weights(width)))
        h = emit("Tanh", emit("MatMul", h, weights(width, width)))
        return head(emit, h, weights, width, axes=(1,))

    return body


def fused(width, members, **options):
    graphs = [network(dense(width), seed=seed) for seed in range(members)]
    graph, report, parity = fuse_with_report(graphs, views="identity,scale:1.1", **options)
    assert parity.passed
    (outcome,) = [one for one in report.outcomes if one.name == "packed"] or [None]
    return graph, outcome


@pytest.mark.parametrize("members", [2, 3, 9])
def test_large_matrices_are_alone(members):
    graph, outcome = fused(96, members)
    assert outcome.status == "applied"
    stacks = [v for n in graph.model.graph if n.op_type == "MatMul" for v in n.inputs[1:] if len(v.shape) == 3]
    assert all(np.prod([int(d) for d in v.shape]) < 5_000 * members for v in stacks)


def test_small_ones_stay_together_and_it_says_why():
    _, outcome = fused(8, 2)
    assert outcome.status == "refused"
    assert "weights are laid out faster than 3 nodes run" in outcome.reason


def test_another_engine_gets_none_of_it():
    _, outcome = fused(96, 2, engine="torch")
    assert outcome is None


def test_other_products_are_left_alone():
    def body(emit, x, weights):
        y = emit("MatMul", emit("Unsqueeze", x, [1]), weights(1, 40, 300))
        y = emit("MatMul", weights(1, 300, 6), y)
        y = emit("MatMul", y, emit("Transpose", y, perm=[0, 1, 3, 2]))
        return head(emit, y, weights, 300, axes=(1, 2))

    model = clean(network(body).model)
    result = packed.run(model)
    assert (result.changed, result.refused) == (0, [])
