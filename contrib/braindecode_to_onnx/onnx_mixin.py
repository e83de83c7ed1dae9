# Authors: the rtserve authors
#
# License: BSD (3-clause)
"""Export of models to ONNX, with the proof that graph and model answer the same."""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .onnx_rewrites import rewrite_parts

__all__ = ["OnnxExport", "OnnxExportError", "OnnxMixin"]

_NEEDED = ("onnx", "onnxscript", "onnxruntime")
_EXAMPLE_BATCH = 3  # torch.export takes 1 for a constant, and may take 2 for one
_CHECKED_BATCHES = (1, 2, 5)


class OnnxExportError(RuntimeError):
    """A model cannot be exported, or its graph answers something else."""


@dataclass(frozen=True)
class OnnxExport:
    """An exported model and what is known of it.

    Parameters
    ----------
    model : onnx.ModelProto
        The graph; its input is ``x``, (batch, n_chans, n_times) in float32.
    path : pathlib.Path or None
        Where it was written.
    largest_error : float or None
        The largest difference between graph and model, over the largest answer of
        the model to the same windows; None where nothing was compared.
    batches : tuple of int
        The batch sizes that were compared.
    rewrites : tuple of str
        The parts of the model that were written in another way for the export.
    """

    model: Any
    path: Path | None
    largest_error: float | None
    batches: tuple[int, ...]
    rewrites: tuple[str, ...]

    def __str__(self) -> str:
        where = self.path or "not written"
        if self.largest_error is None:
            return f"ONNX graph ({where}), not compared with the model"
        sizes = ", ".join(map(str, self.batches))
        error = f"{self.largest_error:.1e} of the largest answer"
        return f"ONNX graph ({where}): largest error {error}, batch sizes {sizes}"


class OnnxMixin:
    """Mixin that exports a model to ONNX.

    It needs ``onnx``, ``onnxscript`` and ``onnxruntime``, and imports them when they
    are asked for.
    """

    def to_onnx(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        batch: str | int = "batch",
        opset: int = 20,
        check: bool = True,
        example: torch.Tensor | None = None,
        tolerance: float = 1e-4,
    ) -> OnnxExport:
        """Export the model in evaluation mode to an ONNX graph.

        A copy of the model is exported: mode, weights and buffers of the model stay
        as they are. Graph and model are compared in onnxruntime on white noise at
        batch sizes 1, 2 and 5 and on windows with a channel that is zero, and
        nothing is written unless they agree.

        Parameters
        ----------
        path : str or os.PathLike, optional
            File to write. By default nothing is written.
        batch : str or int, default="batch"
            Name of the batch axis, which may then have any size, or its fixed size.
        opset : int, default=20
            Version of the ONNX operators.
        check : bool, default=True
            Whether to compare graph and model.
        example : torch.Tensor, optional
            Windows, shape (batch, n_chans, n_times), as large as those that the
            model was trained on. By default white noise of standard deviation 1,
            for which the model must know ``n_chans`` and ``n_times``.
        tolerance : float, default=1e-4
            Largest error allowed, over the largest answer of the model to the same
            windows.

        Returns
        -------
        OnnxExport
            The graph, and how far it is from the model.

        Raises
        ------
        OnnxExportError
            If the model cannot be exported, answers differently from call to call,
            or if the graph is further than `tolerance` from it.
        ImportError
            If a package that is needed is missing.

        Notes
        -----
        The graph is in float32 whatever the model is. A model that changes its own
        parameters in ``forward`` is exported as it is after its first call.

        Examples
        --------
        >>> from braindecode.models import EEGNet
        >>> model = EEGNet(n_chans=22, n_times=1000, n_outputs=4)
        >>> export = model.to_onnx()
        >>> export.largest_error < 1e-4
        True
        """
        _require_packages()
        if example is None:
            _, n_chans, n_times = self.input_shape  # type: ignore[attr-defined]
            example = _noise(_EXAMPLE_BATCH, (n_chans, n_times))
        example = example.detach().cpu().float()
        given: Any = self
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            model = _settled_copy(given, example)
            graph, rewrites = _graph(model, example, batch, opset)
            batches = _CHECKED_BATCHES if isinstance(batch, str) else (batch,)
            error = _error(graph, model, example, batches) if check else None
        if error is not None and not error <= tolerance:
            raise OnnxExportError(
                f"{type(self).__name__}: the graph is {error:.1e} of the largest"
                f" answer away from the model, more than {tolerance:.1e}"
            )
        target = None if path is None else Path(path)
        if target is not None:
            target.write_bytes(graph.SerializeToString())
        return OnnxExport(graph, target, error, batches if check else (), rewrites)


