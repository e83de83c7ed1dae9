"""Functions of our own in graphs: operators of the domain ``rtserve`` whose meaning travels in the file, in standard ONNX.

An engine that does not know one runs its body (onnxruntime and onnx's evaluator write it out by themselves; for OpenVINO
and native code `written_out` does). The torch executor has its own way, which gives the same numbers: eigenvalues for
``LogMatrix``. That holds for the body that this version knows: a function of our name that says something else is
written out for every engine.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["DOMAIN", "NAMES", "VERSION", "declare", "domain_of", "products_in", "written_out"]

DOMAIN, VERSION = "rtserve", 1
OPSET = 20
NAMES = ("LogMatrix",)
"""``LogMatrix(A, I)``: the logarithm of symmetric positive definite matrices A (..., n, n) in float64; I (n, n) is 1."""


def domain_of(op_type: str) -> str:
    """Return the domain of an operator by its name: ours, or the standard one."""
    return DOMAIN if op_type in NAMES else ""


class _Value:
    """A value of a function's body, which takes the operators of a tensor."""

    def __init__(self, body: _Body, value: ir.Value) -> None:
        self.body, self.value = body, value

    def __add__(self, other: Any) -> _Value:
        return self.body("Add", self, other)

    def __sub__(self, other: Any) -> _Value:
        return self.body("Sub", self, other)

    def __mul__(self, other: Any) -> _Value:
        return self.body("Mul", self, other)

    def __truediv__(self, other: Any) -> _Value:
        return self.body("Div", self, other)

    def __matmul__(self, other: Any) -> _Value:
        return self.body("MatMul", self, other)

    def __lt__(self, other: Any) -> _Value:
        return self.body("Less", self, other)

    def __and__(self, other: Any) -> _Value:
        return self.body("And", self, other)


class _Body:
    """Writes a function's body: what `rtserve.runtime.logarithm.log_by_products` asks of tensors, as nodes."""

    def __init__(self) -> None:
        self.nodes: list[ir.Node] = []
        self.constants: dict[Any, ir.Value] = {}

    def argument(self, name: str) -> _Value:
        """Return an input of the function."""
        import onnx_ir as ir

        return _Value(self, ir.Value(name=name))

    def __call__(self, op_type: str, *inputs: Any, **attributes: Any) -> _Value:
        import onnx_ir as ir

        values = [one.value if isinstance(one, _Value) else self._constant(one) for one in inputs]
        return _Value(self, self._add(ir.node(op_type, values, attributes=attributes)))

    def _constant(self, array: Any) -> ir.Value:
        import onnx_ir as ir

        array = np.asarray(array)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self.constants:
            self.constants[key] = self._add(ir.node("Constant", [], attributes={"value": ir.tensor(array)}))
        return self.constants[key]

    def _add(self, node: ir.Node) -> ir.Value:
        node.outputs[0].name = f"v{len(self.nodes)}"
        self.nodes.append(node)
        return node.outputs[0]

    def leading_to(self, result: _Value) -> list[ir.Node]:
        """Return the nodes that a result is computed by."""
        wanted, kept = {result.value}, []
        for node in reversed(self.nodes):
            if wanted.intersection(node.outputs):
                wanted.update(value for value in node.inputs if value is not None)
                kept.append(node)
        return kept[::-1]

    def turned(self, a: _Value) -> _Value:
        """Transpose matrices, however many axes lie in front."""
        return self("Einsum", a, equation="...ij->...ji")

    def total(self, a: _Value) -> _Value:
        """Sum each matrix."""
        return self("ReduceSum", a, np.array([-2, -1]), keepdims=1)

    def largest(self, a: _Value) -> _Value:
        """Return the largest magnitude of each matrix."""
        return self("ReduceMax", self("Abs", a), np.array([-2, -1]), keepdims=1)

    def log(self, a: _Value) -> _Value:
        """Return logarithms."""
        return self("Log", a)

    def where(self, condition: _Value, a: _Value, b: _Value) -> _Value:
        """Choose number by number."""
        return self("Where", condition, a, b)


def _log_matrix() -> ir.Function:
    import onnx_ir as ir

    from rtserve.runtime.logarithm import log_by_products

    body = _Body()
    a, one = body.argument("A"), body.argument("I")
    result = log_by_products(a, one, body)
    nodes = body.leading_to(result)
    graph = ir.Graph([a.value, one.value], [result.value], nodes=nodes, opset_imports={"": OPSET}, name="LogMatrix")
    return ir.Function(DOMAIN, "LogMatrix", "", graph=graph, attributes={})


WRITERS: dict[str, Callable[[], ir.Function]] = {"LogMatrix": _log_matrix}


@cache
def _body_of(name: str) -> str:
    """Return what one of our functions says, as a text that `_said` gives too."""
    return _said(WRITERS[name]())


def _said(function: ir.Function) -> str:
    """Return a text that is equal for functions whose nodes do the same in the same order."""
    names: dict[Any, str] = {value: f"i{k}" for k, value in enumerate(function.inputs)}
    lines = []
    for number, node in enumerate(function):
        read = ",".join("-" if value is None else names.get(value, "?") for value in node.inputs)
        told = ",".join(f"{key}={_told(attr)}" for key, attr in sorted(node.attributes.items()))
        lines.append(f"{node.domain}:{node.op_type}({read};{told})")
        names.update({value: f"n{number}.{k}" for k, value in enumerate(node.outputs)})
    return "\n".join([*lines, *(names.get(value, "?") for value in function.outputs)])


def _told(attribute: Any) -> str:
    value = attribute.value
    return value.numpy().tobytes().hex() + str(value.dtype) if hasattr(value, "numpy") else str(value)


def _is_ours(function: ir.Function) -> bool:
    """Whether a function is one of ours, by name and by what it says."""
    return function.domain == DOMAIN and function.name in NAMES and _said(function) == _body_of(function.name)


def declare(model: ir.Model) -> None:
    """Give a model, in place, the functions of ours that its nodes call, and take those away that none calls."""
    called = {node.op_type for node in model.graph if node.domain == DOMAIN and node.op_type in NAMES}
    for key in [key for key in model.functions if key[0] == DOMAIN and key[1] in NAMES]:
        del model.functions[key]
    if not called:
        model.graph.opset_imports.pop(DOMAIN, None)
        return
    model.graph.opset_imports[DOMAIN] = VERSION
    for name in sorted(called):
        function = WRITERS[name]()
        model.functions[function.identifier()] = function


def written_out(model: ir.Model, *, ours: bool) -> ir.Model:
    """Return a model without functions, its nodes standing where they are called.

    Parameters
    ----------
    model : onnx_ir.Model
        Used up.
    ours : bool
        Whether those of ours go as well.
    """
    if not model.functions:
        return model
    from onnx_ir.passes.common import InlinePass

    kept = {} if ours else {key: one for key, one in model.functions.items() if _is_ours(one)}
    for key in kept:  # what is not declared is left as it is
        del model.functions[key]
    model = InlinePass()(model).model
    model.functions.update(kept)
    return model


@cache
def products_in(name: str) -> int:
    """Return how many matrix products the body of one of our functions is."""
    return sum(node.op_type == "MatMul" for node in WRITERS[name]())
