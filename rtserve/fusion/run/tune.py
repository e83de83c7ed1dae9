"""Choosing by measuring: candidates timed by turns on this machine, the fastest kept.

Which order, layout or form is fastest depends on the machine; the cost model only guesses. The choice goes into the
graph's provenance, the timings into a file beside it, so that the same choice gives the same bytes.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from timeit import Timer
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.run.outcome import Outcome
from rtserve.graphs.graph import Graph

__all__ = ["choose"]

ROUNDS = 31
BURST_NS = 2_000_000
MARGIN = 0.98
"""A candidate must take less than this share of the default's time to replace it: noise is not a reason."""


def choose(
    joined: Graph, default: ir.Model, candidates: Mapping[str, ir.Model], outcomes: list[Outcome], *, engine: str
) -> tuple[ir.Model, dict[str, Any]]:
    """Return the fastest model and the timings of all.

    Parameters
    ----------
    joined : Graph
        The plan; gives the specs, and is a candidate itself (``plain``).
    default : onnx_ir.Model
        What the cost model chose.
    candidates : mapping of str to Model
        Exact alternatives.
    outcomes : list of Outcome
        The choice is appended.
    engine : str
        What runs them.

    Returns
    -------
    model : onnx_ir.Model
        The chosen one.
    timings : dict
        JSON values: engine, threads, batch, medians in us by candidate, the choice.
    """
    from rtserve.graphs.runners import make_runner

    models = _distinct({"default": default, "plain": joined.model, **candidates})
    runners = {name: make_runner(replace(joined, model=model), engine) for name, model in models.items()}
    spec = joined.input_spec
    x = np.random.default_rng(0).standard_normal((1, spec.n_chans, spec.n_times)).astype(np.float32)
    samples = _by_turns({name: (lambda r=runner: r.infer(x)) for name, runner in runners.items()})
    ratios = {
        name: float(np.median(np.array(values) / np.array(samples["default"]))) for name, values in samples.items()
    }
    best = min(ratios, key=lambda name: ratios[name])
    chosen = best if ratios[best] < MARGIN else "default"
    timings = {
        "schema": "rtserve.tuning/1",
        "engine": engine,
        "threads": 1,
        "batch": 1,
        "median_us": {name: float(np.median(values)) / 1e3 for name, values in samples.items()},
        "ratio_to_default": ratios,
        "chosen": chosen,
    }
    reason = (
        f"{chosen} is the fastest of {len(models)} candidates on this machine ({ratios[chosen]:.2f} of the default)"
    )
    outcomes.append(Outcome(name=f"tune={chosen}", status="applied", reason=reason, subject="whole"))
    return models[chosen], timings


def _distinct(models: Mapping[str, ir.Model]) -> dict[str, ir.Model]:
    """Return the models without those that repeat an earlier one."""
    seen: dict[bytes, str] = {}
    for name, model in models.items():
        copy = ir.serde.serialize_model(model)
        copy.ClearField("metadata_props")
        copy.graph.ClearField("name")
        seen.setdefault(copy.SerializeToString(deterministic=True), name)
    return {name: models[name] for name in seen.values()}


def _by_turns(calls: Mapping[str, Any]) -> dict[str, Sequence[float]]:
    """Return ns per call of every candidate in every round, the order turned from round to round.

    It is the process's own time: what other processes take from it on a shared machine does not count.
    """
    timers = {name: Timer(call, timer=time.process_time_ns) for name, call in calls.items()}
    counts = {name: max(1, int(BURST_NS // max(timer.repeat(4, 1)[-1], 1))) for name, timer in timers.items()}
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    for number in range(ROUNDS):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            samples[name].append(timers[name].timeit(counts[name]) / counts[name])
    return samples  # type: ignore[return-value]
