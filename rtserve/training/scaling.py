"""The target in units of its own spread while a network learns, and in its own units in what is saved.

A network starts with answers of about 1. Where y is 25 with a spread of 5 (Hz), most of a short training goes into
growing the last layer; where y is seconds, into shrinking it. So it learns ``(y - offset) / factor``, and what is saved
has its last layer multiplied: the same function, in y's units, and no node more in its graph. Which layer that is gets
tried out: multiplied by a large number, the answers must be the old ones times that number.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

__all__ = ["PLAIN", "Scale", "last_layer", "scale_of"]

_TRIAL, _CLOSE = (1e4, 2e4), 1e-6
"""Factor and offset that a last layer is tried with: large enough to meet a limit on the layer's weights."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How what the network answers becomes y: ``factor * answer + offset``, done by `layer` in what is saved."""

    factor: float = 1.0
    offset: float = 0.0
    layer: str = ""

    def folded(self, network: nn.Module) -> nn.Module:
        """Return a copy on the CPU that answers in y's units."""
        answering = copy.deepcopy(network).cpu()
        if self.layer:
            _scale_layer(answering.get_submodule(self.layer), self.factor, self.offset)
        return answering

    def unfold(self, network: nn.Module) -> None:
        """Bring a last layer that answers in y's units to the scale that is learned in."""
        _scale_layer(network.get_submodule(self.layer), 1.0 / self.factor, -self.offset / self.factor)


PLAIN = Scale()


def scale_of(y: np.ndarray, layer: str) -> Scale:
    """Return the scale of the train windows' targets y (n,), carried by the layer of that name."""
    return Scale(factor=float(np.std(y, dtype=np.float64)), offset=float(np.mean(y, dtype=np.float64)), layer=layer)


def _scale_layer(layer: nn.Module, factor: float, offset: float) -> None:
    with torch.no_grad():
        for value, shift in ((layer.weight, 0.0), (layer.bias, offset)):
            value.copy_((value.double() * factor + shift).to(value.dtype))


def last_layer(network: nn.Module, shape: tuple[int, ...], *, input_size: float = 1.0) -> str:
    """Return the name of the layer that a factor and an offset on the answer can go into; ``""`` where there is none.

    Parameters
    ----------
    network : Module
        One number per window.
    shape : tuple of int
        (n_chans, n_times).
    input_size : float
        Standard deviation of the samples.
    """
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0)).double() * input_size
    answer = _answering(x)
    named = [(name, part) for name, part in network.named_modules() if _ends_in_one(part)]
    wanted = _TRIAL[0] * answer(copy.deepcopy(network)) + _TRIAL[1]
    for name, _ in reversed(named):
        trial = Scale(factor=_TRIAL[0], offset=_TRIAL[1], layer=name).folded(network)
        if bool(((answer(trial) - wanted).abs() <= _CLOSE * (_TRIAL[0] + wanted.abs())).all()):
            return str(name)
    return ""


def _answering(x: torch.Tensor) -> Callable[[nn.Module], torch.Tensor]:
    def answer(network: nn.Module) -> torch.Tensor:
        with torch.no_grad():
            return network.eval().double()(x)

    return answer


def _ends_in_one(part: nn.Module) -> bool:
    own = dict(part.named_parameters(recurse=False))
    return {"weight", "bias"} <= own.keys() and own["bias"].shape == (1,)
