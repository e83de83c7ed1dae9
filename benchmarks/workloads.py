"""The four workloads and every engine a user would pick for them.

W1 one model; W2 five views of it; W3 five members; W4 five members x five views. CompactRT with its real checkpoints,
EEGNeX with its real one (for W3 and W4 copies with perturbed weights), where the real files lie beside the checkout;
seeded weights otherwise, and the result says so. Everything is quoted in units of ONE eager forward of the single model
in the same run: batch as named, BatchNorm unfolded, inference mode.
"""

from __future__ import annotations

import copy
import functools
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from rtserve.fusion.fuse import fuse
from rtserve.fusion.views import View, parse_views
from rtserve.graphs.braindecode import braindecode_models
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.graphs.export import export
from rtserve.graphs.fit import load_weights
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import OnnxruntimeRunner, OpenvinoRunner, PlanRunner

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINTS = Path(os.environ.get("RTSERVE_SHARED", ROOT.parent / "shared")) / "checkpoints"
VIEWS = ("identity", "roll:+3", "roll:-3", "scale:1.02", "scale:0.98")
SEEDS = (42, 123, 456, 789, 999)
WORKLOADS = {"W1": (1, 1), "W2": (1, 5), "W3": (5, 1), "W4": (5, 5)}
"""Name to (members, views)."""
FAMILIES = ("CompactRT", "EEGNeX")

Call = Callable[[], object]


@dataclass(frozen=True, kw_only=True)
class Members:
    """Networks of one family, and their plain exports.

    Parameters
    ----------
    modules : tuple of Module
        In evaluation mode, (batch, 129, 200) to (batch, 1).
    graphs : tuple of Graph
        The same as exported.
    weights : str
        ``"real"``, ``"real, copies perturbed"`` or ``"seeded"``.
    """

    modules: tuple[nn.Module, ...]
    graphs: tuple[Graph, ...]
    weights: str


def _compact(path: Path | None, seed: int) -> nn.Module:
    from rtserve.training.networks import CompactRT

    torch.manual_seed(seed)
    network = CompactRT(n_chans=129, input_scale=None)
    if path is not None:
        load_weights(network, load_checkpoint(path).state_dict, name="CompactRT")
    return network.eval()


def _eegnex(path: Path | None, seed: int) -> nn.Module:
    models = braindecode_models()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        # Tracing asks for every attribute, and one that is not set raises; so the channels are named.
        channels = [{"ch_name": f"E{i}"} for i in range(1, 130)]
        network = models.EEGNeX(n_chans=129, n_outputs=1, n_times=200, sfreq=100, chs_info=channels)
    if path is not None:
        load_weights(network, load_checkpoint(path).state_dict, name="EEGNeX")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters() if seed else ():
            parameter.mul_(1 + 0.05 * torch.randn(parameter.shape, generator=generator))
    return network.eval()


@functools.cache
def members(family: str, count: int = 5) -> Members:
    """Return `count` networks of a family and their exports, made once per process."""
    modules, reference, label = _networks(family, count)
    return Members(modules=modules, graphs=tuple(_export(m, reference) for m in modules), weights=label)


def first_module(family: str) -> nn.Module:
    """Return a family's first network alone, without an export."""
    return _networks(family, 1)[0][0]


def _networks(family: str, count: int) -> tuple[tuple[nn.Module, ...], str, str]:
    """Return networks, their exporter, and what is known of their weights."""
    if family == "CompactRT":
        paths = [CHECKPOINTS / "compact_rt" / f"seed{seed}.pth" for seed in SEEDS]
        real = paths[0].exists()
        modules = [_compact(paths[i] if real and i < len(paths) else None, i) for i in range(count)]
        label = ("real" if count <= len(paths) else "real, the rest seeded") if real else "seeded"
        return tuple(modules), "exporters/compact_rt.py", label
    path = CHECKPOINTS / "eegnex" / "challenge2_r1r2_best.pth"
    real = path.exists()
    modules = [_eegnex(path if real else None, i) for i in range(count)]
    label = ("real" if count == 1 else "real, copies perturbed") if real else "seeded"
    return tuple(modules), "exporters/braindecode_models.py:EEGNeX", label


