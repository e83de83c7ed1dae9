"""The session on real recordings: a positive control, a null control, and the contest's own checkpoints."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from session_attempts import stated

from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.measure.evaluation import Evaluation, score_predictions
from rtserve.measure.standing import together
from rtserve.signals.splits import Split, folds, make_split
from rtserve.signals.windows import WindowSet, load_windows
from rtserve.training.callbacks import infer
from rtserve.training.networks import exporter
from rtserve.training.recipe import Recipe
from rtserve.training.seeds import train

SMALL = Recipe(
    max_epochs=30, patience=8, batch_size=32, dropout=(0.1, 0.1, 0.1), head_dropout=(0.1, 0.1), scheduler="none"
)
"""Few channels and few windows: a gentler recipe than the contest's."""


def row(what: str, model: str, evaluation: Evaluation, known: str, note: str = "") -> dict[str, Any]:
    """Return a line of the table."""
    score, constant = evaluation["nrmse"], evaluation.baseline[0]
    return {
        "data": what,
        "model": model,
        "nrmse": score.value,
        "interval": [score.interval.low, score.interval.high] if score.interval else None,
        "over": score.interval.over if score.interval else None,
        "constant": constant.value if constant else None,
        "known": known,
        "signature": str(score.signature),
        "note": note,
        "standing": evaluation.standings[0],
    }


def with_verdicts(rows: list[dict[str, Any]], family: str) -> list[dict[str, Any]]:
    """Return the rows of one table with the verdicts of their standings, corrected for each other."""
    found = together([row["standing"] for row in rows], family)
    kept = [{key: value for key, value in row.items() if key != "standing"} for row in rows]
    return [row | stated(where) for row, where in zip(kept, found, strict=True)]


def cross_validated(windows: WindowSet, splits: list[Split], recipe: Recipe, *, seed: int = 0) -> np.ndarray:
    """Return predictions of every window by a network that did not see its group."""
    predictions = np.full(len(windows), np.nan)
    for number, split in enumerate(splits):
        with tempfile.TemporaryDirectory() as folder:
            run = train(windows, split, recipe=recipe, seeds=[seed + number], output=Path(folder) / "run")
            predictions[split.part("test")] = run.results[0]["test"]["raw"]["predictions"]
    assert np.isfinite(predictions).all()
    return predictions


