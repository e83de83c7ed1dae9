"""Every operator of the table on onnx's own node tests: the numbers agree, or the form is refused by name."""

import onnx
import pytest

from rtserve.runtime.node import OPERATORS
from tests.runtime import onnx_nodes
from tests.versions import release

WITHOUT_CASES = {"Scatter", "LogMatrix"}
"""A deprecated operator that only ONNX's older tests have, and one of our own: `tests/graphs/test_functions.py`."""


@pytest.fixture(scope="module")
def outcomes():
    return onnx_nodes.outcomes()


# The norm of zeros: an older onnx expects NaN where a newer one, as the operator's text, expects zero.
REVISED = {"test_l2normalization_axis_0"} if release(onnx.__version__) < (1, 23) else set()


def test_every_node_test_passes_or_is_refused_by_name(outcomes):
    kept = [one for one in outcomes if one.name not in REVISED]
    bad = [f"{one.kind}: {one.name}: {one.why}" for one in kept if one.kind not in ("passed", "refused")]
    assert not bad
    assert len(outcomes) > 1500


def test_every_operator_passes_a_test(outcomes):
    passed = {one.row for one in outcomes if one.kind == "passed"}
    assert set(OPERATORS) - WITHOUT_CASES <= passed


def test_a_refusal_names_its_operator_or_its_type(outcomes):
    for one in outcomes:
        if one.kind == "refused" and not one.row.startswith("("):
            assert one.why.startswith(one.row) or "is of type" in one.why or "no plain tensor" in one.why, one


def test_the_page_is_fresh(outcomes):
    text = onnx_nodes.PAGE.read_text("utf-8")
    written = text.partition(onnx_nodes.BEGIN)[2].partition(onnx_nodes.END)[0].strip()
    if f"onnx {onnx.__version__}," not in written:
        pytest.skip("the page was written with another onnx: its tests differ")
    assert written == onnx_nodes.section(outcomes).strip(), "python tests/runtime/onnx_nodes.py --write"


@pytest.mark.parametrize(("op", "broken", "kind"), [("Abs", lambda node: lambda x: x, "wrong"),
                                                    ("Relu", lambda node: lambda x: x.nothing, "crash"),
                                                    ("Exp", lambda node: lambda x: x.exp().double(), "wrong"),
                                                    ("Tanh", lambda node: 1 / 0, "crash")])  # fmt: skip
def test_a_wrong_operator_is_found(monkeypatch, op, broken, kind):
    monkeypatch.setitem(OPERATORS, op, broken)
    case = next(case for case in onnx_nodes.node_cases() if onnx_nodes.row_of(case) == op)
    assert onnx_nodes.judge(case).kind == kind


FORMS = {
    "Slice": "y = Slice (x, far, end, axis, back)",  # onnx holds the start to the axis: numpy would give nothing
    "Pad": 'y = Pad <mode = "wrap"> (x, sides, , axis)',  # cuts off one end before the other repeats it
    "ReduceL1": "y = ReduceL1 <noop_with_empty_axes = 1> (x)",  # of each number alone
    "ReduceLogSum": "a = Abs (x)\n  y = ReduceLogSum <noop_with_empty_axes = 1> (a)",
    "ConvTranspose": "y = ConvTranspose <strides = [3], pads = [1, 0], output_padding = [2]> (x, w, b)",
}


@pytest.mark.parametrize("op", sorted(FORMS))
def test_a_form_without_a_node_test_is_as_in_onnxruntime(op):
    import numpy as np
    import onnxruntime
    import torch
    from onnx import parser

    text = '<ir_version: 9, opset_import: ["" : 20]>\none (float[2, 3, 6] x) => (float[A, B, C] y)\n'
    text += "<int64[1] far = {-8}, int64[1] end = {-99}, int64[1] axis = {2}, int64[1] back = {-1},\n"
    text += " int64[2] sides = {2, -1},"
    text += " float[3, 1, 1] w = {1.0, 2.0, 3.0}, float[1] b = {0.5}>\n"
    model = parser.parse_model(f"{text}{{\n  {FORMS[op]}\n}}")
    x = np.random.default_rng(0).standard_normal((2, 3, 6)).astype("f4")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    program, _, (name,) = onnx_nodes.program_of(model)
    got = program.trace(torch.from_numpy(x))[name].numpy()
    if op in {"ReduceL1", "ReduceLogSum"} and release(onnxruntime.__version__) < (1, 32):
        pytest.skip("onnxruntime before 1.32 does not run this form")
    np.testing.assert_allclose(got, session.run(None, {"x": x})[0], rtol=1e-5, atol=1e-6)
