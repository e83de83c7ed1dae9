"""A network of braindecode as what an exporter gives: its class by name, its output laid out as one axis."""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable

import torch
from torch import nn

from rtserve.errors import ExportError, InputError
from rtserve.graphs.braindecode import braindecode_models
from rtserve.graphs.exporter import Built, Quirk
from rtserve.nearest import meant
from rtserve.spec import InputSpec, OutputSpec

__all__ = ["Flattened", "braindecode_class", "described", "network_names"]


def network_names() -> list[str]:
    """Return the names of the networks in braindecode.models."""
    return [
        name
        for name, value in vars(braindecode_models()).items()
        if inspect.isclass(value) and issubclass(value, nn.Module)
    ]


def braindecode_class(name: str) -> type[nn.Module]:
    """Return the class of braindecode.models called `name`; raise `InputError` where there is none."""
    names = network_names()
    if name not in names:
        raise InputError(
            f"braindecode.models has no network {name}",
            hint=meant(name, names, f"it has {', '.join(sorted(names))}"),
        )
    return getattr(braindecode_models(), name)  # type: ignore[no-any-return]


def described(
    network: nn.Module,
    spec: InputSpec,
    *,
    target: str = "",
    quirks: tuple[Quirk, ...] = (),
    rewrite: Callable[[nn.Module], nn.Module] | None = None,
) -> Built:
    """Return what an exporter gives for a network: it is run once for the shape of its output.

    Parameters
    ----------
    network : torch.nn.Module
        (batch, n_chans, n_times) to (batch, ...).
    spec : InputSpec
        Its windows.
    target : str
        What it predicts.
    quirks : tuple of Quirk
        What `rewrite` bakes out.
    rewrite : callable, optional
        Gives the module to export for the network with its weights.
    """
    output = _output(network, spec)
    flat = len(output) > 1
    if flat:
        reason = f"the network gives {output} numbers per window; they are laid out as one axis"
        quirks = (*quirks, Quirk(name="flatten", reason=reason))
    return Built(
        network=network,
        input_spec=spec,
        output_spec=OutputSpec(n_outputs=math.prod(output), target=target),
        quirks=quirks,
        wrap=functools.partial(_wrap, rewrite=rewrite, flat=flat) if quirks else None,
    )


def _wrap(network: nn.Module, *, rewrite: Callable[[nn.Module], nn.Module] | None, flat: bool) -> nn.Module:
    changed = rewrite(network) if rewrite else network
    return Flattened(changed) if flat else changed


class Flattened(nn.Module):  # type: ignore[misc]
    """A network whose output (batch, ...) is laid out as (batch, n_outputs)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        return self.network(x).flatten(1)


def _output(network: nn.Module, spec: InputSpec) -> tuple[int, ...]:
    """Run the network once and return the shape of its output per window."""
    training = network.training
    with torch.no_grad():
        y = network.eval()(torch.zeros(2, spec.n_chans, spec.n_times))
    network.train(training)
    if not isinstance(y, torch.Tensor) or y.ndim < 2:
        what = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
        raise ExportError(
            f"{type(network).__name__} gives {what} for 2 windows, not (batch, ...)",
            hint="write an exporter whose wrap gives (batch, n_outputs)",
        )
    return tuple(y.shape[1:])
