"""Weights as people have them go into the network they were saved from, whatever their keys are called by now."""

import copy
import json
import struct
import warnings
from collections import OrderedDict
from typing import ClassVar

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from rtserve.errors import CheckpointError
from rtserve.graphs.checkpoint import checkpoint_digest, load_checkpoint
from rtserve.graphs.fit import load_weights, run_lazy_parts
from rtserve.graphs.weights import exporter_shapes

X = torch.randn(3, 4, 40, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """A convolution, BatchNorm with lived-in statistics, a dense layer."""

    def __init__(self, conv=None, head=None):
        super().__init__()
        self.conv = conv or nn.Conv1d(4, 8, 7)
        self.bn = nn.BatchNorm1d(8)
        self.fc = head or nn.Linear(8, 1)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean(-1))


def made(seed, **parts):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = Net(**{name: part() for name, part in parts.items()})
    for _ in range(3):
        network(X)
    return network.eval()


def old_weight_norm():
    return nn.utils.weight_norm(nn.Conv1d(4, 8, 7))


def new_weight_norm():
    return parametrizations.weight_norm(nn.Conv1d(4, 8, 7))


def old_spectral_norm():
    return nn.utils.spectral_norm(nn.Conv1d(4, 8, 7))


def new_spectral_norm():
    return parametrizations.spectral_norm(nn.Conv1d(4, 8, 7))


def orthogonal():
    return parametrizations.orthogonal(nn.Linear(8, 1))


def same(first, second):
    with torch.no_grad():
        return torch.equal(first.eval()(X), second.eval()(X))


def prefixed(state, prefix):
    return OrderedDict((prefix + key, value) for key, value in state.items())


BESIDE = {
    "criterion.pos_weight": torch.tensor([3.2]),
    "val_acc.tp": torch.tensor(0),
    "val_acc.confmat": torch.ones(2, 2),
}
READINGS = {
    "as stored": lambda s: s,
    "without its metadata": dict,
    "data parallel": lambda s: prefixed(s, "module."),
    "compiled": lambda s: prefixed(s, "_orig_mod."),
    "an average": lambda s: {"n_averaged": torch.tensor(7)} | prefixed(s, "module."),
    "an average of data parallel": lambda s: {"n_averaged": torch.tensor(7)} | prefixed(s, "module.module."),
    "lightning with a criterion": lambda s: prefixed(s, "model.") | BESIDE,
    "lightning under another name": lambda s: prefixed(s, "classifier.") | BESIDE,
    "lightning compiled": lambda s: prefixed(s, "model._orig_mod.") | BESIDE,
    "lightning around an average": lambda s: {"avg.n_averaged": torch.tensor(7)} | prefixed(s, "avg.module.") | BESIDE,
    "deep inside": lambda s: prefixed(s, "trainer.task.net.") | BESIDE,
    "without counters": lambda s: {k: v for k, v in s.items() if "num_batches" not in k},
    "in half precision": lambda s: {k: v.bfloat16().to(v.dtype) for k, v in s.items()},
}


@pytest.mark.parametrize("reading", READINGS)
def test_every_reading_of_the_keys_gives_the_networks_answers(reading):
    trained = made(0)
    state = READINGS[reading](trained.state_dict())
    if reading == "in half precision":
        trained.load_state_dict(state)
        state = {key: value.bfloat16() if value.is_floating_point() else value for key, value in state.items()}
    fresh = Net()
    loaded = load_weights(fresh, state, name="Net")
    assert same(trained, fresh)
    left = {key for key in BESIDE if key in state}
    assert set(loaded.left_out) - {"avg.n_averaged"} == left
    assert exporter_shapes(state).get("conv.weight", (8, 4, 7)) == (8, 4, 7)


@pytest.mark.parametrize(
    ("saved", "now"),
    [
        (old_weight_norm, new_weight_norm),
        (new_weight_norm, old_weight_norm),
        (old_spectral_norm, new_spectral_norm),
        (new_spectral_norm, old_spectral_norm),
        (new_weight_norm, new_weight_norm),
        (old_spectral_norm, old_spectral_norm),
    ],
)
@pytest.mark.parametrize("beside", [False, True])
def test_norms_are_read_under_the_names_they_had_and_have(saved, now, beside):
    trained = made(0, conv=saved)
    state = trained.state_dict()
    fresh = made(1, conv=now)
    load_weights(fresh, prefixed(state, "model.") | BESIDE if beside else state, name="Net")
    with torch.no_grad():
        assert torch.allclose(fresh(X), trained(X), atol=1e-6)


def test_a_parametrization_is_loaded_as_it_is():
    trained, fresh = made(0, head=orthogonal), made(1, head=orthogonal)
    load_weights(fresh, trained.state_dict(), name="Net")
    assert same(trained, fresh)


class Renaming(Net):
    """Knows a layer's old name, as networks do that live long."""

    def _load_from_state_dict(self, state, prefix, *args):
        for key in [key for key in state if key.startswith(f"{prefix}spatial.")]:
            state[key.replace("spatial.", "conv.")] = state.pop(key)
        super()._load_from_state_dict(state, prefix, *args)


