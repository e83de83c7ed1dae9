"""The route ``torchscript``: a frozen trace of the plan."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rtserve.runtime.serving import OPENERS


class ScriptModel(nn.Module):  # type: ignore[misc]
    """A frozen TorchScript trace of the plan.

    Parameters
    ----------
    data : bytes
        The TorchScript archive.
    device : torch.device
        Where it runs.
    """

    route = "torchscript"
    reason = ""

    def __init__(self, data: bytes, device: torch.device) -> None:
        super().__init__()
        self.data, self.device = data, device
        self._open()

    def _open(self) -> None:
        # Outside _modules: a script can be copied but not pickled, so the bytes stand for it.
        script = torch.jit.load(io.BytesIO(self.data), map_location=self.device)
        object.__setattr__(self, "script", script.eval())

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        y: Tensor = self.script(x)
        return y

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "script"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._open()


def open_script(folder: Path, name: str, device: torch.device) -> nn.Module:
    """Open NAME.ts; a device that TorchScript archives cannot be loaded to is an error."""
    if device.type not in ("cpu", "cuda"):
        raise RuntimeError(f"a TorchScript archive cannot be loaded to {device}")
    return ScriptModel((folder / f"{name}.ts").read_bytes(), device)


OPENERS["torchscript"] = open_script
