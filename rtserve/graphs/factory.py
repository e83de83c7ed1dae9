"""Exporters that need not be written: a module's own class or factory, and the input scale that training adds to it.

``--exporter net.py:Net`` may name an exporter, or what builds the network: a class of `torch.nn.Module`, or a function
with some of the parameters of `SHAPE`. Such a one is called with those that it takes, and with the other settings.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from rtserve.errors import InputError
from rtserve.graphs.exporter import Built, Exporter, Quirk
from rtserve.spec import InputSpec, OutputSpec

__all__ = ["SCALE_QUIRK", "SHAPE", "as_exporter", "is_factory", "make_network", "with_input_scale"]

SHAPE = ("n_chans", "n_times", "sfreq", "n_outputs", "ch_names")
"""What a factory may ask for, as braindecode names it: channels, samples, Hz, numbers per window, channel names."""
_ABOUT = ("unit", "target")
SCHEMA = "rtserve.training_checkpoint/"
SCALE_QUIRK = Quirk(
    name="input-scale",
    reason="trainings on volts carry a fixed input scale, because BatchNorm's running variance starts at 1 and volts"
    " have 1e-11; it is part of the graph, folded into the first convolution where that is possible",
)


def is_factory(found: Callable[..., Any]) -> bool:
    """Whether a callable builds a module itself, and is no exporter of (shapes, settings)."""
    if inspect.isclass(found):
        return issubclass(found, nn.Module)
    try:
        asked = inspect.signature(found).parameters
    except (TypeError, ValueError):
        return False
    return "shapes" not in asked and any(name in asked for name in SHAPE)


def make_network(factory: Callable[..., Any], shape: Mapping[str, Any], settings: Mapping[str, Any]) -> nn.Module:
    """Call a factory with what it takes of `shape` and with `settings`.

    Raises
    ------
    InputError
        Where it takes no setting of that name, or gives no module.
    """
    name = getattr(factory, "__name__", type(factory).__name__)
    asked = inspect.signature(factory).parameters
    open_ended = any(parameter.kind is parameter.VAR_KEYWORD for parameter in asked.values())
    unknown = [key for key in settings if key not in asked and not open_ended]
    if unknown:
        raise InputError(f"{name} takes no setting {unknown[0]!r}", hint=f"it takes {', '.join(asked) or 'none'}")
    given = {key: value for key, value in shape.items() if key in asked}
    network = factory(**(given | dict(settings)))
    if not isinstance(network, nn.Module):
        raise InputError(f"{name} gives a {type(network).__name__}, not a torch.nn.Module", hint="return the network")
    return network


def as_exporter(found: Callable[..., Any], content: Mapping[str, Any]) -> Exporter:
    """Return an exporter as it is, or one around a factory; a checkpoint of `rtserve train` says what it is built with."""
    if not is_factory(found):
        return found
    trained = _trained(content) if str(content.get("schema", "")).startswith(SCHEMA) else {}

    def exporter(shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]) -> Built:
        values = trained | dict(settings)
        missing = [key for key in ("n_chans", "n_times") if key not in values]
        if missing:
            raise InputError(
                f"it is not known for how many {' and '.join(missing)} the network is built",
                hint="say it: --set n_chans=129 --set n_times=200 --set n_outputs=1",
            )
        about = {key: values.pop(key) for key in _ABOUT if key in values}
        shape: dict[str, Any] = {"sfreq": 0.0, "n_outputs": 1, "ch_names": ()} | {
            key: values.pop(key) for key in SHAPE if key in values
        }
        scaled = "input_scale" in shapes
        network = make_network(found, shape, values)
        return Built(
            network=with_input_scale(network) if scaled else network,
            input_spec=InputSpec(
                n_chans=int(shape["n_chans"]),
                n_times=int(shape["n_times"]),
                sfreq=float(shape["sfreq"]),
                ch_names=tuple(shape["ch_names"]),
                unit=about.get("unit", "V" if scaled else None),
            ),
            output_spec=OutputSpec(n_outputs=int(shape["n_outputs"]), target=str(about.get("target", ""))),
            quirks=(SCALE_QUIRK,) if scaled else (),
        )

    return exporter


def _trained(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return shape and settings that a checkpoint of `rtserve train` was built with."""
    said, settings = content.get("input"), content.get("settings")
    shape = {key: said[key] for key in SHAPE if key in said} if isinstance(said, Mapping) else {}
    counted = content.get("n_outputs")
    outputs = {"n_outputs": counted} if isinstance(counted, int) else {}
    given = settings.get("model_settings") if isinstance(settings, Mapping) else None
    return shape | outputs | (dict(given) if isinstance(given, Mapping) else {})


def with_input_scale(network: nn.Module, scale: float = 1.0) -> nn.Module:
    """Give any network a fixed input scale as a buffer ``input_scale``; its other keys stay as they are."""
    network.register_buffer("input_scale", torch.tensor(float(scale)))
    network.register_forward_pre_hook(_scale_input)
    return network


def _scale_input(network: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (inputs[0] * network.input_scale, *inputs[1:])
