"""Train many seeds: one folder each, in parallel, resumable; a run says what it reuses and refuses to mix two runs."""

from __future__ import annotations

import contextlib
import json
import platform
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.extras import extra_module
from rtserve.files import write_bytes
from rtserve.measure.class_tables import one_class_text
from rtserve.measure.side_standing import stored_standing
from rtserve.measure.signature import Interval
from rtserve.measure.standing import together
from rtserve.processes import in_processes
from rtserve.signals.membership import find_records, training_record
from rtserve.signals.splits import PARTS, Split
from rtserve.signals.windows import WindowSet
from rtserve.spec import TRAINED_ON
from rtserve.training.fit import SeedJob, fit_seed
from rtserve.training.gates import Gate
from rtserve.training.keeping import read_log
from rtserve.training.logs import require_logs
from rtserve.training.models import build_network, export_reference, require_like
from rtserve.training.networks import count_parameters
from rtserve.training.own import file_record, without_folders
from rtserve.training.recipe import Recipe
from rtserve.training.settled import class_counts, class_labels, is_class, n_outputs, require_learnable, settled
from rtserve.training.start import require_new, start_record, start_text

__all__ = ["TrainingRun", "train"]

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class TrainingRun:
    """All seeds of a run.

    Parameters
    ----------
    folder : Path
        RUNDIR.
    about : dict
        ``run.json``: settings, data, split, architecture, versions.
    results : tuple of dict
        ``result.json`` of each seed that was trained or reused, in the order asked for.
    reused : tuple of int
        Seeds that were finished already.
    """

    folder: Path
    about: dict[str, Any]
    results: tuple[dict[str, Any], ...]
    reused: tuple[int, ...] = ()

    @property
    def stopped_by_gate(self) -> str:
        """What the gate that stopped a seed said; empty where none did."""
        return next((result["stopped_by"] for result in self.results if result["stopped_by"]), "")

    def checkpoints(self) -> list[Path]:
        """Return best.pth of every seed."""
        return [self.folder / f"seed{result['seed']}" / "best.pth" for result in self.results]

    def to_dict(self) -> dict[str, Any]:
        """Return the run as JSON values, without raw predictions."""
        slim = [result | {"test": {k: v for k, v in result["test"].items() if k != "raw"}} for result in self.results]
        return {"run": str(self.folder), "about": self.about, "seeds": slim, "reused": list(self.reused)}

    def lines(self) -> list[str]:
        """Return what a person reads: a line per seed with its score on held-out windows beside the constant."""
        out = [
            f"{self.about['settings']['model']}, {self.about['n_parameters']:,} parameters,"
            f" {self.about['split']['text']}"
        ]
        out += [f"warning: this split leaks: {leak}" for leak in self.about["split"]["leaks"]]
        out += self._classes() + self._circumstances()
        found = together([stored_standing(result["test"]) for result in self.results], "seeds of this run")
        for result, where in zip(self.results, found, strict=True):
            score, constant = result["test"]["scores"][0], result["test"]["baseline"][0]["value"]
            ends = score["interval"]
            reused = ", reused" if result["seed"] in self.reused else ""
            note = " MARGINAL" if result["marginal"] else ""
            note += f"; {RISING}" if result.get("rising") else ""
            note += f"; {one}" if (one := one_class_text(result["test"])) else ""
            verdict = "" if where is None or where.side > 0 else f", {where.verdict}"
            verdict += f" (p {where.p_text()})" if where and where.only_alone else ""
            interval = f" {Interval.from_dict(ends).text('.3f')}" if ends else ""
            ended = f"best epoch {result['best_epoch']} of {result['epochs']} ({result['outcome']}{reused}){note}"
            out.append(
                f"  seed {result['seed']}: test {called(score)} {score['value']:.3f}{interval},"
                f" constant {constant:.3f}{verdict}; {ended}"
            )
        if self.results:
            out.append(f"  signature: {self.results[0]['test']['scores'][0]['signature']}")
        return out

    def _classes(self) -> list[str]:
        """Return how many windows of each class there are, and what is minimised."""
        counts = self.about.get("class_counts")
        if not counts:
            return []
        each = "; ".join(
            f"{name} " + " / ".join(str(counts[part][k]) for part in PARTS)
            for k, name in enumerate(self.about["class_names"])
        )
        settings = self.about["settings"]
        weighed = ", each class counting the same" if settings["class_weight"] == "balanced" else ""
        return [f"classes ({' / '.join(PARTS)}): {each}", f"minimised: {settings['loss']}{weighed}"]

    def _circumstances(self) -> list[str]:
        """Return on what was computed, where it is not the plain CPU, and what was started from."""
        settings, out = self.about["settings"], []
        if settings["device"] != "cpu" or settings["amp"]:
            how = "mixed with bfloat16 (--amp)" if settings["amp"] else "in float32 (no mixed precision: --amp)"
            out.append(f"on {settings['device']}, {how}")
        if "init" in self.about:
            out.append(start_text(self.about["init"]))
        return out


