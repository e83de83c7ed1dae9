"""Write what OpenVINO gets wrong in forms that it gets right; `rtserve.graphs.openvino_forms` has them.

The graph says the same to every engine afterwards, and OpenVINO gives its numbers whoever loads the file.
"""

from __future__ import annotations

import onnx_ir as ir

from rtserve.fusion.ir.passes import PassResult
from rtserve.graphs.openvino_forms import rewrite

__all__ = ["run"]


def run(model: ir.Model) -> PassResult:
    """Rewrite every form that has an exact equivalent, in place; one that has none is refused by name."""
    changed = rewrite(model)
    return PassResult(changed=changed, did=f"{changed} operators in forms that OpenVINO computes")
