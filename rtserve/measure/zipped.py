"""What a zip is worth on windows: the answers of its entry point, scored as a graph's are.

How a zip is driven is not this room's business: it is handed in as a callable, which the command line takes from
`rtserve.submission.scoring`. What the zip was trained on is known where it was built here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.bundled import read_bundled
from rtserve.measure.cases import Per
from rtserve.measure.decisions import CLASSIFICATION, require_vectors
from rtserve.measure.evaluate import COUPLED
from rtserve.measure.evaluation import REGRESSION, Evaluation, score_predictions
from rtserve.measure.metrics import names_of_metrics, parse_metric
from rtserve.measure.side_records import side_records
from rtserve.measure.statistics import RESAMPLES
from rtserve.measure.trained import part_to_score
from rtserve.signals.windows import WindowSet

__all__ = ["ZipPredictor", "evaluate_zip"]

ENGINE = "the zip's entry point"
ZipPredictor = Callable[[Path, WindowSet], np.ndarray]
"""``(path, windows) -> (n_windows,)``: numbers, or class numbers; (n_windows, n) where an answer is a vector."""


def evaluate_zip(
    path: str | Path,
    windows: WindowSet,
    predict_zip: ZipPredictor,
    *,
    metrics: Sequence[str] | None = None,
    split: str | None = None,
    per: str | None = None,
    seed: int = 0,
    resamples: int = RESAMPLES,
    name: str | None = None,
    records: Sequence[Mapping[str, Any]] | None = None,
) -> Evaluation:
    """Score a zip, any zip, through its entry point.

    Parameters
    ----------
    path : path
        The zip.
    windows : WindowSet
        The whole set.
    predict_zip : callable
        Drives the entry point.
    metrics, split, per, seed, resamples, name
        As `rtserve.measure.evaluate.evaluate` takes them.
    records : sequence of mapping, optional
        What the zip, and others to be compared with it, were trained on; by default what the zip itself says.

    Raises
    ------
    InputError
        As `evaluate`; where a metric of numbers is asked of classes, or one that reads probabilities, which an entry
        point does not answer.
    """
    path = Path(path)
    name = name or path.name
    known = side_records(path, windows.target) if records is None else records
    part = part_to_score(known, windows, split, name=name)
    asked = tuple(metrics or ())
    classes = _classes(asked, part.windows, name)
    coupled, batch = _coupling(path, part.windows)
    scored = score_predictions(
        predict_zip(path, part.windows),
        part.windows,
        metrics=asked or (CLASSIFICATION if classes else REGRESSION),
        per=Per.parse(per) if per else None,
        decided="class that the zip answers" if classes else "",
        split=part.split,
        seed=seed,
        resamples=resamples,
        name=name,
        graph_digest=hashlib.sha256(path.read_bytes()).hexdigest(),
        engine=ENGINE,
        batch=batch,
    )
    notes = [*part.notes, *([f"{COUPLED}, which the contest chose: {coupled}"] if coupled else [])]
    return replace(scored, trained_on=part.trained, notes=(*scored.notes, *notes))


def _coupling(path: Path, windows: WindowSet) -> tuple[str, int | None]:
    """Return how a zip's answers depend on the batch, and the contest's batch, as its manifest says of these windows."""
    told = read_bundled(path, graphs_too=False).manifest.get("challenges")
    entries = [entry for entry in told.values() if isinstance(entry, dict)] if isinstance(told, dict) else []
    meant = [entry for entry in entries if windows.predicts and windows.predicts in _targets(entry)] or entries
    for entry in meant:
        coupled = entry.get("coupled")
        if isinstance(coupled, dict) and isinstance(coupled.get("batch"), int):
            return str(coupled.get("by", "")), coupled["batch"]
    return "", None


def _targets(entry: Mapping[str, Any]) -> tuple[Any, ...]:
    stated = entry.get("stated")
    return entry.get("target"), stated.get("target") if isinstance(stated, dict) else None


def _classes(metrics: Sequence[str], windows: WindowSet, name: str) -> bool:
    """Return whether classes are scored; refuse what a zip's answers cannot be scored by."""
    parsed = [parse_metric(metric) for metric in metrics]
    if windows.y.ndim > 1 or any(metric.reads == "vector" for metric in parsed):
        require_vectors(parsed, windows)
    known = windows.predicts == "class"
    classes = known or any(metric.classes for metric in parsed)
    number = bool(windows.target) and not known
    for metric in parsed:
        if metric.reads == "probabilities":
            raise InputError(
                f"{metric.name} reads probabilities, and a zip answers one number or class per window",
                hint=f"use {', '.join(names_of_metrics(('class',)))}, or score the graph it was built from",
            )
        if metric.classes and number:
            raise InputError(
                f"{metric.name} is a metric of classes, and the windows' y is {windows.target}",
                hint="leave the metric of classes out",
            )
        if classes and not metric.classes:
            raise InputError(
                f"{metric.name} is a metric of numbers, and {name} is scored on classes",
                hint=f"use {', '.join(names_of_metrics(('class',)))}, or leave --metric out",
            )
    return classes
