"""What an engine is to the compiler: a name, whether it wants the linear prefix in another order, and what work costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtserve.fusion.engines.onnxruntime import Costs

__all__ = ["Engine"]


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that a fused graph is laid out for."""

    name: str  # one of `rtserve.graphs.engines.ENGINES`
    reorders: bool = True  # whether the linear prefix of a network is put in another order where no view shares it
    costs: Costs | None = None  # as measured; None where they were not, and onnxruntime's are taken
