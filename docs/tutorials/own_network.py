"""A torch module of your own

A network that you wrote yourself needs no exporter: its class is named with the file it stands in, and its constructor's
arguments are settings. What the graph must be equal to is your network in evaluation mode.
"""

# %%
# ## The network
# Any `torch.nn.Module` that takes windows (batch, n_chans, n_times) and answers (batch, n_outputs). Parameters of the
# constructor that are called as braindecode calls them (`n_chans`, `n_times`, `sfreq`, `n_outputs`, `ch_names`) are the
# windows' shape; all others, like `width`, are settings.
from pathlib import Path

Path("mynet.py").write_text("""
import torch
from torch import nn


class MyNet(nn.Module):
    def __init__(self, n_chans, n_times, n_outputs, width=8):
        super().__init__()
        self.filters = nn.Conv1d(n_chans, width, 15, padding=7)
        self.norm = nn.BatchNorm1d(width)
        self.head = nn.Linear(width, n_outputs)

    def forward(self, x):
        return self.head(torch.relu(self.norm(self.filters(x))).mean(-1))
""")

# %%
# ## A checkpoint
# Here with weights as they are initialised, and with a normalisation that has seen data of the size that it will meet.
import torch
from mynet import MyNet

torch.manual_seed(0)
network = MyNet(n_chans=8, n_times=200, n_outputs=1, width=12)
network(20 * torch.randn(64, 8, 200))
torch.save(network.state_dict(), "mynet.pth")

# %%
# ## The graph
# `mynet.py` is your own code and runs in a child process.
import rtserve

graph = rtserve.export(
    "mynet.pth",
    exporter="mynet.py:MyNet",
    settings={"n_chans": 8, "n_times": 200, "n_outputs": 1, "width": 12},
    stated={"unit": "uV", "sfreq": 100.0, "target": "workload"},
)
graph.save("mynet.onnx")
print(graph.input_spec)
graph.output_spec

# %%
# ## A wrong setting is refused
# What does not fit the checkpoint is said with both values, and the error carries a hint.
from rtserve.errors import RtserveError

try:
    rtserve.export("mynet.pth", exporter="mynet.py:MyNet", settings={"n_chans": 8, "n_times": 200, "wdth": 12})
except RtserveError as error:
    print(error.message, "\nhint:", error.hint)

# %%
# ## Views of it
# `roll:+5` moves the window by five samples, `scale:1.02` makes it larger; the fused graph answers the mean of the three.
fused = rtserve.fuse([graph], views="identity,roll:+5,scale:1.02")
fused.save("fused.onnx")

import numpy as np

x = np.random.default_rng(1).normal(scale=20, size=(4, 8, 200)).astype("float32")
network.eval()
with torch.no_grad():
    windows = torch.from_numpy(x)
    by_hand = (network(windows) + network(torch.roll(windows, 5, -1)) + network(1.02 * windows)) / 3

from rtserve.graphs.runners import OnnxruntimeRunner

print("largest difference", np.abs(OnnxruntimeRunner(fused).infer(x) - by_hand.numpy()).max())
