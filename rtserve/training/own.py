"""Your own network, named by its file: ``--model net.py:Net`` with ``--set width=64``.

The file is yours and is run in this process, as training runs whatever it trains (an export does so in a child). It
defines a class of `torch.nn.Module`, a function that builds one (see `rtserve.graphs.factory`), or an exporter.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rtserve.errors import InputError, RtserveError
from rtserve.files import sha256_file
from rtserve.graphs.exporter import Built, exporter_file, resolve_exporter
from rtserve.graphs.factory import is_factory, make_network
from rtserve.signals.windows import WindowSet
from rtserve.training.recipe import Recipe
from rtserve.training.settled import n_outputs

__all__ = ["file_record", "is_own", "own_network", "without_folders"]


def is_own(model: str) -> bool:
    """Whether a recipe's model is named by its file."""
    return ".py" in model


def file_record(model: str) -> dict[str, Any]:
    """Return what a checkpoint says of the file: its name without folders, and its digest; empty for no file."""
    path = exporter_file(model) if is_own(model) else None
    return {"model_file": {"name": path.name, "sha256": sha256_file(path)}} if path else {}


def without_folders(model: str) -> str:
    """Return the model as a checkpoint names it: no machine's folders in it."""
    head, dot, rest = model.partition(".py")
    return f"{Path(head).name}{dot}{rest}" if dot else model


def own_network(recipe: Recipe, windows: WindowSet) -> nn.Module:
    """Build the network that the recipe's file defines, for the shape of these windows.

    Raises
    ------
    InputError
        Where the file or object is missing, fails, or gives no network of (batch, n_outputs) for them.
    """
    spec = windows.input_spec
    shape = {
        "n_chans": spec.n_chans,
        "n_times": spec.n_times,
        "sfreq": spec.sfreq,
        "n_outputs": n_outputs(windows),
        "ch_names": list(spec.ch_names),
    }
    try:
        found = resolve_exporter(recipe.model)
        if is_factory(found):
            network = make_network(found, shape, recipe.model_settings)
        else:
            built: Any = found({}, shape | dict(recipe.model_settings))
            network = _network_of(built, recipe.model)
        with torch.no_grad():
            answer = network.eval()(torch.zeros(2, spec.n_chans, spec.n_times))
    except RtserveError:
        raise
    except Exception as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if "site-packages" not in f.filename]
        where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{recipe.model} fails for {spec}: {type(error).__name__}: {reason}{where}", hint="check it, and its --set"
        ) from None
    given = tuple(answer.shape) if isinstance(answer, torch.Tensor) else f"a {type(answer).__name__}"
    if given != (2, n_outputs(windows)):
        raise InputError(
            f"{recipe.model} gives {given} for 2 windows, not (2, {n_outputs(windows)})",
            hint="its forward takes (batch, n_chans, n_times) and gives (batch, n_outputs)",
        )
    return network.train()


def _network_of(built: Any, name: str) -> nn.Module:
    if not isinstance(built, Built):
        kind = type(built).__name__
        raise InputError(f"{name} gives a {kind}, neither a network nor a Built", hint="see exporters/README.md")
    return built.network