def _require_packages() -> None:
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(
                f"to_onnx() needs the package {name}."
                " Install with: pip install 'braindecode[onnx]'"
            ) from error


def _noise(batch: int, shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *shape, generator=generator)


def _reason(error: BaseException) -> str:
    """Return what an error says first, or what the error behind it says."""
    text = str(error.__cause__ or error).strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split())[:200]


def _answers(model: nn.Module, x: torch.Tensor) -> list[np.ndarray]:
    """Return the answers of `model`; it may write over its copy of `x`."""
    got = model(x.clone())
    parts = got if isinstance(got, (tuple, list)) else (got,)
    return [part.numpy().astype(np.float64) for part in parts]


def _settled_copy(model: nn.Module, example: torch.Tensor) -> nn.Module:
    """Return a copy of `model` for evaluation that has run once and is steady."""
    name = type(model).__name__
    try:
        copied = copy.deepcopy(model).cpu().float().eval()
    except Exception as error:
        raise OnnxExportError(f"{name} cannot be copied: {_reason(error)}") from error
    try:
        _answers(copied, example)
        first, second = _answers(copied, example), _answers(copied, example)
    except Exception as error:
        shape = tuple(example.shape)
        raise OnnxExportError(f"{name} fails on {shape}: {_reason(error)}") from error
    if not all(map(_same, first, second)):
        raise OnnxExportError(f"{name} answers the same windows differently each time")
    return copied


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=True)


def _graph(
    model: nn.Module, example: torch.Tensor, batch: str | int, opset: int
) -> tuple[Any, tuple[str, ...]]:
    """Return the graph of `model`, and the parts that were rewritten for it."""
    exported = copy.deepcopy(model)
    rewrites = rewrite_parts(exported)
    shapes = None
    if isinstance(batch, str):
        shapes = ({0: torch.export.Dim(batch)},)
        if example.shape[0] < _EXAMPLE_BATCH:
            example = example[torch.arange(_EXAMPLE_BATCH) % example.shape[0]]
    else:
        example = example[torch.arange(batch) % example.shape[0]]
    try:
        program = torch.onnx.export(
            exported,
            (example,),
            input_names=["x"],
            dynamic_shapes=shapes,
            opset_version=opset,
            dynamo=True,
            external_data=False,
            verbose=False,
            optimize=False,
        )
        assert program is not None
        _simplify(program.model)
    except Exception as error:
        name = type(model).__name__
        raise OnnxExportError(
            f"{name}: the exporter of torch failed: {_reason(error)}"
        ) from error
    return program.model_proto, rewrites


def _simplify(graph: Any) -> None:
    """Fold constants and what onnxruntime would fold or refuse, in place.

    Not ``optimizer.optimize``, which takes 1e-8 for 0: a z-score would lose the term
    that keeps a channel that is zero from becoming NaN.
    """
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules.common import (
        fuse_batchnorm_into_conv_rule,
        remove_optional_bias_from_conv_rule,
    )

    optimizer.inline(graph)
    optimizer.fold_constants(graph)
    # A three-dimensional convolution without bias is exported with zeros of a wrong
    # shape as bias, which onnxruntime refuses.
    rewriter.rewrite(graph, [remove_optional_bias_from_conv_rule])
    rewriter.rewrite(graph, [fuse_batchnorm_into_conv_rule])
    optimizer.remove_unused_nodes(graph)


def _error(
    graph: Any, model: nn.Module, example: torch.Tensor, batches: Sequence[int]
) -> float:
    """Return the largest error of `graph`, over the largest answer; inf where a
    shape or a NaN differs."""
    import onnxruntime as ort

    try:
        session = ort.InferenceSession(
            graph.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        asked, scale = session.get_inputs()[0].name, float(example.std()) or 1.0
        worst = 0.0
        for seed, size in enumerate((*batches, batches[-1]), start=1):
            x = scale * _noise(size, example.shape[1:], seed)
            if seed > len(batches):
                x[:, 0] = 0.0
            told = session.run(None, {asked: x.numpy()})
            truth = _answers(model, x)
            if len(told) != len(truth):
                return float("inf")
            worst = max([worst, *map(_difference, told, truth)])
    except Exception as error:
        name = type(model).__name__
        raise OnnxExportError(f"{name}: the graph fails: {_reason(error)}") from error
    return worst


def _difference(told: np.ndarray, truth: np.ndarray) -> float:
    if told.shape != truth.shape or not _same(np.isnan(told), np.isnan(truth)):
        return float("inf")
    known = ~np.isnan(truth)
    largest = float(np.abs(truth[known]).max(initial=0.0))
    apart = float(np.abs(told[known] - truth[known]).max(initial=0.0))
    return apart / largest if largest else apart