RISING = "still improving at the end: give it more --max-epochs"


def called(score: dict[str, Any]) -> str:
    """Return what a score's metric is called in a sentence."""
    name = str(score["metric"])
    return "NRMSE" if name == "nrmse" else name.replace("_", " ")


def train(
    windows: WindowSet,
    split: Split,
    *,
    recipe: Recipe,
    seeds: Sequence[int],
    output: str | Path,
    resume: bool = False,
    gates: Sequence[Gate] = (),
    like: str | None = None,
    init: str | None = None,
    allow_leakage: bool = False,
    workers: int = 0,
    logs: Sequence[str] = (),
    n_jobs: int = 1,
    backend: str = "loky",
    progress: Progress | None = None,
) -> TrainingRun:
    """Train a recipe with several seeds.

    Parameters
    ----------
    windows : WindowSet
        In volts.
    split : Split
        From `rtserve.signals.splits`.
    recipe : Recipe
        The settings.
    seeds : sequence of int
        One network each.
    output : path
        RUNDIR; its finished seeds are reused where everything else is the same.
    resume : bool
        Go on with unfinished seeds; without it, an unfinished RUNDIR is refused.
    gates : sequence of Gate
        The first seed that a gate stops ends the run.
    like : str, optional
        A checkpoint whose architecture the network must have.
    init : str, optional
        A checkpoint to start from; what of it fits is loaded.
    allow_leakage : bool
        Start from one that was trained on valid or test windows: every figure is marked.
    workers : int
        Processes that read and augment batches ahead, per seed; the batches are the same.
    logs : sequence of str
        ``"csv"``, ``"tensorboard"``: curves in each seed's folder.
    n_jobs, backend : int, str
        Seeds at a time, and joblib's backend: ``"loky"`` (processes here) or ``"dask"``.
    progress : callable, optional
        ``progress(epochs done, epochs at most)`` over all seeds.

    Raises
    ------
    InputError
        Where a seed is given twice, the loss is none for what y is, a part of the split is too small, RUNDIR holds
        another run, or the start was trained on windows that are kept apart here.
    CheckpointError
        Where `like` is another architecture.
    NotComparableError
        Where a gate's metric is not what is logged.
    """
    seeds = _require_seeds(seeds)
    require_learnable(windows, split)
    recipe = settled(recipe, windows, split)
    network = build_network(recipe, windows, seed=seeds[0])
    if like:
        require_like(network, like)
    split, about = _about(windows, split, recipe, network, init, allow_leakage=allow_leakage)
    folder = Path(output)
    require_logs(logs)
    finished = _claim(folder, about, seeds, resume=resume)
    jobs = [
        SeedJob(
            seed=seed,
            folder=folder / f"seed{seed}",
            recipe=recipe,
            about=about,
            gates=tuple(gates),
            resume=resume,
            init=init or "",
            workers=workers,
            logs=tuple(logs),
        )
        for seed in seeds
        if seed not in finished
    ]
    done = {seed: json.loads((folder / f"seed{seed}" / "result.json").read_text("utf-8")) for seed in finished}
    with _watching(folder, seeds, recipe.max_epochs or 0, progress):
        for result in _run(jobs, windows, split, n_jobs, backend):
            done[result["seed"]] = result
            if result["stopped_by"]:
                break
    results = tuple(done[seed] for seed in seeds if seed in done)
    return TrainingRun(folder=folder, about=about, results=results, reused=tuple(finished))


def _about(
    windows: WindowSet, split: Split, recipe: Recipe, network: Any, init: str | None, *, allow_leakage: bool
) -> tuple[Split, dict[str, Any]]:
    """Return the split, with what a start makes leak of it, and what the run says of itself."""
    if not init:
        return split, describe(windows, split, recipe, network)
    start = start_record(network, init)
    split, records, text = require_new(init, windows, split, allow_leakage=allow_leakage)
    about = describe(windows, split, recipe, network) | {"init": start | {"text": text}}
    if records:
        about[TRAINED_ON] = find_records({TRAINED_ON: [about[TRAINED_ON], *records]})
    return split, about


def _require_seeds(seeds: Sequence[int]) -> list[int]:
    listed = [int(seed) for seed in seeds]
    if not listed or len(set(listed)) < len(listed) or min(listed) < 0:
        raise InputError(f"seeds {listed} are none, negative or repeated", hint="for example --seeds 42,123,456")
    return listed


