"""Train one seed with skorch: the same arguments on one thread give the same weights, bit for bit."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, CosineAnnealingWarmRestarts

from rtserve.errors import RtserveError
from rtserve.files import write_bytes
from rtserve.graphs.without_compiler import without_compiler
from rtserve.measure.cases import Cases
from rtserve.measure.evaluation import Evaluation, score_cases, score_predictions
from rtserve.measure.probabilities import class_probabilities
from rtserve.signals.splits import Split
from rtserve.signals.windows import WindowSet
from rtserve.training.batches import Batches, samples
from rtserve.training.callbacks import Average, GateStop, Scorer, Seeder, StopEarly, best_epoch, infer, value_of
from rtserve.training.device import repeatable
from rtserve.training.gates import Gate
from rtserve.training.keeping import Keeper, load_state
from rtserve.training.logs import make_logs
from rtserve.training.losses import loss_of, targets_of
from rtserve.training.models import build_network, carrier
from rtserve.training.recipe import Recipe
from rtserve.training.scaling import PLAIN, Scale, scale_of
from rtserve.training.settled import class_counts, is_class, n_outputs, settled
from rtserve.training.start import start_from

__all__ = ["SeedJob", "fit_seed"]

_NUMBERS, _CLASSES = ("nrmse", "rmse", "mse", "smooth_l1"), ("balanced_accuracy", "accuracy", "kappa", "f1", "log_loss")
"""What the test windows are scored by."""
_DECIDED = "argmax of logits"


@dataclass(frozen=True, kw_only=True)
class SeedJob:
    """One seed's training; everything a worker process needs beside the windows.

    Parameters
    ----------
    seed : int
        Initialiser, order, mixup and dropout follow from it.
    folder : Path
        RUNDIR/seedS.
    recipe : Recipe
        The settings.
    about : dict
        What every checkpoint says of itself.
    gates : tuple of Gate
        Rules on the log.
    resume : bool
        Go on from ``last.pth`` where there is one.
    init : str
        Checkpoint to start from; empty for none.
    workers : int
        Processes that make batches ahead.
    logs : tuple of str
        See `rtserve.training.logs`.
    """

    seed: int
    folder: Path
    recipe: Recipe
    about: dict[str, Any]
    gates: tuple[Gate, ...] = ()
    resume: bool = False
    init: str = ""
    workers: int = 0
    logs: tuple[str, ...] = ()


class _Net(NeuralNet):  # type: ignore[misc]
    """skorch's loop over our batches, which are ready-made tensors."""

    def get_split_datasets(self, X: Any, y: Any = None, **fit_params: Any) -> tuple[Any, None]:
        return self.batches_, None

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        return self.batches_

    def check_data(self, X: Any, y: Any = None) -> None:
        """Nothing: the windows were checked when they were loaded."""

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Any:
        """Return the loss in y's units over the squared spread, so that clipping means the same whatever the unit."""
        scale: Scale = self.scale_
        answer = y_pred if scale is PLAIN else y_pred * scale.factor + scale.offset
        return self.criterion_(answer, y_true.to(answer.device)) / scale.factor**2

    def infer(self, x: Any, **fit_params: Any) -> Any:
        """Return the answers, in float32 whatever they were computed in."""
        x = x.to(self.device)
        with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=self.amp_):
            return self.module_(x).float()


