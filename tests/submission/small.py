"""Small graphs of the contest's shape, and recipes of them."""

import hashlib
from dataclasses import replace

import numpy as np
import onnx
from onnx import parser

from rtserve.graphs.graph import Graph
from rtserve.submission.agreement import opened_routes, require_agreement

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
small (float[batch, 129, 200] x) => (float[batch, 1] y)
<float[4, 129, 7] w1, float[4] b1, float[4, 1] w2, float[1] b2>
{
  a = Conv <pads = [3, 3], strides = [2]> (x, w1, b1)
  r = Relu (a)
  axes = Constant <value_ints = [2]> ()
  m = ReduceMean <keepdims = 0> (r, axes)
  y = Gemm (m, w2, b2)
}
"""


def small_graph(seed, n_chans=129, *, unit="V", sfreq=100.0, target=""):
    """A network (batch, n_chans, 200) to (batch, 1) with seeded weights, sensitive at volt scale."""
    model = parser.parse_model(TEXT.replace("129", str(n_chans)))
    rng = np.random.default_rng(seed)
    sizes = {"w1": 1e3, "b1": 0.1, "w2": 1.0, "b2": 1.0}
    for value in list(model.graph.value_info):
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        array = (sizes[value.name] * rng.standard_normal(shape)).astype("f4")
        array = np.abs(array) if value.name == "w2" else array  # no cancellation: float32 stays within 1e-6
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, value.name))
        model.graph.value_info.remove(value)
    graph = Graph.from_bytes(model.SerializeToString())
    inputs = replace(graph.input_spec, unit=unit, sfreq=sfreq)
    return replace(graph, input_spec=inputs, output_spec=replace(graph.output_spec, target=target))


def write_recipe(
    folder, *, members=2, views=("identity", "roll:+3"), head='runtime = "torch"\n', tail="", n_chans=129, **spec
):
    """Write graphs (`spec` as `small_graph` takes it) and a submission.toml; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for seed in range(members + 1):
        path = folder / f"m{seed}.onnx"
        small_graph(seed, n_chans, **spec).save(path, force=True)
        digests[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = ['profile = "eeg2025"', head, "[challenges.1]", f"views = {list(views)}".replace("'", '"')]
    for seed in range(members):
        lines += ["[[challenges.1.members]]", f'graph = "m{seed}.onnx"', f'sha256 = "{digests[f"m{seed}.onnx"]}"']
    last = f"m{members}.onnx"
    lines += ["[[challenges.2.members]]", f'graph = "{last}"', f'sha256 = "{digests[last]}"', tail]
    path = folder / "submission.toml"
    path.write_text("\n".join(lines) + "\n")
    return path


def agreed(artefact, beside=None):
    """Open every route of an artefact and hold its answers against the graph's."""
    with opened_routes(artefact, beside) as routes:
        return require_agreement(artefact, routes)
