"""The layers of a network as a person would name them, from its nodes alone: what each is, and which nodes it takes.

A layer begins where something is weighed, pooled, normalised or summed up, and takes what is done elementwise behind it.
Scores times values behind a softmax over scores are attention, whatever the exporter called them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from rtserve.graphs.fold import constant

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["UNCOUNTED", "Layer", "layers_of"]

POOLS = {"AveragePool": "average pooling", "MaxPool": "max pooling", "LpPool": "power pooling",
         "GlobalAveragePool": "mean over all samples", "GlobalMaxPool": "largest of all samples"}  # fmt: skip
NORMS = {"BatchNormalization": "batch normalisation", "LayerNormalization": "layer normalisation",
         "InstanceNormalization": "instance normalisation", "GroupNormalization": "group normalisation",
         "LpNormalization": "normalisation", "RMSNormalization": "normalisation"}  # fmt: skip
SUMS = {
    "ReduceMean": "mean",
    "ReduceSum": "sum",
    "ReduceMax": "largest",
    "ReduceMin": "smallest",
    "CumSum": "running sum",
}
UNCOUNTED = {"LSTM": "LSTM", "GRU": "GRU", "RNN": "recurrent layer", "STFT": "short Fourier transforms",
             "DFT": "Fourier transform", "Einsum": "product", "Det": "determinant", "Attention": "attention"}  # fmt: skip
"""Operators whose multiply-adds are not counted."""
OTHERS = {"LogMatrix": "logarithm of a matrix", "Resize": "resampling", "Softmax": "softmax", "LogSoftmax": "softmax",
          "TopK": "ranking", "ScatterND": "scattering"}  # fmt: skip
STEPS = {"Relu": "ReLU", "Elu": "ELU", "Gelu": "GELU", "LeakyRelu": "leaky ReLU", "Selu": "SELU", "Sigmoid": "sigmoid",
         "Tanh": "tanh", "Softplus": "softplus", "Mish": "Mish", "HardSwish": "swish", "Log": "log", "Sqrt": "root",
         "Exp": "exponential", "Abs": "magnitude", "Celu": "CELU", "PRelu": "PReLU", "Swish": "swish"}  # fmt: skip
"""What is done elementwise and worth a word; arithmetic and changes of shape are not."""
PRODUCTS = ("Gemm", "MatMul")
NAMED = 2
"""Elementwise steps that are named behind a layer."""
FARTHEST = 12
"""Nodes between a product and the softmax that make both one attention."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A run of nodes.

    Parameters
    ----------
    what : str
        In words.
    first, last : int
        Its first node and its last, by their place in the graph.
    mains : frozenset of str
        The operators that it is about; nothing where it is only steps in between.
    counted : bool
        Whether all its multiply-adds are counted.
    """

    what: str
    first: int
    last: int
    mains: frozenset[str]
    counted: bool = True


def layers_of(model: ir.Model) -> list[Layer]:
    """Return the layers of a model whose shapes are known, in the order of its nodes; every node is in one."""
    nodes = list(model.graph)
    if not nodes:
        return []
    attention = _attentions(nodes)
    words = {k: _words(node) for k, node in enumerate(nodes)}
    starts = [k for k, said in words.items() if said and not any(low < k <= high for low, high in attention)]
    bounds = [0, *starts[1:], len(nodes)] if starts else [0, len(nodes)]
    found = []
    for low, high in pairwise(bounds):
        heavy = [k for k in range(low, high) if words[k]]
        inside = any(a <= k <= b for a, b in attention for k in heavy[:1])
        main = heavy[0] if heavy else low
        what = _attention_words(nodes, low, high) if inside else words[main] or f"{high - low} steps"
        steps = [STEPS[nodes[k].op_type] for k in range(main, high) if nodes[k].op_type in STEPS and not words[k]]
        found.append(
            Layer(
                what=", ".join([what, *dict.fromkeys(steps[:NAMED])]),
                first=low,
                last=high - 1,
                mains=frozenset(nodes[k].op_type for k in heavy),
                counted=not any(nodes[k].op_type in UNCOUNTED for k in heavy),
            )
        )
    return found


def _attentions(nodes: Sequence[ir.Node]) -> list[tuple[int, int]]:
    """Return from which node to which there is attention: from scores over a softmax to what they weigh."""
    place = {node: k for k, node in enumerate(nodes)}
    found = []
    for node in nodes:
        if node.op_type == "Softmax":
            scores, weighed = _product_in_front(node), _product_behind(node)
            if scores is not None and weighed is not None:
                found.append((place[scores], place[weighed]))
    return found


def _product_in_front(node: ir.Node | None) -> ir.Node | None:
    for _ in range(FARTHEST):
        computed = [v for v in (node.inputs if node is not None else ()) if v is not None and v.producer() is not None]
        node = computed[0].producer() if computed else None
        if node is None or _is_product(node):
            return node
    return None


def _product_behind(node: ir.Node) -> ir.Node | None:
    for _ in range(FARTHEST):
        readers = list(node.outputs[0].consumers())
        product = next((reader for reader in readers if _is_product(reader)), None)
        if product is not None or len(readers) != 1:
            return product
        node = readers[0]
    return None


def _is_product(node: ir.Node) -> bool:
    """Whether a node multiplies two matrices that are both computed."""
    return node.op_type == "MatMul" and all(constant(value) is None for value in node.inputs)


def _attention_words(nodes: Sequence[ir.Node], low: int, high: int) -> str:
    softmax = next((node for node in nodes[low:high] if node.op_type == "Softmax"), None)
    dims = _dims(softmax.outputs[0]) if softmax is not None else []
    if len(dims) == 4 and dims[1] > 0 < dims[2]:
        return f"attention, {dims[1]} heads over {dims[3]} tokens"
    return f"attention over {dims[-1]} tokens" if dims and dims[-1] > 0 else "attention"


def _words(node: ir.Node) -> str:
    """Return what a layer is that begins with a node; empty where none does."""
    op = node.op_type
    if op in ("Conv", "ConvTranspose"):
        return _convolution(node)
    if op in PRODUCTS:
        return _product(node)
    if op in POOLS:
        return POOLS[op] + _windows(node)
    if op in SUMS:
        return SUMS[op] + _along(node)
    return NORMS.get(op) or UNCOUNTED.get(op) or OTHERS.get(op) or ""


def _convolution(node: ir.Node) -> str:
    shape = _dims(node.inputs[1])
    if len(shape) < 3:
        return "convolution"
    groups, back = node.attributes.get_int("group", 1), node.op_type == "ConvTranspose"
    outputs, inputs = (shape[1] * groups, shape[0]) if back else (shape[0], shape[1] * groups)
    kernel = " x ".join(map(str, shape[2:]))
    taps = f"{kernel} tap{'s' * (kernel != '1')}" if len(shape) == 3 else kernel
    kind = "depthwise convolution" if groups == inputs > 1 else "grouped convolution" if groups > 1 else "convolution"
    kind = f"transposed {kind}" if back else kind
    along = " along time," if len(shape) == 3 and _in_time(node.inputs[0]) else ""
    strides = node.attributes.get_ints("strides") or ()
    stride = f", stride {' x '.join(map(str, strides))}" if math.prod(strides) > 1 else ""
    return f"{kind}{along} {taps}, {inputs} -> {outputs}{stride}"


def _in_time(value: ir.Value | None) -> bool:
    """Whether the last axis of a value is that of the window: it was never turned or made anew on the way."""
    while value is not None and not value.is_graph_input():
        node = value.producer()
        if node is None or node.op_type in ("Transpose", "Reshape", "Gather", "MatMul", "Gemm", *UNCOUNTED):
            return False
        computed = [v for v in node.inputs if v is not None and constant(v) is None]
        value = computed[0] if computed else None
    return value is not None


def _product(node: ir.Node) -> str:
    weight = constant(node.inputs[1])
    if weight is None:
        return "product of matrices" if constant(node.inputs[0]) is None else "fixed mixing"
    if weight.ndim < 2:
        return "dense layer"
    turned = node.op_type == "Gemm" and bool(node.attributes.get_int("transB", 0))
    sizes = weight.shape[::-1] if turned else weight.shape
    several = f"{math.prod(weight.shape[:-2])} x " if weight.ndim > 2 and math.prod(weight.shape[:-2]) > 1 else ""
    return f"dense layer, {several}{sizes[-2]} -> {sizes[-1]}"


def _windows(node: ir.Node) -> str:
    kernel, strides = node.attributes.get_ints("kernel_shape") or (), node.attributes.get_ints("strides") or ()
    of = f" of {' x '.join(map(str, kernel))}" if kernel else ""
    return of + (f", stride {' x '.join(map(str, strides))}" if math.prod(strides) > 1 else "")


def _along(node: ir.Node) -> str:
    dims, axes = _dims(node.inputs[0]), constant(node.inputs[1]) if len(node.inputs) > 1 else None
    if axes is None or not dims or axes.size == 0:
        return ""
    sizes = [dims[int(axis)] for axis in axes.reshape(-1) if -len(dims) <= int(axis) < len(dims)]
    return f" of {math.prod(sizes):,}" if sizes and min(sizes) > 0 else ""


def _dims(value: ir.Value | None) -> list[int]:
    """Return the shape of a value, 0 for what is not known; empty where nothing is."""
    shape: Iterable[object] | None = value.shape if value is not None else None
    return [dim if isinstance(dim, int) else 0 for dim in shape] if shape is not None else []
