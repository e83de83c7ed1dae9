"""The logarithm of symmetric positive definite matrices, as the pipelines' modules ask for it.

In an export it is one node, the function ``rtserve.LogMatrix`` (`rtserve.graphs.functions`); else it is computed as the
executor in a zip computes it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rtserve.graphs.functions import DOMAIN, VERSION
from rtserve.runtime import logarithm

__all__ = ["identity", "log_matrix"]


def identity(n: int, like: Tensor) -> Tensor:
    """Return the unit matrix (n, n) in the type of `like`."""
    return torch.eye(n, dtype=like.dtype, device=like.device)


def log_matrix(a: Tensor) -> Tensor:
    """Return the logarithm of matrices (..., n, n) in float64, NaN throughout where one has none."""
    if not torch.compiler.is_exporting():
        return logarithm.log_matrix(a)
    inputs = (a, identity(a.shape[-1], a))
    made: Tensor = torch.onnx.ops.symbolic(
        f"{DOMAIN}::LogMatrix", inputs, dtype=a.dtype, shape=a.shape, version=VERSION
    )
    return made
