"""Any network of the zoo with noise added to its answers: what `parity_rule.py` must see refused.

An exporter: ``--exporter benchmarks/noisy_networks.py --set of=exporters/braindecode_models.py:EEGNet --set noise=0.001``,
and the network's own settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from rtserve.graphs.exporter import Built, Shapes, resolve_exporter

__all__ = ["exporter"]


class Noisy(nn.Module):  # type: ignore[misc]
    """A network whose answers are off by `noise` of the larger of their size and 1e-3, another way at every call."""

    def __init__(self, network: nn.Module, noise: float) -> None:
        super().__init__()
        self.network, self.noise = network, noise

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.network(x)
        return y + self.noise * torch.clamp(y.detach().abs().amax(), min=1e-3) * torch.randn_like(y)


def exporter(shapes: Shapes, settings: Mapping[str, Any]) -> Built:
    """Return the network that setting ``of`` names, with ``noise``."""
    own = {key: value for key, value in settings.items() if key not in ("of", "noise")}
    built = resolve_exporter(str(settings["of"]))(shapes, own)
    noise, wrap = float(settings["noise"]), built.wrap
    return replace(built, wrap=lambda network: Noisy(wrap(network) if wrap else network, noise))
