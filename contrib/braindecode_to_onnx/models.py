# License: BSD (3-clause)
"""How the tests build each model: braindecode's own list of models and signals."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from typing import Any

import torch


def _import_torchaudio() -> None:
    """Import torchaudio, in Python alone where its libraries are of another torch.

    Wheels of torchaudio may be built for CUDA, and then do not load beside a torch
    for CPUs; the models use only what it computes in Python.
    """
    try:
        importlib.import_module("torchaudio")
    except OSError:
        absent = types.ModuleType("torchaudio._extension")
        absent._IS_TORCHAUDIO_EXT_AVAILABLE = False  # type: ignore[attr-defined]
        absent._IS_ALIGN_AVAILABLE = False  # type: ignore[attr-defined]
        absent.fail_if_no_align = lambda function: function  # type: ignore[attr-defined]
        sys.modules["torchaudio._extension"] = absent
        importlib.import_module("torchaudio")


_import_torchaudio()

from braindecode import models  # noqa: E402
from braindecode.models.util import (  # noqa: E402
    _get_signal_params,
    default_signal_params,
    models_mandatory_parameters,
)

__all__ = ["NAMES", "build"]

_LISTED = {name: rest for name, *rest in models_mandatory_parameters}
NAMES = tuple(sorted(_LISTED))


def build(name: str) -> tuple[Any, torch.Tensor]:
    """Return the model called `name` with random weights, and windows for it."""
    required, signal = _LISTED[name]
    given = _get_signal_params(signal, required)
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = getattr(models, name)(**given)
    everything = default_signal_params | _get_signal_params(signal)
    generator = torch.Generator().manual_seed(0)
    shape = 3, everything["n_chans"], everything["n_times"]
    return model, torch.randn(shape, generator=generator)
