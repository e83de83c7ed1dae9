"""Batches for training: order and mixup follow from the seed and the epoch alone, so a resumed run repeats them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from rtserve.errors import InputError
from rtserve.signals.stored import StoredArray
from rtserve.signals.windows import WindowSet
from rtserve.training.recipe import Recipe

__all__ = ["Batches", "epoch_rng", "rows", "samples"]

_WHOLE = 1 << 30
"""Bytes of windows that are read whole where they cannot be read in any order."""


def epoch_rng(seed: int, epoch: int) -> np.random.Generator:
    """Return the generator of everything random about one epoch's batches."""
    return np.random.default_rng([seed, epoch])


def samples(windows: WindowSet) -> torch.Tensor | StoredArray:
    """Return X as training takes it: a tensor, or as it is where it stays in its file.

    Raises
    ------
    InputError
        Where it stays in a compressed archive, in which a batch of shuffled windows cannot be found, and is too large
        to be read whole.
    """
    X = windows.X
    if isinstance(X, StoredArray) and not X.random_access:
        if X.nbytes > _WHOLE:
            raise InputError(
                f"the windows ({X.nbytes / 1e9:.1f} GB) are in a compressed .npz, which can only be read in order",
                hint="write them as .h5 first: rtserve annotate WINDOWS.npz -o WINDOWS.h5",
            )
        X = np.asarray(X)
    return X if isinstance(X, StoredArray) else torch.from_numpy(np.require(X, requirements=["C", "W"]))


def rows(X: torch.Tensor | StoredArray, index: np.ndarray) -> torch.Tensor:
    """Return the windows that `index` names as a tensor (k, n_chans, n_times)."""
    return torch.from_numpy(X[index]) if isinstance(X, StoredArray) else X[torch.from_numpy(index)]


@dataclass(kw_only=True)
class Batches:
    """Shuffled, perhaps mixed batches of the train windows; iterating gives one epoch.

    Parameters
    ----------
    X : Tensor or StoredArray, (n, n_chans, n_times)
        All windows of the file; what is stored is read batch by batch.
    y : Tensor, (n, n_outputs)
        Targets as the loss takes them.
    index : ndarray of int
        Which of them are for training.
    recipe : Recipe
        Batch size and mixup.
    seed : int
        Seed of the run.
    epoch : int
        Set before each epoch.
    """

    X: torch.Tensor | StoredArray
    y: torch.Tensor
    index: np.ndarray
    recipe: Recipe
    seed: int
    epoch: int = field(default=0)

    def __len__(self) -> int:
        """Return the batches per epoch; a last one of a single window is left out, BatchNorm cannot use it."""
        full, rest = divmod(len(self.index), self.recipe.batch_size)
        return full + (rest > 1)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        rng = epoch_rng(self.seed, self.epoch)
        order = rng.permutation(self.index)
        for number in range(len(self)):
            chosen = order[number * self.recipe.batch_size : (number + 1) * self.recipe.batch_size]
            yield self._mixed(rng, rows(self.X, chosen), self.y[torch.from_numpy(chosen)])

    def _mixed(self, rng: np.random.Generator, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self.recipe.mixup_alpha
        if not alpha or rng.random() >= self.recipe.mixup_fraction:
            return x, y
        n = 1 if self.recipe.mixup_per == "batch" else len(x)
        weight = torch.from_numpy(rng.beta(alpha, alpha, n).astype(np.float32))
        other = torch.from_numpy(rng.permutation(len(x)))
        wide = weight[:, None, None]
        return wide * x + (1 - wide) * x[other], weight[:, None] * y + (1 - weight[:, None]) * y[other]
