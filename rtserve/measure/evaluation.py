"""`Evaluation`: signed scores of predictions beside what a constant scores on the same windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.display import card
from rtserve.measure.cases import WINDOWS, Cases, Per
from rtserve.measure.class_tables import class_tables, one_class_text, subject_rows, table_lines
from rtserve.measure.columns import labels_of
from rtserve.measure.metrics import Metric, metric_of, parse_metric
from rtserve.measure.results import environment, save_result
from rtserve.measure.signature import FROM, Score
from rtserve.measure.standing import Standing, standing
from rtserve.measure.statistics import RESAMPLES, interval
from rtserve.signals.subjects import subjects_note
from rtserve.signals.windows import WindowSet

__all__ = ["REGRESSION", "Evaluation", "score_cases", "score_predictions"]

REGRESSION = ("nrmse", "rmse", "mse")
_PLAIN = (*REGRESSION, "balanced_accuracy")


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of one graph on one window set, with the raw values they came from.

    Parameters
    ----------
    name : str
        What the graph is called.
    graph_digest, data_digest : str
        SHA-256 of the graph's bytes and of the windows; a score belongs to exactly these.
    scores : tuple of Score
        One per metric.
    baseline : tuple of Score or None
        The same metrics of the best constant on the same windows; None where a constant has none (Pearson's r).
    oracle : Score or None
        The first metric of the mean of the subject's other windows. It uses the labels: no network may be compared
        with it as if it did not.
    predictions, targets : ndarray, (n_windows,) or (n_windows, n_outputs)
        Raw values; of recordings where the answers to their windows were brought together.
    subject : ndarray of str
        Of each window; empty where not known.
    notes : tuple of str
        What a reader must know before believing the numbers.
    engine, threads : str, int
        What computed the predictions.
    cases : Cases or None
        What was scored, with probabilities and columns.
    classes : tuple of str
        Names of the classes; numbers where they have none; empty where none are scored.
    trained_on : dict
        How many of the windows the graph was trained on, as `rtserve.signals.membership.Membership.to_dict` has it;
        empty where nobody asked.
    standings : tuple of Standing or None
        Where each score stands against the constant, Pearson's r against 0. Empty where nothing was resampled.
    """

    name: str
    graph_digest: str
    data_digest: str
    scores: tuple[Score, ...]
    baseline: tuple[Score | None, ...]
    oracle: Score | None
    predictions: np.ndarray
    targets: np.ndarray
    subject: np.ndarray
    notes: tuple[str, ...] = ()
    engine: str = "onnxruntime"
    threads: int = 1
    parameters: int = 0
    cases: Cases | None = None
    classes: tuple[str, ...] = ()
    trained_on: dict[str, Any] = field(default_factory=dict)
    standings: tuple[Standing | None, ...] = ()

    def __getitem__(self, metric: str) -> Score:
        found = [score for score in self.scores if score.signature.metric == metric]
        if not found:
            names = ", ".join(score.signature.metric for score in self.scores)
            raise KeyError(f"no score called {metric!r}; there are {names}")
        return found[0]

    def __repr__(self) -> str:
        scores = ", ".join(f"{score.signature.metric} {score.value:.5g}" for score in self.scores)
        return f"<Evaluation of {self.name} on {self.n} {self._unit()}: {scores}>"

    def _repr_html_(self) -> str:
        people = f", {len(np.unique(self.subject))} subjects" if self.subject.size else ""
        rows = [("on", f"{self.n} {self._unit()}{people}")]
        for score, constant in zip(self.scores, self.baseline, strict=True):
            ends = f" {score.interval.text()}" if score.interval else ""
            beside = f", constant {constant.value:.5g}" if constant else ""
            rows.append((score.signature.metric, f"{score.value:.5g}{ends}{beside}"))
        rows += [("engine", self.engine), ("graph, data", f"{self.graph_digest[:12]}, {self.data_digest[:12]}")]
        return card(f"Evaluation of {self.name}", rows, self.notes)

    def _unit(self) -> str:
        return "windows" if self.cases is None or self.cases.agg == WINDOWS else f"cases ({self.cases.agg})"

    @property
    def n(self) -> int:
        """How many windows, or recordings where their answers were brought together."""
        return len(self.targets)

    def tables(self) -> dict[str, Any]:
        """Return the confusion matrix, what each class gets, and each score of each subject alone, as JSON values."""
        if self.cases is None:
            return {}
        metrics = {metric.label: metric for metric in self._metrics()}
        return self._by_class() | {"per_subject": subject_rows(self.cases, metrics)}

    def _metrics(self) -> list[Metric]:
        return [metric for score in self.scores if (metric := metric_of(score.signature)) is not None]

    def _by_class(self) -> dict[str, Any]:
        known = self._metrics() if self.cases else []
        return class_tables(self.targets, self.predictions, self.classes) if known and known[0].classes else {}

    def _against(self) -> list[str]:
        """Return the verdicts, where other metrics than the default ones were asked for; reasons are in the notes."""
        if not any(self.standings) or {s.signature.metric for s in self.scores} <= set(_PLAIN):
            return []
        said = {1: "better", 0: "not told apart", -1: "worse"}
        found = [
            f"{words}: {', '.join(each.metric for each in self.standings if each and each.side == side)}"
            for side, words in said.items()
            if any(each and each.side == side for each in self.standings)
        ]
        beside = [f" ({each.metric}: {each.beside})" for each in self.standings if each and each.unrelated]
        alone = ", each by itself" if len({_asks(each) for each in self.standings if each}) > 1 else ""
        return [f"  against the constant{alone}{''.join(beside)}: {'; '.join(found)}"]

    def table_lines(self, width: int | None = None) -> list[str]:
        """Return `tables` as a person reads them."""
        return table_lines(self.tables(), width)

    def to_dict(self, *, raw: bool = True) -> dict[str, Any]:
        """Return the evaluation as JSON values, with raw predictions unless `raw` is False."""
        values: dict[str, Any] = {
            "name": self.name,
            "graph_sha256": self.graph_digest,
            "data_sha256": self.data_digest,
            "parameters": self.parameters,
            "n_windows": self.cases.windows if self.cases else self.n,
            "n_subjects": len(np.unique(self.subject)) if self.subject.size else None,
            "scores": [score.to_dict() for score in self.scores],
            "baseline": [score.to_dict() if score else None for score in self.baseline],
            "against_constant": [each.to_dict() if each else None for each in self.standings],
            "subject_mean_oracle": self.oracle.to_dict() | {"uses_labels": True} if self.oracle else None,
            "notes": list(self.notes),
            "trained_on": self.trained_on,
            "engine": self.engine,
            "environment": environment(threads=self.threads),
        } | self.tables()
        if self.cases and self.cases.agg != WINDOWS:
            values |= {"agg": self.cases.agg, "n_cases": self.n}
        return values | ({"raw": self._raw()} if raw else {})

    def _raw(self) -> dict[str, Any]:
        """Return all that the scores can be made from again."""
        values: dict[str, Any] = {
            "predictions": _numbers(self.predictions),
            "targets": _numbers(self.targets),
            "subject": self.subject.tolist(),
        }
        known = self._metrics()
        if self.cases and any(metric.reads == "probabilities" for metric in known):
            values["probabilities"] = np.asarray(self.cases.probabilities, np.float64).tolist()
        names = {name for metric in known for name in metric.columns} if self.cases else set()
        if self.cases and names:
            values["columns"] = {n: labels_of(self.cases.columns, n, what="a result").tolist() for n in sorted(names)}
        return values

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the evaluation with its raw values as JSON."""
        return save_result(path, "evaluation", self.to_dict(), force=force)

    def lines(self) -> list[str]:
        """Return what a person reads: each signed score beside the constant's."""
        people = f", {len(np.unique(self.subject))} subjects" if self.subject.size else ""
        together = f", as {self.n} by {self.cases.agg}" if self.cases and self.cases.agg != WINDOWS else ""
        count = self.cases.windows if self.cases else self.n
        out = [f"{self.name} (sha256 {self.graph_digest[:12]}) on {count} windows{together}{people}"]
        for score, constant in zip(self.scores, self.baseline, strict=True):
            beside = f"{constant.value:.5g}" if constant else "undefined"
            out.append(f"  {score}   constant: {beside}")
        out += self._against()
        if self.oracle:
            out.append(f"  subject-mean oracle (uses labels): {self.oracle.signature.metric} {self.oracle.value:.5g}")
        over = next((s.interval for s in self.scores if s.interval), None)
        if over:
            out.append(f"  intervals: {over.level:.0%}, over {over.units} {over.over}")
        said = one_class_text(self._by_class())
        return out + [f"  note: {note}" for note in (*([f"{self.name} {said}"] if said else []), *self.notes)]


