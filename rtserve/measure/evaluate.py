"""What a graph is worth on a window set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rtserve.graphs.graph import Graph
from rtserve.measure.cases import Per
from rtserve.measure.decisions import CLASSIFICATION, decide, require_same_scores, to_cases
from rtserve.measure.evaluation import REGRESSION, Evaluation, score_cases
from rtserve.measure.predict import as_graph, as_windows, learned_parameters, predict
from rtserve.measure.statistics import RESAMPLES
from rtserve.measure.trained import part_to_score, records_of, untold
from rtserve.measure.vetting import vetted
from rtserve.signals.given import given_windows
from rtserve.signals.windows import WindowSet

__all__ = ["Evaluation", "assumed", "evaluate"]

COUPLED = "the answer to a window depends on its batch, so the score is one of this batch size"


def evaluate(
    graph: Graph | str | Path,
    windows: Any,
    *,
    unit: str | None = None,
    sfreq: float = 0.0,
    target: str = "",
    classes: Sequence[str] = (),
    metrics: Sequence[str] | str | None = None,
    split: str | None = None,
    per: str | None = None,
    engine: str = "onnxruntime",
    threads: int = 1,
    batch: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
    name: str | None = None,
    beside: Sequence[Mapping[str, Any]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Score a graph on windows.

    Parameters
    ----------
    graph : Graph or path
        What predicts.
    windows : WindowSet, path, (X, y), mne.Epochs or data set
        X (n_windows, n_chans, n_times), y (n_windows,) numbers or names of classes, as `rtserve.signals.given` reads
        them: of epochs the kinds of events are the classes.
    unit, sfreq, target, classes : str, float, str, sequence of str
        What the windows do not say: the unit of the samples (``"V"``, ``"mV"``, ``"uV"``, ``"1"`` for standardised,
        ``"graph"`` for as the graph takes it), their rate in Hz, what y is, and the names of the classes 0, 1, ...
    metrics : str or sequence of str, optional
        As `rtserve.measure.metrics.parse_metric` reads them; by default NRMSE, RMSE and MSE, or balanced accuracy for
        classes.
    split : str, optional
        Score only the windows that the file marks so, ``"all"`` for each of them. By default all, or the test windows
        where the graph was trained on others of the file; ``"train"`` alone gives a score on training windows.
    per : str, optional
        Bring the answers to the windows of one recording together first: ``"recording"`` or another column for their
        mean (of classes, of their probabilities), ``"recording:vote"`` for the class most of them decide for.
    engine, threads, batch : str, int, int
        See `rtserve.measure.predict.predict`.
    resamples, seed : int
        Of the bootstrap.
    name : str, optional
        What the graph is called; its file's name by default.
    beside : sequence of mapping
        What other graphs, scored on the same windows to be compared, were trained on.
    progress : callable, optional
        Called with (windows done, windows in all).

    Returns
    -------
    Evaluation

    Raises
    ------
    InputError
        Where graph or windows cannot be read, do not fit each other, the metric is not defined (a constant y), or the
        graph was trained on the windows and nobody asked for that, or the windows lack a column that the metric or
        `per` needs.
    """
    name = name or (Path(graph).name if isinstance(graph, str | Path) else "graph")
    graph = as_graph(graph)
    metrics = [metrics] if isinstance(metrics, str) else metrics
    whole = given_windows(
        windows,
        unit=unit,
        sfreq=sfreq,
        target=target,
        classes=classes,
        spec=graph.input_spec,
        output=graph.output_spec,
        name=name,
    ).windows
    part = part_to_score([*records_of(graph), *beside], as_windows(whole), split, name=name)
    windows = part.windows
    require_same_scores(graph.output_spec, windows, name=name)
    outputs = predict(graph, windows, engine=engine, threads=threads, batch=batch, name=name, progress=progress)
    decision = decide(graph, windows, metrics or (), name=name)
    known = vetted(graph, engine)
    found = score_cases(
        to_cases(outputs, windows, name=name, decision=decision),
        windows,
        per=Per.parse(per) if per else None,
        metrics=metrics or (CLASSIFICATION if decision else REGRESSION),
        decided=str(decision) if decision else "",
        split=part.split,
        resamples=resamples,
        seed=seed,
        name=name,
        graph_digest=graph.digest,
        engine=engine,
        threads=threads,
        parameters=learned_parameters(graph),
        batch=(graph.fixed_batch or batch) if known.coupled_by else None,
    )
    notes = [
        *part.notes,
        *untold(part, {name: graph}),
        *known.notes,
        *([f"{COUPLED}: {known.coupled_by}"] if known.coupled_by else []),
    ]
    return replace(found, trained_on=part.trained, notes=(*found.notes, *notes, *assumed(graph, windows, name)))


def assumed(graph: Graph, windows: WindowSet, name: str) -> list[str]:
    """Say what the graph does not state and was taken as the windows have it, and where their channels differ in name."""
    unknown, said = graph.input_spec.unknown, windows.require_spec(graph.input_spec, name=name)
    if not unknown:
        return [said] if said else []
    given = [f"in {windows.unit}"] if "unit" in unknown and windows.unit else []
    given += [f"at {windows.sfreq:g} Hz"] if "sfreq" in unknown and windows.sfreq else []
    missing = " and its ".join({"unit": "unit", "sfreq": "rate"}[key] for key in unknown)
    return [
        *([said] if said else []),
        f"{name} does not state its {missing}: it was given the windows as they are"
        + (f", {' '.join(given)}" if given else "")
        + f"; where it takes another: rtserve annotate {name} --unit ... --sfreq ...",
    ]
