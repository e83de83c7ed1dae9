"""Running a graph: one small class per engine, all with ``infer(x) -> y``.

x is float32 (batch, n_chans, n_times), y is float32 (batch, n_outputs). `ReferenceRunner` and `PlanRunner` can compute
in float64: they say what the numbers should be, the others what an engine makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from rtserve.errors import EnvironmentMissingError, ExportError, InputError, RtserveError
from rtserve.graphs.engines import ENGINES, engine_called
from rtserve.graphs.openvino_runner import OpenvinoRunner
from rtserve.graphs.sessions import cpu_session, quiet_session
from rtserve.nearest import meant

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph

__all__ = [
    "CudaRunner",
    "NativeRunner",
    "OnnxruntimeRunner",
    "OpenvinoRunner",
    "PlanRunner",
    "ReferenceRunner",
    "Runner",
    "each_once",
    "make_runner",
]


class Runner(Protocol):
    """Anything that turns windows into predictions."""

    name: str

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Return (batch, n_outputs) for x (batch, n_chans, n_times)."""
        ...


class OnnxruntimeRunner:
    """onnxruntime on the CPU.

    Parameters
    ----------
    graph : Graph
        What to run.
    threads : int
        Threads inside an operator; 1 keeps several sessions from disturbing each other's timings.
    arena : bool
        Whether memory is kept for the next run: faster, and as much at once as all runs needed.
    """

    name = "onnxruntime"

    def __init__(self, graph: Graph, *, threads: int = 1, arena: bool = True) -> None:
        self.graph = graph
        try:
            self.session: Any = cpu_session(graph.to_bytes(), threads=threads, arena=arena)
        except Exception as error:
            raise ExportError(
                f"onnxruntime cannot load the graph: {str(error).splitlines()[0]}",
                hint="see the operator it names; `rtserve fuse --no-optimize` keeps the graph as exported",
            ) from None
        self._input = self.session.get_inputs()[0].name
        self._output = [self.session.get_outputs()[0].name]

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Return (batch, n_outputs) float32; `RtserveError` where a kernel fails."""
        try:
            y: np.ndarray = self.session.run(self._output, {self._input: x})[0]
        except Exception as error:
            reason = str(error).splitlines()[0][:300]
            if self._runs_plainly(x):
                raise RtserveError(
                    f"onnxruntime's own optimiser breaks the graph on {x.shape}: {reason}; without optimisation it runs",
                    hint="write the operator that it names, or a transposition beside it, in another form in the network",
                ) from None
            raise RtserveError(
                f"onnxruntime cannot run the graph on {x.shape}: {reason}",
                hint=self.graph.hint_for(x.shape),
            ) from None
        return y

    def _runs_plainly(self, x: np.ndarray) -> bool:
        """Whether the graph runs where onnxruntime rewrites nothing of it."""
        try:
            quiet_session(self.graph.to_bytes(), rewritten=False).run(self._output, {self._input: x})
        except Exception:  # it fails either way
            return False
        return True


class ReferenceRunner:
    """onnx's own reference evaluator, in float64 (slow; it defines what the graph means)."""

    name = "reference"

    def __init__(self, graph: Graph) -> None:
        from onnx.reference import ReferenceEvaluator

        from rtserve.graphs.double import to_float64

        proto = to_float64(graph)
        self._input = proto.graph.input[0].name
        try:
            self._evaluator: Any = ReferenceEvaluator(proto)
        except Exception as error:  # activations and forms that it does not know
            raise RtserveError(
                f"onnx's own evaluator cannot load the graph: {' '.join(str(error).split())[:300]}",
                hint="no other engine of rtserve knows this graph's operators in float64; export it in another form",
            ) from None

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Return (batch, n_outputs) float64; `RtserveError` where the evaluator cannot run the graph."""
        try:
            with np.errstate(all="ignore"):
                y: np.ndarray = self._evaluator.run(None, {self._input: x.astype(np.float64)})[0]
        except Exception as error:  # its own faults: shapes of pools with ceil_mode, types that it mixes
            raise RtserveError(
                f"onnx's own evaluator cannot run the graph on {x.shape}: {' '.join(str(error).split())[:300]}",
                hint="no other engine of rtserve knows this graph's operators in float64; export it in another form",
            ) from None
        return y


CACHED = 1_000_000
"""Numbers in float64 that are held at once: what a core's cache holds."""
DOUBLE = 11
"""ONNX element type of float64."""