def fit_seed(
    job: SeedJob, windows: WindowSet, split: Split, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """Train one seed, write its files, score the test windows, and return ``result.json``'s values.

    Parameters
    ----------
    job : SeedJob
        What to train and where to put it.
    windows : WindowSet
        All windows, in volts.
    split : Split
        Which of them train, choose the epoch, and test.
    progress : callable, optional
        Called as ``progress(epoch, max_epochs)``.

    Raises
    ------
    InputError
        Where the model does not fit the windows.
    RtserveError
        Where the loss stops being a number.
    """
    job = dataclasses.replace(job, recipe=settled(job.recipe, windows, split))
    with repeatable(job.recipe.device), without_compiler():
        return _fit(job, windows, split, progress or (lambda done, total: None))


def _fit(job: SeedJob, windows: WindowSet, split: Split, progress: Callable[[int, int], None]) -> dict[str, Any]:
    keeper = Keeper(job.folder, job.about | {"seed": job.seed})
    state = load_state(job.folder / "last.pth") if job.resume and (job.folder / "last.pth").exists() else None
    keeper.clean()
    net = _prepare(job, windows, split, keeper, state, progress)
    outcome, verdict = _run(net, job, done=state["epoch"] if state else 0)
    gates = [gate for row in net.rows_ for gate in row["gates"]]
    marginal = any(gate["outcome"] == "marginal" for gate in gates)
    best = best_epoch(net.rows_, job.recipe.monitor)
    evaluation, answers = _test(job, windows, split)
    result = {
        "schema": "rtserve.training_result/1",
        "seed": job.seed,
        "outcome": outcome,
        "marginal": marginal,
        "gates": gates,
        "stopped_by": verdict,
        "epochs": len(net.rows_),
        "best_epoch": best,
        "valid": net.rows_[best - 1]["valid"],
        "rising": rising(net.rows_, job.recipe),
        "test": evaluation.to_dict(raw=True) | ({"logits": answers.tolist()} if is_class(windows) else {}),
        "leaks": list(split.leaks),
    }
    write_bytes(job.folder / "result.json", (json.dumps(result, indent=1) + "\n").encode(), force=True)
    return result


def rising(rows: list[dict[str, Any]], recipe: Recipe) -> bool:
    """Whether a run that used all its epochs was still getting better: the last tenth of them gained over a hundredth."""
    total = recipe.max_epochs or 0
    before = rows[: total - max(1, round(total / 10))]
    if len(rows) < total or not before:
        return False
    late, early = (
        value_of(part[best_epoch(part, recipe.monitor) - 1], recipe.monitor.partition(":")[0])[1]
        for part in (rows, before)
    )
    return abs(late - early) > 0.01 * max(abs(early), abs(late))


def _run(net: Any, job: SeedJob, *, done: int) -> tuple[str, str]:
    """Run what is left of the epochs; return how it ended."""
    stopped = any(gate["outcome"] == "stop" for row in net.rows_ for gate in row["gates"])
    patience, rows, total = job.recipe.patience, net.rows_, job.recipe.max_epochs or 0
    exhausted = bool(rows) and patience and done - best_epoch(rows, job.recipe.monitor) >= patience
    try:
        net.notify("on_train_begin", X=None, y=None)
        if not stopped and not exhausted and done < total:
            net.fit_loop(None, None, epochs=total - done)
        net.notify("on_train_end", X=None, y=None)
    except StopEarly:
        exhausted = True
    except GateStop as stop:
        return "stopped by gate", str(stop.verdict)
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise RtserveError(
            f"a process that makes batches ended by itself ({error})",
            hint="mostly it ran out of memory: take fewer --workers, and --resume goes on where this stopped",
        ) from None
    if stopped:
        return "stopped by gate", next(g["text"] for row in rows for g in row["gates"] if g["outcome"] == "stop")
    return ("stopped early" if exhausted else "finished"), ""


def _prepare(
    job: SeedJob,
    windows: WindowSet,
    split: Split,
    keeper: Keeper,
    state: dict[str, Any] | None,
    progress: Callable[[int, int], None],
) -> Any:
    """Build the skorch net, from scratch or as `state` left it."""
    recipe, train = job.recipe, split.part("train")
    network, scale = _beginning(job, windows, train)
    start = int(state["epoch"]) if state else 0
    scorer = Scorer(
        y=windows.y,
        valid=split.part("valid"),
        data=windows.take(split.part("valid")).digest,
        monitor=recipe.monitor,
        patience=recipe.patience or 0,
        gates=job.gates,
        keep=functools.partial(
            _keep_and_tell, keeper, progress, recipe.max_epochs or 0, make_logs(job.logs, job.folder, begun=start)
        ),
    )
    counts = class_counts(windows, split)["train"] if is_class(windows) else []
    net = _Net(
        network,
        criterion=loss_of(recipe, counts),
        optimizer=torch.optim.AdamW,
        optimizer__weight_decay=recipe.weight_decay,
        lr=recipe.lr,
        max_epochs=recipe.max_epochs,
        train_split=None,
        device=recipe.device,
        callbacks=_callbacks(recipe, job.seed, start, scorer, state),
        callbacks__epoch_timer=None,
        callbacks__print_log=None,
        callbacks__train_loss=None,
        callbacks__valid_loss=None,
        verbose=0,
    ).initialize()
    net.scale_, net.amp_ = scale, recipe.amp
    y = targets_of(windows.y, n_outputs(windows), classes=is_class(windows))
    net.batches_ = Batches(X=samples(windows), y=y, index=train, recipe=recipe, seed=job.seed, workers=job.workers)
    net.rows_ = json.loads(state["rows"]) if state else []
    return net


def _beginning(job: SeedJob, windows: WindowSet, train: np.ndarray) -> tuple[nn.Module, Scale]:
    """Return the network as the seed, or the checkpoint to start from, has it, and the scale that it learns in."""
    network = build_network(job.recipe, windows, seed=job.seed)
    layer = carrier(network, windows) if job.recipe.standardise else ""
    scale = scale_of(windows.y[train], layer) if layer else PLAIN
    started = bool(job.init) and start_from(network, job.init, scale)
    if job.recipe.start_from_mean and not layer and not started:
        _start_from(network, float(windows.y[train].mean(dtype=np.float64)))
    return network, scale


def _keep_and_tell(
    keeper: Keeper,
    progress: Callable[[int, int], None],
    total: int,
    logs: list[Callable[[list[dict[str, Any]]], None]],
    net: Any,
    row: dict[str, Any],
    improved: bool,
) -> None:
    keeper(net, row, improved)
    for log in logs:
        log(net.rows_)
    progress(row["epoch"], total)


def _callbacks(
    recipe: Recipe, seed: int, start: int, scorer: Scorer, state: dict[str, Any] | None
) -> list[tuple[str, Any]]:
    callbacks: list[tuple[str, Any]] = [("seeder", Seeder(seed, start))]
    if recipe.ema:
        callbacks.append(("average", Average(recipe.ema)))
    if recipe.clip_norm:
        callbacks.append(("clip", GradientNormClipping(recipe.clip_norm)))
    if recipe.scheduler == "cosine":
        callbacks.append(("schedule", LRScheduler(CosineAnnealingLR, T_max=recipe.max_epochs)))
    elif recipe.scheduler == "warm_restarts":
        warm = LRScheduler(CosineAnnealingWarmRestarts, T_0=recipe.restart_epochs, T_mult=2)
        callbacks.append(("schedule", warm))
    callbacks.append(("scorer", scorer))
    if state:
        callbacks.append(("restore", Restore(state)))
    return callbacks


class Restore(Callback):  # type: ignore[misc]
    """Put a run back to where ``last.pth`` left it, after the other callbacks have set themselves up."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Load weights, optimizer, schedule and average."""
        net.module_.load_state_dict(self.state["model_state_dict"])
        net.optimizer_.load_state_dict(self.state["optimizer_state_dict"])
        schedule = dict(net.callbacks_).get("schedule")
        if schedule:
            schedule.lr_scheduler_.load_state_dict(self.state["scheduler_state_dict"])
        if self.state["average"]:
            net.averaged_["network"].load_state_dict(self.state["average"])
            net.averaged_["steps"] = self.state["average_steps"]


def _start_from(network: nn.Module, mean: float) -> None:
    """Let the network begin with the mean target, so that the first epochs do not go into finding it."""
    biases = [value for name, value in network.named_parameters() if name.endswith("bias") and value.shape == (1,)]
    if biases:
        with torch.no_grad():
            biases[-1].fill_(mean)


def _test(job: SeedJob, windows: WindowSet, split: Split) -> tuple[Evaluation, np.ndarray]:
    """Score the best weights on the test windows, which nothing has looked at before; return answers (n, n_outputs) too."""
    network = build_network(job.recipe, windows, seed=job.seed)
    network.load_state_dict(load_state(job.folder / "best.pth")["model_state_dict"])
    index = split.part("test")
    answers = infer(network, samples(windows), index)
    name = f"seed {job.seed}" + (" (LEAKING split)" if split.leaks else "")
    label = "LEAKING-test" if split.leaks else "test"
    test = windows.take(index)
    if not is_class(windows):
        metrics = tuple(dict.fromkeys((*_NUMBERS, job.recipe.monitor)))
        return score_predictions(answers[:, 0], test, metrics=metrics, split=label, name=name), answers
    chosen = answers.argmax(axis=1)
    cases = Cases.of(test, chosen, class_probabilities(answers, "logits", name=name))
    return score_cases(cases, test, metrics=_CLASSES, split=label, name=name, decided=_DECIDED), answers
