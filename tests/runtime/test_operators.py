"""Every operator of the table on onnx's own node tests: the numbers agree, or the form is refused by name."""

import onnx
import pytest

from rtserve.runtime.node import OPERATORS
from tests.runtime import onnx_nodes

WITHOUT_CASES = {"Scatter"}
"""Deprecated operators that only ONNX's older tests have."""


@pytest.fixture(scope="module")
def outcomes():
    return onnx_nodes.outcomes()


def test_every_node_test_passes_or_is_refused_by_name(outcomes):
    bad = [f"{one.kind}: {one.name}: {one.why}" for one in outcomes if one.kind not in ("passed", "refused")]
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
