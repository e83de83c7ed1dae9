"""What a recipe leaves to the windows, decided: loss and metric by what y is, length by how many windows there are."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.splits import PARTS, Split
from rtserve.signals.windows import WindowSet
from rtserve.training.augment import parse_augmentation
from rtserve.training.device import chosen_device
from rtserve.training.recipe import AUTO, NUMBERS, Recipe
from rtserve.training.watched import watched

__all__ = ["class_counts", "class_labels", "is_class", "n_outputs", "require_learnable", "settled"]

MOST_CLASSES = 20
"""Whole numbers from 0 to fewer than so many, and nothing between, may be class numbers."""
STEPS, SHORTEST, LONGEST = 400, 20, 100
"""Steps that a run left to itself takes at least, within so many epochs: a small set needs more of them."""


def is_class(windows: WindowSet) -> bool:
    """Whether y numbers classes."""
    return windows.predicts == "class"


def class_labels(windows: WindowSet) -> tuple[str, ...]:
    """Return what to call the classes 0, 1, ...; their numbers where the windows do not name them."""
    return windows.classes or tuple(str(k) for k in range(n_outputs(windows)))


def n_outputs(windows: WindowSet) -> int:
    """Return how many numbers a network gives per window: one, or one logit for each class."""
    if not is_class(windows):
        return 1
    return len(windows.classes) or int(np.max(windows.y)) + 1


def class_counts(windows: WindowSet, split: Split) -> dict[str, list[int]]:
    """Return of each part how many windows each class has, in the order of `class_labels`."""
    k = n_outputs(windows)
    return {part: np.bincount(windows.y[split.part(part)].astype(int), minlength=k).tolist() for part in PARTS}


def settled(recipe: Recipe, windows: WindowSet, split: Split) -> Recipe:
    """Return the recipe with nothing left open for these windows.

    Raises
    ------
    InputError
        Where loss and metric are for numbers and y is a class, or the other way round, or an augmentation is unknown.
    EnvironmentMissingError
        Where the device or braindecode is not there.
    """
    classes = is_class(windows)
    loss = recipe.loss if recipe.loss != AUTO else "cross_entropy" if classes else "mse"
    monitor = recipe.monitor if recipe.monitor != AUTO else "balanced_accuracy" if classes else "nrmse"
    _require_kind(loss, monitor, windows)
    if recipe.loss == AUTO and not classes:
        _require_told(windows)
    for text in recipe.augment:
        parse_augmentation(text)
    batches = max(1, len(split.part("train")) // recipe.batch_size)
    epochs = recipe.max_epochs or min(LONGEST, max(SHORTEST, math.ceil(STEPS / batches)))
    patience = recipe.patience if recipe.patience is not None else max(5, epochs // 4)
    return dataclasses.replace(
        recipe,
        loss=loss,
        monitor=monitor,
        max_epochs=epochs,
        patience=patience,
        device=chosen_device(recipe.device),
        standardise=recipe.standardise and not classes,
        start_from_mean=recipe.start_from_mean and not classes,
    )


def _require_kind(loss: str, monitor: str, windows: WindowSet) -> None:
    names = f" ({', '.join(windows.classes)})" if windows.classes else ""
    if is_class(windows) and loss in NUMBERS:
        raise InputError(
            f"y of the windows is a class{names}, and the loss {loss} would train it as a number",
            hint="leave --loss out, or use --loss cross_entropy; or name a target that is a number with --target",
        )
    if not is_class(windows) and loss not in NUMBERS:
        raise InputError(
            f"y of the windows is {windows.target or 'a number'}, and {loss} is a loss of classes",
            hint="use --loss mse; where y numbers classes and the file does not say so: --target class",
        )
    if watched(monitor).classes != is_class(windows):
        kind = "classes" if is_class(windows) else "numbers"
        raise InputError(f"{monitor} is no metric of {kind}, which y is", hint="leave --monitor out")


def _require_told(windows: WindowSet) -> None:
    """Raise `InputError` where y may number classes and nobody says what it is: a network would regress class numbers."""
    values = np.unique(windows.y)
    if windows.target or not 2 <= len(values) <= MOST_CLASSES or not np.array_equal(values, np.arange(len(values))):
        return
    raise InputError(
        f"y of the windows is the whole numbers 0 to {len(values) - 1} alone, and nothing says what it is: classes would be"
        " trained as numbers",
        hint="say it: --target class where they are classes; another --target, or --loss mse, where they are numbers",
    )


def require_learnable(windows: WindowSet, split: Split) -> None:
    """Make sure that there is something to learn and to score in every part.

    Raises
    ------
    InputError
        Where a part has too few windows or one value of y alone, or a class number is impossible or never trained.
    """
    if is_class(windows):
        _require_numbered(windows)
    for part in PARTS:
        y = windows.y[split.part(part)]
        if len(y) < 2 or float(y.std()) == 0.0:
            raise InputError(
                f"the {part} part has {len(y)} windows with {len(set(y.tolist()))} different targets",
                hint="give more windows or subjects; a score needs targets that differ",
            )
    if is_class(windows):
        counts = class_counts(windows, split)["train"]
        absent = [name for name, count in zip(class_labels(windows), counts, strict=True) if not count]
        if absent:
            raise InputError(
                f"no train window is of {len(absent)} of the {len(counts)} classes ({', '.join(absent[:5])}), whose"
                " outputs would never be trained",
                hint="split otherwise (--split-seed), or prepare the windows with the other classes alone, numbered from 0",
            )


def _require_numbered(windows: WindowSet) -> None:
    bad = (windows.y != np.round(windows.y)) | (windows.y < 0)
    bad |= bool(windows.classes) & (windows.y >= len(windows.classes))
    if windows.y.ndim != 1 or bad.any():
        where = int(np.argmax(bad.reshape(len(bad), -1).any(axis=1)))
        until = f"..{len(windows.classes) - 1}" if windows.classes else ", 1, ..."
        raise InputError(
            f"y of the windows is a class, and window {where} has {windows.y[where]}",
            hint=f"classes are numbered 0{until}",
        )
