"""Augmentation of training batches by braindecode's transforms: ``ChannelsDropout:probability=0.5,p_drop=0.2``.

What is random about a batch follows from the run's seed, the epoch and the batch's number, as everything here.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rtserve.errors import InputError
from rtserve.extras import extra_module
from rtserve.graphs.exporter import parse_settings
from rtserve.graphs.pure_torchaudio import allow_pure_torchaudio

__all__ = ["augmented", "parse_augmentation"]

_PROBABILITY = 0.5
_NOT_HERE = {"Mixup": "use --mixup-alpha", "Compose": "repeat --augment"}
_EXAMPLE = "for example --augment ChannelsDropout:probability=0.5,p_drop=0.2"


def parse_augmentation(text: str) -> tuple[type[Any], dict[str, Any]]:
    """Return the class and the settings that a text names.

    Raises
    ------
    InputError
        Where braindecode has no such transform, or it takes no such setting.
    EnvironmentMissingError
        Where braindecode is not installed.
    """
    name, _, rest = text.partition(":")
    allow_pure_torchaudio()
    module = extra_module("braindecode.augmentation", title="braindecode", extra="braindecode")
    if name in _NOT_HERE:
        raise InputError(f"{name} is no augmentation of x alone", hint=_NOT_HERE[name])
    found = getattr(module, name, None)
    if not (inspect.isclass(found) and issubclass(found, module.Transform)) or name == "Transform":
        raise InputError(f"braindecode has no augmentation {name!r}", hint=_EXAMPLE)
    settings = parse_settings([part for part in rest.split(",") if part])
    settings = {"probability": _PROBABILITY} | settings
    try:
        _made(found, settings, 0)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"augmentation {text!r}: {reason}", hint=_EXAMPLE) from None
    return found, settings


def _made(found: type[Any], settings: dict[str, Any], seed: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return found(**settings, random_state=seed)


def augmented(x: torch.Tensor, texts: Sequence[str], rng: np.random.Generator) -> torch.Tensor:
    """Return windows x (batch, n_chans, n_times) after the transforms that the texts name, one after the other."""
    for text in texts:
        found, settings = parse_augmentation(text)
        transform = _made(found, settings, int(rng.integers(2**31)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            x = transform(x.clone()).float()
    return x
