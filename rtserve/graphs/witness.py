"""What a graph answers, on the word of two witnesses out of three.

The executor in float64 says quickly what a graph answers, and what float32 costs there. It may not vouch for itself:
onnxruntime on the plain graph must agree within that cost. Where it does not, onnx's own evaluator is heard, and the one
of the three that the other two contradict is named and not obeyed (the evaluator itself is wrong on some forms of
AveragePool). Where no two agree there is no truth, and an error.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import ParityError, RtserveError
from rtserve.graphs.parity import CEILING, SLACK, TOLERANCE, ParityCase, compare_outputs, relative_error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtserve.graphs.graph import Graph

__all__ = ["Answer", "Testimony", "hear"]

FAR = 1e-2
"""Part of the ceiling below which one draw of float32's error tells that it is not near it."""
EXECUTOR, ENGINE, EVALUATOR = "the executor in float64", "onnxruntime on the plain graph", "onnx's own evaluator"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a graph answers to one input.

    Parameters
    ----------
    name : str
        What the input is.
    x, truth, single : ndarray
        The input (batch, n_chans, n_times); what is right (batch, n_outputs) in float64; what onnxruntime gives.
    cost, glance : callable
        Find `rounding`, which takes longer than the truth did: it is asked only where somebody must know; and the same
        from one window, which can be small by luck, but not a hundred times too small.
    """

    name: str
    x: np.ndarray
    truth: np.ndarray
    single: np.ndarray
    cost: Callable[[], float]
    glance: Callable[[], float]

    @cached_property
    def rounding(self) -> float:
        """Relative error that float32 is expected to make."""
        return self.cost()

    def compare(self, got: np.ndarray) -> ParityCase:
        """Compare what another evaluation of the graph gives.

        What is within `TOLERANCE` needs no allowance; that float32 itself is not near the ceiling a glance says.
        """
        close = compare_outputs(self.name, got, self.truth, single=self.single).passed
        rounding = self.glance() if close and "rounding" not in self.__dict__ else self.rounding
        rounding = rounding if rounding <= FAR * CEILING else self.rounding
        return compare_outputs(self.name, got, self.truth, rounding=rounding, single=self.single)

    def fault(self, got: np.ndarray) -> ParityCase | None:
        """Return the comparison where it does not pass; what is within `TOLERANCE` does, whatever rounding costs."""
        if compare_outputs(self.name, got, self.truth, single=self.single).passed:
            return None
        case = self.compare(got)
        return None if case.passed else case


@dataclass(frozen=True, kw_only=True)
class Testimony:
    """The answers to all inputs, and who was not obeyed."""

    answers: tuple[Answer, ...]
    notes: tuple[str, ...] = ()


def hear(graph: Graph, inputs: Sequence[tuple[str, np.ndarray]], *, windows: int = 4, alone: bool = False) -> Testimony:
    """Return what `graph` answers to each input (name, (batch, n_chans, n_times)).

    Parameters
    ----------
    graph : Graph
        Plain: as exported, or as joined.
    inputs : sequence of (str, ndarray)
        Probes; they may hold NaN and infinite samples.
    windows : int
        See `rtserve.graphs.rounding.expected_error`.
    alone : bool
        Whether no answer depends on another window of its batch, as is known of graphs that are not coupled: the
        executor is then given every window of all inputs once, as many at a time as stay in a cache.

    Raises
    ------
    ParityError
        Where no two of executor, onnxruntime and evaluator agree.
    ExportError
        Where onnxruntime cannot load the graph.
    """
    from rtserve.graphs.runners import OnnxruntimeRunner, ReferenceRunner

    engine = OnnxruntimeRunner(graph, arena=False).infer
    try:
        answers = _by_executor(graph, engine, inputs, windows, alone=alone)
        if alone and any(_apart(a) or _spoiled(a) for a in answers):  # it may not be as it was said
            answers = _by_executor(graph, engine, inputs, windows, alone=False)
        doubtful = [a for a in answers if _apart(a) and _distance(a.single, a.truth) > SLACK * a.rounding]
    except RtserveError:  # an operator that the executor lacks
        return Testimony(answers=tuple(_by_evaluator(ReferenceRunner(graph).infer, engine, inputs)))
    if not doubtful:
        return Testimony(answers=tuple(answers))
    evaluator = ReferenceRunner(graph).infer
    worst = max(doubtful, key=lambda a: _distance(a.single, a.truth))
    odd = _odd_one_out(worst, evaluator, windows=len(worst.x) if graph.output_spec.coupled else 1)
    if odd == EXECUTOR:
        answers = _by_evaluator(evaluator, engine, inputs)
    return Testimony(answers=tuple(answers), notes=(f"{odd} contradicts the other two witnesses and is not obeyed",))


def _by_executor(
    graph: Graph,
    engine: Callable[[np.ndarray], np.ndarray],
    inputs: Sequence[tuple[str, np.ndarray]],
    windows: int,
    *,
    alone: bool,
) -> list[Answer]:
    from rtserve.graphs.runners import PlanRunner, each_once

    plan = PlanRunner(graph, double=True, alone=alone or None)
    xs = [x for _, x in inputs]
    truths = plan.infer_all(xs)

    def asked(x: np.ndarray) -> np.ndarray:  # in other batches than the executor: it shows if they matter
        return np.concatenate([engine(part) for part in plan.parts(x, least=2)])

    singles = [each_once(asked, x) if alone else engine(x) for x in xs]

    @cache
    def glances() -> dict[int, float]:
        asked = [k for k, answer in enumerate(answers) if "rounding" not in answer.__dict__]
        found = plan.glances([xs[k] for k in asked], [truths[k] for k in asked])
        return dict(zip(asked, found, strict=True))

    def seen(x: np.ndarray) -> int:
        return max(windows, len(x)) if np.isfinite(x).all() else len(x)

    answers = [
        Answer(
            name=name, x=x, truth=truth, single=single, glance=lambda k=k: glances()[k],  # type: ignore[misc]
            cost=partial(plan.rounding, x, truth, windows=seen(x)),
        )
        for k, ((name, x), truth, single) in enumerate(zip(inputs, truths, singles, strict=True))
    ]  # fmt: skip
    return answers


def _by_evaluator(
    evaluator: Callable[[np.ndarray], np.ndarray],
    engine: Callable[[np.ndarray], np.ndarray],
    inputs: Sequence[tuple[str, np.ndarray]],
) -> list[Answer]:
    """Return answers by the evaluator; the engine's own error, within the ceiling, stands for that of float32."""
    answers = []
    for name, x in inputs:
        truth, single = evaluator(x), engine(x)
        own = min(relative_error(single, truth), CEILING / SLACK) if single.shape == truth.shape else 0.0
        known = partial(float, own)
        answers.append(Answer(name=name, x=x, truth=truth, single=single, cost=known, glance=known))
    return answers


