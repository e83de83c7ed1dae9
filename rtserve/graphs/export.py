"""Export: a checkpoint and its exporter to a `Graph` that answers as the network does.

The torch exporter runs in a child process under a timeout. What comes back is folded, named and versioned by our own
rules, must have a symbolic batch, and is compared with the network in float64 before anybody gets to see it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve import errors
from rtserve.errors import ExportError
from rtserve.files import sha256_file
from rtserve.graphs.answers import Answers
from rtserve.graphs.checkpoint import checkpoint_digest
from rtserve.graphs.exporter import exporter_file
from rtserve.graphs.foreign import checkpoint_file
from rtserve.graphs.parity import (
    SPECTRAL_TOLERANCE,
    TOLERANCE,
    UNEQUAL,
    ParityCase,
    ParityReport,
    compare_outputs,
)
from rtserve.graphs.warm import run_child
from rtserve.spec import TRAINED_ON, InputSpec, OutputSpec, Provenance

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.graph import Graph

__all__ = ["Child", "export", "export_with_report", "hint_of"]

NO_NUMBER = " (the network itself answers NaN or Inf)"
"""What is added to the name of an input on which there is nothing to compare."""
Child = Callable[[Path, float], tuple[int, str]]
"""Runs the export that ``job.json`` in a folder describes within some seconds, as `rtserve.graphs.warm.run_child`."""


def export(
    checkpoint: str | Path | None,
    *,
    exporter: str,
    settings: Mapping[str, Any] | None = None,
    timeout_s: float = 600.0,
    seed: int = 0,
    weights: str = "",
    stated: Mapping[str, Any] | None = None,
) -> Graph:
    """Export a checkpoint to a graph that is proven equal to its network.

    Parameters
    ----------
    checkpoint : path or None
        The .pth/.pt file; None exports the network as its exporter initialises it with `seed`.
    exporter : str
        Reference of the exporter, e.g. ``"exporters/compact_rt.py"``.
    settings : mapping, optional
        What ``--set`` gives: keyword arguments for the exporter.
    timeout_s : float
        Seconds the child process may take.
    seed : int
        Seed of the initialiser where there is no checkpoint.
    weights : str
        Which set of weights to take where the checkpoint has several; see `rtserve.graphs.checkpoint.load_checkpoint`.
    stated : mapping, optional
        What neither exporter nor checkpoint says: ``unit``, ``sfreq``, ``target``, ``classes``, ``form``.

    Returns
    -------
    Graph
        With a symbolic batch, opset 20, IR version 9.

    Raises
    ------
    CheckpointError, InputError
        Where the checkpoint or the exporter reference is wrong.
    ExportError
        Where the torch exporter fails, hangs, or gives a static batch.
    ParityError
        Where the graph's answers differ from the network's.
    """
    graph, report, _ = export_with_report(
        checkpoint, exporter=exporter, settings=settings, timeout_s=timeout_s, seed=seed, weights=weights, stated=stated
    )
    report.require(hint=hint_of(report))
    return graph


def hint_of(report: ParityReport) -> str:
    """Return what helps where a graph differs from its network, or where the network itself answers no number."""
    if any(case.name.endswith(NO_NUMBER) for case in report.cases):
        return (
            "a logarithm of 0 or a division by a standard deviation of 0, most often: give it a floor (eps), or scale"
            " what the network is given; nothing was written"
        )
    return "the network may need a quirk in its exporter, see exporters/README.md; nothing was written"


def export_with_report(
    checkpoint: str | Path | None,
    *,
    exporter: str,
    settings: Mapping[str, Any] | None = None,
    timeout_s: float = 600.0,
    seed: int = 0,
    weights: str = "",
    stated: Mapping[str, Any] | None = None,
    child: Child | None = None,
) -> tuple[Graph, ParityReport, dict[str, Any]]:
    """Export as `export` does, and return the graph, its parity report and the child's facts, passed or not.

    `child` runs the job of a folder, isolated or trusted: it may load what runs code (`FileExporter`); by default a
    process of its own does it, which may not.
    """
    if checkpoint is not None:
        checkpoint = checkpoint_file(checkpoint)
    file = exporter_file(exporter)
    job = {
        "checkpoint": str(checkpoint.resolve()) if checkpoint else "",
        "exporter": exporter,
        "exporter_name": exporter,
        "settings": dict(settings or {}),
        "seed": seed,
        "weights": weights,
        "stated": dict(stated or {}),
        "isolated": child is not None,
    }
    with tempfile.TemporaryDirectory(prefix="rtserve-export-") as name:
        folder = Path(name)
        facts = _run_child(folder, job, timeout_s, child or run_child)
        model = _read_raw(folder / "raw.onnx", facts)
        graph = _finish(model, facts, _provenance(job, facts, checkpoint, file))
        graph = replace(graph, answers=_answers(folder / "probes.npz", graph.input_spec))
        graph, facts["form"] = _with_form(graph, OutputSpec.from_json(facts["output"]), folder / "probes.npz")
        report = _parity(graph, folder / "probes.npz", facts["reference"])
        if report.verdict == UNEQUAL and _transforms(graph):
            graph, report = _as_products(graph, report, folder / "probes.npz")
        report = _located(report, graph, folder / "probes.npz")
    return graph, report, facts


def _run_child(folder: Path, job: dict[str, Any], timeout_s: float, child: Child) -> dict[str, Any]:
    """Run the child; return its facts or raise the error it reports."""
    (folder / "job.json").write_text(json.dumps(job), "utf-8")
    try:
        code, said = child(folder, timeout_s)
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"the export took longer than {timeout_s:g} s and was stopped",
            hint="raise --timeout, or look at the network",
        ) from None
    result_path = folder / "result.json"
    if not result_path.exists():
        last = [line for line in said.splitlines() if line.strip()][-1:] or ["no message"]
        died = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        raise ExportError(f"the export process died ({died}): {last[0][:300]}", hint="is the exporter file right?")
    result: dict[str, Any] = json.loads(result_path.read_text("utf-8"))
    if "error" in result:
        kind = getattr(errors, result["error"]["type"], ExportError)
        raise kind(result["error"]["message"], hint=result["error"]["hint"])
    return result


def _read_raw(path: Path, facts: dict[str, Any]) -> ir.Model:
    """Read the exporter's file and insist on a symbolic batch."""
    import onnx_ir as ir

    model = ir.load(str(path))
    for value in (model.graph.inputs[0], model.graph.outputs[0]):
        if value.shape is None or isinstance(value.shape[0], int):
            raise ExportError(
                f"the exporter fixed the batch of {facts['network']}: {value.name} has shape {value.shape}",
                hint="the network branches on its batch size; its exporter needs a quirk that removes the branch",
            )
    return model


