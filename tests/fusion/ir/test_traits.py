"""The table of traits against ONNX: every name is an operator, and what the table says of it holds."""

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

from rtserve.fusion.ir.traits import TRAITS, Trait, operators
from rtserve.graphs.graph import OPSET

X = np.random.default_rng(0).uniform(0.05, 0.95, (5, 6))
"""Within the domain of every operator (Acos, Log), Acosh aside."""


def run(op_type, *inputs):
    """Return what ONNX's own reference makes of inputs."""
    names = [f"x{k}" for k in range(len(inputs))]
    infos = [helper.make_tensor_value_info(name, onnx.TensorProto.DOUBLE, None) for name in (*names, "y")]
    graph = helper.make_graph([helper.make_node(op_type, names, ["y"])], "one", infos[:-1], infos[-1:])
    since = max(OPSET, onnx.defs.get_schema(op_type).since_version)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", since)])
    return ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))[0]


@pytest.mark.parametrize("op_type", TRAITS)
def test_every_name_is_an_operator(op_type):
    assert onnx.defs.has(op_type)


@pytest.mark.parametrize("op_type", operators(Trait.POINTWISE))
def test_pointwise(op_type):
    x = X + 1 if op_type == "Acosh" else X
    order = np.random.default_rng(1).permutation(x.size)
    moved = x.reshape(-1)[order].reshape(x.shape)
    np.testing.assert_array_equal(run(op_type, moved), run(op_type, x).reshape(-1)[order].reshape(x.shape))


@pytest.mark.parametrize("op_type", operators(Trait.BROADCASTS))
def test_of_several_values_place_by_place(op_type):
    whole = run(op_type, X, X[::-1])
    np.testing.assert_array_equal(run(op_type, X[:, 2:3], X[::-1, 2:3]), whole[:, 2:3])
    np.testing.assert_array_equal(run(op_type, X, X[:1]), run(op_type, X, np.repeat(X[:1], 5, 0)))


@pytest.mark.parametrize(
    ("op_type", "values"),
    [(name, 1) for name in operators(Trait.POINTWISE) if Trait.AFFINE in TRAITS[name]]
    + [(name, 2) for name in operators(Trait.BROADCASTS) if Trait.AFFINE in TRAITS[name]],
)
def test_affine(op_type, values):
    first, last = (X, X[::-1])[:values], (X[:, ::-1], X**2)[:values]
    middle = [0.25 * a + 0.75 * b for a, b in zip(first, last, strict=True)]
    expected = 0.25 * run(op_type, *first) + 0.75 * run(op_type, *last)
    np.testing.assert_allclose(run(op_type, *middle), expected, rtol=1e-12)


@pytest.mark.parametrize("op_type", ["Mul", "Div"])
def test_a_weight_is_one_constant_operand(op_type):
    middle = run(op_type, 0.25 * X + 0.75 * X**2, X[::-1])
    np.testing.assert_allclose(middle, 0.25 * run(op_type, X, X[::-1]) + 0.75 * run(op_type, X**2, X[::-1]))
