"""Two things side by side: settings line by line, and only those numbers subtracted that mean the same.

Where numbers cannot be subtracted the comparison says why and what to run instead. With a window set both sides are
scored again, each in its own process, and the paired difference is given with its interval.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.graphs.graph import Graph
from rtserve.measure.as_files import as_files
from rtserve.measure.comparison import Comparison, Row
from rtserve.measure.evaluate import assumed
from rtserve.measure.evaluation import Evaluation
from rtserve.measure.metrics import metric_of, parse_metric
from rtserve.measure.predict import Progress, as_graph, as_windows
from rtserve.measure.rescore import rescore
from rtserve.measure.side_models import as_networks
from rtserve.measure.side_records import side_records
from rtserve.measure.sides import Claim, Raw, Side, read_side
from rtserve.measure.signature import Signature
from rtserve.measure.statistics import Difference, corrected, difference
from rtserve.measure.suspicions import alike, leaks, suspicions
from rtserve.measure.trained import part_to_score
from rtserve.measure.zipped import ZipPredictor, evaluate_zip
from rtserve.signals.membership import find_records, membership
from rtserve.signals.windows import Stated
from rtserve.spec import TRAINED_ON
from rtserve.stages import Stages, Tell, Together
from rtserve.threads import side_by_side

__all__ = ["Comparison", "compare"]

_NOTHING = Stated()


def compare(
    first: Graph | Evaluation | str | Path,
    second: Graph | Evaluation | str | Path,
    *,
    data: Any = None,
    train: Any = None,
    split: str | None = None,
    exporters: Sequence[str] = (),
    metrics: Sequence[str] = (),
    per: str | None = None,
    seed: int = 0,
    predict_zip: ZipPredictor | None = None,
    stated: Stated = _NOTHING,
    unit: str | None = None,
    sfreq: float = 0.0,
    progress: Tell | None = None,
) -> Comparison:
    """Compare two runs, checkpoints, graphs, zips or results.

    Parameters
    ----------
    first, second : Graph, Evaluation or path
        The sides.
    data : path, WindowSet, (X, y), mne.Epochs or data set, optional
        Windows to score both sides on again, as `rtserve.evaluate` takes them.
    train : as `data`, optional
        Windows that were trained on: looked for in `data`.
    split : str, optional
        Part of `data`; by default all, or the test windows where either side was trained on others of them.
    exporters : sequence of str
        Of checkpoints: one for both sides, or one each.
    metrics : sequence of str
        To score again with; by default NRMSE, RMSE and MSE, or balanced accuracy for classes.
    per : str, optional
        Bring the answers to one recording together before they are scored, as `evaluate` does.
    seed : int
        Of the bootstrap.
    predict_zip : callable, optional
        ``(path, windows) -> (n_windows,)`` through a zip's entry point; without it a zip built here is scored by the
        graph it holds, and any other is refused.
    stated : Stated
        What `data` does not say.
    unit, sfreq : str, float
        The same of its unit and its rate.
    progress : callable, optional
        Called with (done, of how many, what): windows of both sides, then metrics.

    Returns
    -------
    Comparison

    Raises
    ------
    InputError
        Where a side or the windows cannot be read, or either was trained on the windows and nobody asked for that.
    """
    said = replace(stated, unit=stated.unit or unit, sfreq=stated.sfreq or sfreq)
    with as_files(first, second, data, train, said) as (one, two, windows, trained):
        return _compared(
            as_networks(read_side(one), read_side(two)),
            data=windows,
            train=trained,
            split=split,
            exporters=exporters,
            metrics=metrics,
            per=per,
            seed=seed,
            predict_zip=predict_zip,
            stated=said if isinstance(data, str | Path) else _NOTHING,
            progress=progress,
        )


def _compared(
    sides: list[Side],
    *,
    data: str | Path | None,
    train: str | Path | None,
    split: str | None,
    exporters: Sequence[str],
    metrics: Sequence[str],
    per: str | None,
    seed: int,
    predict_zip: ZipPredictor | None,
    stated: Stated,
    progress: Tell | None,
) -> Comparison:
    """Compare two sides that were read."""
    as_stated = list(sides)
    warnings: list[str] = []
    if data is not None:
        records, told = _trained_on(sides, data, split, stated)
        warnings += told
        windows = Together("scoring windows", sum(side.scorable for side in sides), progress)
        settings = (metrics, per, predict_zip, stated)
        calls = [
            partial(_scored, side, data, split, records, _nth(exporters, k), *settings, windows.of(k))
            for k, side in enumerate(sides)
        ]
        sides = side_by_side(calls)
        warnings += leaks(data, train, stated)
    stages = Stages(progress)
    differences, refusals = _paired(sides[0], sides[1], metrics=metrics, seed=seed, stages=stages)
    if differences and sides[0].raw:
        warnings += sides[0].raw.cases().units.caveats()
    plain = [] if differences else _plain(sides[0].claims, sides[1].claims)
    if not differences and not plain:
        refusals += _why_not(sides[0], sides[1])
    return Comparison(
        first=as_stated[0],
        second=as_stated[1],
        rows=tuple(_rows(as_stated[0], as_stated[1])),
        differences=tuple(differences),
        plain=tuple(plain),
        refusals=tuple(refusals),
        warnings=tuple([*warnings, *suspicions(as_stated, sides, differences)]),
    )


def _nth(exporters: Sequence[str], k: int) -> str | None:
    return exporters[min(k, len(exporters) - 1)] if exporters else None


def _trained_on(
    sides: Sequence[Side], data: str | Path, split: str | None, stated: Stated
) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what either side was trained on, and what is to be told of it; refuse a score on it that nobody asked for.

    Where only one side knows the windows, the difference would be of that: they count as trained on for both.
    """
    scored = [side for side in sides if side.scorable]
    if not scored:
        return [], []
    windows = as_windows(data, stated=stated)
    found = [side_records(side.path, windows.target) for side in scored]
    records = find_records([{TRAINED_ON: each} for each in found if each])
    part = part_to_score(records, windows, split, name=" or ".join(dict.fromkeys(side.name for side in scored)))
    told = list(part.notes)
    for side, each in zip(scored, found, strict=True):
        if not each and (records or not part.notes):
            told.append(f"{side.name} does not say what it was trained on")
        elif part.trained.get("trained"):
            told.append(f"of {side.name}: {membership(each, part.windows).text or 'these windows are new to it'}")
    graphs = [(side.name, as_graph(side.path)) for side in scored if side.kind == "graph"]
    return records, [*told, *(note for name, graph in graphs for note in assumed(graph, windows, name))]


