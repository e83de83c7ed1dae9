"""Every route that travels gives the graph's numbers, or nothing is built.

The files are opened as the scorer's process would open them, by the same code, and compared with the graph in float64
at batch 1, 2 and 5 on the probe inputs of `rtserve.graphs.parity`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import BundleError, EnvironmentMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rtserve.graphs.graph import Graph
    from rtserve.graphs.parity import ParityReport
    from rtserve.submission.artefacts import Artefact

__all__ = ["require_agreement", "truths_of"]


def require_agreement(artefact: Artefact) -> dict[str, ParityReport]:
    """Return the parity report of every route of `artefact`.

    Raises
    ------
    ParityError
        Where a route's numbers are not the graph's, or not finite where the graph's are.
    BundleError
        Where a route cannot be taken in this environment at all, or fails on one of the inputs.
    """
    from rtserve.graphs.parity import ParityReport, compare_outputs, probe_inputs

    inputs = probe_inputs(artefact.graph.input_spec)
    truths, own = truths_of(artefact.graph, inputs)
    reports = {}
    with tempfile.TemporaryDirectory(prefix="rtserve-routes-") as name:
        folder = Path(name)
        for file, data in artefact.files.items():
            (folder / file).write_bytes(data)
        for route in artefact.routes:
            infer, subject = _open(folder, artefact.name, route), f"challenge {artefact.key} by {route}"
            cases = [
                compare_outputs(probe, _answer(infer, x, f"{subject} on {probe}"), truth, own_error=error)
                for (probe, x), truth, error in zip(inputs, truths, own, strict=True)
            ]
            reports[route] = ParityReport(
                cases=tuple(cases), subject=subject, reference="the graph in float64"
            ).require(hint='leave this route out with runtime = "torch"; if that is the one, it is a defect of rtserve')
    return reports


def truths_of(graph: Graph, inputs: Sequence[tuple[str, np.ndarray]]) -> tuple[list[np.ndarray], list[float]]:
    """Return what `graph` answers to each input in float64, and what float32 costs there.

    The plan computes it, quickly; but a plan may not vouch for itself. It has a second witness: onnxruntime on the
    graph, in float32. Where the two are further apart than rounding explains, onnx's own evaluator decides.

    Parameters
    ----------
    graph : Graph
        As it travels.
    inputs : sequence of (str, ndarray)
        Name and (batch, n_chans, n_times) each.

    Raises
    ------
    ParityError
        Where the plan does not compute the graph.
    """
    from rtserve.graphs.parity import compare_outputs, pooled_errors, relative_error
    from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner
    from rtserve.graphs.witness import DOUBT, hear_evaluator

    exact, plain = PlanRunner(graph, double=True), OnnxruntimeRunner(graph)
    truths, own, doubtful = [], [], []
    for name, x in inputs:
        truth, witness = exact.infer(x), plain.infer(x)
        if not compare_outputs(name, witness, truth, tolerance=DOUBT).passed:
            doubtful.append((name, x, truth))
        truths.append(truth)
        own.append(relative_error(witness, truth))
    if doubtful:
        hear_evaluator(graph, doubtful)
    return truths, pooled_errors(own)


def _answer(infer: Callable[[np.ndarray], np.ndarray], x: np.ndarray, what: str) -> np.ndarray:
    """Return what a route answers; whatever it raises is a reason not to build, told with its first line."""
    try:
        return infer(x)
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise BundleError(
            f"{what} fails: {type(error).__name__}: {' '.join(lines[-1:])[:300]}",
            hint='leave this route out with runtime = "torch"; if that is the one, it is a defect of rtserve',
        ) from error


def _open(folder: Path, name: str, route: str) -> Callable[[np.ndarray], np.ndarray]:
    """Open one route by the code that travels."""
    import torch

    import rtserve.runtime.onnxruntime_route
    import rtserve.runtime.script_route  # noqa: F401  (each enters its route)
    from rtserve.runtime.serving import load_model

    model = load_model(folder, name, "cpu", route)
    if model.route != route:
        if "ImportError" in model.reason or "ModuleNotFoundError" in model.reason:
            raise EnvironmentMissingError(f"route {route} cannot be tried here: {model.reason}", hint="install it")
        raise BundleError(f"{name} does not run by {route}: {model.reason}", hint='choose runtime = "torch"')

    def infer(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            y: np.ndarray = model.forward(torch.from_numpy(x)).numpy()
        return y

    return infer