def _asks(standing: Standing) -> tuple[object, object]:
    """Return what tells one question about the constant from another: RMSE and MSE ask what NRMSE asks."""
    same = standing.ratio or standing.interval
    return (same.low, same.high) if same else (standing.metric, standing.value)


def _numbers(values: np.ndarray) -> list[Any]:
    """Return float32 values as the shortest decimals that read back to them."""
    if values.ndim > 1:
        return [_numbers(row) for row in values]
    return [float(str(np.float32(v))) for v in values]


def score_predictions(
    predictions: np.ndarray,
    windows: WindowSet,
    *,
    metrics: Sequence[str] = REGRESSION,
    **options: Any,
) -> Evaluation:
    """Score predictions (n_windows,) that were made already; parameters as `score_cases`, raises as `evaluate`."""
    return score_cases(Cases.of(windows, predictions), windows, metrics=metrics, **options)


def score_cases(
    cases: Cases,
    windows: WindowSet,
    *,
    metrics: Sequence[str],
    per: Per | None = None,
    split: str = "all",
    resamples: int = RESAMPLES,
    seed: int = 0,
    name: str = "predictions",
    graph_digest: str = "",
    engine: str = "onnxruntime",
    threads: int = 1,
    parameters: int = 0,
    decided: str = "",
    batch: int | None = None,
) -> Evaluation:
    """Score answers that were made already; raises as `evaluate`.

    Parameters
    ----------
    cases : Cases
        Answers with their targets.
    windows : WindowSet
        What they answer.
    metrics : sequence of str
        As `parse_metric` reads them.
    per : Per, optional
        How the answers to one recording are brought together before they are scored.
    split, resamples, seed, name, graph_digest, engine, threads, parameters
        As of `Evaluation` and of the bootstrap.
    decided : str
        What class numbers were read from: it goes into the signatures.
    batch : int, optional
        The batch size that the predictions depend on: so does it.
    """
    parsed = [parse_metric(metric) for metric in metrics]
    if per is not None:
        cases = cases.together(per, classes=parsed[0].classes)
    chosen = [metric.on(cases.columns) for metric in parsed]
    y, units = cases.y, cases.units

    def score(metric: Metric, p: np.ndarray, *, draws: int) -> Score:
        value = metric(y, p)
        ends = interval(metric, y, p, units, resamples=draws, seed=seed) if draws else None
        signature = metric.signature(n=len(y), data=cases.digest, split=split, agg=cases.agg)
        conditions = [(FROM, _read_from(decided, metric))] if decided else []
        conditions += [("batch", str(batch))] if batch else []
        signature = replace(signature, options=(*signature.options, *conditions))
        return Score(value=value, signature=signature, interval=ends)

    scores = tuple(score(metric, cases.read(metric), draws=resamples) for metric in chosen)
    baseline = tuple(
        score(metric, metric.constant(y), draws=0) if metric.unrelated is None else None for metric in chosen
    )
    others = _other_windows_mean(y, cases.subject) if chosen[0].reads == "number" else None
    stands = _standings(chosen, cases, seed, resamples)
    return Evaluation(
        name=name,
        graph_digest=graph_digest,
        data_digest=cases.digest,
        scores=scores,
        baseline=baseline,
        oracle=score(chosen[0], others, draws=0) if others is not None else None,
        predictions=np.asarray(cases.predictions, np.float32),
        targets=np.asarray(y, np.float32),
        subject=cases.subject.astype("U"),
        notes=_notes(stands, cases, name) + tuple(filter(None, [subjects_note(windows)])),
        engine=engine,
        threads=threads,
        parameters=parameters,
        cases=cases,
        classes=windows.classes if chosen[0].classes else (),
        standings=stands,
    )


