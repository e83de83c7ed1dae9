"""Attention tails: shapes settled, queries, keys and values in one product, heads apart once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.local import dense, heads, shapes
from rtserve.fusion.run.check import Reference
from tests.fusion.networks import N_CHANS, head, network

HEADS, WIDTH = 2, 4


def rewritten(graph, *modules):
    """Run passes on a copy, check the numbers after each; return the results and the operators left."""
    model = clean(graph.clone_model())
    results = []
    for module in modules:
        results.append(module.run(model))
        model = clean(model)
        assert Reference(graph).check(model) == ""
    return results, [node.op_type for node in model.graph]


def computed_transpose(emit, k):
    """Return keys (batch, heads, time, width) turned as torch's exporter writes it: by targets read from their shape."""
    shape = emit("Shape", k)
    last, before, rest = (emit("Slice", shape, [a], [b]) for a, b in ((-1, 9), (-2, -1), (-9, -2)))
    for value in (last, before, rest):
        value.dtype = shape.dtype
    merged = emit("Concat", np.array([-1]), before, last, axis=0)
    split = emit("Concat", rest, last, before, axis=0)
    merged.dtype = split.dtype = shape.dtype
    return emit("Reshape", emit("Transpose", emit("Reshape", k, merged), perm=[0, 2, 1]), split)


def heads_of(emit, tokens, weights, time):
    """Return one projection as heads in front, (batch, heads, time, width)."""
    width = HEADS * WIDTH
    y = emit("Add", emit("MatMul", tokens, weights(width, width)), weights(width))
    return emit("Transpose", emit("Reshape", y, [-1, time, HEADS, WIDTH]), perm=[0, 2, 1, 3])


def multihead(emit, x, weights):
    """Multi-head self-attention with scaled queries and keys, as CTNet's."""
    time, width = 10, HEADS * WIDTH
    tokens = emit("Transpose", emit("Conv", x, weights(width, N_CHANS, 4), weights(width), strides=[4]), perm=[0, 2, 1])
    q, k, v = (heads_of(emit, tokens, weights, time) for _ in range(3))
    scale = np.array([WIDTH**-0.25], np.float32)
    scores = emit("MatMul", emit("Mul", q, scale), emit("Mul", computed_transpose(emit, k), scale))
    mixed = emit("MatMul", emit("Softmax", scores, axis=-1), v)
    joined = emit("Reshape", emit("Transpose", mixed, perm=[0, 2, 1, 3]), [-1, time, width])
    return head(emit, emit("Add", tokens, joined), weights, width, axes=(1,))


def test_targets_read_from_shapes_are_constants_and_the_turn_is_one_transpose():
    (result,), kinds = rewritten(network(multihead), shapes)
    assert result.changed >= 3
    assert not {"Shape", "Slice", "Concat"} & set(kinds)
    assert kinds.count("Reshape") == 4


def test_queries_keys_and_values_are_one_product_with_the_scale_inside():
    results, kinds = rewritten(network(multihead), shapes, dense)
    assert "2 factors" in results[1].did
    assert "3 layers" in results[1].did
    assert (kinds.count("Mul"), kinds.count("MatMul")) == (0, 3)


def test_heads_are_set_apart_once():
    results, kinds = rewritten(network(multihead), shapes, dense, heads)
    assert results[2].changed == 3
    assert (kinds.count("Split"), kinds.count("Reshape"), kinds.count("Transpose")) == (1, 2, 4)


@pytest.mark.parametrize("members", [1, 3])
def test_the_whole_path_keeps_the_numbers_of_members_and_views(members):
    graphs = [network(multihead, seed=seed) for seed in range(members)]
    fused, report, parity = fuse_with_report(graphs, views="identity,roll:+3,sign-flip")
    assert parity.passed
    assert {o.name for o in report.outcomes if o.status == "applied"} >= {"shapes", "dense", "heads"}
    assert "Shape" not in {node.op_type for node in fused.model.graph}


