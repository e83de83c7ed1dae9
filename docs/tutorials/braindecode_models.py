"""Checkpoints of braindecode as one graph

Two seeds of a network from `braindecode.models` become two ONNX graphs, and these one graph with three views of each
window. `exporters/braindecode_models.py:NAME` exports any class of `braindecode.models`; what was tried, at which shapes,
and how much faster each is, is in [the zoo](../../benchmarks/results/zoo.md).

needs: module braindecode
"""

# %%
# ## Checkpoints
# A stand-in for your own: two networks for 16 channels and one second at 128 Hz, with weights as they are initialised. What
# is saved is a `state_dict`, as braindecode and skorch save it. In a real training the two would have learned something.
import torch
from braindecode.models import EEGNet

shape = {"n_chans": 16, "n_times": 128, "n_outputs": 4}
networks = {}
for seed in (1, 2):
    torch.manual_seed(seed)
    networks[seed] = EEGNet(**shape).eval()
    torch.save(networks[seed].state_dict(), f"seed{seed}.pth")

# %%
# ## Graphs
# The checkpoint holds tensors and no shape of the windows, so the class's own arguments are named. What the network does not
# know of its data is stated: unit, rate, and what it predicts. The file is read without running anything that a pickle asks
# for, the network is built in a child process, and the graph is compared with it in float64 before this returns.
import rtserve

members = [
    rtserve.export(
        f"seed{seed}.pth",
        exporter="exporters/braindecode_models.py:EEGNet",
        settings=shape,
        stated={"unit": "uV", "sfreq": 128.0, "target": "class", "classes": ("left", "right", "feet", "tongue")},
    )
    for seed in (1, 2)
]
print(members[0].input_spec)
members[0].output_spec

# %%
# ## One graph
# Two members and three views are six branches. `mean-probabilities` says what is averaged: a classifier's logits and its
# probabilities have different means, and rtserve does not guess which is meant.
fused = rtserve.fuse(members, views="identity,roll:+2,roll:-2", merge="mean-probabilities")
fused.save("fused.onnx")
fused.output_spec

# %%
# ## The same numbers as braindecode
# The six branches by hand, in torch, against the graph in onnxruntime.
import numpy as np
import onnxruntime

x = np.random.default_rng(0).normal(scale=20, size=(5, 16, 128)).astype("float32")
by_hand = []
with torch.no_grad():
    for network in networks.values():
        for moved in (0, 2, -2):
            by_hand.append(network(torch.roll(torch.from_numpy(x), moved, -1)).softmax(-1).numpy())
session = onnxruntime.InferenceSession("fused.onnx")
answers = session.run(None, {session.get_inputs()[0].name: x})[0]
print("largest difference", np.abs(answers - np.mean(by_hand, axis=0)).max())

# %%
# ## What it costs
# Six runs of one member, by turns with one run of the fused graph.
print("\n".join(rtserve.bench(fused, against=members[0], loop=6, rounds=18).lines()))

# %%
# The same by commands:
#
# ```sh
# rtserve export seed1.pth --exporter exporters/braindecode_models.py:EEGNet \
#   --set n_chans=16 --set n_times=128 --set n_outputs=4 \
#   --unit uV --sfreq 128 --target class --classes left,right,feet,tongue -o M1.onnx
# rtserve fuse M1.onnx M2.onnx --views identity,roll:+2,roll:-2 --merge mean-probabilities -o fused.onnx
# rtserve bench fused.onnx --against M1.onnx --loop 6
# ```
