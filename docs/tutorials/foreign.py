"""Somebody's .onnx

A graph that another tool wrote is a member like any other. It says nothing of unit, rate and target, and rtserve does not
guess: what is missing is stated once and travels in the file from then on.
"""

# %%
# ## The file
# A stand-in for what you were given: 8 channels, 100 samples, one number; a filter, a rectifier, a mean, a line. Note the
# scale of its weights: it was made for microvolts, and nothing in the file says so.
import numpy as np
import onnx
from onnx import helper, numpy_helper

rng = np.random.default_rng(3)
weights = {
    "w": rng.normal(size=(6, 8, 11)) / 90,
    "v": rng.normal(size=(6, 1)),
    "c": np.array([0.4]),
}
nodes = [
    helper.make_node("Conv", ["eeg", "w"], ["f"], pads=[5, 5]),
    helper.make_node("Relu", ["f"], ["r"]),
    helper.make_node("GlobalAveragePool", ["r"], ["m"]),
    helper.make_node("Flatten", ["m"], ["n"]),
    helper.make_node("Gemm", ["n", "v", "c"], ["seconds"]),
]
their = helper.make_graph(
    nodes,
    "theirs",
    [helper.make_tensor_value_info("eeg", onnx.TensorProto.FLOAT, ["n", 8, 100])],
    [helper.make_tensor_value_info("seconds", onnx.TensorProto.FLOAT, ["n", 1])],
    [numpy_helper.from_array(value.astype("float32"), name) for name, value in weights.items()],
)
onnx.save(helper.make_model(their, opset_imports=[helper.make_opsetid("", 17)]), "theirs.onnx")

# %%
# ## What it says, and what it does not
from rtserve.graphs.graph import Graph

Graph.load("theirs.onnx").input_spec

# %%
# ## What it is told
# `annotate_graph` (`rtserve annotate` on the command line) writes unit, rate and target into a copy. Had the batch been
# frozen at that of an example, it would be opened here, and the copy compared with the original.
from rtserve.graphs.annotate import annotate_graph

annotate_graph("theirs.onnx", {"unit": "uV", "sfreq": 100.0, "target": "reaction"}, output="known.onnx")
known = Graph.load("known.onnx")
print(known.input_spec)
known.output_spec

# %%
# ## A member like any other
# Fused with a view, and compared with the file as it came, in onnxruntime.
import onnxruntime
import rtserve
from rtserve.graphs.runners import OnnxruntimeRunner

fused = rtserve.fuse([known], views="identity,sign-flip")
x = rng.normal(scale=20, size=(3, 8, 100)).astype("float32")
session = onnxruntime.InferenceSession("theirs.onnx")
by_hand = (session.run(None, {"eeg": x})[0] + session.run(None, {"eeg": -x})[0]) / 2
print("largest difference", np.abs(OnnxruntimeRunner(fused).infer(x) - by_hand).max())

# %%
# The same by commands:
#
# ```sh
# rtserve inspect theirs.onnx
# rtserve annotate theirs.onnx --unit uV --sfreq 100 --target reaction -o known.onnx
# rtserve fuse known.onnx --views identity,sign-flip -o F.onnx
# ```
