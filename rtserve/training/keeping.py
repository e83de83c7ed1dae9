"""What a run leaves on disk, each file whole or not there: best.pth, last.pth, log.jsonl, result.json.

``best.pth`` is what is exported: a dict of tensors and plain values under ``weights_only``, with everything that made
it. ``last.pth`` holds besides what a resumed run needs.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import torch

from rtserve.errors import CheckpointError
from rtserve.files import write_bytes
from rtserve.training.callbacks import scored_network

__all__ = ["Keeper", "load_state", "read_log"]

SCHEMA = "rtserve.training_checkpoint/1"


def tensor_bytes(content: dict[str, Any]) -> bytes:
    """Return the bytes of a checkpoint; through memory, because torch.save writes the file's own name into it."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load_state(path: Path) -> dict[str, Any]:
    """Read a checkpoint this module wrote: tensors and plain values only.

    Raises
    ------
    CheckpointError
        Where it is not one.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 -- weights_only, our own file
    except Exception as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{path} is not a training checkpoint ({reason})", hint="delete it and train again"
        ) from None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} was not written by rtserve train", hint="name a RUNDIR of rtserve train")
    return content


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a seed's log; none where it has not begun."""
    path = folder / "log.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []


class Keeper:
    """Writes one seed's files.

    Parameters
    ----------
    folder : Path
        RUNDIR/seedS.
    about : dict
        Settings, data, split, architecture and versions: what every checkpoint says of itself.
    """

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        self.folder = folder
        self.about = about

    def __call__(self, net: Any, row: dict[str, Any], improved: bool) -> None:
        """Write after an epoch: best first, so that a resumed run never trusts a best that is not there."""
        if improved:
            model = net.scale_.folded(scored_network(net))
            self.write(
                "best.pth", {"model_state_dict": model.state_dict(), "epoch": row["epoch"], "valid": row["valid"]}
            )
        lr_scheduler = dict(net.callbacks_).get("schedule")
        state = {
            "model_state_dict": net.module_.state_dict(),
            "optimizer_state_dict": net.optimizer_.state_dict(),
            "scheduler_state_dict": _plain(lr_scheduler.lr_scheduler_.state_dict()) if lr_scheduler else {},
            "average": scored_network(net).state_dict() if hasattr(net, "averaged_") else {},
            "average_steps": net.averaged_["steps"] if hasattr(net, "averaged_") else 0,
            "epoch": row["epoch"],
            "rows": json.dumps(net.rows_),
        }
        self.write("last.pth", _on_cpu(state))
        self.write_log(net.rows_)

    def write(self, name: str, content: dict[str, Any]) -> None:
        """Write a checkpoint with everything that made it."""
        # Read back from JSON: a pickle's bytes depend on which equal strings are one object, and the JSON's never are.
        about = json.loads(json.dumps(self.about))
        write_bytes(self.folder / name, tensor_bytes({"schema": SCHEMA} | content | about), force=True)

    def write_log(self, rows: list[dict[str, Any]]) -> None:
        """Write the whole log."""
        text = "".join(json.dumps(row) + "\n" for row in rows)
        write_bytes(self.folder / "log.jsonl", text.encode(), force=True)

    def clean(self) -> None:
        """Remove temporary files that a killed run left."""
        for leftover in self.folder.glob(".rtserve-*"):
            leftover.unlink(missing_ok=True)


def _on_cpu(value: Any) -> Any:
    """Return the state with its tensors on the CPU: a run on a GPU can be read where there is none."""
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return type(value)((key, _on_cpu(item)) for key, item in value.items())
    return [_on_cpu(item) for item in value] if isinstance(value, list) else value


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    """Keep what weights_only can read of a scheduler's state."""
    return {key: value for key, value in state.items() if isinstance(value, int | float | list | str | bool)}
