"""The attempts of the origin's session on simulated windows: what each recipe reaches at a planted r, side by side."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import CheckpointError
from rtserve.measure.evaluation import score_predictions
from rtserve.measure.metrics import parse_metric
from rtserve.measure.standing import Standing, together
from rtserve.measure.statistics import Difference, Units, corrected, difference
from rtserve.signals.simulate import simulate
from rtserve.signals.splits import Split, make_split
from rtserve.signals.windows import WindowSet
from rtserve.training.models import build_network, require_like
from rtserve.training.recipe import RECIPES, Recipe
from rtserve.training.seeds import TrainingRun, train

SEEDS = (42, 123, 456, 789, 999)
VIEWS = ("identity", "roll:+3", "roll:-3", "scale:1.02", "scale:0.98")
METRICS = ("nrmse", "mse", "smooth_l1")
CONSTANT = "the constant"
MATTERS = 0.02
"""NRMSE. Under a fifth of what the best team gained over the constant (0.113); the session's claims were of halves."""
TRIALS = 25
"""Windows per person: many people decide more than many windows of few."""
FRACTIONS = (0.3, 0.1, 0.6)
"""Train, valid, test. What cannot be told for want of people is told by more people in the test."""


@dataclass(kw_only=True)
class Bench:
    """One data set and everything that was tried on it."""

    r: float
    windows: WindowSet
    split: Split
    folder: Path
    epochs: int
    seeds: tuple[int, ...]
    tell: Callable[[str], None]
    predictions: dict[str, np.ndarray] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    runs: dict[str, TrainingRun] = field(default_factory=dict)
    standings: dict[str, Standing | None] = field(default_factory=dict)

    @property
    def test(self) -> WindowSet:
        return self.windows.take(self.split.part("test"))

    def recipe(self, name: str) -> Recipe:
        return dataclasses.replace(RECIPES[name], max_epochs=self.epochs)

    def train(self, name: str, recipe: str, seeds: tuple[int, ...]) -> TrainingRun:
        self.tell(f"r = {self.r:g}: {name}")
        run = train(
            self.windows, self.split, recipe=self.recipe(recipe), seeds=seeds, output=self.folder / name, resume=True
        )
        self.runs[name] = run
        return run

    def add(
        self, version: str, predictions: np.ndarray, *, parameters: int, members: int, loss: str, note: str
    ) -> None:
        """Score predictions of the test windows and keep a row."""
        evaluation = score_predictions(predictions, self.test, metrics=METRICS, split="test", name=version)
        score, constant = evaluation["nrmse"], evaluation.baseline[0]
        self.predictions[version] = predictions
        self.standings[version] = evaluation.standings[0]
        self.rows.append(
            {
                "version": version,
                "planted_r": self.r,
                "architecture": f"CompactRT, {parameters:,} parameters x {members}",
                "loss": loss,
                "nrmse": score.value,
                "interval": [score.interval.low, score.interval.high] if score.interval else None,
                "constant": constant.value if constant else None,
                "mse": evaluation["mse"].value,
                "smooth_l1": evaluation["smooth_l1"].value,
                "signature": str(score.signature),
                "note": note,
            }
        )

    def paired(self, first: str, second: str) -> Difference:
        """Return how `second` differs from `first` on the same test windows."""
        test = self.test
        pair = (self.predictions[first], self.predictions[second])
        return difference(parse_metric("nrmse"), test.y, *pair, Units.of(test.subject, len(test)))


def attempts(benches: Sequence[Bench]) -> list[dict[str, Any]]:
    """Return the rows of all benches with their verdicts, which are one table's and corrected for each other."""
    keys = [(bench.r, version) for bench in benches for version in bench.standings]
    found = together([each for bench in benches for each in bench.standings.values()], "attempts of this table")
    where = dict(zip(keys, found, strict=True))
    rows = [row for bench in benches for row in bench.rows]
    return [row | stated(where.get((row["planted_r"], row["version"]))) for row in rows]


def stated(where: Standing | None) -> dict[str, Any]:
    """Return a verdict with its p, raw and corrected, as JSON values; nothing of what was not scored."""
    if where is None:
        return {}
    return {"verdict": where.verdict, "p": where.p, "p_corrected": where.p_corrected, "family": where.family}


def raw(run: TrainingRun) -> np.ndarray:
    """Return the seeds' predictions of the test windows (n_seeds, n_windows)."""
    return np.array([result["test"]["raw"]["predictions"] for result in run.results])


def best_on_valid(run: TrainingRun) -> int:
    """Return the index of the seed that was best on the valid windows; the test windows do not choose."""
    return int(np.argmin([next(iter(result["valid"].values())) for result in run.results]))


