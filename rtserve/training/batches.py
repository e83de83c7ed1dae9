"""Batches for training: each follows from the seed, the epoch and its number alone.

So a resumed run repeats them, and it does not matter which process makes them: with workers, batches are read (and
augmented) ahead by processes of a `torch.utils.data.DataLoader`, and are the same, bit for bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rtserve.errors import InputError
from rtserve.signals.stored import StoredArray
from rtserve.signals.windows import WindowSet
from rtserve.training.augment import augmented
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
    workers : int
        Processes that make batches ahead; 0 for this one.
    epoch : int
        Set before each epoch.
    """

    X: torch.Tensor | StoredArray
    y: torch.Tensor
    index: np.ndarray
    recipe: Recipe
    seed: int
    workers: int = 0
    epoch: int = 0
    _order: tuple[int, np.ndarray] = field(default=(-1, np.empty(0, int)), init=False, repr=False)
    _loader: Any = field(default=None, init=False, repr=False)

    def __len__(self) -> int:
        """Return the batches per epoch; a last one of a single window is left out, BatchNorm cannot use it."""
        full, rest = divmod(len(self.index), self.recipe.batch_size)
        return full + (rest > 1)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        if self.workers:
            yield from self._from_workers()
        else:
            for number in range(len(self)):
                yield self[self.epoch, number]

    def __getitem__(self, key: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return x and y of a batch by its epoch and number."""
        epoch, number = key
        if self._order[0] != epoch:
            self._order = epoch, epoch_rng(self.seed, epoch).permutation(self.index)
        size = self.recipe.batch_size
        chosen = self._order[1][number * size : (number + 1) * size]
        if len(chosen) < 1:
            raise IndexError(number)
        rng = np.random.default_rng([self.seed, epoch, number, 2])
        x, y = rows(self.X, chosen), self.y[torch.from_numpy(chosen)]
        if self.recipe.augment:
            x = augmented(x, self.recipe.augment, rng)
        return self._mixed(rng, x, y)

    def _from_workers(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        from torch.utils.data import DataLoader

        if self._loader is None:
            self._loader = DataLoader(
                dataclasses.replace(self, workers=0),
                batch_size=None,
                sampler=_Keys(self),
                num_workers=self.workers,
                persistent_workers=True,
                multiprocessing_context="spawn",  # a forked process would share the place in an open file
                generator=torch.Generator(),  # its own: dropout's must not depend on there being workers
            )
        yield from self._loader

    def _mixed(self, rng: np.random.Generator, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        alpha = self.recipe.mixup_alpha
        if not alpha or rng.random() >= self.recipe.mixup_fraction:
            return x, y
        n = 1 if self.recipe.mixup_per == "batch" else len(x)
        weight = torch.from_numpy(rng.beta(alpha, alpha, n).astype(np.float32))
        other = torch.from_numpy(rng.permutation(len(x)))
        wide = weight[:, None, None]
        return wide * x + (1 - wide) * x[other], weight[:, None] * y + (1 - weight[:, None]) * y[other]


@dataclass(frozen=True)
class _Keys:
    """The keys of one epoch's batches, in order; the epoch is that of the moment."""

    batches: Batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.batches.epoch, number) for number in range(len(self.batches))])
