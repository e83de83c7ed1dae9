"""Small networks written straight as ONNX, so that the compiler's tests never wait for an exporter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.ir.clean import clean
from rtserve.fusion.join import empty_model, set_output
from rtserve.fusion.lower.onnxruntime import layout
from rtserve.graphs.emit import Emitter
from rtserve.graphs.graph import Graph
from rtserve.graphs.parity import probe_inputs, relative_error
from rtserve.graphs.runners import PlanRunner
from rtserve.spec import InputSpec, OutputSpec, Provenance

N_CHANS, N_TIMES = 6, 40

Body = Callable[[Emitter, ir.Value, "Weights"], ir.Value]


class Weights:
    """Random float32 weights, the same for the same seed."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> np.ndarray:
        """Return weights of a size that keeps activations near 1."""
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else 4
        return (self._rng.standard_normal(shape) / np.sqrt(max(fan_in, 1))).astype(np.float32)

    def norm(self, n: int) -> list[np.ndarray]:
        """Return scale, shift, mean and variance of a batch normalisation."""
        draw = self._rng.uniform
        return [draw(0.5, 1.5, n), draw(-1, 1, n), draw(-1, 1, n), draw(0.5, 2, n)]


def network(body: Body, *, seed: int = 0, n_chans: int = N_CHANS, n_times: int = N_TIMES, n_outputs: int = 1) -> Graph:
    """Return a graph whose body turns (batch, n_chans, n_times) into (batch, n_outputs)."""
    model = empty_model(n_chans, n_times)
    emit = Emitter(model.graph)
    y = body(emit, model.graph.inputs[0], Weights(seed))
    set_output(model.graph, y, n_outputs)
    return Graph(
        model=model,
        input_spec=InputSpec(n_chans=n_chans, n_times=n_times, sfreq=100.0),
        output_spec=OutputSpec(n_outputs=n_outputs, target="" if n_outputs == 1 else "scores"),
        provenance=Provenance(kind="export", details={"seed": seed}),
    )


def laid_out(graph: Graph) -> ir.Model:
    """Return the graph's model as the passes behind the layout see it: rank 4."""
    model = clean(graph.clone_model())
    layout.run(model)
    return clean(model)


def require_same(graph: Graph, model: ir.Model, *, tolerance: float = 2e-6) -> None:
    """Require a rewritten model to give the graph's numbers.

    Both sides are evaluated in float64, so that what is seen is the rewrite (and its weights, rounded once) alone.
    """
    for _, x in probe_inputs(graph.input_spec, scales=(1e-5, 1.0)):
        expected = PlanRunner(graph, double=True).infer(x)
        got = PlanRunner(replace(graph, model=model), double=True).infer(x)
        assert relative_error(got, expected) < tolerance


def fused_with(name: str, body: Body, views: str, *, members: int = 1, n_outputs: int = 1, **options: Any):
    """Return a plan over members of one network fused, parity required, and the outcome of one pass."""
    graphs = [network(body, seed=seed, n_outputs=n_outputs) for seed in range(members)]
    graph, report, parity = fuse_with_report(graphs, views=views, **options)
    assert parity.passed
    return graph, next(outcome for outcome in report.outcomes if outcome.name == name)


def kinds(graph: Graph) -> list[str]:
    """Return the operators of a graph in order."""
    return [node.op_type for node in graph.model.graph]


def head(emit: Emitter, h: ir.Value, weights: Weights, width: int, *, axes: tuple[int, ...]) -> ir.Value:
    """Return mean over `axes`, a hidden layer, one number; its offset keeps it from being small by luck."""
    pooled = emit("ReduceMean", h, list(axes), keepdims=0)
    hidden = emit("Relu", emit("Gemm", pooled, weights(5, width), weights(5), transB=1))
    return emit("Gemm", hidden, weights(1, 5), weights(1) + np.float32(8.0), transB=1)


def conv_net(emit: Emitter, x: ir.Value, weights: Weights) -> ir.Value:
    """Two strided convolutions and a dense tail, as CompactRT."""
    h = emit("Relu", emit("Conv", x, weights(8, N_CHANS, 7), weights(8), strides=[2], pads=[3, 3]))
    h = emit("Relu", emit("Conv", h, weights(4, 8, 3), weights(4), strides=[2], pads=[1, 1]))
    return head(emit, h, weights, 4, axes=(2,))


def eegnet(emit: Emitter, x: ir.Value, weights: Weights) -> ir.Value:
    """Temporal filters, batch normalisation, a spatial step, ELU, as EEGNet."""
    h = emit("Conv", emit("Unsqueeze", x, [1]), weights(3, 1, 1, 9), weights(3), pads=[0, 4, 0, 4])
    h = emit("BatchNormalization", h, *weights.norm(3))
    h = emit("Conv", h, weights(6, 1, N_CHANS, 1), group=3)
    return head(emit, emit("Elu", h), weights, 6, axes=(2, 3))


def attention(emit: Emitter, x: ir.Value, weights: Weights) -> ir.Value:
    """One block of self-attention over time with layer normalisation."""
    tokens = emit("Transpose", emit("Conv", x, weights(8, N_CHANS, 4), weights(8), strides=[4]), perm=[0, 2, 1])
    normed = emit("LayerNormalization", tokens, weights(8), weights(8), axis=-1)
    q, k, v = (emit("Add", emit("MatMul", normed, weights(8, 8)), weights(8)) for _ in range(3))
    scores = emit("Softmax", emit("MatMul", q, emit("Transpose", k, perm=[0, 2, 1])), axis=-1)
    mixed = emit("Add", tokens, emit("MatMul", scores, v))
    return head(emit, mixed, weights, 8, axes=(1,))