def _apart(answer: Answer) -> bool:
    """Whether executor and onnxruntime differ by more than `TOLERANCE`, on an input and answer that are numbers."""
    finite = all(np.isfinite(part).all() for part in (answer.x, answer.truth, answer.single))
    return finite and _distance(answer.single, answer.truth) > TOLERANCE


def _spoiled(answer: Answer) -> bool:
    """Whether onnxruntime, asked in other batches, has numbers for numbers where the executor has none: NaN of others."""
    if np.shape(answer.truth) != np.shape(answer.single) or not np.isfinite(answer.x).all():
        return False
    return bool((np.isfinite(answer.single) & ~np.isfinite(answer.truth)).any())


def _distance(got: np.ndarray, truth: np.ndarray) -> float:
    return relative_error(np.asarray(got), np.asarray(truth)) if np.shape(got) == np.shape(truth) else float("inf")


def _odd_one_out(answer: Answer, evaluator: Callable[[np.ndarray], np.ndarray], *, windows: int) -> str:
    """Return which of the three witnesses the other two contradict on the input that is most in doubt.

    Its first `windows`: one alone, since the evaluator is slow, unless that would be another answer.
    """
    try:
        third = evaluator(answer.x[:windows])
    except RtserveError:  # it has nothing to say: the other two must agree
        third = np.full(1, np.nan)
    said = {EXECUTOR: answer.truth[:windows], ENGINE: answer.single[:windows], EVALUATOR: third}
    pairs = [(EXECUTOR, ENGINE, EVALUATOR), (EXECUTOR, EVALUATOR, ENGINE), (ENGINE, EVALUATOR, EXECUTOR)]
    apart = {odd: _distance(said[one], said[two]) for one, two, odd in pairs}
    odd = min(apart, key=lambda name: apart[name])
    if apart[odd] > max(CEILING, SLACK * answer.rounding):
        numbers = ", ".join(f"{name} {float(np.ravel(values)[0]):.7g}" for name, values in said.items())
        raise ParityError(
            f"on {answer.name} no two witnesses agree on what the graph answers: {numbers}",
            hint="an operator of the graph means different things to different engines; export it in another form",
        )
    return odd
