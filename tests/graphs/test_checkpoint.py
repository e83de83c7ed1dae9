"""What people have as checkpoints, read without running anything in them."""

import argparse
import collections
import datetime
import enum
import functools
import os
import pathlib
import sys
import tracemalloc
import types
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from rtserve.errors import CheckpointError
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.graphs.fit import load_weights
from rtserve.graphs.weights import strip_prefixes


def network(seed=0):
    torch.manual_seed(seed)
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
    fresh = network(seed=1)
    load_weights(fresh, checkpoint.state_dict, name="net")
    assert all(torch.equal(value, STATE[key]) for key, value in fresh.state_dict().items())


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


class Payload:
    """Runs a shell command when unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.system, (f"touch '{self.witness}'",)


class Settings:
    """A class of somebody's own training script."""

    class Inner:
        """One inside it."""


class Kind(enum.Enum):
    """An enumeration of somebody's."""

    LINEAR = "linear"
    CUBIC = "cubic"


class Bag(dict):
    """A dict class of somebody's, as configurations are."""


class Many(list):
    """A list class of somebody's."""


Pair = collections.namedtuple("Pair", "a b")
CALLED = False


class Noisy:
    """Says when it is made, filled or compared."""

    def __init__(self):
        self.a = 1

    def __setstate__(self, state):
        global CALLED
        CALLED = True


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("inside", [lambda p: p, lambda p: {"model_state_dict": STATE, "config": p}, lambda p: [p]])
def test_a_pickle_that_runs_code_is_refused_and_the_global_named(tmp_path, inside, new_format):
    witness = tmp_path / "ran"
    torch.save(inside(Payload(witness)), tmp_path / "c.pth", _use_new_zipfile_serialization=new_format)
    with pytest.raises(CheckpointError, match=rf"asks for {os.system.__module__}\.system, which is not run"):
        load_checkpoint(tmp_path / "c.pth")
    assert not witness.exists()


@pytest.mark.parametrize("content", [network(), {"model": network()}, {"epoch": 3, "net": network()}])
def test_a_whole_pickled_network_is_refused_with_the_cure(tmp_path, content):
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"a whole pickled network .*Sequential.* not imported") as caught:
        load_checkpoint(tmp_path / "c.pth")
    assert ".state_dict(), 'weights.pth'" in caught.value.hint


class Estimator:
    """Holds a network, as a fitted skorch estimator does."""

    def __init__(self):
        self.module_ = network()


@pytest.mark.parametrize(("home", "cure"), [("skorch.regressor", "save_params"), ("somebody.code", ".state_dict()")])
def test_a_whole_pickled_estimator_is_called_by_its_name(tmp_path, monkeypatch, home, cure):
    stranger = types.ModuleType(home)
    stranger.Estimator = type("Estimator", (Estimator,), {"__module__": home})
    for name in (home.partition(".")[0], home):
        monkeypatch.setitem(sys.modules, name, stranger if name == home else types.ModuleType(name))
    torch.save(stranger.Estimator(), tmp_path / "c.pkl")
    with pytest.raises(CheckpointError, match=f"a whole pickled {home}.Estimator, whose class is not imported") as told:
        load_checkpoint(tmp_path / "c.pkl")
    assert cure in told.value.hint


def test_weights_beside_a_whole_pickled_network_are_read(tmp_path):
    torch.save({"best": network(), "state_dict": STATE}, tmp_path / "c.pth")
    assert load_checkpoint(tmp_path / "c.pth").found_at == "state_dict"


SETTINGS = {
    "somebody's class": Settings(),
    "a path": pathlib.PurePosixPath("a/b"),
    "a path of this machine": pathlib.Path("a/b"),
    "a path of Windows": pathlib.PureWindowsPath("a/b"),
    "a namespace": argparse.Namespace(lr=1e-3, out=pathlib.Path("x")),
    "a date": datetime.datetime(2026, 1, 1),
    "an enum member": Kind.LINEAR,
    "an enum member as key": {Kind.LINEAR: 1},
    "a set of enum members": {Kind.LINEAR, Kind.CUBIC},
    "a nested class": Settings.Inner(),
    "a function": network,
    "a type": np.float64,
    "a number type": np.dtype("f4"),
    "a structured type": np.dtype([("a", "f4"), ("b", "i8")]),
    "objects of numpy": np.array([Settings()], dtype=object),
    "a number of numpy": np.float64(0.5),
    "a random state": np.random.RandomState(0).get_state(),
    "a generator": np.random.default_rng(0),
    "a default dict": collections.defaultdict(list, {"loss": [1.0]}),
    "a dict class": Bag(a=1),
    "a list class": Many([1, 2]),
    "a slice": slice(0, 3),
    "a range": range(3),
    "bytes": bytearray(b"abc"),
    "a partial": functools.partial(network, seed=1),
    "a named tuple": Pair(1, 2),
    "an exception": ValueError("x"),
    "itself": (loop := {}) or loop,
}
SETTINGS["itself"]["again"] = SETTINGS["itself"]


