"""A third witness: onnx's own evaluator, heard where the executor and onnxruntime differ by more than rounding explains.

The executor in float64 says quickly what a graph answers. It may not vouch for itself: were one of its operators wrong,
onnxruntime's difference from it would count as rounding, and widen what a rewrite is allowed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtserve.graphs.graph import Graph

__all__ = ["DOUBT", "hear_evaluator"]

DOUBT = 5e-6
"""Relative difference between two witnesses from which a third is heard: below it, no allowance grows."""


def hear_evaluator(graph: Graph, doubtful: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> None:
    """Raise `ParityError` where onnx's own evaluator contradicts the plan: (name, input, the plan's answer) each."""
    from rtserve.graphs.parity import ParityReport, compare_outputs
    from rtserve.graphs.runners import ReferenceRunner

    evaluator = ReferenceRunner(graph)
    cases = tuple(compare_outputs(name, truth, evaluator.infer(x)) for name, x, truth in doubtful)
    ParityReport(cases=cases, subject="the plan in float64", reference="onnx's own evaluator").require(
        hint="an operator of the executor does not do what ONNX says: a defect of rtserve"
    )
