"""Soup: the weights of several checkpoints of one architecture averaged into one network, which is then exported.

Averaging epochs of one run (or runs from one start) often helps; averaging networks that were initialised apart does
not, because their features do not correspond. So a soup is worth what its score says, beside its best ingredient's. It
was trained on what any of them was trained on, and its checkpoint and graph say so.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from rtserve.errors import CheckpointError, InputError
from rtserve.files import check_writable, write_bytes
from rtserve.graphs.checkpoint import Checkpoint, load_checkpoint
from rtserve.graphs.export import export
from rtserve.graphs.graph import Graph
from rtserve.graphs.meaning import is_ours
from rtserve.graphs.weights import strip_prefixes
from rtserve.measure.evaluate import Evaluation, evaluate
from rtserve.measure.metrics import parse_metric
from rtserve.signals.membership import find_records
from rtserve.spec import TRAINED_ON, Provenance
from rtserve.training.keeping import tensor_bytes

__all__ = ["SoupReport", "average", "soup"]

_SAID = ("schema", "input", "n_outputs", "target", "classes")
_BUILT = ("model", "model_settings")
"""What a checkpoint of `rtserve train` says of its windows and answers, and of its settings how the network is built."""


@dataclass(frozen=True, kw_only=True)
class SoupReport:
    """A soup and, where windows were given, what it and its ingredients score.

    Parameters
    ----------
    graph : Graph
        The soup's.
    scores : tuple of Evaluation
        The soup's first, then the ingredients' in order; empty without windows.
    """

    graph: Graph
    scores: tuple[Evaluation, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "graph_sha256": self.graph.digest,
            "soup": self.graph.provenance.details["soup"],
            "scores": [evaluation.to_dict(raw=False) for evaluation in self.scores],
        }

    def lines(self) -> list[str]:
        """Return what a person reads."""
        out = [f"a soup of {len(self.graph.provenance.details['soup'])} checkpoints"]
        out += [line for evaluation in self.scores for line in evaluation.lines()[:2]]
        out += dict.fromkeys(f"note: {note}" for evaluation in self.scores for note in evaluation.notes)
        if self.scores:
            own, *others = (evaluation.scores[0].value for evaluation in self.scores)
            name = self.scores[0].scores[0].signature.metric
            higher = parse_metric(name).higher_is_better
            best = max(others) if higher else min(others)
            verdict = "better than" if (own > best if higher else own < best) else "no better than"
            called = "NRMSE" if name == "nrmse" else name.replace("_", " ")
            out.append(f"the soup's {called} is {verdict} its best ingredient's: {own:.4f} against {best:.4f}")
        return out


def average(checkpoints: Sequence[Checkpoint]) -> dict[str, torch.Tensor]:
    """Return the mean of the checkpoints' tensors, computed in float64; counters are the first one's.

    Raises
    ------
    CheckpointError
        Where names or shapes differ; both files and the first difference are named.
    """
    states = [strip_prefixes(checkpoint.state_dict) for checkpoint in checkpoints]
    for checkpoint, state in zip(checkpoints[1:], states[1:], strict=True):
        odd = [k for k in {**states[0], **state} if _shape(states[0], k) != _shape(state, k)]
        if odd:
            raise CheckpointError(
                f"{checkpoint.path} and {checkpoints[0].path} are different architectures: {odd[0]} is"
                f" {_shape(state, odd[0])} against {_shape(states[0], odd[0])}",
                hint="only checkpoints of one architecture can be averaged; fuse different ones instead",
            )
    return {
        key: torch.stack([state[key].double() for state in states]).mean(0).to(first.dtype)
        if first.is_floating_point()
        else first
        for key, first in states[0].items()
    }


def _shape(state: Mapping[str, torch.Tensor], key: str) -> Any:
    return tuple(state[key].shape) if key in state else "absent"


def said_alike(contents: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what checkpoints of `rtserve train` say of their windows and their network, where all say the same."""
    if not all(map(is_ours, contents)):
        return {}
    described = [_described(content) for content in contents]
    return {key: value for key, value in described[0].items() if all(one.get(key) == value for one in described)}


def _described(content: Mapping[str, Any]) -> dict[str, Any]:
    settings = content.get("settings")
    built = {key: settings[key] for key in _BUILT if key in settings} if isinstance(settings, Mapping) else {}
    found = {key: content[key] for key in _SAID if key in content} | {"settings": built}
    return json.loads(json.dumps(found, default=str))  # type: ignore[no-any-return]


def soup(
    checkpoints: Sequence[str | Path],
    *,
    exporter: str,
    output: str | Path,
    settings: Mapping[str, Any] | None = None,
    data: str | Path | None = None,
    split: str = "valid",
    force: bool = False,
) -> SoupReport:
    """Average checkpoints, export the result, and score it beside its ingredients.

    Parameters
    ----------
    checkpoints : sequence of path
        Two or more of one architecture.
    exporter : str
        Reference of their exporter.
    output : path
        The .onnx; the averaged checkpoint is written beside it as .pth.
    settings : mapping, optional
        For the exporter.
    data, split : path, str
        Windows to score on, and which part of them.
    force : bool
        Replace existing outputs.

    Raises
    ------
    InputError, CheckpointError
        Where there is one checkpoint, they are different architectures, or any was trained on the windows and nobody
        asked for that.
    """
    if len(checkpoints) < 2:
        raise InputError("one checkpoint is no soup", hint="name two or more")
    output = check_writable(output, force=force)
    mixed = check_writable(output.with_suffix(".pth"), force=force)
    read = [load_checkpoint(path) for path in checkpoints]
    records = find_records([{TRAINED_ON: checkpoint.trained_on} for checkpoint in read])
    known = said_alike([checkpoint.content for checkpoint in read]) | ({TRAINED_ON: records} if records else {})
    content = tensor_bytes({"model_state_dict": average(read)} | known)
    with tempfile.TemporaryDirectory() as folder:
        trial = write_bytes(Path(folder) / mixed.name, content)
        graph = export(trial, exporter=exporter, settings=settings)
    details = graph.provenance.details | {"soup": [checkpoint.sha256 for checkpoint in read]}
    graph = replace(graph, provenance=Provenance(kind=graph.provenance.kind, details=details))
    scores: tuple[Evaluation, ...] = ()
    if data is not None:
        parts = [graph, *(export(path, exporter=exporter, settings=settings) for path in checkpoints)]
        names = ["soup", *(str(path) for path in checkpoints)]
        scores = tuple(
            evaluate(part, data, split=split, name=name, beside=records)
            for part, name in zip(parts, names, strict=True)
        )
    write_bytes(mixed, content, force=force)
    graph.save(output, force=force)
    return SoupReport(graph=graph, scores=scores)
