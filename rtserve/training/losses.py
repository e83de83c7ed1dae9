"""What is minimised, as a module of (answers, targets): numbers in y's units, or classes as probabilities."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from rtserve.training.recipe import Recipe

__all__ = ["loss_of", "targets_of"]


def targets_of(y: np.ndarray, n_outputs: int, *, classes: bool) -> torch.Tensor:
    """Return targets as the loss takes them, float32: (n, 1), or (n, n_classes) with 1 at the class.

    Targets that are probabilities can be mixed (mixup), as numbers can.
    """
    if not classes:
        return torch.from_numpy(y.astype(np.float32))[:, None]
    return torch.nn.functional.one_hot(torch.from_numpy(y.astype(np.int64)), n_outputs).float()


def loss_of(recipe: Recipe, counts: list[int]) -> nn.Module:
    """Return the recipe's loss.

    Parameters
    ----------
    recipe : Recipe
        Settled.
    counts : list of int
        Train windows of each class; not looked at for numbers.
    """
    if recipe.loss == "cross_entropy":
        return nn.CrossEntropyLoss(weight=_class_weights(counts) if recipe.class_weight == "balanced" else None)
    if recipe.loss == "huber":
        return nn.HuberLoss(delta=recipe.huber_delta)
    return nn.SmoothL1Loss() if recipe.loss == "smooth_l1" else nn.MSELoss()


def _class_weights(counts: list[int]) -> torch.Tensor:
    """Return weights (n_classes,) that let each class count the same; their mean over the windows is 1."""
    count = torch.tensor(counts, dtype=torch.float64)
    return (count.sum() / (len(counts) * count)).float()