@pytest.mark.parametrize("protocol", [2, 5])
@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_of_any_type_do_not_stand_in_the_way(tmp_path, kind, new_format, protocol):
    content = {"config": SETTINGS[kind], "model_state_dict": STATE}
    path = tmp_path / "c.pth"
    torch.save(content, path, _use_new_zipfile_serialization=new_format, pickle_protocol=protocol)
    read = load_checkpoint(path)
    assert all(torch.equal(read.state_dict[key], STATE[key]) for key in STATE)
    assert any(key.startswith("config") for key in read.riders)


def test_nothing_of_a_strangers_class_is_called(tmp_path):
    global CALLED
    torch.save({"config": [Noisy(), Noisy], "model_state_dict": STATE}, tmp_path / "c.pth")
    CALLED = False
    load_checkpoint(tmp_path / "c.pth")
    assert not CALLED


def test_weights_in_somebodys_dict_class_are_read(tmp_path):
    torch.save(Bag(state_dict=Bag(STATE), epoch=1), tmp_path / "c.pth")
    assert load_checkpoint(tmp_path / "c.pth").state_dict.keys() == STATE.keys()


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float64, torch.int8, torch.bool, torch.complex64]
)
@pytest.mark.parametrize("new_format", [True, False])
def test_every_type_of_number_is_read(tmp_path, dtype, new_format):
    value = torch.arange(12).reshape(3, 4).to(dtype)
    tensors = {"plain": value, "turned": value.T, "part": value[1:, ::2], "empty": value[:0], "one": value[0, 1]}
    torch.save(tensors, tmp_path / "c.pth", _use_new_zipfile_serialization=new_format)
    read = load_checkpoint(tmp_path / "c.pth").state_dict
    assert all(torch.equal(read[key], tensors[key]) and read[key].dtype == dtype for key in tensors)


def test_the_read_agrees_with_torch(tmp_path):
    torch.save({"model_state_dict": STATE, **RIDERS}, tmp_path / "c.pth")
    theirs = torch.load(tmp_path / "c.pth", weights_only=False)["model_state_dict"]  # noqa: TID251 -- our own file
    ours = load_checkpoint(tmp_path / "c.pth").state_dict
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    assert ours._metadata == theirs._metadata


def other(state):
    return {key: value + 1 for key, value in state.items()}


TWO = {
    "model and ema": ({"model": STATE, "ema": other(STATE)}, ["model", "ema"]),
    "state_dict and its average": (
        {"state_dict": STATE, "swa": {"n_averaged": torch.tensor(3)} | other(prefixed("module."))},
        ["state_dict", "swa"],
    ),
    "an average of parameters alone": (
        {"model": STATE, "ema": {"conv.weight": STATE["conv.weight"] + 1, "conv.bias": STATE["conv.bias"]}},
        ["model", "ema"],
    ),
    "two of which neither is usual": ({"a": STATE, "b": other(STATE)}, ["a", "b"]),
}


@pytest.mark.parametrize("kind", TWO)
def test_which_of_two_sets_of_weights_is_asked(tmp_path, kind):
    content, names = TWO[kind]
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=f"2 sets of weights: {', '.join(names)}") as caught:
        load_checkpoint(tmp_path / "c.pth")
    assert f"--weights {names[1]}" in caught.value.hint
    assert load_checkpoint(tmp_path / "c.pth", first=True).sets == tuple(names)
    for name in names:
        found = load_checkpoint(tmp_path / "c.pth", weights=name)
        assert found.found_at == name
        assert found.state_dict.keys() == content[name].keys()
    with pytest.raises(CheckpointError, match="has no weights 'best'"):
        load_checkpoint(tmp_path / "c.pth", weights="best")


def test_the_same_weights_twice_need_no_question(tmp_path):
    torch.save({"model": STATE, "best": dict(STATE)}, tmp_path / "c.pth")
    assert load_checkpoint(tmp_path / "c.pth").found_at == "model"


def test_another_networks_weights_beside_the_usual_place_need_no_question(tmp_path):
    torch.save({"state_dict": STATE, "criterion": {"weight": torch.ones(2, 2)}}, tmp_path / "c.pth")
    assert load_checkpoint(tmp_path / "c.pth").found_at == "state_dict"


