"""Small convolutional networks to stream, and their steps, made once."""

import functools

import numpy as np

from rtserve.fusion.join import empty_model, set_output
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import normalise
from rtserve.graphs.graph import Graph
from rtserve.spec import InputSpec, OutputSpec, Provenance
from rtserve.streaming.build import stream

SPEC = InputSpec(n_chans=3, n_times=48, sfreq=100.0, unit="V")


def graph_of(layers, spec=SPEC, **said):
    """A graph of what `layers(emit, x, rng)` writes, with a dense layer behind it."""
    rng = np.random.default_rng(0)
    model = empty_model(spec.n_chans, spec.n_times)
    emit, x = Emitter(model.graph, prefix="net"), model.graph.inputs[0]
    h, width = layers(emit, x, rng)
    h = emit("Reshape", h, np.array([-1, width]))
    set_output(model.graph, emit("Gemm", h, rng.standard_normal((width, 2)) / np.sqrt(width)), 2)
    normalise(model, name="net")
    return Graph(model=model, input_spec=spec, output_spec=OutputSpec(**({"n_outputs": 2, "target": "score"} | said)),
                 provenance=Provenance(kind="export", details={}))  # fmt: skip


def shallow(emit, x, rng):
    """A padded filter, its power in windows of 12 that move by 6, logarithm."""
    h = emit("Conv", x, rng.standard_normal((4, 3, 5)) / 4, rng.standard_normal(4), pads=[2, 2])
    h = emit("AveragePool", emit("Mul", h, h), kernel_shape=[12], strides=[6])
    return emit("Log", emit("Add", h, np.float32(0.1))), 28


def deep(emit, x, rng):
    """Two strided convolutions with padding, and the mean over time."""
    for n_in, n_out in ((3, 4), (4, 6)):
        w = rng.standard_normal((n_out, n_in, 5)) / np.sqrt(5 * n_in)
        x = emit("Elu", emit("Conv", x, w, rng.standard_normal(n_out), pads=[2, 2], strides=[2]))
    return emit("ReduceMean", x, [2], keepdims=0), 6


def by_channel(emit, x, rng):
    """Every channel a window of its own, (batch x channels), filtered alike and pooled."""
    h = emit("Reshape", x, np.array([-1, 1, 48]))
    h = emit("Tanh", emit("Conv", h, rng.standard_normal((2, 1, 5))))
    h = emit("AveragePool", h, kernel_shape=[8], strides=[4])
    return emit("Reshape", h, np.array([-1, 6, 10])), 60


def normed(emit, x, rng):
    """A norm over time in front of everything."""
    h = emit("Sub", x, emit("ReduceMean", x, [2]))
    return emit("Conv", h, rng.standard_normal((4, 3, 5))), 176


@functools.cache
def made(kind, hop):
    """(graph, step, report) of a network of this file."""
    graph = graph_of(globals()[kind])
    return graph, *stream(graph, hop=hop)