def _provenance(job: dict[str, Any], facts: dict[str, Any], checkpoint: Path | None, file: Path | None) -> Provenance:
    """Record what the graph was made of: digests and names, no paths and no times."""
    name = job["exporter"]
    if file is not None:
        name = f"{file.resolve().parent.name}/{file.name}" + job["exporter"].partition(".py")[2]
    details = {
        "checkpoint": {"name": checkpoint.name, "sha256": checkpoint_digest(checkpoint)} if checkpoint else None,
        "exporter": name,
        "exporter_sha256": sha256_file(file) if file else None,
        "settings": job["settings"],
        "seed": None if checkpoint else job["seed"],
    }
    kept = (
        "network",
        "n_parameters",
        "architecture",
        "quirks",
        "torch",
        *([TRAINED_ON] if facts.get(TRAINED_ON) else []),
    )
    chosen = {"weights": job["weights"]} if job["weights"] else {}
    told = {key: facts[key] for key in ("left_out", "training", "coupled") if facts.get(key)}
    return Provenance(kind="export", details=details | chosen | told | {key: facts[key] for key in kept})


def _finish(model: ir.Model, facts: dict[str, Any], provenance: Provenance) -> Graph:
    """Fold, name and version the raw model, and wrap it."""
    from rtserve.graphs.fold import fold_batchnorm, fold_constants, name_after_operators, normalise
    from rtserve.graphs.graph import Graph
    from rtserve.graphs.heads import with_form

    fold_constants(model)
    fold_batchnorm(model)
    fold_constants(model)
    name_after_operators(model)
    normalise(model, name=facts["network"])
    return Graph(
        model=model,
        input_spec=InputSpec.from_json(facts["input"]),
        output_spec=replace(with_form(OutputSpec.from_json(facts["output"]), model), coupled=bool(facts["coupled"])),
        provenance=provenance,
    )


def _with_form(graph: Graph, said: OutputSpec, path: Path) -> tuple[Graph, str]:
    """Return a classifier that nobody gave a form, and whose graph ends in none, with that of its answers; and why.

    One number a window that is never below 0 nor above 1 may be either: it stays a logit, and that is said.
    """
    from rtserve.graphs.heads import adds_up, output_form

    if said.form or not said.classifies or output_form(graph.model):
        return graph, ""
    with np.load(path) as arrays:
        answers = np.concatenate([arrays[f"y{index}"] for index in range(len(arrays["names"]))])
    answers = answers[np.isfinite(answers).all(axis=1)]
    if adds_up(answers):
        spec = replace(graph.output_spec, form="probabilities")
        return replace(graph, output_spec=spec), "probabilities: its answers add up to 1"
    if answers.shape[1] == 1 and len(answers) and answers.min() >= 0 and answers.max() <= 1:
        return graph, (
            "logits, since its graph ends in no sigmoid; yet all its answers to noise are from 0 to 1: where they are"
            " probabilities, say --form probabilities"
        )
    return graph, ""


