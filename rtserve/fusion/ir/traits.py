"""What a rewrite may know about an operator without looking at the node: one table for all of them.

A trait is about the operator's computed inputs; constants beside them (bounds of a Clip, axes of a Squeeze) are
parameters. What depends on a node's attributes is asked of the node.
"""

from __future__ import annotations

from enum import Flag, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["TRAITS", "Trait", "has", "operators"]


class Trait(Flag):
    """What holds for an operator."""

    POINTWISE = auto()
    """Every number of its output comes from the one at the same place of its one computed input."""
    BROADCASTS = auto()
    """The same of several inputs, which are broadcast."""
    RESHAPES = auto()
    """The same numbers in another shape or order."""
    REDUCES = auto()
    """One number for all along some axes."""
    POOLS = auto()
    """Windows along the spatial axes of (batch, channels, ...), channel by channel."""
    BY_WINDOW = auto()
    """Whatever the parameters, row b of its output comes from row b of its first input alone."""
    NORMALISES = auto()
    """It acts along `axis`, the last where it names none, or from there on."""
    JOINS = auto()
    """It puts together, takes apart or picks along `axis`, the first where it names none."""
    AFFINE = auto()
    """Affine in its computed inputs."""
    WEIGHS = auto()
    """Affine in its first input where no other is computed."""


_P, _A, _W = Trait.POINTWISE, Trait.AFFINE, Trait.WEIGHS
_POINTWISE = """
    Abs Acos Acosh Asin Asinh Atan Atanh Celu Ceil Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish LeakyRelu
    Log Mish Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu
"""
_REDUCTIONS = "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMin ReduceProd ReduceSumSquare"
TRAITS: dict[str, Trait] = {
    **dict.fromkeys(_POINTWISE.split(), _P),
    **dict.fromkeys(("Identity", "Neg"), _P | _A),
    **dict.fromkeys(("Add", "Sub", "Sum", "Mean"), Trait.BROADCASTS | _A),
    **dict.fromkeys(("Mul", "Div"), Trait.BROADCASTS | _W),
    **dict.fromkeys(("Max", "Min", "Pow"), Trait.BROADCASTS),
    **dict.fromkeys(("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"), Trait.RESHAPES | _A),
    **dict.fromkeys(_REDUCTIONS.split(), Trait.REDUCES),
    **dict.fromkeys(("ReduceMean", "ReduceSum"), Trait.REDUCES | _A),
    **dict.fromkeys(("MaxPool", "LpPool", "GlobalMaxPool", "GlobalLpPool"), Trait.POOLS | Trait.BY_WINDOW),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool"), Trait.POOLS | Trait.BY_WINDOW | _A),
    **dict.fromkeys(("Conv", "ConvTranspose", "BatchNormalization"), Trait.BY_WINDOW | _W),
    **dict.fromkeys(("InstanceNormalization", "STFT"), Trait.BY_WINDOW),
    **dict.fromkeys(("Gemm", "MatMul"), _W),
    **dict.fromkeys(("Slice", "Pad"), _A),
    **dict.fromkeys(("Concat", "Split", "Gather"), Trait.JOINS | _A),
    **dict.fromkeys(("Softmax", "LogSoftmax", "LayerNormalization"), Trait.NORMALISES),
}
"""Operator to what holds for it; nothing for one that is not named."""


def has(node: ir.Node, trait: Trait) -> bool:
    """Whether one of some traits holds for a node's operator."""
    return bool(TRAITS.get(node.op_type, Trait(0)) & trait)


def operators(trait: Trait) -> tuple[str, ...]:
    """Return the operators for which one of some traits holds."""
    return tuple(name for name, traits in TRAITS.items() if traits & trait)
