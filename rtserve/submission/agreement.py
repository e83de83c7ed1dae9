"""Every route that travels gives the graph's numbers, or nothing is built.

The files are opened as the scorer's process would open them, by the same code, and compared with the graph in float64
at batch 1, 2 and 5 on the probe inputs of `rtserve.graphs.parity`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import BundleError, EnvironmentMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rtserve.graphs.parity import ParityReport
    from rtserve.submission.artefacts import Artefact

__all__ = ["opened_routes", "require_agreement"]


@contextmanager
def opened_routes(
    artefact: Artefact, beside: Mapping[str, bytes] | None = None
) -> Iterator[dict[str, Callable[[np.ndarray], np.ndarray]]]:
    """Open every route of `artefact` as the scorer would; `beside` are files of the zip that a route reads.

    Raises
    ------
    BundleError, EnvironmentMissingError
        Where a route cannot be taken in this environment at all.
    """
    with tempfile.TemporaryDirectory(prefix="rtserve-routes-") as name:
        folder = Path(name)
        for file, data in {**artefact.files, **(beside or {})}.items():
            (folder / file).write_bytes(data)
        yield {route: _open(folder, artefact.name, route) for route in artefact.routes}


def require_agreement(
    artefact: Artefact, routes: Mapping[str, Callable[[np.ndarray], np.ndarray]]
) -> dict[str, ParityReport]:
    """Return the parity report of every opened route of `artefact`.

    Raises
    ------
    ParityError
        Where a route's numbers are not the graph's, or not finite where the graph's are.
    BundleError
        Where a route fails on one of the inputs.
    """
    from rtserve.graphs.parity import ParityReport, probe_inputs
    from rtserve.graphs.witness import hear

    heard = hear(artefact.graph, probe_inputs(artefact.graph.input_spec))
    reports = {}
    for route, infer in routes.items():
        subject = f"challenge {artefact.key} by {route}"
        cases = [a.compare(_answer(infer, a.x, f"{subject} on {a.name}")) for a in heard.answers]
        reports[route] = ParityReport(
            cases=tuple(cases), subject=subject, reference="the graph in float64", notes=heard.notes
        ).require(hint='leave this route out with runtime = "torch"; if that is the one, it is a defect of rtserve')
    return reports


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

    import rtserve.runtime.native_route
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