class Mapping(Net):
    """Renames in load_state_dict itself, as braindecode's do."""

    mapping: ClassVar = {"head.weight": "fc.weight", "head.bias": "fc.bias"}

    def load_state_dict(self, state_dict, *args, **kwargs):
        return super().load_state_dict({self.mapping.get(k, k): v for k, v in state_dict.items()}, *args, **kwargs)


@pytest.mark.parametrize("prefix", ["", "module.", "model."])
@pytest.mark.parametrize(("kind", "old", "new"), [(Renaming, "spatial.", "conv."), (Mapping, "head.", "fc.")])
def test_the_networks_own_loading_sees_the_keys_first(kind, old, new, prefix):
    trained = made(0)
    state = prefixed({key.replace(new, old): value for key, value in trained.state_dict().items()}, prefix)
    for stored in (state, state | BESIDE if prefix == "model." else state):
        fresh = kind()
        load_weights(fresh, stored, name="Net")
        assert same(trained, fresh)


def test_two_parts_that_fit_are_asked_about(tmp_path):
    trained, average = made(0), made(1)
    state = prefixed(trained.state_dict(), "model.") | prefixed(average.state_dict(), "ema_model.")
    with pytest.raises(CheckpointError, match="2 parts of the checkpoint fit Net: ema_model, model") as caught:
        load_weights(Net(), state, name="Net")
    assert "--weights" in caught.value.hint
    torch.save({"state_dict": state}, tmp_path / "c.ckpt")
    fresh = Net()
    load_weights(fresh, load_checkpoint(tmp_path / "c.ckpt", weights="ema_model").state_dict, name="Net")
    assert same(average, fresh)
    load_weights(Net(), prefixed(trained.state_dict(), "a.") | prefixed(trained.state_dict(), "b."), name="Net")


def test_a_lazy_layer_is_run_once_before_it_is_filled():
    trained = made(0, head=lambda: nn.LazyLinear(1))
    fresh = Net(head=nn.LazyLinear(1)).train()
    run_lazy_parts(fresh, torch.zeros(2, 4, 40))
    assert fresh.training
    load_weights(fresh, trained.state_dict(), name="Net")
    assert same(trained, fresh)
    with pytest.raises(CheckpointError, match=r"misshapen 1: fc\.weight is \(1, 9\), the network has \(1, 8\)"):
        load_weights(fresh, trained.state_dict() | {"fc.weight": torch.zeros(1, 9)}, name="Net")
    with pytest.raises(CheckpointError, match=r"lazy parts \(fc\.weight, fc\.bias\) and does not run on \(2, 5, 40\)"):
        run_lazy_parts(Net(head=nn.LazyLinear(1)), torch.zeros(2, 5, 40))


class Tied(nn.Module):
    """Two layers that share their weights, or do not."""

    def __init__(self, *, tied=True):
        super().__init__()
        self.into, self.out = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)
        if tied:
            self.out.weight = self.into.weight

    def forward(self, x):
        return self.out(torch.relu(self.into(x.mean(-1))))


def test_tied_weights_are_read_from_either_key():
    trained = Tied()
    for kept in ("into.weight", "out.weight"):
        fresh = Tied()
        load_weights(fresh, {kept: trained.into.weight.detach()}, name="Tied")
        assert same(trained, fresh)
    with pytest.raises(CheckpointError, match=r"shares one tensor as into\.weight and out\.weight"):
        load_weights(Tied(), Tied(tied=False).state_dict(), name="Tied")


def test_every_wrong_key_is_named():
    wrong = dict(made(0).state_dict())
    del wrong["conv.bias"], wrong["bn.weight"]
    wrong |= {"extra.a": torch.zeros(1), "extra.b": torch.zeros(1), "fc.weight": torch.zeros(2, 8)}
    with pytest.raises(CheckpointError) as caught:
        load_weights(Net(), wrong, name="Net built by exporters/net.py")
    message = caught.value.message
    assert "Net built by exporters/net.py" in message
    assert "missing 2: conv.bias, bn.weight" in message
    assert "unexpected 2: extra.a, extra.b" in message
    assert "misshapen 1: fc.weight is (2, 8), the network has (1, 8)" in message
    assert "--set" in caught.value.hint


def test_a_network_with_a_part_called_model_keeps_it():
    inner = nn.ModuleDict({"model": nn.Linear(2, 1)})
    fresh = nn.ModuleDict({"model": nn.Linear(2, 1)})
    load_weights(fresh, prefixed(inner.state_dict(), "module."), name="net")
    assert torch.equal(fresh["model"].weight, inner["model"].weight)


KINDS = {torch.float32: "F32", torch.int64: "I64", torch.bfloat16: "BF16", torch.float16: "F16"}


