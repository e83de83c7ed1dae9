"""Operators that work element by element: activations, arithmetic, comparison, casts."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from rtserve.runtime.node import Call, Node, operator

UNARY: dict[str, Call] = {
    "Abs": torch.abs,
    "Acos": torch.acos,
    "Acosh": torch.acosh,
    "Asin": torch.asin,
    "Asinh": torch.asinh,
    "Atan": torch.atan,
    "Atanh": torch.atanh,
    "Ceil": torch.ceil,
    "Cos": torch.cos,
    "Cosh": torch.cosh,
    "Erf": torch.erf,
    "Exp": torch.exp,
    "Floor": torch.floor,
    "HardSwish": F.hardswish,
    "IsNaN": torch.isnan,
    "Log": torch.log,
    "Mish": F.mish,
    "Neg": torch.neg,
    "Not": torch.logical_not,
    "Reciprocal": torch.reciprocal,
    "Relu": torch.relu,
    "Round": torch.round,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "Sin": torch.sin,
    "Sinh": torch.sinh,
    "Softsign": F.softsign,
    "Sqrt": torch.sqrt,
    "Tan": torch.tan,
    "Tanh": torch.tanh,
}
"""Operators without attributes whose torch function means the same (Round: half to even in both)."""

UNARY_INPLACE: dict[str, Call] = {
    "Abs": torch.abs_,
    "Cos": torch.cos_,
    "Exp": torch.exp_,
    "Neg": torch.neg_,
    "Reciprocal": torch.reciprocal_,
    "Relu": torch.relu_,
    "Sigmoid": torch.sigmoid_,
    "Sin": torch.sin_,
    "Sqrt": torch.sqrt_,
    "Tanh": torch.tanh_,
}

BINARY: dict[str, Call] = {
    "Add": torch.add,
    "And": torch.logical_and,
    "Equal": torch.eq,
    "Greater": torch.gt,
    "GreaterOrEqual": torch.ge,
    "Less": torch.lt,
    "LessOrEqual": torch.le,
    "Mul": torch.mul,
    "Or": torch.logical_or,
    "Sub": torch.sub,
    "Xor": torch.logical_xor,
}
"""Two inputs, numpy broadcasting (opset 7 and later)."""


@operator(*UNARY)
def unary(node: Node) -> Call:
    """One input, no attributes, element by element as `UNARY` lists (opset 6 and later; newer ones as introduced).

    Mish (opset 18), HardSwish (14), Softsign (1), IsNaN (9); Round (11) takes halves to the even number.
    """
    return UNARY_INPLACE.get(node.op, UNARY[node.op]) if node.inplace else UNARY[node.op]


@operator(*BINARY)
def binary(node: Node) -> Call:
    """Two inputs broadcast against each other as numpy does, as `BINARY` lists (opset 7 and later)."""
    return BINARY[node.op]


@operator("Identity", "Dropout")
def identity(node: Node) -> Call:
    """Identity (opset 1); Dropout (opset 7) outside training is one too."""
    if any(node.outputs[1:]):
        raise node.refuse("with its mask read")
    if node.op == "Dropout" and node.has(2) and not (node.is_constant(2) and not bool(node.tensor(2))):
        raise node.refuse("in training mode")
    node.absorbed.update(range(1, len(node.present)))
    return lambda x: x


@operator("Elu", "Celu", "LeakyRelu", "Selu", "ThresholdedRelu", "HardSigmoid", "Softplus", "Gelu", "Shrink")
def activation(node: Node) -> Call:
    """Activations with attributes and ONNX's defaults (opset 1 to 20).

    Elu alpha (exp(x) - 1) below 0; Celu with alpha inside the exponent too (12); LeakyRelu alpha x below 0; Selu gamma
    Elu; ThresholdedRelu x above alpha, else 0 (10); HardSigmoid clip(alpha x + beta, 0, 1); Softplus log(1 + exp(x));
    Gelu exact or by tanh (20); Shrink x -+ bias outside +-lambd, else 0 (9).
    """
    alpha, beta = node.attrs.get("alpha"), node.attrs.get("beta")
    if node.op == "Elu":
        return _with(F.elu_ if node.inplace else F.elu, 1.0 if alpha is None else alpha)
    if node.op == "LeakyRelu":
        return _with(F.leaky_relu_ if node.inplace else F.leaky_relu, 0.01 if alpha is None else alpha)
    if node.op == "Celu":
        return _with(F.celu, 1.0 if alpha is None else alpha)
    if node.op == "Gelu":
        approximate = node.attrs.get("approximate", "none")
        return lambda x: F.gelu(x, approximate=approximate)
    return _rare_activation(node, alpha, beta)


def _with(function: Call, value: float) -> Call:
    return lambda x: function(x, value)


def _rare_activation(node: Node, alpha: float | None, beta: float | None) -> Call:
    if node.op == "Softplus":
        return lambda x: torch.logaddexp(x, torch.zeros_like(x))
    if node.op == "Selu":
        scale, slope = node.attrs.get("gamma", 1.0507009873554805), alpha or 1.6732632423543772
        return lambda x: scale * torch.where(x > 0, x, slope * torch.expm1(x))
    if node.op == "ThresholdedRelu":
        limit = 1.0 if alpha is None else alpha
        return lambda x: torch.where(x > limit, x, torch.zeros_like(x))
    if node.op == "Shrink":
        lambd, bias = node.attrs.get("lambd", 0.5), node.attrs.get("bias", 0.0)
        return lambda x: (x - bias) * (x > lambd) + (x + bias) * (x < -lambd)
    slope, offset = 0.2 if alpha is None else alpha, 0.5 if beta is None else beta
    return lambda x: torch.clamp(slope * x + offset, 0.0, 1.0)


@operator("PRelu")
def prelu(node: Node) -> Call:
    """PRelu (opset 9): slope broadcast to the input, also where torch would want one number per channel."""
    return lambda x, slope: torch.where(x < 0, x * slope, x)


@operator("Clip")
def clip(node: Node) -> Call:
    """Clip (opset 6 by attributes, 11 by inputs); NaN stays NaN."""
    if any(node.has(i) and not node.is_constant(i) for i in (1, 2)):
        return _clip_between(node)
    low, high = node.scalar(1, attribute="min"), node.scalar(2, attribute="max")
    if low is None and high is None:
        return lambda x: x
    if node.inplace:
        return lambda x: torch.clamp_(x, low, high)
    return lambda x: torch.clamp(x, low, high)


def _clip_between(node: Node) -> Call:
    """Clip between bounds of which a call computes one or both."""
    lower = node.has(1)

    def call(x: Tensor, first: Tensor, second: Tensor | None = None) -> Tensor:
        low, high = (first, second) if lower else (None, first)
        x = x if low is None else torch.maximum(x, low)
        return x if high is None else torch.minimum(x, high)

    return call


@operator("Div")
def divide(node: Node) -> Call:
    """Div (opset 7): integers are divided towards zero."""

    def call(a: Tensor, b: Tensor) -> Tensor:
        whole = not (a.is_floating_point() or a.is_complex())
        return torch.div(a, b, rounding_mode="trunc") if whole else torch.div(a, b)

    return call


@operator("Mod")
def modulo(node: Node) -> Call:
    """Mod (opset 10): sign of the divisor, or of the dividend with fmod=1."""
    function: Call = torch.fmod if node.attrs.get("fmod", 0) else torch.remainder
    return function


@operator("Pow")
def power(node: Node) -> Call:
    """Pow (opset 7): the result has the type of the base."""
    exponent = node.constants[1]
    if isinstance(exponent, Tensor) and exponent.numel() == 1 and exponent.dim() == 0:
        value = node.scalar(1)
        if value == 2:
            return lambda x: x * x
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        return lambda x: torch.pow(x, value).to(x.dtype)
    return _power


def _power(x: Tensor, exponent: Tensor) -> Tensor:
    return torch.pow(x, exponent).to(x.dtype)


@operator("Min", "Max", "Sum", "Mean")
def variadic(node: Node) -> Call:
    """Min, Max, Sum, Mean of any number of inputs broadcast against each other (opset 8); NaN wins."""
    function: Call = {"Min": torch.minimum, "Max": torch.maximum}.get(node.op, torch.add)
    share = 1.0 / len(node.present) if node.op == "Mean" else None

    def call(*values: Tensor) -> Tensor:
        total = values[0]
        for value in values[1:]:
            total = function(total, value)
        return total if share is None else total * share

    return call


@operator("Where")
def where(node: Node) -> Call:
    """Where (opset 9): condition, value if true, value if false, all broadcast."""
    function: Call = torch.where
    return function


@operator("IsInf")
def isinf(node: Node) -> Call:
    """IsInf (opset 10), either sign, or one of them."""
    positive, negative = node.attrs.get("detect_positive", 1), node.attrs.get("detect_negative", 1)
    if positive and negative:
        return lambda x: torch.isinf(x)
    return lambda x: (torch.isposinf if positive else torch.isneginf)(x)


@operator("Cast")
def cast(node: Node) -> Call:
    """Cast (opset 6 and later); float32 means the type the module computes in."""
    dtype = node.torch_dtype(node.attrs["to"])
    return lambda x: x.to(dtype)


@operator("CastLike")
def cast_like(node: Node) -> Call:
    """CastLike (opset 15): to the type of the second input."""
    return lambda x, like: x.to(like.dtype)


@operator("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot")
def bitwise(node: Node) -> Call:
    """BitwiseAnd, BitwiseOr, BitwiseXor, BitwiseNot on integers (opset 18)."""
    table: dict[str, Call] = {
        "BitwiseAnd": torch.bitwise_and,
        "BitwiseOr": torch.bitwise_or,
        "BitwiseXor": torch.bitwise_xor,
        "BitwiseNot": torch.bitwise_not,
    }
    return table[node.op]
