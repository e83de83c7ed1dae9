"""The exactness check of the compiler: rewritten models against the plain graph in float64."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import RtserveError
from rtserve.graphs.macs import count_macs
from rtserve.graphs.parity import ParityReport, compare_outputs, pooled_errors, probe_inputs, relative_error
from rtserve.graphs.witness import DOUBT, hear_evaluator

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.graph import Graph

__all__ = ["Reference"]

HEAVY = 100_000_000
"""Multiply-adds per window above which white and window-shaped noise take turns instead of both being probed, and broken
windows come in pairs instead of fours; ten times as many, and every second of those probes is left out."""


class Reference:
    """What a graph answers in float64 on the probe inputs, computed once.

    Parameters
    ----------
    graph : Graph
        The plain graph.
    seed : int
        Seed of the probes.
    brief : bool
        A few probes only; the whole graph is checked on all of them in the end.
    """

    def __init__(self, graph: Graph, *, seed: int = 0, brief: bool = False) -> None:
        self.graph = graph
        scales = {"scales": (1e-5, 1.0, 1e2), "batches": (1, 2)} if brief else {}
        self.probes = probe_inputs(graph.input_spec, seed=seed, **scales)  # type: ignore[arg-type]
        macs = count_macs(graph.model)
        if macs > HEAVY:
            self.probes = [probe for i, probe in enumerate(self.probes) if (i // 2 + i) % 2 == 0]
        if macs > 10 * HEAVY:
            self.probes = self.probes[::2]
        self.probes += _broken(graph, seed, windows=2 if macs > HEAVY else 4)

    @cached_property
    def _rows(self) -> list[tuple[str, np.ndarray, np.ndarray, float]]:
        """Probes with their float64 answers and the plain graph's own float32 error.

        A broken window on which the plain graph in onnxruntime is not finite where float64 is (engines differ on NaN in
        Clip and Max) says nothing about a rewrite and is left out.
        """
        from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner, ReferenceRunner

        try:
            truth_of = PlanRunner(self.graph, double=True).infer
        except RtserveError:
            truth_of = ReferenceRunner(self.graph).infer
        plain_of = OnnxruntimeRunner(self.graph).infer
        rows: list[tuple[str, np.ndarray, np.ndarray]] = []
        own: list[float] = []
        for name, x in self.probes:
            truth, plain = truth_of(x), plain_of(x)
            if np.isfinite(x).all() or np.array_equal(np.isfinite(truth), np.isfinite(plain)):
                rows.append((name, x, truth))
                own.append(relative_error(plain, truth))
        self._require_witness(rows, own)
        return [(*row, error) for row, error in zip(rows, pooled_errors(own), strict=True)]

    def _require_witness(self, rows: list[tuple[str, np.ndarray, np.ndarray]], own: list[float]) -> None:
        """Hear onnx's evaluator on the input on which the executor and onnxruntime differ most, where that is doubtful.

        One window of it: the evaluator is slow.
        """
        finite = [i for i, (_, x, truth) in enumerate(rows) if np.isfinite(x).all() and np.isfinite(truth).all()]
        worst = max(finite, key=lambda i: own[i], default=None)
        if worst is None or own[worst] <= DOUBT:
            return
        name, x, truth = rows[worst]
        hear_evaluator(self.graph, [(name, x[:1], truth[:1])])

    def report(self, graph: Graph) -> ParityReport:
        """Compare a graph in onnxruntime with the truth."""
        from rtserve.graphs.runners import OnnxruntimeRunner

        infer = OnnxruntimeRunner(graph).infer
        cases = tuple(compare_outputs(name, infer(x), truth, own_error=own) for name, x, truth, own in self._rows)
        return ParityReport(cases=cases, subject="onnxruntime on the fused graph", reference="the plan in float64")

    def check(self, model: ir.Model) -> str:
        """Return why a model is not the same, or an empty text."""
        try:
            report = self.report(replace(self.graph, model=model))
        except RtserveError as error:
            return error.message
        return "" if report.passed else f"{report.worst.error:.1e} on {report.worst.name}"


def _broken(graph: Graph, seed: int, *, windows: int) -> list[tuple[str, np.ndarray]]:
    """Return windows with a NaN channel, an infinite sample, and all constant: what was not finite must stay so."""
    spec = graph.input_spec
    rng = np.random.default_rng(seed + 1)
    x = rng.standard_normal((windows, spec.n_chans, spec.n_times)).astype(np.float32)
    nan, inf = x.copy(), x.copy()
    nan[0, spec.n_chans // 3] = np.nan
    inf[1, spec.n_chans // 2, spec.n_times // 3] = np.inf
    return [("a NaN channel", nan), ("an infinite sample", inf), ("constant windows", np.full_like(x, 0.5))]
