"""From what a child left to a finished graph: folded and named, and compared with the network's own answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import ExportError
from rtserve.graphs.answers import Answers
from rtserve.graphs.parity import (
    SPECTRAL_TOLERANCE,
    TOLERANCE,
    UNEQUAL,
    ParityCase,
    ParityReport,
    compare_outputs,
)
from rtserve.spec import InputSpec, OutputSpec, Provenance

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.graph import Graph

__all__ = ["NO_NUMBER", "proven"]

NO_NUMBER = " (the network itself answers NaN or Inf)"
"""What is added to the name of an input on which there is nothing to compare."""


def proven(folder: Path, facts: dict[str, Any], provenance: Provenance) -> tuple[Graph, ParityReport]:
    """Return the graph of the raw file in `folder`, and how its answers compare with those that the child found.

    `facts` gets why the graph's form is what it is, under ``form``.
    """
    model = _read_raw(folder / "raw.onnx", facts)
    graph = _finish(model, facts, provenance)
    graph = replace(graph, answers=_answers(folder / "probes.npz", graph.input_spec))
    graph, facts["form"] = _with_form(graph, OutputSpec.from_json(facts["output"]), folder / "probes.npz")
    report = _parity(graph, folder / "probes.npz", facts["reference"])
    if report.verdict == UNEQUAL and _transforms(graph):
        graph, report = _as_products(graph, report, folder / "probes.npz")
    return graph, _located(report, graph, folder / "probes.npz")


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