def _export(module: nn.Module, reference: str) -> Graph:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(module.state_dict(), path)
        return export(path, exporter=str(ROOT / reference.partition(":")[0]) + reference.partition(".py")[2])


def window(batch: int) -> np.ndarray:
    """Return (batch, 129, 200) float32 of unit noise."""
    return np.random.default_rng(0).standard_normal((batch, 129, 200)).astype(np.float32)


def _torch_loop(modules: tuple[nn.Module, ...], views: tuple[View, ...], x: torch.Tensor) -> Call:
    def call() -> object:
        with torch.inference_mode():
            return torch.stack([module(view.torch(x)) for module in modules for view in views]).mean(0)

    return call


def _session_loop(graphs: tuple[Graph, ...], views: tuple[View, ...], x: np.ndarray, threads: int) -> Call:
    runners = [OnnxruntimeRunner(graph, threads=threads) for graph in graphs]
    tensor = torch.from_numpy(x)

    def call() -> object:
        seen = [np.ascontiguousarray(view.torch(tensor).numpy()) for view in views]
        return np.mean([runner.infer(one) for runner in runners for one in seen], axis=0)

    return call


def _scripted(module: nn.Module, x: torch.Tensor) -> nn.Module:
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(torch.jit.trace(copy.deepcopy(module), x))


def peers(family: str, workload: str, *, batch: int = 1, threads: int = 1, inductor: bool = False) -> dict[str, Call]:
    """Return every engine's call for a workload; ``one eager forward`` is the unit.

    Parameters
    ----------
    family, workload : str
        From `FAMILIES` and `WORKLOADS`.
    batch, threads : int
        Windows per call, and threads of every engine.
    inductor : bool
        Also torch.compile, whose first call takes a C++ compiler and a minute.
    """
    n_members, n_views = WORKLOADS[workload]
    found = members(family)
    modules, graphs = found.modules[:n_members], found.graphs[:n_members]
    views = parse_views(VIEWS[:n_views])
    x = window(batch)
    tensor = torch.from_numpy(x)
    merged = fuse(graphs, views=views, optimize=False, parity=False)
    engines = ("onnxruntime", "openvino", "torch")
    ours, for_openvino, for_torch = (fuse(graphs, views=views, engine=engine) for engine in engines)
    calls: dict[str, Call] = {
        "one eager forward": _torch_loop(modules[:1], parse_views("identity"), tensor),
        "torch eager, loop": _torch_loop(modules, views, tensor),
        "torch.jit frozen, loop": _torch_loop(tuple(_scripted(m, tensor) for m in modules), views, tensor),
        "onnxruntime, loop of sessions": _session_loop(graphs, views, x, threads),
        "onnxruntime, branches merged": calling(OnnxruntimeRunner(merged, threads=threads), x),
        "OpenVINO, branches merged": calling(OpenvinoRunner(merged, threads=threads), x),
        "rtserve, OpenVINO": calling(OpenvinoRunner(for_openvino, threads=threads), x),
        "rtserve, torch executor": calling(PlanRunner(for_torch), x),
        "rtserve, onnxruntime": calling(OnnxruntimeRunner(ours, threads=threads), x),
    }
    if inductor:
        calls["torch inductor, loop"] = _torch_loop(_compiled(family)[:n_members], views, tensor)
    return calls


@functools.cache
def _compiled(family: str) -> tuple[nn.Module, ...]:
    """Return the networks behind torch.compile; each compiles at its first call, and once per process."""
    return tuple(torch.compile(module) for module in members(family).modules)  # type: ignore[misc]


def calling(runner: OnnxruntimeRunner | OpenvinoRunner | PlanRunner, x: np.ndarray) -> Call:
    """Return one pass of a runner over windows as a call without arguments."""
    return lambda: runner.infer(x)