def _answers(path: Path, spec: InputSpec) -> Answers | None:
    """Return the network's answers that travel in the graph: those of the last probe."""
    with np.load(path) as arrays:
        last = len(arrays["names"]) - 1
        return Answers.of(arrays[f"y{last}"], float(arrays[f"rounding{last}"]), spec)


def _parity(graph: Graph, path: Path, reference: str) -> ParityReport:
    """Compare the graph in onnxruntime with the answers the child stored."""
    from rtserve.graphs.runners import OnnxruntimeRunner

    runner = OnnxruntimeRunner(graph)
    spectral = _transforms(graph) > 0
    tolerance = SPECTRAL_TOLERANCE if spectral else TOLERANCE
    cases = _parity_double(graph, path) if spectral else []
    with np.load(path) as arrays:
        for index, name in enumerate(arrays["names"]):
            x, truth = arrays[f"x{index}"], arrays[f"y{index}"]
            try:
                got = runner.infer(x)
            except Exception as error:
                raise ExportError(
                    f"the graph does not run on {len(x)} windows: {str(error).splitlines()[0][:300]}",
                    hint="the network branches on its batch size; its exporter needs a quirk that removes the branch",
                ) from None
            case = compare_outputs(
                str(name), got, truth, rounding=float(arrays[f"rounding{index}"]), tolerance=tolerance,
                single=arrays[f"own{index}"],
            )  # fmt: skip
            cases.append(_require_number(case, truth))
    return ParityReport(cases=tuple(cases), subject="onnxruntime on the exported graph", reference=reference)


def _transforms(graph: Graph) -> int:
    """Return how many nodes of a graph are Fourier transforms."""
    from rtserve.graphs.transforms import TRANSFORMS

    return sum(node.op_type in TRANSFORMS for node in graph.model.graph)


def _as_products(graph: Graph, report: ParityReport, path: Path) -> tuple[Graph, ParityReport]:
    """Return the graph with its transforms as products, where onnxruntime's own are what is off; else both as given."""
    from rtserve.graphs.macs import infer_shapes
    from rtserve.graphs.transforms import UnknownSizeError, as_products

    model = infer_shapes(graph.clone_model())
    try:
        count = as_products(model)
    except UnknownSizeError:
        return graph, report
    product = replace(graph, model=infer_shapes(model))
    again = _parity(product, path, report.reference)
    if again.verdict == UNEQUAL:
        return graph, report
    worst = report.worst
    said = (
        f"{count} Fourier transforms are written as matrix products: with onnxruntime's own DFT the answers to"
        f" {worst.name} were off by {worst.error:.1e} (allowed: {worst.allowed:.1e})"
    )
    return product, replace(again, notes=(*again.notes, said))


def _located(report: ParityReport, graph: Graph, path: Path) -> ParityReport:
    """Return the report; where it is not equal, with the operator of the graph that this turns on."""
    from rtserve.graphs.turning import turning_words

    worst = report.worst
    if report.verdict != UNEQUAL or not worst.finite:
        return report
    with np.load(path) as arrays:
        names = [str(name) for name in arrays["names"]]
        if worst.name not in names:  # compared in float64
            return report
        index = names.index(worst.name)
        x, truth, own = arrays[f"x{index}"], arrays[f"y{index}"], arrays[f"own{index}"]

    def off(y: np.ndarray) -> float:
        return compare_outputs(worst.name, y, truth, rounding=worst.rounding, single=own).error

    return replace(report, notes=(*report.notes, turning_words(graph, x, off, worst.allowed, "onnxruntime")))


def _parity_double(graph: Graph, path: Path) -> list[ParityCase]:
    """Compare the graph in float64 with the answers the child stored, on the inputs of one window."""
    from rtserve.graphs.runners import ReferenceRunner

    runner = ReferenceRunner(graph)
    with np.load(path) as arrays:
        chosen = [i for i, _ in enumerate(arrays["names"]) if len(arrays[f"x{i}"]) == 1]
        return [
            compare_outputs(f"{arrays['names'][i]}, in float64", runner.infer(arrays[f"x{i}"]), arrays[f"y{i}"])
            for i in chosen
        ]


def _require_number(case: ParityCase, truth: np.ndarray) -> ParityCase:
    """Return the case, failed where the network itself answers NaN or Inf to noise.

    On window-shaped input, which has a flat channel, it may: a z-score without a floor does, and the graph must too.
    """
    if np.isfinite(truth).all() or case.name.startswith("window-shaped"):
        return case
    return replace(case, name=case.name + NO_NUMBER, finite=False)