@pytest.mark.parametrize("new_format", [True, False])
def test_numbers_that_are_stored_negated_or_conjugated_are_read_as_they_are(tmp_path, new_format):
    kernel = torch.randn(3, dtype=torch.complex64)
    state = {
        "f.imag": kernel.conj().imag,
        "f.kernel": torch.randn(3, dtype=torch.complex64).conj(),
        "f.back": torch.randn(4)[1:]._neg_view(),
    }
    torch.save(state, tmp_path / "c.pth", _use_new_zipfile_serialization=new_format)
    read = load_checkpoint(tmp_path / "c.pth").state_dict
    assert all(torch.equal(read[key], value) for key, value in state.items())


def test_numbers_and_texts_among_the_weights_do_not_stand_in_the_way(tmp_path):
    torch.save({**STATE, "epoch": 3, "note": "best", "loss": None}, tmp_path / "c.pth")
    read = load_checkpoint(tmp_path / "c.pth")
    assert read.state_dict.keys() == STATE.keys()
    assert (read.riders["epoch"], read.riders["note"]) == ("3", "'best'")
    torch.save({key: value.tolist() for key, value in STATE.items()}, tmp_path / "l.pth")
    with pytest.raises(CheckpointError, match=r"as no plain tensors \(list of numbers\)"):
        load_checkpoint(tmp_path / "l.pth")


def test_a_payload_in_a_numpy_object_array_is_refused(tmp_path):
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


@pytest.mark.parametrize("content", [{"epoch": 1, "loss": 0.5}, [1, 2], torch.zeros(3)])
def test_a_file_without_a_state_dict_says_what_it_has(tmp_path, content):
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"holds no state_dict; it has|holds a \w+, not a state_dict"):
        load_checkpoint(tmp_path / "c.pth")


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_torchscript_is_called_by_its_name(tmp_path):
    torch.jit.save(torch.jit.script(nn.Linear(2, 1)), tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="TorchScript"):
        load_checkpoint(tmp_path / "c.pt")


def claims(path, *, count=10**12):
    """A file whose pickle claims more numbers than there are."""
    torch.save({"w": torch.arange(3.0)}, path)
    with zipfile.ZipFile(path) as source:  # noqa: TID251 -- torch\'s archive, taken apart
        entries = {name: source.read(name) for name in source.namelist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    size = count.to_bytes(8, "little")
    changed = entries[name].replace(b"K\x03tq\x07Q", b"\x8a\x08" + size + b"tq\x07Q")
    assert changed != entries[name]
    with zipfile.ZipFile(path, "w") as target:  # noqa: TID251 -- torch\'s archive, taken apart
        for key, data in (entries | {name: changed}).items():
            target.writestr(key, data)


def test_a_file_that_claims_more_than_it_holds_is_refused_without_the_memory(tmp_path):
    claims(tmp_path / "c.pth")
    tracemalloc.start()
    with pytest.raises(CheckpointError, match=r"claims 1,000,000,000,000 numbers in storage 0, which has 12 bytes"):
        load_checkpoint(tmp_path / "c.pth")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02r\xff\xff\xff\xff.",  # a memo of four thousand million entries
        b"\x80\x04\x8e" + (10**15).to_bytes(8, "little") + b"x.",  # so many bytes
        b"\x80\x02cbuiltins\nbytearray\nI1000000000000\n\x85R.",
        b"\x80\x02cbuiltins\nlist\ncbuiltins\nrange\nI1000000000000\n\x85R\x85R.",
        b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"\x80\x02K\x01K\x02R.",
        b"\x80\x02ccollections\nOrderedDict\n}U\x01aK\x01sb.",
    ],
)
def test_a_hostile_pickle_is_an_error_of_one_line(tmp_path, program):
    path = tmp_path / "c.pth"
    torch.save(STATE, path)
    with zipfile.ZipFile(path) as source:  # noqa: TID251 -- torch\'s archive, taken apart
        names = source.namelist()
    with zipfile.ZipFile(path, "w") as target:  # noqa: TID251 -- torch\'s archive, taken apart
        target.writestr(names[0], program)
    for data in (path.read_bytes(), program):
        path.write_bytes(data)
        tracemalloc.start()
        with pytest.raises(CheckpointError) as caught:
            load_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
        tracemalloc.stop()
        assert "\n" not in caught.value.message


@pytest.mark.shared
def test_the_real_files_load(shared_dir):
    for path in sorted((shared_dir / "checkpoints").glob("*/*.p*t*")):
        checkpoint = load_checkpoint(path)
        assert checkpoint.n_values in (75_204, 62_646)
        assert checkpoint.found_at == ("model_state_dict" if path.name.startswith("seed") else "")
