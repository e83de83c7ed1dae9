"""Networks of recordings, recipes of them, and a stranger's container that needs no package."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from rtserve.fusion.join import empty_model, set_output
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import normalise
from rtserve.graphs.graph import Graph
from rtserve.spec import InputSpec, OutputSpec, Provenance
from tests.submission.zips import write_zip

SPEC = InputSpec(n_chans=19, n_times=1024, sfreq=256.0, unit="uV")
LOUD = 25.4
"""Standard deviation in uV above which a window is called a seizure; no window of the drills has 24.9 to 26."""


def loud(emit, x, limit=LOUD, pool=32):
    """Whether the mean power is above a limit, as two logits: a step can keep what it pools."""
    h = emit("AveragePool", emit("Mul", x, x), kernel_shape=[pool], strides=[pool])
    h = emit("ReduceMean", emit("ReduceMean", h, [1], keepdims=0), [1], keepdims=1)
    h = emit("Sub", emit("Log", emit("Add", h, np.float32(1e-6))), np.float32(np.log(limit**2)))
    return emit("Concat", emit("Neg", h), h, axis=1)


def centred(emit, x):
    """The same of what is left without each channel's mean over the window: nothing of it can be kept."""
    still = emit("Sub", x, emit("ReduceMean", x, [2]))
    return loud(emit, emit("Conv", still, np.eye(x.shape[1], dtype=np.float32)[:, :, None]))


def network(layers=loud, spec=SPEC, **said) -> Graph:
    """Return a graph of `layers`."""
    model = empty_model(spec.n_chans, spec.n_times)
    set_output(model.graph, layers(Emitter(model.graph, prefix="net"), model.graph.inputs[0]), 2)
    normalise(model, name="net")
    outputs = OutputSpec(**({"n_outputs": 2, "target": "class", "classes": ("bckg", "sz"), "form": "logits"} | said))
    return Graph(model=model, input_spec=spec, output_spec=outputs, provenance=Provenance(kind="export", details={}))


def write_recipe(
    folder: Path, graph: Graph, *, head: str = "", events: str = "", profile="szcore", key="seizures"
) -> Path:
    """Write a graph and a recipe of it; return the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    path = graph.save(folder / "member.onnx", force=True)
    lines = [f'profile = "{profile}"', head, f"[challenges.{key}]", events, f"[[challenges.{key}.members]]"]
    lines += ['graph = "member.onnx"', f'sha256 = "{hashlib.sha256(path.read_bytes()).hexdigest()}"']
    recipe = folder / "submission.toml"
    recipe.write_text("\n".join(lines) + "\n", "utf-8")
    return recipe


def named(*names: str, **more) -> InputSpec:
    """Return the windows of a network of these channels."""
    return replace(SPEC, n_chans=len(names), ch_names=names, **more)


DOCKERFILE = """\
FROM python:3.12-slim
ENV INPUT="" OUTPUT=""
VOLUME ["/data"]
VOLUME ["/output"]
WORKDIR /app
COPY answer.py .
CMD python3 answer.py "/data/$INPUT" "/output/$OUTPUT"
"""
ANSWER = """\
import sys

source, target = sys.argv[1:]
with open(source, "rb") as handle:
    head = handle.read(256)
seconds = int(head[236:244]) * float(head[244:252])
header = "onset duration eventType confidence channels dateTime recordingDuration"
rows = [f"12.50 20.00 sz 0.9 n/a 2024-02-29_23:59:30 {seconds:.2f}"]
with open(target, "w") as handle:
    for line in (header, *rows):
        handle.write(line.replace(" ", "\\t").replace("29_", "29 ") + "\\n")
"""


def strangers(folder: Path, *pairs: tuple[str, str], docker: tuple[tuple[str, str], ...] = (), **more: str) -> Path:
    """Write the zip of a container that was not built here, with parts of its script or Dockerfile replaced."""
    answer, dockerfile = ANSWER, DOCKERFILE
    for old, new in pairs:
        assert old in answer
        answer = answer.replace(old, new)
    for old, new in docker:
        assert old in dockerfile
        dockerfile = dockerfile.replace(old, new)
    return write_zip(folder / "stranger.zip", {"Dockerfile": dockerfile, "answer.py": answer, **more})