def safetensors(path, state, *, change=None, header=None, cut=0):
    """Write a .safetensors by hand."""
    table, body = {"__metadata__": {"format": "pt"}}, b""
    for key, value in state.items():
        raw = bytes(value.contiguous().reshape(-1).view(torch.uint8).numpy()) if value.numel() else b""
        table[key] = {
            "dtype": KINDS[value.dtype], "shape": list(value.shape), "data_offsets": [len(body), len(body) + len(raw)],
        }  # fmt: skip
        body += raw
    if change:
        change(table)
    text = json.dumps(table).encode() if header is None else header
    path.write_bytes((struct.pack("<Q", len(text)) + text + body)[: -cut or None])
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_safetensors_are_read(tmp_path, dtype):
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in made(0).state_dict().items()}
    read = load_checkpoint(safetensors(tmp_path / "m.safetensors", state | {"none": torch.empty(0, 3)}))
    assert read.sha256 == checkpoint_digest(tmp_path / "m.safetensors")
    assert all(torch.equal(read.state_dict[key], state[key]) for key in state)
    assert read.state_dict["none"].shape == (0, 3)


BROKEN = {
    "cut short": ({"cut": 5}, "cut short"),
    "a hole": ({"change": lambda t: t["bn.bias"].update(data_offsets=[0, 32])}, "overlap or leave a hole"),
    "a shape too large": (
        {"change": lambda t: t["fc.bias"].update(shape=[10**12])},
        r"4,000,000,000,000 bytes, but has 4",
    ),
    "a negative shape": ({"change": lambda t: t["fc.bias"].update(shape=[-1])}, "is no tensor"),
    "offsets of text": ({"change": lambda t: t["fc.bias"].update(data_offsets=["0", "4"])}, "is no tensor"),
    "an unknown type": ({"change": lambda t: t["fc.bias"].update(dtype="Q4")}, "is no tensor"),
    "no JSON": ({"header": b"{nothing"}, "not JSON"),
    "a key twice": ({"header": b'{"a": 1, "a": 2}'}, "stands in it twice"),
    "tensors without an entry": ({"header": b"{}"}, "cut short|leave a hole|take 0 bytes"),
    "a deep header": ({"header": b"{" + b'"a":{' * 100_000}, "not JSON"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_safetensors_are_an_error_of_one_line(tmp_path, kind):
    options, said = BROKEN[kind]
    path = safetensors(tmp_path / "m.safetensors", made(0).state_dict(), **options)
    with pytest.raises(CheckpointError, match=said) as caught:
        load_checkpoint(path)
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message


def sharded(folder, state):
    """A model in two files and its index."""
    keys = list(state)
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name, part in zip(names, (keys[:4], keys[4:]), strict=True):
        safetensors(folder / name, {key: state[key] for key in part})
    mapping = {key: names[index >= 4] for index, key in enumerate(keys)}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": mapping}))
    return index


def test_a_model_in_several_files_is_read_and_its_digest_covers_them_all(tmp_path):
    state = made(0).state_dict()
    index = sharded(tmp_path, state)
    read = load_checkpoint(index)
    assert all(torch.equal(read.state_dict[key], state[key]) for key in state)
    sharded(tmp_path, made(1).state_dict())
    assert checkpoint_digest(index) != read.sha256


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "..", "sub/x.safetensors"])
def test_an_index_names_files_beside_it_alone(tmp_path, name):
    (tmp_path / "in").mkdir()
    safetensors(tmp_path / "other.safetensors", made(0).state_dict())
    index = tmp_path / "in" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"conv.weight": name}}))
    with pytest.raises(CheckpointError, match="a file elsewhere"):
        load_checkpoint(index)


def test_an_index_of_another_save_is_refused(tmp_path):
    state = made(0).state_dict()
    index = sharded(tmp_path, state)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointError, match="not beside it"):
        load_checkpoint(index)
    safetensors(tmp_path / "model-00002-of-00002.safetensors", {"conv.weight": state["conv.weight"]})
    with pytest.raises(CheckpointError, match=r"which the index .* says it holds"):
        load_checkpoint(index)
    index.write_text("[]")
    with pytest.raises(CheckpointError, match="no index of a model in several files"):
        load_checkpoint(index)


def test_a_torch_model_in_several_files_is_read_too(tmp_path):
    state = made(0).state_dict()
    torch.save(dict(state), tmp_path / "pytorch_model-00001-of-00001.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state, "pytorch_model-00001-of-00001.bin")}))
    fresh = Net()
    load_weights(fresh, load_checkpoint(index).state_dict, name="Net")
    assert same(made(0), fresh)


def test_what_people_save_is_read_back_to_the_same_answers(tmp_path):
    trained = made(0)
    average = torch.optim.swa_utils.AveragedModel(copy.deepcopy(trained))
    average.update_parameters(trained)
    torch.save(average.state_dict(), tmp_path / "swa.pt")
    fresh = Net()
    load_weights(fresh, load_checkpoint(tmp_path / "swa.pt").state_dict, name="Net")
    assert same(average.module, fresh)