class PlanRunner:
    """The torch executor that travels in a submission, in float32 or float64.

    Parameters
    ----------
    graph : Graph
        What to run.
    double : bool
        Whether in float64.
    threads : int, optional
        Of torch, from now on.
    alone : bool, optional
        Whether no answer depends on another window of its batch; None where that is not known.
    """

    name = "torch"

    def __init__(
        self, graph: Graph, *, double: bool = False, threads: int | None = None, alone: bool | None = None
    ) -> None:
        import torch

        from rtserve.graphs.plan import graph_to_plan
        from rtserve.runtime.executor import PlanModule

        if threads is not None:
            torch.set_num_threads(threads)
        plan, tensors = graph_to_plan(graph)
        self.module = PlanModule(plan, tensors).eval()
        self._dtype = torch.float64 if double else torch.float32
        self._mixed = any(node["op"] == "Cast" and node["attrs"].get("to") == DOUBLE for node in plan["nodes"])
        self._plain = PlanModule(plan, tensors).eval() if self._mixed and double else self.module
        self._double = double
        if double:
            self.module.double()
        self._alone = alone
        self._graph = graph

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Return (batch, n_outputs) in the runner's precision; `RtserveError` where torch cannot run it."""
        import torch

        try:
            with torch.inference_mode(), self._manner():
                given = torch.from_numpy(np.ascontiguousarray(x)).to(self.module.anchor.device, self._dtype)
                y: np.ndarray = self.module(given).cpu().numpy()
        except (
            Exception
        ) as error:  # whatever torch says, it is about these windows: the plan was tried when it was made
            raise RtserveError(
                f"the torch executor cannot run the graph on {x.shape}: {str(error).splitlines()[0][:300]}",
                hint=self._graph.hint_for(x.shape),
            ) from None
        return y

    @contextmanager
    def _manner(self) -> Iterator[None]:
        """Compute as this runner does: in float64 on one thread, with convolutions that need little memory."""
        if not self._double:
            yield
            return
        from rtserve.graphs.convolving import LeanConvolutions, one_thread

        with one_thread(), LeanConvolutions():
            yield

    def infer_all(self, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return `infer` of each; where answers are known to be alone, of every window once, as many as are held at once."""
        if not self._alone:
            return [self.infer(x) for x in inputs]
        y = each_once(lambda x: np.concatenate([self.infer(part) for part in self.parts(x)]), np.concatenate(inputs))
        return np.split(y, np.cumsum([len(one) for one in inputs])[:-1])

    @cached_property
    def _at_once(self) -> int:
        return max(1, CACHED // _held(self._graph))

    def parts(self, x: np.ndarray, *, least: int = 1) -> list[np.ndarray]:
        """Return windows in parts, as many in each as are held at once, and not fewer than `least`."""
        return np.array_split(x, -(-len(x) // max(self._at_once, least)))

    def glances(self, inputs: Sequence[np.ndarray], truths: Sequence[np.ndarray]) -> list[float]:
        """Return `rounding` of each input as one window of it tells, the first that is all numbers."""
        from rtserve.graphs.rounding import error_of

        if not self._alone or self._mixed:
            return [self.rounding(x, truth, windows=1) for x, truth in zip(inputs, truths, strict=True)]
        first = [int(_finite(x, truth).argmax()) for x, truth in zip(inputs, truths, strict=True)]
        y = each_once(self._drawn, np.stack([x[row] for x, row in zip(inputs, first, strict=True)]))
        return [error_of(y[k : k + 1], t[row : row + 1]) for k, (t, row) in enumerate(zip(truths, first, strict=True))]

    def _drawn(self, x: np.ndarray) -> np.ndarray:
        """Return the answers to windows that are alone, each operation erring once as float32 might."""
        import torch

        from rtserve.graphs.rounding import drawn

        parts = [torch.from_numpy(part).to(self._dtype) for part in self.parts(x)]
        return np.concatenate([drawn(self.module, part, seed) for seed, part in enumerate(parts)])

    def rounding(self, x: np.ndarray, truth: np.ndarray, *, windows: int = 4) -> float:
        """Return the relative error that float32 is expected to make; see `rtserve.graphs.rounding.expected_error`."""
        import torch

        from rtserve.graphs.rounding import answers_alone, error_of, expected_error

        given = torch.from_numpy(np.ascontiguousarray(x)).to(self._dtype)
        if self._mixed:  # what is computed in float64 on purpose does not err as float32 would
            return expected_error(self._plain, given.float(), truth, windows=windows, alone=False, double=False)
        if self._alone is None and len(x) < windows:
            self._alone = answers_alone(self.module, given, truth)
        if self._alone:
            seen = np.resize(np.arange(len(x)), max(windows, len(x)))
            return error_of(self._drawn(x[seen]), truth[seen])
        return expected_error(self.module, given, truth, windows=windows, alone=self._alone)


def _held(graph: Graph) -> int:
    """Return how many numbers are held at once for one window, each value up to its last use, as far as shapes are known."""
    from rtserve.graphs.macs import shapes_at

    sizes = {name: prod(shape) for name, shape in shapes_at(graph.model, 1).items()}
    nodes = list(graph.model.graph)
    last = {value.name: place for place, node in enumerate(nodes) for value in node.inputs if value is not None}
    held = most = graph.input_spec.n_chans * graph.input_spec.n_times
    for place, node in enumerate(nodes):
        held += sum(sizes.get(str(value.name), 0) for value in node.outputs)
        most = max(most, held)
        read = {value.name for value in node.inputs if value is not None}
        held -= sum(sizes.get(str(name), 0) for name in read if last[name] == place)
    return most


def each_once(infer: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> np.ndarray:
    """Return what is answered to windows that answer alone, equal ones asked about once."""
    found: dict[bytes, int] = {}
    which = [found.setdefault(window.tobytes(), len(found)) for window in x]
    return infer(x if len(found) == len(x) else x[np.unique(which, return_index=True)[1]])[which]


def _finite(x: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return which windows, and what is answered to them, are all numbers."""
    return np.array([np.isfinite(one).all() and np.isfinite(y).all() for one, y in zip(x, truth, strict=False)])


class CudaRunner:
    """The torch executor on a CUDA device in float32: windows go there and answers come back."""

    name = "cuda"

    def __init__(self, graph: Graph) -> None:
        import torch

        if not torch.cuda.is_available():
            raise EnvironmentMissingError(
                f"torch {torch.__version__} sees no CUDA device here",
                hint="--engine torch runs the same graph on the CPU",
            )
        self._plan = PlanRunner(graph)
        self._plan.module.to("cuda")

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Return (batch, n_outputs) float32."""
        return self._plan.infer(x)


class NativeRunner:
    """The graph as C, built by this machine's compiler for its own processor.

    Parameters
    ----------
    graph : Graph
        What to run.
    threads : int
        That compute one window together, or share the windows of a batch.
    """

    name = "native"

    def __init__(self, graph: Graph, *, threads: int = 1) -> None:
        from rtserve.graphs.native import compile_graph
        from rtserve.native.compiler import best_level

        self.module = compile_graph(graph, levels=[best_level()], threads=threads).module

    def infer(self, x: np.ndarray) -> np.ndarray:
        """Return (batch, n_outputs) float32."""
        return self.module.infer(x)


def _require_single(graph: Graph) -> None:
    """Raise `InputError` where a graph takes another type than float32, which windows are in."""
    import onnx_ir as ir

    if (kind := graph.model.graph.inputs[0].dtype) not in (None, ir.DataType.FLOAT):
        raise InputError(f"the graph takes {kind}, not float32", hint="export it in float32")


def make_runner(graph: Graph, engine: str = "onnxruntime", *, threads: int = 1) -> Runner:
    """Return a runner of `graph` in the named engine.

    Raises
    ------
    InputError
        Where no engine has that name, or the graph does not take float32.
    EnvironmentMissingError
        Where it is not installed.
    """
    _require_single(graph)
    engine = engine_called(engine)
    if engine == "onnxruntime":
        return OnnxruntimeRunner(graph, threads=threads)
    if engine == "torch":
        return PlanRunner(graph, threads=threads)
    if engine == "openvino":
        return OpenvinoRunner(graph, threads=threads)
    if engine == "native":
        return NativeRunner(graph, threads=threads)
    if engine == "cuda":
        return CudaRunner(graph)
    if engine == "reference":
        return ReferenceRunner(graph)
    raise InputError(f"unknown engine {engine!r}", hint=meant(engine, ENGINES, f"use one of {', '.join(ENGINES)}"))
