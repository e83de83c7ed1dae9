"""The two sides of a comparison: a run, checkpoint, graph, zip or result, brought to one form.

A side says what it is (architecture, parameter count), how it was made (settings), what is claimed about it (numbers,
with or without a signature) and what it costs, as far as its file knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import readable_file
from rtserve.measure.cases import WINDOWS, Cases
from rtserve.measure.signature import Signature

__all__ = ["Claim", "Cost", "Raw", "Side", "read_side"]


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A number that a file states; without a signature nobody knows what it is."""

    name: str
    value: float
    signature: Signature | None = None

    @classmethod
    def of(cls, score: Mapping[str, Any]) -> Claim:
        """Return the claim of a score as results store it."""
        signature = Signature.parse(score["signature"])
        return cls(name=signature.metric, value=float(score["value"]), signature=signature)

    def __str__(self) -> str:
        return f"{self.signature or self.name + ' (no signature)'} = {self.value:.6g}"


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a result says one window costs: microseconds at a batch size and thread count."""

    latency_us: float
    batch: int
    threads: int
    branches: int
    passes: int = 0


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Stored answers, (n, ...) each, as `rtserve.measure.cases.Cases` has them; `data` is the digest of the windows."""

    data: str
    predictions: np.ndarray
    targets: np.ndarray
    subject: np.ndarray
    probabilities: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    agg: str = WINDOWS

    def cases(self) -> Cases:
        """Return what was scored."""
        return Cases(
            y=self.targets.astype(np.float64),
            predictions=self.predictions,
            probabilities=self.probabilities,
            why_none="no probabilities are stored with these predictions",
            subject=self.subject,
            columns=self.columns,
            digest=self.data,
            agg=self.agg,
        )


@dataclass(frozen=True, kw_only=True)
class Side:
    """One side of a comparison.

    Parameters
    ----------
    name, kind : str
        File name; ``run``, ``checkpoint``, ``graph``, ``zip`` or ``result``.
    path : Path
        Where it was read.
    digest : str
        SHA-256 of what would be scored; empty where the file does not say.
    architecture : str
        Digest of the architecture, or empty.
    parameters : int or None
        Learned values.
    settings : dict of str to str
        Flat, in the file's order.
    claims : tuple of Claim
        Numbers it states.
    cost : Cost or None
        Latency it states.
    raw : Raw or None
        Predictions it stores.
    trained_on : str
        Digest of the training windows, or empty.
    graphs : tuple of str
        Digests of the graphs that a zip holds.
    members : tuple of str
        Digests of the graphs that those were fused from.
    tensors : dict of str to tuple of int
        Of a checkpoint: the shape of every tensor by its key in the file.
    left_out : tuple of str
        Of a graph: keys of the checkpoint it was exported from that are not the network's (a criterion's, a metric's).
    """

    name: str
    kind: str
    path: Path
    digest: str = ""
    architecture: str = ""
    parameters: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    cost: Cost | None = None
    raw: Raw | None = None
    trained_on: str = ""
    graphs: tuple[str, ...] = ()
    members: tuple[str, ...] = ()
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    @property
    def scorable(self) -> bool:
        """Whether it can be scored again on windows."""
        return self.kind != "result"


def read_side(path: str | Path) -> Side:
    """Read a run folder, checkpoint, graph, zip or result.

    Raises
    ------
    InputError
        Where it is none of these, or cannot be read.
    """
    from rtserve.graphs.foreign import is_checkpoint
    from rtserve.measure import side_models, side_results

    path = Path(path)
    if path.is_dir():
        return side_models.run_side(path)
    readable_file(path, "side")
    if is_checkpoint(path):
        return side_models.checkpoint_side(path)
    if path.suffix == ".json":
        return side_results.result_side(path)
    if path.suffix == ".onnx":
        return side_models.graph_side(path)
    if path.suffix == ".zip":
        return side_models.zip_side(path)
    raise InputError(
        f"{path.name} is none of what can be compared",
        hint="give run folders, checkpoints (.pth, .safetensors), graphs (.onnx), zips, or results (.json) written with -o",
    )
