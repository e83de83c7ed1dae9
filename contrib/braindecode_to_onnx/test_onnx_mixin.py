# Authors: the rtserve authors
#
# License: BSD (3-clause)
"""Every model exports to a graph that answers the same, or is refused and says why."""

from __future__ import annotations

import copy

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from . import onnx_mixin
from .models import NAMES, build
from .onnx_mixin import OnnxExportError, OnnxMixin

REFUSED = {
    "EEGMiner": "cannot be copied",  # it keeps a tensor with its history
    "MetaNeuromotorHand": "im2col",  # which the exporter of torch fails on
    "SensingDynamics": "mul.Scalar",  # of a size, in an interpolation
}
"""Models that are refused, and what is said of them; one that exports fails its test."""


class Small(OnnxMixin, nn.Module):
    """A model of two channels and eight samples, whose answer is `function`'s."""

    def __init__(self, function):
        super().__init__()
        self.input_shape = (1, 2, 8)
        self.weight = nn.Parameter(torch.ones(()))
        self.function = function

    def forward(self, x):
        return self.function(self.weight * x)


def zscore(x):
    return (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-8)


@pytest.fixture
def eegnet():
    return build("EEGNet")[0]


@pytest.fixture
def shifted(monkeypatch):
    """Let every graph be of a model whose weights were changed."""

    def shift(model):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(0.01)
        return ()

    monkeypatch.setattr(onnx_mixin, "rewrite_parts", shift)


@pytest.mark.parametrize("name", NAMES)
def test_graph_answers_what_the_model_answers(name):
    try:
        model, example = build(name)
    except RuntimeError as error:
        if "Failed to download" not in str(error):  # REVE fetches its positions
            raise
        pytest.skip(str(error))
    if name in REFUSED:
        with pytest.raises(OnnxExportError, match=REFUSED[name]):
            OnnxMixin.to_onnx(model, example=example)
        return
    export = OnnxMixin.to_onnx(model, example=example)
    assert export.batches == (1, 2, 5)
    assert 0 <= export.largest_error <= 1e-4


def test_only_models_that_exist_are_refused():
    assert set(REFUSED) <= set(NAMES)


@pytest.mark.parametrize("name", ["EEGNet", "SyncNet"])
@pytest.mark.parametrize("training", [True, False])
def test_the_model_stays_as_it_is(name, training):
    model, _ = build(name)
    if name == "SyncNet":  # its forward clamps this parameter
        nn.init.constant_(model.beta, -0.1)
    model.train(training)
    before, dropped = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    OnnxMixin.to_onnx(model)
    assert all(part.training is training for part in model.modules())
    assert all(torch.equal(before[key], now) for key, now in model.state_dict().items())
    assert torch.equal(dropped, torch.get_rng_state())


def test_a_file_takes_any_batch(eegnet, tmp_path):
    export = OnnxMixin.to_onnx(eegnet, tmp_path / "eegnet.onnx", batch="windows")
    session = onnxruntime.InferenceSession(export.path)
    (asked,) = session.get_inputs()
    assert (asked.name, asked.shape) == ("x", ["windows", *eegnet.input_shape[1:]])
    x = torch.randn(7, *eegnet.input_shape[1:])
    with torch.no_grad():
        truth = eegnet.eval()(x).numpy()
    np.testing.assert_allclose(session.run(None, {"x": x.numpy()})[0], truth, atol=1e-5)
    assert f"({export.path}): largest error" in str(export)


def test_a_batch_can_be_fixed(eegnet):
    export = OnnxMixin.to_onnx(eegnet, batch=4)
    session = onnxruntime.InferenceSession(export.model.SerializeToString())
    assert session.get_inputs()[0].shape == [4, *eegnet.input_shape[1:]]
    assert export.batches == (4,)


def test_a_graph_that_answers_something_else_is_refused(eegnet, shifted, tmp_path):
    with pytest.raises(OnnxExportError, match=r"EEGNet: the graph is .* away"):
        OnnxMixin.to_onnx(eegnet, tmp_path / "eegnet.onnx")
    assert list(tmp_path.iterdir()) == []


def test_without_check_nothing_is_compared(eegnet, shifted):
    export = OnnxMixin.to_onnx(eegnet, check=False)
    assert (export.largest_error, export.batches) == (None, ())
    assert "not compared" in str(export)


def test_a_channel_that_is_zero_stays_a_number():
    export = Small(zscore).to_onnx()
    session = onnxruntime.InferenceSession(export.model.SerializeToString())
    assert np.isfinite(
        session.run(None, {"x": np.zeros((1, 2, 8), np.float32)})[0]
    ).all()


def test_a_batch_that_is_part_of_the_answer_is_refused():
    with pytest.raises(OnnxExportError, match="Small"):
        Small(lambda x: x.reshape(3, -1)).to_onnx()


def test_an_answer_that_changes_from_call_to_call_is_refused():
    with pytest.raises(OnnxExportError, match="differently each time"):
        Small(lambda x: x + torch.randn(())).to_onnx()


def test_a_model_that_fails_is_refused_with_its_own_words():
    with pytest.raises(OnnxExportError, match=r"fails on \(3, 2, 8\): .*invalid for"):
        Small(lambda x: x.reshape(-1, 7)).to_onnx()


def test_a_missing_package_is_named(eegnet, monkeypatch):
    monkeypatch.setattr(onnx_mixin, "_NEEDED", ("onnx", "package_that_is_missing"))
    with pytest.raises(ImportError, match="package_that_is_missing"):
        OnnxMixin.to_onnx(eegnet)
