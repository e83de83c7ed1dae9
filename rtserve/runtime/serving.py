"""Loading what lies beside ``submission.py``, by the way to run it that the recipe asks for.

The plan runs wherever torch does; ``torchscript``, ``onnxruntime`` and ``native`` are in files of their own and present
only where a submission uses them. Where such a route cannot be taken the plan is: a model says its ``route``, and in
``reason`` why it is not the one that was asked for.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rtserve.runtime.executor import PlanModule

OPENERS: dict[str, Callable[[Path, str, torch.device], nn.Module]] = {}
"""Route to the function that opens a model by it: folder, stem of the files, device."""


class PlanModel(PlanModule):
    """The plan, run by torch: any device, any batch size, copies and pickles."""

    route = "torch"
    fallback = ""

    @property
    def reason(self) -> str:
        """Why this is not the route that was asked for, or on a GPU why no CUDA graphs are replayed; else empty."""
        return "; ".join(filter(None, (self.fallback, self.replays.reason if self.replays is not None else "")))


def load_model(folder: Path, name: str, device: Any, runtime: str = "torch") -> nn.Module:
    """Return the model of one challenge, in evaluation mode.

    Parameters
    ----------
    folder : Path
        Where ``submission.py`` and its files lie; nothing is written there.
    name : str
        Stem of the files: NAME.json and NAME.pt, NAME.onnx, NAME.ts, NAME.native.so.
    device : torch.device or str
        Where it is to run.
    runtime : str
        ``"torch"``, ``"torchscript"``, ``"onnxruntime"``, ``"native"`` or ``"auto"``: onnxruntime on a CPU where there
        is one.
    """
    device = torch.device(device)
    opener = OPENERS.get("onnxruntime" if runtime == "auto" else runtime)
    reason = ""
    if opener is not None:
        try:
            return opener(folder, name, device).eval()
        except Exception as error:  # whatever keeps this route from working, the plan still does
            reason = f"{type(error).__name__}: {error}"
    plan = json.loads((folder / f"{name}.json").read_text("utf-8"))
    tensors = torch.load(folder / f"{name}.pt", map_location="cpu", weights_only=True)  # noqa: TID251
    model = PlanModel(plan, tensors).to(device).eval()
    model.fallback = reason
    return model
