"""What people have as checkpoints, read without running anything in them."""

import os
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from rtserve.errors import CheckpointError
from rtserve.graphs.checkpoint import fit_keys, load_checkpoint, strip_prefixes


def network():
    torch.manual_seed(0)
    return nn.Sequential(OrderedDict(conv=nn.Conv1d(3, 4, 5), norm=nn.BatchNorm1d(4), head=nn.Linear(4, 1)))


STATE = network().state_dict()
RIDERS = {
    "epoch": 6,
    "seed": np.int64(42),
    "val_loss": np.float32(0.25),
    "val_nrmse": np.float64(1.0004),
    "curve": np.arange(3.0),
    "history": [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}],
    "config": {"lr": 1e-3, "name": "net"},
    "optimizer_state_dict": {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(3)}}, "param_groups": []},
    "scheduler_state_dict": {"last_epoch": 3},
    "timestamp": "2025-10-30",
}


def prefixed(prefix):
    return {prefix + key: value for key, value in STATE.items()}


LAYOUTS = {
    "bare": (STATE, ""),
    "model_state_dict": ({"model_state_dict": STATE, **RIDERS}, "model_state_dict"),
    "state_dict": ({"state_dict": STATE, **RIDERS}, "state_dict"),
    "model": ({"model": STATE, **RIDERS}, "model"),
    "nested": ({"checkpoint_version": 2, "model": {"state_dict": STATE, "name": "net"}}, "model.state_dict"),
    "another name": ({"ema": STATE, "epoch": 2}, "ema"),
    "data parallel": (prefixed("module."), ""),
    "lightning": ({"state_dict": prefixed("model."), "pytorch-lightning_version": "2.5.5"}, "state_dict"),
    "compiled": ({"model_state_dict": prefixed("_orig_mod.")}, "model_state_dict"),
    "compiled in data parallel": (prefixed("module._orig_mod."), ""),
    "data parallel compiled": (prefixed("_orig_mod.module."), ""),
    "lightning in data parallel": (prefixed("module.model."), ""),
    "lightning compiled": ({"state_dict": prefixed("model._orig_mod.")}, "state_dict"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_networks_weights(tmp_path, layout):
    content, found_at = LAYOUTS[layout]
    torch.save(content, tmp_path / "c.pth")
    checkpoint = load_checkpoint(tmp_path / "c.pth")
    assert checkpoint.found_at == found_at
    assert checkpoint.n_values == sum(value.numel() for value in STATE.values())
    assert strip_prefixes(checkpoint.state_dict).keys() == STATE.keys()
    fitted = fit_keys(checkpoint.state_dict, network().state_dict(), name="net")
    network().load_state_dict(fitted, strict=True)
    assert all(torch.equal(fitted[key], STATE[key]) for key in STATE)


def test_the_old_file_format_is_read_too(tmp_path):
    torch.save(STATE, tmp_path / "c.pth", _use_new_zipfile_serialization=False)
    assert load_checkpoint(tmp_path / "c.pth").state_dict.keys() == STATE.keys()


def test_riders_are_described(tmp_path):
    torch.save({"model_state_dict": STATE, **RIDERS}, tmp_path / "c.pth")
    riders = load_checkpoint(tmp_path / "c.pth").riders
    assert (riders["seed"], riders["val_loss"], riders["val_nrmse"]) == ("42", "0.25", "1.0004")
    assert riders["config.lr"] == "0.001"
    assert riders["history"] == "list of 2"
    assert "model_state_dict" not in riders


def test_a_network_with_a_part_called_model_keeps_it():
    inner = nn.ModuleDict({"model": nn.Linear(2, 1)})
    saved = {f"module.{key}": value for key, value in inner.state_dict().items()}
    assert fit_keys(saved, inner.state_dict(), name="net").keys() == inner.state_dict().keys()


def test_a_missing_batch_counter_is_no_fault():
    old = {key: value for key, value in STATE.items() if not key.endswith("num_batches_tracked")}
    assert fit_keys(old, STATE, name="net").keys() == STATE.keys()


def test_every_wrong_key_is_named():
    wrong = dict(STATE)
    del wrong["conv.bias"], wrong["norm.weight"]
    wrong |= {"extra.a": torch.zeros(1), "extra.b": torch.zeros(1), "head.weight": torch.zeros(2, 4)}
    with pytest.raises(CheckpointError) as caught:
        fit_keys(wrong, STATE, name="Net built by exporters/net.py")
    message = caught.value.message
    assert "Net built by exporters/net.py" in message
    assert "missing 2: conv.bias, norm.weight" in message
    assert "unexpected 2: extra.a, extra.b" in message
    assert "misshapen 1: head.weight is (2, 4), the network has (1, 4)" in message
    assert "--set" in caught.value.hint


class Payload:
    """Runs a shell command when unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch '{self.witness}'",)


class Settings:
    """A class of somebody's own training script."""


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("inside", [lambda p: p, lambda p: {"model_state_dict": STATE, "config": p}, lambda p: [p]])
def test_a_pickle_that_runs_code_is_refused_and_the_global_named(tmp_path, inside, new_format):
    witness = tmp_path / "ran"
    torch.save(inside(Payload(witness)), tmp_path / "c.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match=rf"asks for {os.system.__module__}\.system, which is not run"):
        load_checkpoint(tmp_path / "c.pth")
    assert not witness.exists()


@pytest.mark.parametrize("thing", [Settings(), network()])
def test_a_pickled_object_is_refused_and_its_class_named(tmp_path, thing):
    torch.save({"model": thing}, tmp_path / "c.pth")
    name = type(thing).__module__ + "." + type(thing).__qualname__
    with pytest.raises(CheckpointError, match=f"asks for {name}") as caught:
        load_checkpoint(tmp_path / "c.pth")
    assert "state_dict()" in caught.value.hint


def test_a_numpy_object_array_is_refused(tmp_path):
    witness = tmp_path / "ran"
    torch.save({"model_state_dict": STATE, "x": np.array([Payload(witness)], dtype=object)}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "c.pth")
    assert not witness.exists()


NOT_CHECKPOINTS = {
    "text": b"epoch 1 loss 0.5\n",
    "nothing": b"",
    "half": None,
    "zip": b"PK\x05\x06" + 18 * b"\0",
}


@pytest.mark.parametrize("kind", NOT_CHECKPOINTS)
def test_what_is_no_checkpoint_is_said_in_one_line(tmp_path, kind):
    path = tmp_path / "c.pth"
    data = NOT_CHECKPOINTS[kind]
    if data is None:
        torch.save(STATE, path)
        data = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="is not a PyTorch checkpoint") as caught:
        load_checkpoint(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("content", [{"epoch": 1, "loss": 0.5}, [1, 2], torch.zeros(3), {"a": STATE, "b": STATE}])
def test_a_file_without_a_state_dict_says_what_it_has(tmp_path, content):
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"holds no state_dict; it has|holds a \w+, not a state_dict"):
        load_checkpoint(tmp_path / "c.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_called_by_its_name(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 1)), tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="TorchScript"):
        load_checkpoint(tmp_path / "c.pt")


@pytest.mark.shared
def test_the_real_files_load(shared_dir):
    for path in sorted((shared_dir / "checkpoints").glob("*/*.p*t*")):
        checkpoint = load_checkpoint(path)
        assert checkpoint.n_values in (75_204, 62_646)
        assert checkpoint.found_at == ("model_state_dict" if path.name.startswith("seed") else "")
