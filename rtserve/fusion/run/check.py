"""The exactness check of the compiler: rewritten models against the plain graph in float64.

A rewrite is on trial, not the engine. What an engine makes of NaN is its own (onnxruntime's MaxPool of rank 3 drops it,
its linear Resize carries it into the next window of the batch, its Clip depends on where in a vector it lies): on broken
windows a rewrite stands where the rewritten graph in float64 answers as the plain one does, and the report says whose
answer differs. And where the plain graph in onnxruntime is itself off by more than is allowed (its RNN and DFT are, now
and then), a rewrite that is the same in float64 and no worse in onnxruntime is not taken back for it; whether the whole
graph may be called equal is asked of it in the end, without that excuse.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial

import numpy as np
import onnx_ir as ir

from rtserve.errors import ParityError, RtserveError
from rtserve.graphs.answers import Answers, answer_windows
from rtserve.graphs.engines import ENGINE_NAMES
from rtserve.graphs.graph import Graph
from rtserve.graphs.macs import work_of
from rtserve.graphs.parity import ILL, UNEQUAL, ParityCase, ParityReport, compare_outputs, probe_inputs, relative_error
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner, make_runner
from rtserve.graphs.witness import Answer, Testimony, hear
from rtserve.spec import InputSpec

__all__ = ["Reference"]

HEAVY = 100_000_000
"""Multiply-adds per window above which white and window-shaped noise take turns instead of both being probed, and broken
windows come in pairs instead of fours; ten times as many, and every second of those probes is left out, and the others
are of two windows, put one behind the other as `AGAIN` says."""
AGAIN = (0, 1, 1, 0, 1)


REFERENCE = "reference windows"
NAN_IS_MEANT = ("LogMatrix",)
"""Operators that answer NaN on purpose: a singular matrix has no logarithm."""
NO_WORSE = 2.0
"""How much further off than the plain graph a rewritten one may be where the plain one is off by too much itself."""


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
    alone : bool
        Whether it is known that no answer depends on another window of its batch.
    """

    def __init__(self, graph: Graph, *, seed: int = 0, brief: bool = False, alone: bool = False) -> None:
        self.graph, self.brief, self.alone = graph, brief, alone
        scales = {"scales": (1e-5, 1.0, 1e2), "batches": (1, 2)} if brief else {}
        self.probes = probe_inputs(graph.input_spec, seed=seed, **scales)  # type: ignore[arg-type]
        self.work = work_of(graph.model)
        macs = self.work.macs
        if macs > HEAVY:
            self.probes = [probe for i, probe in enumerate(self.probes) if (i // 2 + i) % 2 == 0]
        self.probes = _nested(self.probes)
        if macs > 10 * HEAVY:
            self.probes = [(name, x[np.resize(AGAIN, len(x))]) for name, x in self.probes[::2]]
        self.probes += _broken(graph.input_spec, self.probes, windows=2 if macs > HEAVY else 4)
        if not brief:
            self.probes.append((REFERENCE, answer_windows(graph.input_spec)))

    @cached_property
    def _heard(self) -> Testimony:
        """What the plain graph answers to the probes."""
        return hear(self.graph, self.probes, windows=2 if self.brief else 4, alone=self.alone)

    def report(self, graph: Graph, engine: str = "onnxruntime") -> ParityReport:
        """Compare a graph in an engine of `rtserve.graphs.engines.ENGINES` with the truth.

        OpenVINO is asked about numbers alone: what it makes of NaN depends on how it fused a node. Where it is not equal,
        the report says on which operator that turns.

        Raises
        ------
        ParityError
            Where the plan has no number for any window: NaN is equal to nothing.
        """
        self._require_numbers()
        infer, same = make_runner(graph, engine).infer, _same_in_double(graph)
        asked = [answer for answer in self._heard.answers if engine != "openvino" or np.isfinite(answer.x).all()]
        cases, notes = [], [*self._heard.notes]
        for answer in asked:
            case = answer.compare(infer(answer.x))
            if case.passed or np.isfinite(answer.x).all() or not same(answer):
                cases.append(case)
            else:
                notes.append(
                    f"on {answer.name} {ENGINE_NAMES[engine]} does not answer as float64 does: it treats NaN so"
                )
        if any(node.op_type in NAN_IS_MEANT for node in self.graph.model.graph):
            notes.append("NaN is meant where a covariance is singular (LogMatrix)")
        subject = f"{ENGINE_NAMES[engine]} on the fused graph"
        report = ParityReport(cases=tuple(cases), subject=subject, reference="the plan in float64", notes=tuple(notes))
        said = self._turn(graph, report.worst, engine) if report.verdict == UNEQUAL else ""
        return replace(report, notes=(*report.notes, said)) if said else report

    def _require_numbers(self) -> None:
        if any(np.isfinite(answer.truth).any() for answer in self._heard.answers if np.isfinite(answer.x).all()):
            return
        tensors = self.graph.model.graph.initializers.values()
        odd = [value.name for value in tensors if value.const_value is not None and _holds_none(value.const_value)]
        named = f"; NaN or Inf in {', '.join(map(str, odd[:3]))}" if odd else ""
        raise ParityError(
            f"the plan answers NaN or Inf to every window it is asked about: there is nothing to compare{named}",
            hint="leave out the member whose weights are no numbers, or take a checkpoint from before its training diverged",
        )

    def _turn(self, graph: Graph, case: ParityCase, engine: str) -> str:
        """Return the operator on which the refusal of a graph in an engine turns, on the input of a case."""
        from rtserve.graphs.turning import turning_words

        answer = self._answer(case.name)
        if answer is None or not case.finite:
            return "which operator it turns on was not asked: there is nothing to compare"
        return turning_words(graph, answer.x, lambda y: answer.compare(y).error, case.allowed, engine)

    def cure(self, report: ParityReport) -> str:
        """Return what helps where a graph is not equal in onnxruntime: it may not be the compiler's doing."""
        if report.verdict == ILL:
            return "no engine can give these numbers in float32: scale what the network is given, or leave out what cancels"
        answer = self._answer(report.worst.name)
        if answer is not None and not relative_error(answer.single, answer.truth) <= report.worst.allowed:
            return (
                "onnxruntime gives other numbers for the plain graph, too: write that operator in another form in the"
                " network, or leave its member out"
            )
        return "this is a defect of rtserve; --no-optimize avoids it"

    def _answer(self, name: str) -> Answer | None:
        return next((answer for answer in self._heard.answers if answer.name == name), None)

    @property
    def answers(self) -> Answers | None:
        """What travels in the graph: its answers to the reference windows."""
        found = self._answer(REFERENCE)
        return Answers.of(found.truth, found.rounding, self.graph.input_spec) if found is not None else None

    def check(self, model: ir.Model) -> str:
        """Return why a model is not the same, or an empty text."""
        graph = replace(self.graph, model=model)
        same, blamed = _same_in_double(graph), []
        try:
            infer = OnnxruntimeRunner(graph).infer
            for answer in self._heard.answers:
                case = answer.fault(infer(answer.x))
                if case is not None and not _excused(case, answer, same):
                    blamed.append(case)
        except RtserveError as error:
            return error.message
        if not blamed:
            return ""
        worst = ParityReport(cases=tuple(blamed)).worst
        return f"{worst.error:.1e} on {worst.name}"


def _excused(case: ParityCase, answer: Answer, same: Callable[[Answer], bool]) -> bool:
    """Whether the rewritten graph is the same in float64, and the engine treats NaN so or is as far off on the plain."""
    if not np.isfinite(answer.x).all() and same(answer):
        return True
    if not case.finite:
        return False
    own = relative_error(answer.single, answer.truth)
    return own > case.allowed and case.error <= NO_WORSE * own and same(answer)


def _holds_none(tensor: ir.TensorProtocol) -> bool:
    """Whether a stored tensor holds NaN or Inf."""
    values = tensor.numpy()
    return values.dtype.kind == "f" and not bool(np.isfinite(values).all())


def _same_in_double(graph: Graph) -> Callable[[Answer], bool]:
    """Return whether a rewritten graph gives what the plain graph gives in float64, without any allowance for float32.

    It is run where somebody asks. Where the executor lacks an operator, nobody can say: a broken window to which the plain
    graph in onnxruntime does not give the truth either says nothing about a rewrite.
    """
    runner = cache(partial(PlanRunner, graph, double=True))

    def same(answer: Answer) -> bool:
        try:
            got = runner().infer(answer.x)
        except RtserveError:
            return not np.isfinite(answer.x).all() and not answer.compare(answer.single).passed
        return compare_outputs(answer.name, got, answer.truth).passed

    return same


def _nested(probes: list[tuple[str, np.ndarray]]) -> list[tuple[str, np.ndarray]]:
    """Return probes whose smaller batches are windows of the largest of their kind: its last, behind its first."""
    largest: dict[str, np.ndarray] = {}
    for name, x in probes:
        kind = name.rpartition(",")[0]
        largest[kind] = max(x, largest.get(kind, x), key=len)
    return [(name, largest[name.rpartition(",")[0]][[*range(len(x) - 1), -1]]) for name, x in probes]


def _broken(spec: InputSpec, probes: Sequence[tuple[str, np.ndarray]], *, windows: int) -> list[tuple[str, np.ndarray]]:
    """Return windows of about unit size, one with a NaN channel or an infinite sample, and constant ones.

    What was not finite must stay so, and what is beside it must stay as it is.
    """
    unit = min((x for _, x in probes), key=lambda x: (round(abs(np.log10(x.std()))), -len(x)))
    inf = unit[np.resize(np.arange(len(unit)), windows)]
    nan, flat = inf[::-1].copy(), np.full_like(inf, 0.5)
    nan[0, spec.n_chans // 3] = np.nan
    inf[1, spec.n_chans // 2, spec.n_times // 3] = np.inf
    return [("a NaN channel", nan), ("an infinite sample", inf), ("constant windows", flat)]