def test_layers_that_read_different_values_stay_apart():
    def body(emit, x, weights):
        a = emit("ReduceMean", x, [2], keepdims=0)
        b = emit("ReduceMax", x, [2], keepdims=0)
        y = [emit("Add", emit("MatMul", v, weights(N_CHANS, 4)), weights(4)) for v in (a, b)]
        return emit("Gemm", emit("Relu", emit("Add", *y)), weights(1, 4), weights(1), transB=1)

    (result,), kinds = rewritten(network(body), dense)
    assert (result.changed, kinds.count("MatMul")) == (0, 2)


def test_a_factor_on_a_value_that_others_read_stays():
    def body(emit, x, weights):
        y = emit("Add", emit("MatMul", emit("ReduceMean", x, [2], keepdims=0), weights(N_CHANS, 4)), weights(4))
        z = emit("Add", emit("Mul", y, np.float32(3.0)), emit("Relu", y))
        return emit("Gemm", z, weights(1, 4), weights(1), transB=1)

    (result,), kinds = rewritten(network(body), dense)
    assert (result.changed, "Mul" in kinds) == (0, True)


def test_a_merge_that_is_not_undone_is_left_alone():
    def body(emit, x, weights):
        h = emit("Reshape", x, [-1, 2, 3, 40])
        h = emit("Transpose", emit("Reshape", h, [-1, 6, 40]), perm=[0, 2, 1])
        return head(emit, emit("Reshape", h, [-1, 20, 2, 6]), weights, 6, axes=(1, 2))

    (result,), kinds = rewritten(network(body), shapes)
    assert "Transpose" in kinds
    assert kinds.count("Reshape") == 2  # the first two are one; the last splits another axis than the first merged
    assert result.changed == 1


@settings(max_examples=20)
@given(first=st.permutations(range(3)), second=st.permutations(range(3)), merged=st.booleans())
def test_any_chain_of_permutations_is_exact(first, second, merged):
    def body(emit, x, weights):
        h = emit("Reshape", x, [-1, 2, 3, 40])
        for perm in (first, second):
            h = emit("Transpose", h, perm=[0, *(p + 1 for p in perm)])
        if merged:
            dims = [2, 3, 40]
            dims = [dims[p] for p in first]
            dims = [dims[p] for p in second]
            h = emit("Reshape", h, [-1, dims[1], dims[2]])
            h = emit("Reshape", emit("Transpose", h, perm=[0, 2, 1]), [-1, dims[0], dims[2], dims[1]])
        flat = emit("Reshape", emit("Tanh", h), [-1, 240])
        return emit("Gemm", flat, weights(1, 240), weights(1), transB=1)

    _, kinds = rewritten(network(body), shapes)
    assert kinds.count("Transpose") <= 1


@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMean"])
def test_values_stacked_and_summed_are_a_sum(operator):
    def body(emit, x, weights):
        parts = [emit("Unsqueeze", emit("Conv", x, weights(4, N_CHANS, 3)), [0]) for _ in range(3)]
        h = emit(operator, emit("Concat", *parts, axis=0), [0], keepdims=0)
        return head(emit, emit("Relu", h), weights, 4, axes=(2,))

    (result,), kinds = rewritten(network(body), shapes)
    assert result.changed == 1
    assert "Concat" not in kinds


def test_a_rewrite_at_the_graphs_output_keeps_the_output():
    def body(emit, x, weights):
        pooled = emit("ReduceMean", x, [2], keepdims=0)
        parts = [emit("Unsqueeze", emit("Gemm", pooled, weights(1, N_CHANS), transB=1), [0]) for _ in range(2)]
        return emit("ReduceMean", emit("Concat", *parts, axis=0), [0], keepdims=0)

    (result,), kinds = rewritten(network(body), shapes)
    assert result.changed == 1
    assert kinds[-1] == "Mean"
