"""Fourier transforms of known length become products; `rtserve.graphs.transforms` has the mathematics."""

from __future__ import annotations

import onnx_ir as ir

from rtserve.fusion.ir.passes import PassResult, Refused, each
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import supersede
from rtserve.graphs.transforms import LARGEST, TRANSFORMS, UnknownSizeError, product_of

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Rewrite every DFT and STFT of known size, in place."""
    return each(model, _rewrite, "{} transforms as products")


def _rewrite(model: ir.Model, node: ir.Node) -> int:
    if node.op_type not in TRANSFORMS:
        return 0
    try:
        product = product_of(Emitter(model.graph, before=node, prefix="fourier"), node, largest=LARGEST)
    except UnknownSizeError as error:
        raise Refused(str(error)) from None
    supersede(model, node.outputs[0], product)
    return 1
