"""Results of every kind, made once: what a report is put together from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from rtserve.fusion.fuse import fuse
from rtserve.graphs.graph import IR_VERSION, OPSET, Graph
from rtserve.measure.bench import bench
from rtserve.measure.branch_report import Judged
from rtserve.measure.branches import try_branches
from rtserve.measure.compare import compare
from rtserve.measure.evaluate import evaluate
from rtserve.measure.search import search
from rtserve.signals.windows import WindowSet, save_windows
from rtserve.spec import InputSpec, OutputSpec, Provenance
from rtserve.training.networks import CompactRT


def linear(weights: list[float]) -> Graph:
    """Mean over 20 samples, then weights per channel and an offset of 1.6."""
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
                helper.make_node("Gemm", ["m", "w", "b"], ["y"]),
            ],
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", len(weights), 20])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
            [
                numpy_helper.from_array(np.array([2], np.int64), "axes"),
                numpy_helper.from_array(np.array(weights, np.float32)[:, None], "w"),
                numpy_helper.from_array(np.array([1.6], np.float32), "b"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    return Graph(
        model=ir.serde.deserialize_model(model),
        input_spec=InputSpec(n_chans=len(weights), n_times=20, sfreq=100.0),
        output_spec=OutputSpec(n_outputs=1, target="response_time"),
        provenance=Provenance(kind="foreign", details={}),
    )


def windows(n: int = 160) -> WindowSet:
    """Channels 0 and 1 carry half of the target each."""
    rng = np.random.default_rng(0)
    signal = rng.standard_normal((n, 3))
    X = 1e-5 * signal[:, :, None] + 1e-7 * rng.standard_normal((n, 3, 20))
    y = 1.6 + 0.2 * (signal[:, 0] + signal[:, 1]) + 0.15 * rng.standard_normal(n)
    return WindowSet(X=X.astype("f4"), y=y.astype("f4"), subject=np.array([f"S{i % 16:02}" for i in range(n)]))


def train_folder(folder: Path, seed: int, **settings: object) -> Path:
    """A seed's folder as `rtserve train` leaves it."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    torch.save({"model_state_dict": CompactRT(n_chans=3).state_dict(), "settings": settings}, folder / "best.pth")
    test = evaluate(linear([3e4, 1e4 * seed, 0.0]), windows(), name=f"seed {seed}", split="all").to_dict()
    result = {
        "schema": "rtserve.training_result/1",
        "seed": seed,
        "outcome": "finished",
        "stopped_by": "",
        "test": test,
    }
    (folder / "result.json").write_text(json.dumps(result | {"leaks": [], "epochs": 3, "best_epoch": 3}))
    return folder


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an evaluation of a single and of a fused graph, a bench, a search, a comparison and two runs."""
    folder = tmp_path_factory.mktemp("results")
    members = [linear([4e4, 0.0, 0.0]), linear([0.0, 4e4, 0.0])]
    single = members[0]
    fused = fuse(members, views="identity,scale:0.9")
    data = windows()
    evaluate(single, data, name="single.onnx", resamples=200).save(folder / "single.json")
    branches = try_branches(fused, data, members=members, cost=False, resamples=200)
    Judged(evaluation=evaluate(fused, data, name="fused.onnx", resamples=200), branches=branches).save(
        folder / "fused.json"
    )
    bench(fused, single, rounds=6).save(folder / "bench.json")
    search(members, data, views="identity,scale:0.9", resamples=200).save(folder / "search.json")
    compare(folder / "single.json", folder / "fused.json").save(folder / "compare.json")
    train_folder(folder / "v1", 1, mixup=False, lr=0.001)
    train_folder(folder / "v2", 2, mixup=True, lr=0.001)
    fused.save(folder / "fused.onnx")
    save_windows(folder / "w.npz", data)
    return folder


@pytest.fixture
def run_cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run the command line in this process: exit code, stdout, stderr."""
    from rtserve.cli.main import main

    def run(*argv: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as exit_:
            main([str(a) for a in argv])
        out = capsys.readouterr()
        return int(exit_.value.code or 0), out.out, out.err

    return run
