"""Small graphs and windows for which the right answer is known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtserve.graphs.graph import IR_VERSION, OPSET, Graph
from rtserve.signals.windows import WindowSet
from rtserve.spec import InputSpec, OutputSpec, Provenance

N_CHANS, N_TIMES = 3, 20
FOREIGN = """
import torch
class Net(torch.nn.Module):
    def forward(self, X):
        return 1.6 + 2e4 * X[:, 0, :].mean(dim=1, keepdim=True)
class Submission:
    def __init__(self, SFREQ, DEVICE):
        pass
    def get_model_challenge_1(self):
        return Net()
    def get_model_challenge_2(self):
        return Net()
"""
"""The script of a zip that was not built here: one channel's mean, for both challenges."""


def linear_graph(
    weights: np.ndarray,
    bias: np.ndarray | float = 0.0,
    *,
    target: str = "",
    batch: int | str = "batch",
    unit: str = "V",
) -> Graph:
    """Mean over time, then a dense layer: weights (n_chans, n_outputs)."""
    weights = np.asarray(weights, np.float32).reshape(len(weights), -1)
    bias = np.broadcast_to(np.asarray(bias, np.float32), weights.shape[1:]).copy()
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("ReduceMean", ["x", "axes"], ["m"], keepdims=0),
                helper.make_node("Gemm", ["m", "w", "b"], ["y"]),
            ],
            "linear",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, len(weights), N_TIMES])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, weights.shape[1]])],
            [
                numpy_helper.from_array(np.array([2], np.int64), "axes"),
                numpy_helper.from_array(weights, "w"),
                numpy_helper.from_array(bias, "b"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    return Graph(
        model=ir.serde.deserialize_model(model),
        input_spec=InputSpec(n_chans=len(weights), n_times=N_TIMES, sfreq=100.0, unit=unit),
        output_spec=OutputSpec(n_outputs=weights.shape[1], target=target),
        provenance=Provenance(kind="foreign", details={}),
    )


def make_windows(n: int = 120, *, subjects: int = 12, seed: int = 0, noise: float = 0.5) -> WindowSet:
    """Windows whose channel 0 offset, in units of 1e-5 V, is the target but for noise and a subject's shift."""
    rng = np.random.default_rng(seed)
    subject = np.arange(n) % subjects
    signal = rng.standard_normal(n)
    X = 1e-6 * rng.standard_normal((n, N_CHANS, N_TIMES)) + 1e-5 * signal[:, None, None] * np.array([[[1.0], [0], [0]]])
    y = 1.6 + 0.3 * (signal + noise * rng.standard_normal(n)) + 0.1 * rng.standard_normal(subjects)[subject]
    return WindowSet(X=X.astype("f4"), y=y.astype("f4"), subject=np.array([f"S{s:02}" for s in subject]), sfreq=100.0)


@pytest.fixture
def graph() -> Graph:
    return linear_graph([[3e4], [0.0], [0.0]], 1.6, target="response_time")


@pytest.fixture
def windows() -> WindowSet:
    return make_windows()


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


@pytest.fixture
def sides_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let both sides of a comparison be scored in this process; tests/measure/test_compare.py starts real ones too."""
    from rtserve.measure import rescore

    monkeypatch.setattr(rescore, "_in_child", lambda job, _out, _name, progress: rescore.main(job, progress=progress))
