"""`Recipe`: every setting that decides what a training run becomes, checked before the run starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rtserve.errors import InputError
from rtserve.nearest import meant

__all__ = ["AUTO", "CLASS_WEIGHTS", "LOSSES", "MIXUP_PER", "RECIPES", "SCHEDULERS", "Recipe", "recipe_from"]

AUTO = "auto"
"""Decided by the windows, before the run starts; what it became is in the run's settings."""
NUMBERS = ("mse", "smooth_l1", "huber")
"""Losses of numbers."""
LOSSES = (AUTO, *NUMBERS, "cross_entropy")
CLASS_WEIGHTS = ("balanced", "none")
SCHEDULERS = ("none", "cosine", "warm_restarts")
MIXUP_PER = ("batch", "sample")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings of a training run; the data, the split and the seeds come beside it.

    What is left to the windows (``"auto"``, None) is decided by `rtserve.training.settled.settled`.

    Parameters
    ----------
    model : str
        ``"compact_rt"``, ``"braindecode:NAME"``, or your own ``"file.py:NAME"``.
    model_settings : dict
        What your own network is built with besides the windows' shape.
    max_epochs : int or None
        Length of the run; None for as many as make enough steps.
    batch_size : int
        Windows per step.
    lr, weight_decay : float
        Of AdamW.
    loss : str
        What is minimised: of numbers ``"mse"``, ``"smooth_l1"`` (half the squared error under 1) or ``"huber"``; of
        classes ``"cross_entropy"``; ``"auto"`` for mse or cross-entropy, by what y is.
    class_weight : str
        Of classes: ``"balanced"`` (each counts the same, as in balanced accuracy) or ``"none"`` (each window does).
    huber_delta : float
        Where Huber's loss turns linear, in units of y.
    scheduler : str
        ``"none"``, ``"cosine"`` to zero at `max_epochs`, or ``"warm_restarts"``.
    restart_epochs : int
        Length of the first cycle of warm restarts; each next one is twice as long.
    dropout, head_dropout : tuple of float
        CompactRT's rates after the convolutions and in the head.
    mixup_alpha : float
        Mixup's Beta(alpha, alpha); 0 for none.
    mixup_fraction : float
        Share of batches that are mixed.
    mixup_per : str
        One weight per ``"batch"`` or per ``"sample"``.
    clip_norm : float
        Largest gradient norm; 0 for no clipping.
    patience : int or None
        Epochs without a better `monitor` before the run stops; 0 for never, None for a quarter of the run.
    monitor : str
        Metric on the valid windows that chooses the best epoch; ``"auto"`` for NRMSE or balanced accuracy.
    ema : float
        Decay of the averaged weights that are scored and saved; 0 for the plain weights.
    augment : tuple of str
        braindecode's transforms of the training batches, e.g. ``"ChannelsDropout:p_drop=0.2"``.
    device : str
        ``"cpu"``, ``"cuda"``, ``"cuda:1"``; ``"auto"`` for CUDA where there is any.
    amp : bool
        Compute the forward pass in bfloat16 where torch deems that safe.
    start_from_mean : bool
        Begin with the train windows' mean target as output.
    standardise : bool
        Learn the target in units of its own spread; the last layer of what is saved answers in y's units.

    Raises
    ------
    InputError
        Where a value is impossible.
    """

    model: str = "compact_rt"
    model_settings: dict[str, Any] = field(default_factory=dict)
    max_epochs: int | None = None
    batch_size: int = 32
    lr: float = 1e-3
    weight_decay: float = 0.05
    loss: str = AUTO
    class_weight: str = "balanced"
    huber_delta: float = 1.0
    scheduler: str = "cosine"
    restart_epochs: int = 5
    dropout: tuple[float, ...] = (0.3, 0.4, 0.5)
    head_dropout: tuple[float, ...] = (0.5, 0.4)
    mixup_alpha: float = 0.0
    mixup_fraction: float = 1.0
    mixup_per: str = "batch"
    clip_norm: float = 1.0
    patience: int | None = None
    monitor: str = AUTO
    ema: float = 0.0
    augment: tuple[str, ...] = ()
    device: str = AUTO
    amp: bool = False
    start_from_mean: bool = True
    standardise: bool = True

    def __post_init__(self) -> None:
        _choice("loss", self.loss, LOSSES)
        _choice("class_weight", self.class_weight, CLASS_WEIGHTS)
        _choice("scheduler", self.scheduler, SCHEDULERS)
        _choice("mixup_per", self.mixup_per, MIXUP_PER)
        limits: dict[str, tuple[float, float]] = {
            "max_epochs": (1, 1e6), "batch_size": (2, 1e6), "lr": (1e-12, 1e3), "weight_decay": (0, 1e3),
            "huber_delta": (1e-9, 1e9), "restart_epochs": (1, 1e6), "mixup_alpha": (0, 1e3),
            "mixup_fraction": (0, 1), "clip_norm": (0, 1e9), "patience": (0, 1e6), "ema": (0, 0.99999999),
        }  # fmt: skip
        for name, (low, high) in limits.items():
            value = getattr(self, name)
            if value is None and name in ("max_epochs", "patience"):
                continue
            if not low <= value <= high:
                raise InputError(f"{name} = {value} is impossible", hint=f"from {low:g} to {high:g}")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values; `recipe_from` reads them back."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        hint = meant(value, choices, f"use one of {', '.join(choices)}")
        raise InputError(f"unknown {name} {value!r}", hint=hint)


def recipe_from(values: Mapping[str, Any]) -> Recipe:
    """Return a recipe from a mapping such as parsed TOML or a stored run.

    Raises
    ------
    InputError
        Where a key is unknown (the nearest is named) or a value impossible.
    """
    known = [field.name for field in dataclasses.fields(Recipe)]
    for key in values:
        if key not in known:
            hint = meant(key, known, f"settings are {', '.join(known)}")
            raise InputError(f"unknown training setting {key!r}", hint=hint)
    fixed: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    return Recipe(**fixed)


RECIPES: dict[str, Recipe] = {
    "default": Recipe(),
    "v8": Recipe(
        loss="smooth_l1", mixup_alpha=0.2, mixup_fraction=1.0, dropout=(0.5, 0.6, 0.7), scheduler="cosine",
        max_epochs=30, patience=10, standardise=False,
    ),
    "aggressive": Recipe(
        loss="mse", mixup_alpha=0.2, mixup_fraction=1.0, dropout=(0.5, 0.6, 0.7), scheduler="warm_restarts", lr=2e-3,
        max_epochs=30, patience=10, clip_norm=0.5, standardise=False,
    ),
    "ensemble": Recipe(loss="mse", mixup_alpha=0.0, max_epochs=15, patience=5, standardise=False),
    "ensemble_mixup": Recipe(
        loss="mse", mixup_alpha=0.2, mixup_fraction=0.5, max_epochs=15, patience=5, standardise=False
    ),
}  # fmt: skip
"""Named starting points: the runs of the session this project began with, and what `rtserve train` uses by default."""