def _read_from(decided: str, metric: Metric) -> str:
    """Return what a metric reads of a classifier: its decision, or the numbers that the decision is made from."""
    if metric.reads != "probabilities":
        return decided
    return decided.removeprefix("argmax of ").partition(" > ")[0]


def _other_windows_mean(y: np.ndarray, subject: np.ndarray) -> np.ndarray | None:
    """Return for each window the mean target of the same subject's other windows, or None where it says nothing.

    A subject with one window gets the overall mean; a target that is one number per subject is no case for it.
    """
    if len(subject) != len(y) or len(np.unique(subject)) < 2:
        return None
    _, index = np.unique(subject, return_inverse=True)
    count = np.bincount(index)[index]
    total = np.bincount(index, weights=y)[index]
    if (count < 2).all():
        return None
    mean: np.ndarray = np.where(count > 1, (total - y) / np.maximum(count - 1, 1), y.mean())
    return mean if not np.allclose(mean[count > 1], y[count > 1]) else None


def _standings(metrics: Sequence[Metric], cases: Cases, seed: int, resamples: int) -> tuple[Standing | None, ...]:
    """Return where each metric stands; nothing where nothing is resampled."""
    if not resamples:
        return ()
    return tuple(
        standing(metric, cases.y, cases.read(metric), cases.units, resamples=resamples, seed=seed) for metric in metrics
    )


def _notes(standings: Sequence[Standing | None], cases: Cases, name: str) -> tuple[str, ...]:
    """Return what `name`, which answered, is to be known by: that it answers a constant, or is no better than one."""
    notes = []
    p = np.asarray(cases.predictions if cases.probabilities is None else cases.probabilities, np.float64)
    spread, wanted = (float(np.std(values, axis=0).max()) for values in (p, cases.y))
    if spread <= 1e-6 * max(wanted, float(np.abs(p.mean(axis=0)).max())):
        shown = f" ({float(p.mean()):.5g})" if p.ndim == 1 else ""
        notes.append(f"{name} answers a constant{shown}; check the unit of the windows")
    else:
        asked: dict[object, Standing] = {}
        for each in filter(None, standings):
            asked.setdefault(_asks(each), each)
        notes += [each.sentence() for each in asked.values() if each.side <= 0]
    return (*notes, *cases.units.caveats())
