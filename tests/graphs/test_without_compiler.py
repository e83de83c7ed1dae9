"""torch's compiler stays unloaded where it has nothing to do, and is the real one for whoever asks for it."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
import numpy
import torch
from rtserve.graphs.rounding import RoundingErrors, expected_error
from rtserve.graphs.without_compiler import without_compiler

def unloaded():
    return not [name for name in sys.modules if name.startswith("torch._dynamo")]

def move():
    weight = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight], lr=0.5, weight_decay=0.0)
    weight.grad = torch.ones(3)
    optimizer.step()
    return weight.tolist()

def on_meta():
    return torch.nn.BatchNorm1d(2).to("meta").eval()(1e5 * torch.zeros(3, 2, 4, device="meta")).shape

with torch.inference_mode(), RoundingErrors(0):
    torch.ones(3).double().exp()
expected_error(torch.tanh, torch.ones(1, 2, 3).double(), numpy.tanh(numpy.ones((1, 2, 3))))
assert unloaded(), "drawing errors loads it"
with without_compiler():
    moved, shape = move(), on_meta()
    assert [name for name in sys.modules if name.startswith("torch._dynamo")] == ["torch._dynamo"]
    stand_in = torch._dynamo
assert unloaded(), "the stand-in stays"
assert not [finder for finder in sys.meta_path if type(finder).__module__ == "rtserve.graphs.without_compiler"]
with without_compiler():
    import torch._dynamo.config  # one below it is the real one's, and loaded once
    assert torch._dynamo is sys.modules["torch._dynamo"] is not stand_in
    assert torch._dynamo.config is sys.modules["torch._dynamo.config"] is sys.modules["torch._dynamo.utils"].config
    assert torch._dynamo.config.__spec__.origin
    assert stand_in.config is torch._dynamo.config, "who kept the stand-in gets what the real one has"
    real = torch._dynamo
assert torch._dynamo is sys.modules["torch._dynamo"] is real, "the real one goes with its block"
with without_compiler():
    assert torch._dynamo is real, "what is loaded is replaced"
assert (moved, shape) == (move(), on_meta()), "the numbers are others"
assert torch.compile(lambda x: x + 1, backend="eager")(torch.ones(2)).tolist() == [2.0, 2.0]
"""


def test_the_compiler_is_loaded_for_who_asks_for_it_and_no_other():
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