def ridge(windows: WindowSet, splits: list[Split], *, start: float, stop: float, penalty: float = 1.0) -> np.ndarray:
    """Return ridge predictions from the samples of [start, stop) s averaged over 50 ms; the dual form, few windows."""
    step = max(1, round(0.05 * windows.sfreq))
    first, last = round((start - windows.t0) * windows.sfreq), round((stop - windows.t0) * windows.sfreq)
    part = windows.X[..., first:last]
    part = part[..., : part.shape[-1] // step * step]
    features = part.reshape(len(part), -1, step).mean(axis=2).reshape(len(part), -1).astype(np.float64)
    predictions = np.full(len(windows), np.nan)
    for split in splits:
        test = split.marks == "test"
        centre, mean = features[~test].mean(axis=0), windows.y[~test].mean(dtype=np.float64)
        a, b = features[~test] - centre, features[test] - centre
        gram = a @ a.T
        weight = np.linalg.solve(
            gram + penalty * np.trace(gram) / len(gram) * np.eye(len(gram)), windows.y[~test] - mean
        )
        predictions[test] = mean + b @ a.T @ weight
    return predictions


def fold_constant(windows: WindowSet, splits: list[Split]) -> np.ndarray:
    """Return for each window the mean of the targets outside its fold: the honest constant."""
    predictions = np.full(len(windows), np.nan)
    for split in splits:
        test = split.marks == "test"
        predictions[test] = windows.y[~test].mean(dtype=np.float64)
    return predictions


def real_data(shared: Path, *, epochs: int, tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Run the controls."""
    import dataclasses

    recipe = dataclasses.replace(SMALL, max_epochs=epochs)
    rows = []
    tell("SSVEP, the positive control")
    ssvep = load_windows(shared / "data/muse_ssvep/muse_ssvep_2s_100hz.npz")
    one = ssvep.take(ssvep.subject == "1")
    one_folds = folds(one, by="run", n_folds=min(5, len(set(one.run_id.tolist()))))
    found = score_predictions(cross_validated(one, one_folds, recipe), one, name="CompactRT")
    rows.append(row("SSVEP, subject 1, runs left out", "CompactRT", found, "0.510 against 1.003", "must be found"))
    across = folds(ssvep, by="subject", n_folds=3)
    found = score_predictions(cross_validated(ssvep, across, recipe), ssvep, name="CompactRT")
    rows.append(row("SSVEP, subjects left out", "CompactRT", found, "1.135: no transfer", "three people"))

    tell("cueing, the null control")
    cueing = load_windows(shared / "data/muse_cueing/muse_cueing_2s.npz")
    few = dataclasses.replace(recipe, max_epochs=max(2, epochs // 6), patience=0, batch_size=64)
    found = score_predictions(cross_validated(cueing, folds(cueing, n_folds=3), few), cueing, name="CompactRT")
    rows.append(row("cueing, subjects left out", "CompactRT", found, "1.00", "must not be found"))
    leaking = make_split(cueing, by="window", allow_leakage=True)
    part = cueing.take(leaking.part("test"))
    known = _subject_means(cueing, leaking)[leaking.part("test")]
    found = score_predictions(known, part, split="LEAKING-test", name="subject mean")
    rows.append(
        row("cueing, random windows left out: LEAKING", "mean of the subject's train windows, no EEG", found,
            "about 0.86", "what a random split would sell as a result")
    )  # fmt: skip

    tell("EEGLAB squares")
    squares = load_windows(shared / "data/eeglab_squares/eeglab_squares_m1p2s_100hz.npz")
    blocks = folds(squares, by="run", n_folds=5)
    found = score_predictions(ridge(squares, blocks, start=-0.5, stop=1.5), squares, name="ridge")
    note = "74 trials, one subject, window chosen after looking; the interval is over windows"
    rows.append(row("EEGLAB squares, 5 blocks", "ridge on [-0.5, 1.5] s", found, "0.906 against 1.004", note))
    found = score_predictions(fold_constant(squares, blocks), squares, name="constant")
    rows.append(row("EEGLAB squares, 5 blocks", "mean of the other blocks", found, "1.004", ""))
    found = score_predictions(cross_validated(squares, blocks, recipe), squares, name="CompactRT")
    rows.append(row("EEGLAB squares, 5 blocks", "CompactRT", found, "", "74 trials are too few to train on"))
    return with_verdicts(rows, "recordings of this table")


def _subject_means(windows: WindowSet, split: Split) -> np.ndarray:
    train_part = split.marks == "train"
    overall = windows.y[train_part].mean(dtype=np.float64)
    means = {
        subject: windows.y[train_part & (windows.subject == subject)].mean(dtype=np.float64)
        for subject in set(windows.subject[train_part].tolist())
    }
    return np.array([means.get(subject, overall) for subject in windows.subject.tolist()])


def contest_checkpoints(shared: Path, test: WindowSet) -> list[dict[str, Any]]:
    """Score the six real CompactRT checkpoints side by side with one signature on the same volt-scale windows."""
    rows = []
    for path in sorted((shared / "checkpoints/compact_rt").glob("*.p*t*")):
        state = load_checkpoint(path).state_dict
        network = exporter({key: tuple(value.shape) for key, value in state.items()}, {}).network
        network.load_state_dict(state)
        predictions = infer(network, torch.from_numpy(test.X.copy()), np.arange(len(test)))[:, 0]
        evaluation = score_predictions(
            predictions, test, metrics=("nrmse", "mse", "smooth_l1"), split="test", name=path.name
        )
        constant = evaluation.baseline[0]
        rows.append(
            {
                "checkpoint": path.name,
                "nrmse": evaluation["nrmse"].value,
                "constant": constant.value if constant else None,
                "mse": evaluation["mse"].value,
                "smooth_l1": evaluation["smooth_l1"].value,
                "mean": float(predictions.mean()),
                "std": float(predictions.std()),
                "signature": str(evaluation["nrmse"].signature),
                "notes": [note for note in evaluation.notes if "answers a constant" in note],
                "standing": evaluation.standings[0],
            }
        )
    return with_verdicts(rows, "checkpoints of this table")