def _scored(
    side: Side,
    data: str | Path,
    split: str | None,
    records: Sequence[dict[str, Any]],
    exporter: str | None,
    metrics: Sequence[str],
    per: str | None,
    predict_zip: ZipPredictor | None,
    stated: Stated,
    progress: Progress,
) -> Side:
    if not side.scorable:
        return side
    if side.kind != "zip" or predict_zip is None:
        settings = {"metrics": list(metrics) or None, "per": per, "beside": list(records)}
        return rescore(side, data, split=split, exporter=exporter, stated=stated, progress=progress, **settings)
    windows = as_windows(data, stated=stated)
    found = evaluate_zip(
        side.path, windows, predict_zip, metrics=metrics, split=split, per=per, name=side.name, records=records
    )
    progress(found.n, found.n)
    claims = tuple(Claim(name=s.signature.metric, value=s.value, signature=s.signature) for s in found.scores)
    raw = Raw(
        data=found.data_digest,
        predictions=found.predictions,
        targets=found.targets,
        subject=found.subject,
        columns=found.cases.columns if found.cases else {},
        agg=found.scores[0].signature.agg,
    )
    return replace(side, kind="result", claims=claims, raw=raw)


def _rows(first: Side, second: Side) -> Iterable[Row]:
    yield Row(key="architecture", first=first.architecture or None, second=second.architecture or None)
    counts = [None if s.parameters is None else f"{s.parameters:,}" for s in (first, second)]
    yield Row(key="parameters", first=counts[0], second=counts[1])
    for key in dict.fromkeys((*first.settings, *second.settings)):
        yield Row(key=key, first=first.settings.get(key), second=second.settings.get(key))


def _paired(
    first: Side, second: Side, *, metrics: Sequence[str], seed: int, stages: Stages
) -> tuple[list[tuple[Signature, Difference]], list[str]]:
    """Return paired differences where both sides store predictions of the same windows, else why not."""
    a, b = first.raw, second.raw
    if a is None or b is None:
        return [], []
    if a.data != b.data or not np.array_equal(a.targets, b.targets):
        return [], [f"the predictions are of other windows: data {a.data[:12]} against {b.data[:12]}"]
    if a.agg != b.agg:
        return [], [f"what is scored differs: {a.agg} against {b.agg}"]
    found, refusals = [], []
    asked = _claimed(first, metrics)
    stages.expect(len(asked))
    for claimed in asked:
        stages.begin(f"resampling {claimed.metric}")
        try:
            found.append(_difference(a, b, claimed, seed=seed))
        except InputError as error:
            refusals.append(f"{claimed.metric}: {error.message}")
    together = corrected([each for _, each in found], "metrics of one pair")
    return [(signature, each) for (signature, _), each in zip(found, together, strict=True)], refusals


def _claimed(side: Side, metrics: Sequence[str]) -> list[Signature]:
    """Return the signatures of the metrics asked for, as the side states them; of all it states where it has none."""
    stated = {m.label: c.signature for c in side.claims if c.signature and (m := metric_of(c.signature)) is not None}
    asked = [stated[label] for label in (parse_metric(name).label for name in metrics) if label in stated]
    return asked or list(stated.values())


def _difference(a: Raw, b: Raw, claimed: Signature, *, seed: int) -> tuple[Signature, Difference]:
    """Return the paired difference of the metric that a signature is of."""
    first, second = a.cases(), b.cases()
    metric = metric_of(claimed)
    if metric is None:
        raise InputError("not a metric of this version", hint="score both again: rtserve evaluate")
    metric = metric.on(first.columns)
    signature = metric.signature(n=len(first), data=a.data, split=claimed.split, agg=a.agg)
    return signature, difference(metric, first.y, first.read(metric), second.read(metric), first.units, seed=seed)


def _plain(first: Sequence[Claim], second: Sequence[Claim]) -> list[tuple[Claim, Claim]]:
    return [
        (a, b)
        for a, b in product(first, second)
        if a.signature and b.signature and not a.signature.differences(b.signature)
    ]


def _why_not(first: Side, second: Side) -> list[str]:
    """Return for each pair of numbers that look alike why they are not subtracted."""
    if first.cost and second.cost:
        return ["two times taken in two runs: what else the machine did in each is unknown"]
    out = []
    for a, b in alike(first.claims, second.claims):
        if a.signature and b.signature:
            out.append(
                f"{a.name} {a.value:.6g} and {b.name} {b.value:.6g}: {'; '.join(a.signature.differences(b.signature))}"
            )
        else:
            missing = " and ".join(f"{n}'s {c.name} {c.value:.6g}" for n, c in (("A", a), ("B", b)) if not c.signature)
            out.append(f"{missing} without a signature: which metric, over which windows, is not known")
    states = " and ".join(f"{n} states none" for n, side in (("A", first), ("B", second)) if not side.claims)
    return out or [f"no two numbers of the same kind{': ' + states if states else ''}"]
