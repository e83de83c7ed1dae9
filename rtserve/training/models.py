"""Which network a recipe names: built for the windows, and how a checkpoint of it is exported."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import nn

from rtserve.errors import CheckpointError, InputError
from rtserve.graphs.braindecode import braindecode_models
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.graphs.factory import with_input_scale
from rtserve.graphs.weights import strip_prefixes
from rtserve.nearest import meant
from rtserve.signals.windows import WindowSet
from rtserve.training.networks import VOLT_SCALE, CompactRT, count_parameters
from rtserve.training.own import is_own, own_network, without_folders
from rtserve.training.recipe import Recipe
from rtserve.training.scaling import last_layer
from rtserve.training.settled import n_outputs

__all__ = ["build_network", "carrier", "export_reference", "require_like"]


def build_network(recipe: Recipe, windows: WindowSet, *, seed: int) -> nn.Module:
    """Build and initialise the recipe's network for the shape of these windows.

    Parameters
    ----------
    recipe : Recipe
        Names the model and its dropout.
    windows : WindowSet
        Gives n_chans, n_times, sfreq and how many classes; where it is in volts the network gets the input scale.
    seed : int
        Of the initialiser.

    Raises
    ------
    InputError
        Where the model is unknown or cannot take such windows.
    EnvironmentMissingError
        Where it needs braindecode and that is not installed or cannot be imported.
    """
    torch.manual_seed(seed)
    if recipe.model_settings and not is_own(recipe.model):
        raise InputError(f"{recipe.model} takes no --set", hint="it is for your own --model file.py:NAME")
    family, _, name = recipe.model.partition(":")
    if family == "compact_rt" and not name:
        return CompactRT(
            windows.X.shape[1],
            dropout=tuple(recipe.dropout),  # type: ignore[arg-type]
            head_dropout=tuple(recipe.head_dropout),  # type: ignore[arg-type]
            input_scale=_input_scale(windows),
            n_outputs=n_outputs(windows),
        )
    if family == "braindecode" and name:
        scale = _input_scale(windows)
        return with_input_scale(_braindecode(name, windows), scale or 1.0)
    if is_own(recipe.model):
        return with_input_scale(own_network(recipe, windows), _input_scale(windows) or 1.0)
    raise InputError(
        f"unknown model {recipe.model!r}",
        hint=meant(
            recipe.model,
            ("compact_rt", "braindecode:"),
            "use compact_rt, braindecode:NAME (e.g. braindecode:EEGNeX), or your own file.py:NAME",
        ),
    )


def carrier(network: nn.Module, windows: WindowSet) -> str:
    """Return the layer that can carry the target's spread and mean, or ``""``; see `rtserve.training.scaling`."""
    size = 1.0 / VOLT_SCALE if windows.unit == "V" else 1.0
    return last_layer(network, windows.X.shape[1:], input_size=size)


def _input_scale(windows: WindowSet) -> float | None:
    """Return what brings the samples near 1: a factor for volts, none for standardised samples."""
    if windows.unit is None:
        raise InputError(
            "the windows do not say their unit, and a network is trained for one", hint="state it: --unit uV"
        )
    return VOLT_SCALE if windows.unit == "V" else None


def _braindecode(name: str, windows: WindowSet) -> nn.Module:
    found = getattr(braindecode_models(), name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise InputError(f"braindecode has no model {name!r}", hint="for example braindecode:EEGNeX")
    if not windows.sfreq:
        raise InputError("the windows do not say their sampling rate", hint="state it in Hz: --sfreq 100")
    shape: dict[str, Any] = {"n_chans": windows.X.shape[1], "n_times": windows.X.shape[2], "sfreq": windows.sfreq}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = found(n_outputs=n_outputs(windows), **shape)
            with torch.no_grad():
                given = tuple(network.eval()(torch.zeros(2, *windows.X.shape[1:])).shape)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"braindecode's {name} cannot take {windows.input_spec}: {reason}", hint="another model"
        ) from None
    if given != (2, n_outputs(windows)):
        raise InputError(
            f"braindecode's {name} gives {given} for 2 windows, not (2, {n_outputs(windows)})", hint="another model"
        )
    return network.train()


def export_reference(recipe: Recipe) -> str:
    """Return the exporter reference for the recipe's checkpoints."""
    if is_own(recipe.model):
        return without_folders(recipe.model)
    family, _, name = recipe.model.partition(":")
    return "rtserve.training.networks:exporter" if family == "compact_rt" else f"exporters/braindecode_models.py:{name}"


def require_like(network: nn.Module, path: str) -> None:
    """Compare a network with a checkpoint before training: parameter count, names and shapes.

    Raises
    ------
    CheckpointError
        Where they are not one architecture; both parameter counts and the first difference are named.
    """
    buffers = {name for name, _ in network.named_buffers()}
    mine = {name: tuple(value.shape) for name, value in network.named_parameters()}
    state = strip_prefixes(load_checkpoint(path).state_dict)
    suffixes = ("running_mean", "running_var", "num_batches_tracked", "input_scale")
    theirs = {k: tuple(v.shape) for k, v in state.items() if k not in buffers and not k.endswith(suffixes)}
    if mine != theirs:
        count = sum(v.numel() for k, v in state.items() if k in theirs)
        first = next(k for k in [*mine, *theirs] if mine.get(k) != theirs.get(k))
        raise CheckpointError(
            f"the network to train has {count_parameters(network):,} parameters, {path} has {count:,};"
            f" first difference: {first} is {mine.get(first, 'absent')} against {theirs.get(first, 'absent')}",
            hint="they are different architectures: train the right model, or leave --like out",
        )
