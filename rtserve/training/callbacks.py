"""What happens around skorch's training loop: seeding, averaging, scoring, keeping, gates.

Everything random about an epoch follows from (seed, epoch), what is not random is in ``last.pth``. So a run that was
killed at any moment goes on from its last whole epoch to the weights it would have had anyway.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from skorch.callbacks import Callback
from torch import nn

from rtserve.errors import RtserveError
from rtserve.measure.signature import Signature
from rtserve.signals.stored import StoredArray
from rtserve.training.batches import rows
from rtserve.training.gates import Gate, Verdict, judge
from rtserve.training.scaling import PLAIN, Scale
from rtserve.training.watched import LOG_LOSS, scores, watched

__all__ = ["GateStop", "Scorer", "Seeder", "StopEarly", "best_epoch", "infer", "value_of"]


class StopEarly(Exception):  # noqa: N818 -- an outcome, no error
    """The monitored metric has not improved for the recipe's patience."""


class GateStop(Exception):  # noqa: N818 -- an outcome, no error
    """A gate ended the run; carries its verdict."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(str(verdict))
        self.verdict = verdict


def infer(
    network: nn.Module, X: torch.Tensor | StoredArray, index: np.ndarray, *, scale: Scale = PLAIN, batch: int = 128
) -> np.ndarray:
    """Return answers (n, n_outputs) float32 of a network in evaluation mode for the windows that `index` names."""
    was_training, device = network.training, next(network.parameters()).device
    network.eval()
    with torch.inference_mode():
        parts = [network(rows(X, part).to(device)).cpu() for part in np.array_split(index, -(-len(index) // batch))]
    network.train(was_training)
    answers: np.ndarray = torch.cat(parts).float().numpy()
    return answers if scale is PLAIN else np.asarray(answers * scale.factor + scale.offset, np.float32)


class Seeder(Callback):  # type: ignore[misc]
    """Seed each epoch's dropout and tell the batches which epoch it is."""

    def __init__(self, seed: int, start: int = 0) -> None:
        self.seed = seed
        self.start = start

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Start to count at the epoch after the last whole one."""
        self.epoch_ = self.start

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Seed this epoch."""
        self.epoch_ += 1
        net.batches_.epoch = self.epoch_
        torch.manual_seed(int(np.random.SeedSequence([self.seed, self.epoch_, 1]).generate_state(1)[0]))


class Average(Callback):  # type: ignore[misc]
    """Keep an exponential average of the weights; it starts short, so that it forgets the initialiser."""

    def __init__(self, decay: float) -> None:
        self.decay = decay

    def on_train_begin(self, net: Any, **kwargs: Any) -> None:
        """Start from the present weights."""
        # In a dict, because skorch takes a module among its attributes for one to be trained.
        net.averaged_ = {"network": copy.deepcopy(net.module_).eval(), "steps": 0}

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def on_batch_end(self, net: Any, training: bool = False, **kwargs: Any) -> None:
        """Move the average towards the weights."""
        if not training:
            return
        net.averaged_["steps"] += 1
        steps, average = net.averaged_["steps"], net.averaged_["network"]
        share = 1.0 - min(self.decay, (1.0 + steps) / (10.0 + steps))
        for mean, value in zip(average.state_dict().values(), net.module_.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share)
            else:
                mean.copy_(value)


def scored_network(net: Any) -> nn.Module:
    """Return the network that is scored and saved: the averaged one where the recipe has one."""
    network: nn.Module = net.averaged_["network"] if hasattr(net, "averaged_") else net.module_
    return network


class Scorer(Callback):  # type: ignore[misc]
    """Score the valid windows after each epoch, keep the best weights, stop early, ask the gates.

    Parameters
    ----------
    y : ndarray, (n_windows,)
        All targets.
    valid : ndarray of int
        Indices of the valid windows.
    data : str
        Digest of the valid windows, for the signatures.
    monitor : str
        Metric that chooses the best epoch.
    patience : int
        0 for never.
    gates : tuple of Gate
        Rules on what is logged.
    keep : callable
        ``keep(net, row, improved)``: writes the files.
    """

    def __init__(
        self,
        *,
        y: np.ndarray,
        valid: np.ndarray,
        data: str,
        monitor: str,
        patience: int,
        gates: tuple[Gate, ...],
        keep: Callable[[Any, dict[str, Any], bool], None],
    ) -> None:
        self.y = y
        self.valid = valid
        self.data = data
        self.monitor = monitor
        self.patience = patience
        self.gates = gates
        self.keep = keep

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.started_ = time.perf_counter_ns()

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Score, keep, and decide whether to go on."""
        model = scored_network(net)
        loss = float(np.average(net.history[-1, "batches", :, "train_loss"])) * net.scale_.factor**2
        predictions = infer(model, net.batches_.X, self.valid, scale=net.scale_)
        if not (np.isfinite(loss) and np.isfinite(predictions).all()):
            raise RtserveError(
                f"in epoch {net.batches_.epoch} the loss is {loss:.3g} and {int((~np.isfinite(predictions)).sum())} of"
                f" {predictions.size} predictions are not finite",
                hint="lower --lr, or clip gradients harder",
            )
        row = {
            "epoch": net.batches_.epoch,
            "train_loss": loss,
            "lr": float(net.optimizer_.param_groups[0]["lr"]),
            "valid": scores(self.monitor, self.y[self.valid], predictions, data=self.data),
            "seconds": round((time.perf_counter_ns() - self.started_) * 1e-9, 3),
        }
        verdicts = [verdict for gate in self.gates if (verdict := judge(gate, row))]
        row["gates"] = [verdict.to_dict() for verdict in verdicts]
        improved = self._is_best(net.rows_, row)
        net.rows_.append(row)
        self.keep(net, row, improved)
        for verdict in verdicts:
            if verdict.outcome == "stop":
                raise GateStop(verdict)
        if self.patience and row["epoch"] - best_epoch(net.rows_, self.monitor) >= self.patience:
            raise StopEarly

    def _is_best(self, rows: list[dict[str, Any]], row: dict[str, Any]) -> bool:
        return bool(best_epoch([*rows, row], self.monitor) == row["epoch"])


def value_of(row: dict[str, Any], metric: str) -> tuple[str, float]:
    """Return signature and value of a metric in a row of the log."""
    return next((text, value) for text, value in row["valid"].items() if Signature.parse(text).metric == metric)


def best_epoch(rows: list[dict[str, Any]], monitor: str) -> int:
    """Return the epoch with the best value of the monitored metric; of equal ones that of less log loss, then the first.

    A share of right windows takes few values in a small valid part, so there are equal ones.
    """
    sign = -1.0 if watched(monitor).higher_is_better else 1.0

    def rank(row: dict[str, Any]) -> tuple[float, float]:
        ties = value_of(row, LOG_LOSS.name)[1] if watched(monitor).classes else 0.0
        return sign * value_of(row, monitor.partition(":")[0])[1], ties

    return int(min(rows, key=rank)["epoch"])
