"""Ablation: the same seeds on the same windows with one setting changed, and the paired difference with its interval.

"It was missing, so it was the cause" is a guess; this is the test of it. Both runs see the same split, and the question
is asked twice: of the mean of all seeds (the ensemble), and of each seed against itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.metrics import parse_metric
from rtserve.measure.statistics import Difference, Units, corrected, difference
from rtserve.signals.splits import Split
from rtserve.signals.windows import WindowSet
from rtserve.training.recipe import Recipe, recipe_from
from rtserve.training.seeds import Progress, TrainingRun, train
from rtserve.training.settled import is_class, settled

__all__ = ["Ablation", "ablate"]


@dataclass(frozen=True, kw_only=True)
class Ablation:
    """What one change is worth.

    Parameters
    ----------
    changes : dict
        Setting to (before, after).
    ensemble : Difference
        Of the mean of all seeds.
    seeds : dict of int to Difference
        Of each seed against itself.
    runs : tuple of TrainingRun
        Without and with the change.
    notes : tuple of str
        What a reader must know before believing the differences.
    metric : str
        What the differences are of.
    parts : str
        Which windows trained both, chose their epochs, and are scored.
    """

    changes: dict[str, tuple[Any, Any]]
    ensemble: Difference
    seeds: dict[int, Difference]
    runs: tuple[TrainingRun, TrainingRun]
    notes: tuple[str, ...] = ()
    metric: str = "NRMSE"
    parts: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the ablation as JSON values."""
        return {
            "changes": {key: list(pair) for key, pair in self.changes.items()},
            "ensemble": self.ensemble.to_dict(),
            "seeds": {str(seed): found.to_dict() for seed, found in self.seeds.items()},
            "runs": [run.to_dict() for run in self.runs],
            "parts": self.parts,
            "notes": list(self.notes),
            "metric": self.metric,
        }

    def lines(self) -> list[str]:
        """Return what a person reads."""
        what = ", ".join(f"{key} {before} -> {after}" for key, (before, after) in self.changes.items())
        out = [f"{what}; test {self.metric} on held-out windows, paired", *([f"  {self.parts}"] if self.parts else [])]
        out += [f"  seed {seed}: {found.sentence()}" for seed, found in self.seeds.items()]
        both = f"{self.ensemble.first:.4f} without, {self.ensemble.second:.4f} with"
        out.append(f"  mean of {len(self.seeds)} seeds: {both}; {self.ensemble.sentence()}")
        return [*out, *(f"  note: {note}" for note in self.notes)]


def ablate(
    windows: WindowSet,
    split: Split,
    *,
    recipe: Recipe,
    change: Mapping[str, Any],
    seeds: Sequence[int],
    output: str | Path,
    resume: bool = False,
    n_jobs: int = 1,
    progress: Progress | None = None,
) -> Ablation:
    """Train with and without a change and compare.

    Parameters
    ----------
    windows, split : WindowSet, Split
        For both runs.
    recipe : Recipe
        Without the change.
    change : mapping
        Settings that differ, e.g. ``{"mixup_alpha": 0.2}``.
    seeds : sequence of int
        For both runs.
    output : path
        ``without/`` and ``with/`` are RUNDIRs in it.
    resume, n_jobs, progress : bool, int, callable
        As `rtserve.training.seeds.train`.

    Raises
    ------
    InputError
        Where the change changes nothing, or a setting is unknown.
    """
    before = recipe.to_dict()
    changed = recipe_from(before | dict(change))
    after = changed.to_dict()
    differs = {key: (before[key], after[key]) for key in before if before[key] != after[key]}
    if not differs:
        raise InputError(f"the change {dict(change)} changes nothing", hint="give another value, e.g. mixup_alpha=0.2")
    done = 0
    runs = []
    pair = [(name, settled(each, windows, split)) for name, each in (("without", recipe), ("with", changed))]
    total = len(seeds) * sum(each.max_epochs or 0 for _, each in pair)
    for name, each in pair:
        shown = None if progress is None else _after(progress, done, total)
        run = train(
            windows,
            split,
            recipe=each,
            seeds=seeds,
            output=Path(output) / name,
            resume=resume,
            n_jobs=n_jobs,
            progress=shown,
        )
        runs.append(run)
        done += len(seeds) * (each.max_epochs or 0)
    test = windows.take(split.part("test"))
    units = Units.of(test.subject, len(test))
    metric = parse_metric("balanced_accuracy" if is_class(windows) else "nrmse")
    pairs = list(zip(*(_answers(run) for run in runs), strict=True))
    found = corrected([difference(metric, test.y, one, two, units) for one, two in pairs], "seeds and their mean")
    return Ablation(
        changes=differs,
        ensemble=found[0],
        seeds={int(seed): each for seed, each in zip(seeds, found[1:], strict=True)},
        runs=(runs[0], runs[1]),
        notes=units.caveats(),
        parts=_parts(windows, split),
        metric="balanced accuracy" if is_class(windows) else "NRMSE",
    )


def _answers(run: TrainingRun) -> list[np.ndarray]:
    """Return what is scored, (n_windows,): of the mean of all seeds, then of each; of classes the mean logits decide."""
    logits = [np.array(result["test"]["logits"]) for result in run.results if "logits" in result["test"]]
    if logits:
        return [each.argmax(axis=1) for each in (np.mean(logits, axis=0), *logits)]
    each = [np.array(result["test"]["raw"]["predictions"]) for result in run.results]
    return [np.mean(each, axis=0), *each]


def _parts(windows: WindowSet, split: Split) -> str:
    """Say which windows do what."""
    said = []
    for part, use in (("train", "train"), ("valid", "choose the epoch"), ("test", "are scored")):
        taken = split.part(part)
        who = f" of {len(np.unique(windows.subject[taken]))} people" if windows.subject.size else ""
        said.append(f"{len(taken)} windows{who} {use}")
    return ", ".join(said)


def _after(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)
