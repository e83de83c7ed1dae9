"""The exactness check of the compiler: rewritten models against the plain graph in float64."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import RtserveError
from rtserve.graphs.answers import Answers, answer_windows
from rtserve.graphs.engines import ENGINE_NAMES
from rtserve.graphs.macs import count_macs
from rtserve.graphs.parity import ParityReport, probe_inputs
from rtserve.graphs.witness import Testimony, hear

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.graph import Graph

__all__ = ["Reference"]

HEAVY = 100_000_000
"""Multiply-adds per window above which white and window-shaped noise take turns instead of both being probed, and broken
windows come in pairs instead of fours; ten times as many, and every second of those probes is left out."""


REFERENCE = "reference windows"


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
        self.graph, self.brief = graph, brief
        scales = {"scales": (1e-5, 1.0, 1e2), "batches": (1, 2)} if brief else {}
        self.probes = probe_inputs(graph.input_spec, seed=seed, **scales)  # type: ignore[arg-type]
        macs = count_macs(graph.model)
        if macs > HEAVY:
            self.probes = [probe for i, probe in enumerate(self.probes) if (i // 2 + i) % 2 == 0]
        if macs > 10 * HEAVY:
            self.probes = self.probes[::2]
        if not brief:
            self.probes.append((REFERENCE, answer_windows(graph.input_spec)))
        self.probes += _broken(graph, seed, windows=2 if macs > HEAVY else 4)

    @cached_property
    def _heard(self) -> Testimony:
        """What the plain graph answers to the probes.

        A broken window on which the plain graph in onnxruntime does not answer as float64 does (engines differ on NaN
        in Clip and Max) says nothing about a rewrite and is left out.
        """
        heard = hear(self.graph, self.probes, windows=2 if self.brief else 4)
        kept = tuple(a for a in heard.answers if np.isfinite(a.x).all() or a.compare(a.single).passed)
        return replace(heard, answers=kept)

    def report(self, graph: Graph, engine: str = "onnxruntime") -> ParityReport:
        """Compare a graph in an engine of `rtserve.graphs.engines.ENGINES` with the truth.

        OpenVINO is asked about numbers alone: what it makes of NaN depends on how it fused a node.
        """
        from rtserve.graphs.runners import make_runner

        infer = make_runner(graph, engine).infer
        asked = [answer for answer in self._heard.answers if engine != "openvino" or np.isfinite(answer.x).all()]
        cases = tuple(answer.compare(infer(answer.x)) for answer in asked)
        subject = f"{ENGINE_NAMES[engine]} on the fused graph"
        return ParityReport(cases=cases, subject=subject, reference="the plan in float64", notes=self._heard.notes)

    @property
    def answers(self) -> Answers | None:
        """What travels in the graph: its answers to the reference windows."""
        found = next((answer for answer in self._heard.answers if answer.name == REFERENCE), None)
        return Answers.of(found.truth, found.rounding, self.graph.input_spec) if found is not None else None

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
