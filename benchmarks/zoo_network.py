"""The networks of the zoo with weights that hide nothing: random, normalisations included, saved as a checkpoint.

A freshly built network has BatchNorm at mean 0 and variance 1, zero biases and sometimes a zero head: a graph could
drop all of them and still agree. Here every value is drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from zoo_catalogue import ROOT, Entry

from rtserve.graphs.exporter import Built, resolve_exporter
from rtserve.graphs.parity import probe_inputs

Shapes = dict[str, tuple[int, ...]]


def compact_rt_shapes(settings: Mapping[str, Any]) -> Shapes:
    """Return the tensors of a CompactRT: its exporter reads channels and outputs from the checkpoint."""
    from rtserve.training.networks import CompactRT

    network = CompactRT(settings["n_chans"], n_outputs=settings["n_outputs"])
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def exporter_settings(entry: Entry) -> dict[str, Any]:
    """Return the settings an entry's exporter takes: CompactRT's knows channels and outputs from the weights."""
    if entry.model != "CompactRT":
        return dict(entry.settings)
    return {key: value for key, value in entry.settings.items() if key not in ("n_chans", "n_outputs")}


def build(entry: Entry, shapes: Shapes | None = None) -> Built:
    """Build the network of an entry as its exporter does, without weights of a checkpoint."""
    if entry.model == "CompactRT" and shapes is None:
        shapes = compact_rt_shapes(entry.settings)
    path, colon, name = entry.exporter.partition(":")
    torch.manual_seed(0)
    return resolve_exporter(f"{ROOT / path}{colon}{name}")(shapes or {}, exporter_settings(entry))


def randomise(network: nn.Module, seed: int = 0) -> None:
    """Draw statistics and affine parameters of every normalisation, and whatever was initialised to a constant."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.copy_(torch.rand(tensor.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(getattr(module, "running_var", None), torch.Tensor):
                draw(module.running_mean, -0.3, 0.3)  # type: ignore[arg-type]
                draw(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        for name, parameter in network.named_parameters():
            if not parameter.is_floating_point() or parameter.numel() == 0 or parameter.std(unbiased=False) > 0:
                continue
            if parameter.flatten()[0] == 0:
                draw(parameter, -0.1, 0.1)
            elif name.endswith("weight") and parameter.ndim == 1:
                draw(parameter, 0.5, 1.5)


def save_checkpoint(network: nn.Module, path: Path) -> None:
    """Write the state_dict."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), path)


class Truth:
    """The network itself in float64, and in float32: what every engine's answer is compared with.

    No quirk of the exporter is applied, so that what is compared with is the network a user has.
    """

    def __init__(self, built: Built, weights: Mapping[str, torch.Tensor]) -> None:
        built.network.load_state_dict(dict(weights))
        self.network = built.network.eval()
        self.spec = built.input_spec
        self.reference = "torch float64"

    def cases(self, seed: int = 0) -> list[tuple[str, np.ndarray, np.ndarray]]:
        """Return (name, x, y) of every parity probe, y in float64."""
        probes = probe_inputs(self.spec, seed=seed)
        double = copy.deepcopy(self.network).double()
        try:
            answers = [_answer(double, torch.from_numpy(x).double()) for _, x in probes]
        except RuntimeError:
            self.reference = "torch float32 (the network does not run in float64)"
            answers = [_answer(self.network, torch.from_numpy(x)) for _, x in probes]
        return [(name, x, y) for (name, x), y in zip(probes, answers, strict=True)]


def _answer(network: nn.Module, x: torch.Tensor) -> np.ndarray:
    with torch.inference_mode():
        y: np.ndarray = network(x).flatten(1).double().numpy()
    return y
