"""What an engine is to the compiler: a name, and what work costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtserve.fusion.engines.onnxruntime import Costs

__all__ = ["Engine"]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that a fused graph is laid out for.

    Parameters
    ----------
    name : str
        One of `rtserve.graphs.engines.LAYOUTS`.
    costs : Costs or None
        As measured: whether views at once cost more than each branch by itself. None where they were not, and that is not
        asked. What views share (`rtserve.fusion.program`) is weighed by onnxruntime's for every engine.
    """

    name: str
    costs: Costs | None = None
