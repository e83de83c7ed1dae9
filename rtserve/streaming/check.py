"""The step against the window: hop after hop over recordings, by the one rule of parity.

The recordings have what real ones have: noise of every size, a flat channel, a saturated one, a stretch of NaN. What is
compared are answers, the first and the last among them; and a stream that has run for long must answer, bit for bit, as
one that was begun a window ago.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import ParityError
from rtserve.graphs.macs import count_macs
from rtserve.graphs.parity import ParityCase, ParityReport, compare_outputs
from rtserve.graphs.witness import Answer, hear
from rtserve.streaming.runner import StepRunner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtserve.graphs.graph import Graph
    from rtserve.streaming.step_graph import StepGraph

__all__ = ["answers_of", "check_step", "compared", "recordings", "windows_of"]

HEAVY = 100_000_000
"""Multiply-adds per window above which half as many windows are compared."""
DEFECT = "this is a defect of rtserve; the window's graph is right, use that"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Recording:
    """A recording (n_chans, samples) of whole hops."""

    name: str
    x: np.ndarray


def recordings(n_chans: int, n_times: int, hop: int, *, seed: int = 0) -> list[_Recording]:
    """Return what a step is tried on: two windows long and some hops more, at two scales.

    Parameters
    ----------
    n_chans, n_times : int
        Of a window.
    hop : int
        Samples of a step.
    seed : int
        Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    n = (2 * -(-n_times // hop) + 6) * hop
    made = []
    for scale in (1.0, 1e-5):
        made.append(_Recording(name=f"white noise x {scale:g}", x=scale * rng.standard_normal((n_chans, n))))
        drift = 0.3 * np.cumsum(rng.standard_normal((n_chans, n)), axis=1) / np.sqrt(n_times)
        x = drift + rng.standard_normal((n_chans, n))
        x[0] = 0.0
        x[-1, n // 3 : n // 2] = 40.0
        made.append(_Recording(name=f"a flat and a saturated channel x {scale:g}", x=scale * x))
    broken = rng.standard_normal((n_chans, n))
    at = -(-n_times // hop) * hop - hop // 2
    broken[n_chans // 2, at : at + hop + 1] = np.nan
    made.append(_Recording(name="a NaN span", x=broken))
    return [_Recording(name=one.name, x=one.x.astype(np.float32)) for one in made]


def answers_of(step: StepGraph, x: np.ndarray) -> np.ndarray:
    """Return the answers to recordings (streams, n_chans, samples), (windows, streams, n_outputs)."""
    runner, hop = StepRunner(step, batch=len(x)), step.hop
    found = [runner.push(x[:, :, k : k + hop]) for k in range(0, x.shape[2] - hop + 1, hop)]
    return np.array([y for y in found if y is not None])


def windows_of(step: StepGraph, x: np.ndarray, which: Sequence[int]) -> np.ndarray:
    """Return the windows (len(which), n_chans, n_times) of a recording that some answers of its stream are about."""
    ends = [(step.first_answer + k) * step.hop for k in which]
    return np.stack([x[:, end - step.input_spec.n_times : end] for end in ends])


def check_step(step: StepGraph, graph: Graph, *, seed: int = 0) -> ParityReport:
    """Compare a step with its window's graph.

    Raises
    ------
    ParityError
        Where an answer differs by more than the window's graph itself may, or depends on what is over.
    """
    spec = step.input_spec
    *found, broken = recordings(spec.n_chans, spec.n_times, step.hop, seed=seed)
    together = answers_of(step, np.stack([one.x for one in found]))
    n = len(together)
    every = np.unique(np.linspace(0, n - 1, 5 if count_macs(graph.model) > HEAVY else 10).astype(int))
    heard = hear(graph, [(one.name, windows_of(step, one.x, every.tolist())) for one in found])
    cases = [compared(answer, together[every, place]) for place, answer in enumerate(heard.answers)]
    cases += _of_broken(step, graph, broken, every, finite=bool(np.isfinite(together).all()))
    _require_no_memory(step, np.stack([one.x for one in found]), together[-1])
    report = ParityReport(
        cases=tuple(cases), subject="the step, hop after hop", reference="the windows in float64",
        notes=heard.notes,
    )  # fmt: skip
    return report.require(hint=DEFECT)


def _of_broken(
    step: StepGraph, graph: Graph, broken: _Recording, every: np.ndarray, *, finite: bool
) -> list[ParityCase]:
    """Compare the answers to a recording with NaN, alone and window by window: an engine may let it spread in a batch.

    Where answers are `finite` otherwise, all those to windows without NaN must be.
    """
    alone = answers_of(step, broken.x[None])[:, 0]
    holes = np.append(0, np.cumsum(~np.isfinite(broken.x).all(0)))
    ends = (step.first_answer + np.arange(len(alone))) * step.hop
    clean = holes[ends] == holes[ends - step.input_spec.n_times]
    kept = np.flatnonzero(clean & ~np.isfinite(alone).all(1))
    if finite and len(kept):
        raise ParityError(f"NaN is still in answer {kept[0]}, whose window holds none", hint=DEFECT)
    x = windows_of(step, broken.x, every.tolist())
    whole = np.isfinite(x).all((1, 2))
    cases = [
        compared(hear(graph, [(f"{broken.name} in the window", x[k : k + 1])]).answers[0], alone[every[k]][None])
        for k in np.flatnonzero(~whole)
    ]
    if whole.any():
        answer = hear(graph, [(f"{broken.name} before or after the window", x[whole])]).answers[0]
        cases.append(compared(answer, alone[every[whole]]))
    return cases


def compared(answer: Answer, got: np.ndarray) -> ParityCase:
    """Compare answers; to a window that holds NaN, what the window's graph gives in onnxruntime is right as well."""
    case = answer.compare(got)
    if case.passed or np.isfinite(answer.x).all():
        return case
    return compare_outputs(answer.name, got, answer.single.astype(np.float64), rounding=answer.rounding)


def _require_no_memory(step: StepGraph, x: np.ndarray, last: np.ndarray) -> None:
    """Raise `ParityError` unless a stream begun a window ago gives the same last answer, bit for bit."""
    fresh = answers_of(step, x[:, :, -step.first_answer * step.hop :])[-1]
    if not np.array_equal(fresh, last, equal_nan=True):
        raise ParityError(
            f"the step remembers what is over: {fresh.ravel()[:3]} begun anew, {last.ravel()[:3]} after a long run",
            hint=DEFECT,
        )