def describe(windows: WindowSet, split: Split, recipe: Recipe, network: Any) -> dict[str, Any]:
    """Return what a run says of itself: settings, data, split, architecture and versions; no paths and no times."""
    import numpy
    import skorch
    import torch

    import rtserve
    from rtserve.graphs.architecture import architecture_digest

    counts = {part: len(split.part(part)) for part in ("train", "valid", "test")}
    return {
        "settings": recipe.to_dict() | {"model": without_folders(recipe.model)},
        **file_record(recipe.model),
        "input": json.loads(windows.input_spec.to_json()),
        "target": windows.predicts,
        "n_outputs": n_outputs(windows),
        **_of_classes(windows, split),
        "data": {"sha256": windows.digest, "n_windows": len(windows), "simulated": "generator" in windows.extra},
        "split": {
            "by": split.by,
            "seed": split.seed,
            "sha256": split.digest,
            "leaks": list(split.leaks),
            **counts,
            "text": f"split by {split.by}: " + ", ".join(f"{n} {part}" for part, n in counts.items()),
        },
        TRAINED_ON: training_record(windows, split.marks),
        "n_parameters": count_parameters(network),
        "architecture": architecture_digest({key: value.shape for key, value in network.state_dict().items()}),
        "exporter": export_reference(recipe),
        "versions": {
            "rtserve": rtserve.__version__,
            "torch": torch.__version__.partition("+")[0],
            "skorch": skorch.__version__,
            "numpy": numpy.__version__,
            "python": platform.python_version(),
        },
    }


def _of_classes(windows: WindowSet, split: Split) -> dict[str, Any]:
    """Return what a classifier's checkpoint says besides, as `rtserve.graphs.meaning` reads it."""
    if not is_class(windows):
        return {}
    return {
        "classes": list(windows.classes),
        "class_names": list(class_labels(windows)),
        "class_counts": class_counts(windows, split),
    }


def _claim(folder: Path, about: dict[str, Any], seeds: list[int], *, resume: bool) -> list[int]:
    """Write run.json, or check that it is of this very run; return the seeds that are finished."""
    record = folder / "run.json"
    if record.exists():
        kept = json.loads(record.read_text("utf-8"))
        differences = _differences({key: kept[key] for key in kept if key != "schema"}, about)
        if differences:
            raise InputError(
                f"{folder} holds another run: {'; '.join(differences)}",
                hint="choose another RUNDIR, or the same settings",
            )
    elif folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder} is not empty and holds no run", hint="choose a new RUNDIR")
    else:
        write_bytes(record, (json.dumps({"schema": "rtserve.training_run/1"} | about, indent=1) + "\n").encode())
    begun = [seed for seed in seeds if (folder / f"seed{seed}" / "last.pth").exists()]
    finished = [seed for seed in begun if (folder / f"seed{seed}" / "result.json").exists()]
    if len(finished) < len(begun) and not resume:
        unfinished = [seed for seed in begun if seed not in finished]
        raise InputError(f"{folder} has unfinished seeds: {unfinished}", hint="pass --resume to go on with them")
    return finished


def _differences(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> list[str]:
    """Return every value that differs, as ``key: old against new``; other versions of libraries count."""
    out = []
    for key in [*old, *(k for k in new if k not in old)]:
        before, after = old.get(key), new.get(key)
        if key != TRAINED_ON and isinstance(before, dict) and isinstance(after, dict):
            out += _differences(before, after, f"{prefix}{key}.")
        elif before != after and key not in ("text", TRAINED_ON):  # what was trained on follows from data and split
            out.append(f"{prefix}{key}: {before} against {after}")
    return out


def _run(jobs: list[SeedJob], windows: WindowSet, split: Split, n_jobs: int, backend: str) -> Iterator[dict[str, Any]]:
    """Run the jobs and give each result as it comes."""
    if not jobs:
        return
    if n_jobs == 1 and backend == "loky":
        for job in jobs:
            yield fit_seed(job, windows, split)
        return
    if backend == "loky":
        yield from in_processes(fit_seed, [(job, windows, split) for job in jobs], n_jobs=n_jobs, threads=1)
        return
    from joblib import Parallel, delayed, parallel_config

    if backend == "dask":
        _require_dask()
    with parallel_config(backend=backend, n_jobs=n_jobs):
        yield from Parallel()(delayed(fit_seed)(job, windows, split) for job in jobs)


def _require_dask() -> None:
    distributed = extra_module("distributed", title="dask", extra="dask")
    try:
        distributed.get_client()
    except ValueError:
        raise InputError(
            "there is no dask scheduler", hint="give --dask ADDRESS, or make a distributed.Client first"
        ) from None


@contextlib.contextmanager
def _watching(folder: Path, seeds: list[int], epochs: int, progress: Progress | None) -> Iterator[None]:
    """Report the epochs of all seeds while they run, here or in other processes, by reading their logs."""
    if progress is None:
        yield
        return
    over = threading.Event()

    def look() -> None:
        total = 0
        for seed in seeds:
            seed_folder = folder / f"seed{seed}"
            total += epochs if (seed_folder / "result.json").exists() else len(read_log(seed_folder))
        progress(total, epochs * len(seeds))

    def watch() -> None:
        while not over.wait(0.5):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        look()
