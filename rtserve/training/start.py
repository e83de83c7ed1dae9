"""Pretrained weights to start from: what of a checkpoint fits the network is loaded, and what is not is named.

Weights remember what they were trained on. A start that was trained on windows which this split keeps apart is a leak as
any other, and what the start knows goes on into the new checkpoint's own record.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rtserve.errors import CheckpointError, InputError
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.graphs.graph import Graph
from rtserve.graphs.weights import strip_prefixes
from rtserve.signals.membership import find_records, membership
from rtserve.signals.splits import Split
from rtserve.signals.windows import WindowSet
from rtserve.spec import TRAINED_ON
from rtserve.training.scaling import Scale

__all__ = ["require_new", "start_from", "start_record", "start_text"]

_SCALE = "input_scale"


def _matching(network: nn.Module, path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Return the tensors that fit by name and shape, and what to say of them."""
    if str(path).endswith(".onnx"):
        raise InputError(
            f"{path} is a graph: its weights are folded into each other and are no network's any more",
            hint=f"start from {_exported_from(path)}",
        )
    checkpoint = load_checkpoint(path, weights="")
    theirs = strip_prefixes(checkpoint.state_dict)
    mine = {key: value for key, value in network.state_dict().items() if key != _SCALE}
    fits = {key: theirs[key] for key, value in mine.items() if key in theirs and theirs[key].shape == value.shape}
    if not fits:
        raise CheckpointError(
            f"nothing of {path} fits the network to train: it has {', '.join(list(theirs)[:2])}, ..., the network"
            f" {', '.join(list(mine)[:2])}, ...",
            hint="start from a checkpoint of the same architecture",
        )
    absent = [f"{key} {tuple(value.shape)} against {_shape(theirs, key)}" for key, value in mine.items()
              if key not in fits]  # fmt: skip
    extra = [key for key in theirs if key not in mine and key != _SCALE]
    record = {
        "name": Path(path).name, "sha256": checkpoint.sha256, "loaded": len(fits), "of": len(mine),
        "not_loaded": absent, "not_used": extra,
    }  # fmt: skip
    if _SCALE in network.state_dict():
        fits[_SCALE] = theirs.get(_SCALE, torch.tensor(1.0)).reshape(())
    return fits, record


def _exported_from(path: str | Path) -> str:
    """Return which checkpoints a graph says that it, or its members, were exported from."""
    details = Graph.load(path).provenance.details
    members = [member.get("provenance", {}).get("details", {}) for member in details.get("members", ())]
    known = [each["checkpoint"] for each in (details, *members) if "checkpoint" in each]
    named = list(dict.fromkeys(f"{each['name']} (sha256 {each['sha256'][:12]})" for each in known))
    if not named:
        return "a checkpoint (.pth, .pt, .ckpt): this graph does not say which it was exported from"
    one = "the checkpoint it was exported from" if not members else "a checkpoint its members were exported from"
    return f"{one}: {', '.join(named[:5])}{', ...' if len(named) > 5 else ''}"


def _shape(state: dict[str, torch.Tensor], key: str) -> str:
    return str(tuple(state[key].shape)) if key in state else "absent"


def start_record(network: nn.Module, path: str | Path) -> dict[str, Any]:
    """Return what a run says of the checkpoint it starts from, and what of it fits.

    Raises
    ------
    CheckpointError
        Where nothing fits.
    InputError
        Where the file is a graph.
    """
    return _matching(network, path)[1]


def require_new(
    path: str | Path, windows: WindowSet, split: Split, *, allow_leakage: bool = False
) -> tuple[Split, list[dict[str, Any]], str]:
    """Return the split, leaking where the start was trained on its valid or test windows, the start's records, and a note.

    Raises
    ------
    InputError
        Where it leaks and that is not allowed.
    """
    name, records = Path(path).name, find_records({TRAINED_ON: load_checkpoint(path, weights="").trained_on})
    if not records:
        return split, [], "it does not say what it was trained on: whether the test windows are new to it is not known"
    found = {part: membership(records, windows.take(split.part(part))) for part in ("valid", "test")}
    leaks = tuple(
        f"{name}, which this starts from, knows {part} windows: {each.text}"
        for part, each in found.items()
        if each.n_trained
    )
    if leaks and not allow_leakage:
        raise InputError(
            "; ".join(leaks),
            hint="split as the start was split, or start from what does not know these people; --allow-leakage marks every"
            " figure as leaking",
        )
    told = found["test"].text
    note = f"of the test windows {told}" if told and not leaks else ""
    return replace(split, leaks=(*split.leaks, *leaks)), records, note


def start_text(record: dict[str, Any]) -> str:
    """Return the record as a sentence."""
    said = f"started from {record['name']} ({record['sha256'][:12]}): {record['loaded']} of {record['of']} tensors"
    for key, what in (("not_loaded", "begun anew"), ("not_used", "not used")):
        if record[key]:
            more = f" and {len(record[key]) - 3} more" if len(record[key]) > 3 else ""
            said += f"; {what}: {', '.join(record[key][:3])}{more}"
    return said + (f"; {record['text']}" if record.get("text") else "")


def start_from(network: nn.Module, path: str | Path, scale: Scale) -> bool:
    """Load what fits; return whether the last layer was among it, whose answers are brought to the scale learned in.

    Windows are brought to the size that the checkpoint's own training had.
    """
    fits, _ = _matching(network, path)
    network.load_state_dict(fits, strict=False)
    last = f"{scale.layer}.weight" in fits and f"{scale.layer}.bias" in fits
    if scale.layer and last:
        scale.unfold(network)
    return last
