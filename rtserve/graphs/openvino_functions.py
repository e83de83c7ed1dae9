"""Functions of one number that OpenVINO computes too coarsely, written by others that it computes well.

Measured against float64 (OpenVINO 2026.4): Softplus has an absolute error that grows with the *size* of its input,
also where the answer is next to nothing (7.6e-6, of either sign, for -83); Erf errs by 2e-7 whatever it answers, 20 %
for 1e-6. A GELU and a Mish are recognised whole and computed well: those are left as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.emit import Emitter

__all__ = ["erf", "softplus"]

REACH = 4.0
"""Beyond it erf is 1 in float32."""
ABOVE = (-2.72614225801306e-10, 2.77068142495902e-08, -2.10102402082508e-06, -5.69250639462346e-05,
         -7.34990630326855e-04, -2.95459980854025e-03, -1.60960333262415e-02)  # fmt: skip
BELOW = (-1.45660718464996e-05, -2.13374055278905e-04, -1.68282697438203e-03, -7.37332916720468e-03,
         -1.42647390514189e-02)  # fmt: skip
"""erf(x) = x P(x^2) / Q(x^2) on [-4, 4], highest power first: the rational function of Eigen
(``generic_fast_erf_float``), off by 4 roundings at most, relative to the answer."""


def softplus(emit: Emitter, node: ir.Node) -> ir.Value | None:
    """Write log(1 + e^x) as max(x, 0) + 2 atanh(u / (2 + u)), u = e^-|x|: nothing of it is small beside a large other."""
    x = node.inputs[0]
    if not _single(x) or _part_of_mish(node):
        return None
    small = emit("Exp", emit("Neg", emit("Abs", x)))
    tangent = emit("Atanh", emit("Div", small, emit("Add", small, np.float32(2.0))))
    return emit("Add", emit("Relu", x), emit("Mul", tangent, np.float32(2.0)))


def erf(emit: Emitter, node: ir.Node) -> ir.Value | None:
    """Write erf as a rational function; the one of a GELU is added to 1, beside which its error is a rounding."""
    x = node.inputs[0]
    if not _single(x) or _added_to_one(node):
        return None
    square = emit("Mul", x, x)
    above, below = (_polynomial(emit, square, powers) for powers in (ABOVE, BELOW))
    within = emit("Div", emit("Mul", x, above), below)  # NaN for NaN, which is not beyond
    beyond = emit("GreaterOrEqual", emit("Abs", x), np.float32(REACH))
    return emit("Where", beyond, emit("Sign", x), within)


def _polynomial(emit: Emitter, x: ir.Value, powers: tuple[float, ...]) -> ir.Value:
    y = emit("Add", emit("Mul", x, np.float32(powers[0])), np.float32(powers[1]))
    for power in powers[2:]:
        y = emit("Add", emit("Mul", y, x), np.float32(power))
    return y


def _single(x: ir.Value | None) -> bool:
    import onnx_ir as ir

    return x is not None and x.dtype == ir.DataType.FLOAT


def _only_use(value: ir.Value) -> ir.Node | None:
    uses = tuple(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _part_of_mish(node: ir.Node) -> bool:
    """Whether it is the inner function of x tanh(softplus(x)), which is one operator to OpenVINO."""
    outer = _only_use(node.outputs[0])
    if outer is None or outer.op_type != "Tanh":
        return False
    product = _only_use(outer.outputs[0])
    return product is not None and product.op_type == "Mul" and node.inputs[0] in product.inputs


def _added_to_one(node: ir.Node) -> bool:
    total = _only_use(node.outputs[0])
    if total is None or total.op_type != "Add":
        return False
    other = next((value for value in total.inputs if value is not node.outputs[0]), None)
    number = constant(other) if other is not None else None
    return number is not None and number.size > 0 and bool((number == 1.0).all())