def play(
    r: float, *, n_windows: int, epochs: int, seeds: tuple[int, ...], folder: Path, tell: Callable[[str], None]
) -> Bench:
    """Run every attempt at one planted r."""
    windows = simulate(n_windows, r=r, seed=2025, n_subjects=max(30, n_windows // TRIALS))
    bench = Bench(
        r=r, windows=windows, split=make_split(windows, fractions=FRACTIONS), folder=folder / f"r{r:g}",
        epochs=epochs, seeds=seeds, tell=tell,
    )  # fmt: skip
    _singles(bench)
    _ensembles(bench)
    _wrong_architecture(bench)
    _views(bench)
    return bench


def _singles(bench: Bench) -> None:
    for version, recipe in (("V8", "v8"), ("aggressive", "aggressive")):
        run = bench.train(version, recipe, bench.seeds[:1])
        settings = run.about["settings"]
        note = "its own log would print SmoothL1, half the MSE" if settings["loss"] == "smooth_l1" else ""
        bench.add(
            version, raw(run)[0], parameters=run.about["n_parameters"], members=1, loss=settings["loss"], note=note
        )


def _ensembles(bench: Bench) -> None:
    for version, recipe in (("ensemble without mixup", "ensemble"), ("ensemble with mixup", "ensemble_mixup")):
        run = bench.train(version.replace(" ", "_"), recipe, bench.seeds)
        predictions, chosen = raw(run), best_on_valid(run)
        about = {"parameters": run.about["n_parameters"], "loss": "mse", "note": ""}
        bench.add(version, predictions.mean(axis=0), members=len(bench.seeds), **about)
        single = f"best single of it (seed {bench.seeds[chosen]})"
        bench.add(f"{version}: {single}", predictions[chosen], members=1, **about)


def _wrong_architecture(bench: Bench) -> None:
    """Ask for a network of another architecture than V8's checkpoint: refused before an epoch is spent."""
    from rtserve.errors import RtserveError

    reference = bench.folder / "V8" / f"seed{bench.seeds[0]}" / "best.pth"
    recipe = Recipe(model="braindecode:EEGNeX", max_epochs=bench.epochs)
    try:
        require_like(build_network(recipe, bench.windows, seed=0), str(reference))
        said = "not refused"
    except CheckpointError as error:
        said = "refused before training: " + error.message.replace(f"{reference}", "V8's checkpoint")
    except RtserveError as error:
        said = f"not tried: {error.message}"
    bench.rows.append(
        {"version": "wrong architecture", "planted_r": bench.r, "architecture": "EEGNeX", "verdict": said}
    )


def _views(bench: Bench) -> None:
    """Fuse V8 with five views, as a scorer would get it, and predict through the graph."""
    from rtserve.fusion.fuse import fuse
    from rtserve.graphs.export import export
    from rtserve.measure.predict import predict

    run = bench.runs["V8"]
    bench.tell(f"r = {bench.r:g}: V8 with views")
    member = export(
        run.checkpoints()[0], exporter="rtserve.training.networks:exporter", settings={"target": "response_time"}
    )
    predictions = predict(fuse([member], views=VIEWS), bench.test)[:, 0]
    parameters = run.about["n_parameters"]
    bench.add(
        "V8 + 5 views", predictions, parameters=parameters, members=1, loss="smooth_l1", note="one graph, five branches"
    )


def questions(bench: Bench) -> list[tuple[str, str, str]]:
    """Return what the session asked, and of which two predictions the answer is the difference."""

    def single(version: str) -> str:
        return next(name for name in bench.predictions if name.startswith(f"{version}: best single"))

    without, with_mixup = "ensemble without mixup", "ensemble with mixup"
    return [
        ("is V8 better than its retrainings, in one metric?", single(without), "V8"),
        ("was it mixup that was missing?", without, with_mixup),
        ("do five views help?", "V8", "V8 + 5 views"),
        ("does the ensemble beat its best single member?", single(with_mixup), with_mixup),
        ("do aggressive settings help?", "V8", "aggressive"),
        ("was anything learned at all?", CONSTANT, with_mixup),
    ]


def comparisons(benches: Sequence[Bench]) -> list[dict[str, Any]]:
    """Return the session's questions, each answered by a paired difference on the same windows, with its power.

    All of them, at every planted r, are one table's verdicts and corrected for each other.
    """
    asked, pairs = [], []
    for bench in benches:
        y = bench.test.y
        bench.predictions[CONSTANT] = np.full(len(y), y.mean(dtype=np.float64), np.float32)
        asked += [(bench.r, *each) for each in questions(bench)]
        pairs += [bench.paired(first, second) for _, first, second in questions(bench)]
    return [
        {"planted_r": r, "question": question, "first_name": first, "second_name": second}
        | {"decided": each.different or each.detectable <= MATTERS, "matters": MATTERS}
        | each.to_dict()
        for (r, question, first, second), each in zip(asked, corrected(pairs, "the session's questions"), strict=True)
    ]
