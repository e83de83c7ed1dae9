"""Every operator of the table on onnx's own node tests: the numbers agree, or the form is refused by name."""

import warnings
from functools import cache

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import rtserve.runtime.executor as executor
from rtserve.errors import ExportError
from rtserve.graphs.plan import read_model
from rtserve.runtime.node import OPERATORS, UnsupportedOperatorError

TYPES = {np.dtype(t) for t in ("f4", "f8", "i4", "i8", "?", "u1", "i1", "i2")}
OF_CONSTANTS = {"BlackmanWindow", "HammingWindow", "HannWindow", "Range"}
WITHOUT_CASES = {"Constant", "Scatter"}
REFUSED_FORMS = {
    "AveragePool": 6,  # dilated
    "BatchNormalization": 2,  # training
    "ConvTranspose": 3,  # output_shape, auto_pad
    "Dropout": 8,  # training, mask read
    "GRU": 1,  # layout=1, as for the next two
    "LSTM": 2,  # and peepholes
    "RNN": 1,
    "MaxPool": 2,  # indices read
    "Resize": 10,  # antialias, tf_crop_and_resize, half_pixel_symmetric
}
"""How many of onnx's cases the table refuses by name; none else may be refused."""


@cache
def node_tests():
    """onnx's node tests of single standard nodes, by operator."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    table = {}
    for case in cases:
        nodes = case.model.graph.node
        if len(nodes) == 1 and nodes[0].domain == "" and usable(case):
            table.setdefault(nodes[0].op_type, []).append(case)
    return table


def arrays_of(case):
    """Inputs and expected outputs of each data set as arrays; None for what is no tensor."""

    def array(value):
        if isinstance(value, onnx.TensorProto):
            return numpy_helper.to_array(value)
        return np.asarray(value) if isinstance(value, np.ndarray | np.generic) else None

    return [tuple([array(value) for value in side] for side in pair) for pair in case.data_sets]


def usable(case):
    """Whether all values are plain arrays of types that occur in networks."""
    values = [value for pair in arrays_of(case) for side in pair for value in side]
    return all(v is not None and v.dtype in TYPES for v in values)


def with_constants(model, arrays, first):
    """Turn every input from `first` on into an initializer."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for value, array in zip(list(model.graph.input)[first:], arrays[first:], strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
        model.graph.input.remove(value)
    return onnx.load_model_from_string(model.SerializeToString())


def plan_of(model, arrays, first=1):
    """Return plan, tensors and the names of the outputs of one node's model."""
    import onnx_ir as ir

    reader, plan = read_model(ir.serde.deserialize_model(with_constants(model, arrays, first)))
    names = [reader.names[value] for value in reader.outputs]
    plan["nodes"] += [{"op": "Identity", "inputs": [n], "outputs": [f"{n}_read"], "attrs": {}} for n in names if n]
    plan = {**plan, "output": f"{names[0]}_read", "tensors": sorted(reader.tensors)}
    return plan, reader.tensors, [f"{name}_read" for name in names]


def outputs_of(model, arrays, first=1):
    """Run one node through the executor; return its outputs."""
    plan, tensors, names = plan_of(model, arrays, first)
    program = executor.Program(plan, tensors, torch.zeros(()))
    with torch.inference_mode():
        values = program.trace(torch.from_numpy(np.array(arrays[0]))) if first and arrays else program.constants
    return [np.asarray(values[name]) for name in names]


@pytest.mark.parametrize("op", sorted(set(OPERATORS) - WITHOUT_CASES))
def test_operator_means_what_onnx_says(op):
    passed, refused = [], []
    for case in node_tests().get(op, []):
        for inputs, expected in arrays_of(case):
            try:
                got = outputs_of(case.model, inputs, 0 if op in OF_CONSTANTS else 1)
            except (UnsupportedOperatorError, ExportError) as error:
                refused.append(f"{case.name}: {error}")
                continue
            for one, other in zip(got, expected, strict=True):
                assert one.shape == other.shape, case.name
                np.testing.assert_allclose(one, other, rtol=case.rtol, atol=1e-6, err_msg=case.name)
            passed.append(case.name)
    assert passed, f"nothing ran for {op}; refused: {refused}"
    assert len(refused) == REFUSED_FORMS.get(op, 0), refused
