"""What travels is torch and the standard library, in the grammar of Python 3.10, and every operator says what it means."""

import ast
import re
import sys

import pytest

import rtserve.runtime.executor  # noqa: F401  (fills the table)
from rtserve.runtime.node import OPERATORS
from rtserve.submission.sources import runtime_source

ROUTES = ("torchscript", "onnxruntime", "auto")


@pytest.fixture(scope="module")
def tree():
    """The source with every operator and every route, as the oldest Python reads it."""
    return ast.parse(runtime_source(OPERATORS, ROUTES), feature_version=(3, 10))


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_operator_states_its_meaning_and_its_opset(name):
    text = OPERATORS[name].__doc__ or ""
    assert re.search(r"opset \d", text), text
    assert len(text.split()) > 4


def test_only_torch_and_the_standard_library_are_imported(tree):
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert "torch" in imported
    assert imported - {"torch"} <= sys.stdlib_module_names


def test_only_onnxruntime_is_imported_by_name(tree):
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and ast.unparse(n.func) == "importlib.import_module"]
    assert calls
    assert {ast.literal_eval(call.args[0]).partition(".")[0] for call in calls} == {"onnxruntime"}
    assert "import_module" not in runtime_source(OPERATORS, ("torch", "torchscript"))


def test_source_runs_by_itself():
    import torch

    space = {"__name__": "submission"}
    exec(compile(runtime_source(OPERATORS, ROUTES), "submission.py", "exec"), space)
    assert set(space["OPERATORS"]) == set(OPERATORS)
    assert set(space["OPENERS"]) == {"torchscript", "onnxruntime"}
    plan = {"schema": "rtserve.plan/1", "opset": 20, "input": "x", "output": "y", "tensors": [], "sizes": {}}
    plan["nodes"] = [{"op": "Relu", "inputs": ["x"], "outputs": ["y"], "attrs": {}}]
    assert torch.equal(space["PlanModule"](plan, {})(torch.tensor([-1.0, 2.0])), torch.tensor([0.0, 2.0]))
