"""A file that torch.save did not write, or that is one part of a model, is called what it is, with the cure."""

import bz2
import gzip
import json
import lzma
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from rtserve.errors import CheckpointError
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.graphs.export import export
from rtserve.graphs.weights import weights_in

STATE = nn.Linear(3, 2).state_dict()
MOMENTS = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2, 3)}}, "param_groups": [{"lr": 0.1}]}


def zipped(path, **entries):
    with zipfile.ZipFile(path, "w") as archive:  # noqa: TID251 -- what somebody else packed
        for name, data in entries.items():
            archive.writestr(name.replace("__", "/"), data)


def tarred(path):
    torch.save(STATE, path.parent / "w.pth")
    with tarfile.open(path, "w") as archive:
        archive.add(path.parent / "w.pth", "w.pth")


PT2 = {f"e__{name}": b"2" for name in ("archive_format", "models__model.json", "data__weights__weight_0")}
WRITERS = {
    ".npz of NumPy arrays (weight, bias)": lambda p: np.savez(p, **{k: v.numpy() for k, v in STATE.items()}),
    "one array of NumPy": lambda p: np.save(p, np.zeros(3)),
    "a program of torch.export": lambda p: zipped(p, **PT2),
    "a program of torch.export (.pt2)": lambda p: zipped(p, **{"serialized_exported_program.json": b"{}"}),
    "a model of Keras": lambda p: zipped(p, **{"config.json": b"{}", "model.weights.h5": b""}),
    "a zip that holds run/best.pth": lambda p: zipped(p, **{"run__best.pth": b"x", "run__log.txt": b""}),
    "an HDF5 file": lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)),
    "packed with gzip": lambda p: p.write_bytes(gzip.compress(b"x")),
    "packed with bzip2": lambda p: p.write_bytes(bz2.compress(b"x")),
    "packed with xz": lambda p: p.write_bytes(lzma.compress(b"x")),
    "a tar archive": tarred,
    "a pointer of Git LFS": lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"),
    "a page of the web": lambda p: p.write_text("\n<!DOCTYPE html><html></html>"),
}  # fmt: skip


@pytest.mark.parametrize("what", WRITERS)
def test_a_file_of_another_kind_is_called_what_it_is(tmp_path, what):
    path = tmp_path / ("c.npz" if "npz" in what else "c.npy" if "NumPy" in what else "c.pt")
    WRITERS[what](path)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert what in caught.value.message
    assert caught.value.hint
    assert "damaged" not in str(caught.value)


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"\x80\x02", b"", b"epoch"])
def test_what_is_not_known_is_not_guessed(tmp_path, start):
    (tmp_path / "c.pt").write_bytes(start + b"nothing known")
    with pytest.raises(CheckpointError, match="is not a PyTorch checkpoint"):
        load_checkpoint(tmp_path / "c.pt")


def shards(folder, *, index=True):
    """A model in two files, as transformers saves one."""
    files = {key: f"pytorch_model-0000{number}-of-00002.bin" for number, key in enumerate(STATE, start=1)}
    for key, name in files.items():
        torch.save({key: STATE[key]}, folder / name)
    if index:
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": files}))
    return folder / files["bias"]


def test_one_part_of_a_model_points_to_the_whole(tmp_path):
    part = shards(tmp_path)
    with pytest.raises(CheckpointError, match="one part of a model in several files") as caught:
        load_checkpoint(part)
    assert str(tmp_path / "pytorch_model.bin.index.json") in caught.value.hint
    assert load_checkpoint(part, first=True).state_dict.keys() == {"bias"}, "it can be looked at"
    assert load_checkpoint(tmp_path / "pytorch_model.bin.index.json").state_dict.keys() == STATE.keys()


def test_one_part_alone_is_said_to_be_one(tmp_path):
    part = shards(tmp_path, index=False)
    with pytest.raises(CheckpointError, match="part 2 of 2 of a model, and no index lies beside it"):
        load_checkpoint(part)
    whole = part.rename(tmp_path / "pytorch_model-00001-of-00001.bin")
    assert load_checkpoint(whole).state_dict.keys() == {"bias"}


@pytest.mark.parametrize(
    ("names", "said"),
    [(["m.safetensors.index.json", "m-1.safetensors"], "m.safetensors.index.json"), (["best.pth", "a.txt"], "best.pth"),
     (["data.pkl", "version"], "zip -0 -r"), ([".metadata", "__0_0.distcp"], "dcp_to_torch_save"), ([], "file itself")],
)  # fmt: skip
def test_a_folder_says_what_in_it_may_be_meant(tmp_path, names, said):
    for name in names:
        (tmp_path / name).touch()
    for read in (load_checkpoint, lambda path: export(path, exporter="rtserve.training.networks:exporter")):
        with pytest.raises(CheckpointError, match="is a folder") as caught:
            read(tmp_path)
        assert said in caught.value.hint


def other():
    return {key: value + 1 for key, value in STATE.items()}


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ({"epochs": {0: STATE, 1: other()}}, ["epochs.0", "epochs.1"]),
        ({3: STATE, 7: other()}, ["3", "7"]),
        ({"folds": [STATE, other()]}, ["folds.0", "folds.1"]),
        ([STATE, other()], ["0", "1"]),
        ({"model": STATE, "best": [other()]}, ["model", "best.0"]),
    ],
)
def test_which_of_numbered_sets_is_meant_is_asked(tmp_path, content, names):
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=f"2 sets of weights: {names[0]}, {names[1]}"):
        load_checkpoint(tmp_path / "c.pth")
    states = [load_checkpoint(tmp_path / "c.pth", weights=name).state_dict for name in names]
    assert torch.equal(states[0]["bias"], STATE["bias"])
    assert torch.equal(states[1]["bias"], STATE["bias"] + 1)


@pytest.mark.parametrize(
    "content", [(STATE, MOMENTS), {"mine": STATE, "adam": MOMENTS}, {"mine": STATE, "o": [MOMENTS]}]
)
def test_an_optimizers_state_is_no_set_of_weights(tmp_path, content):
    torch.save(content, tmp_path / "c.pth")
    assert load_checkpoint(tmp_path / "c.pth").state_dict.keys() == STATE.keys()
    assert len(weights_in(content, tmp_path)) == 1


def test_many_sets_are_not_all_listed(tmp_path):
    torch.save({epoch: other() for epoch in range(100)}, tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"100 sets of weights: 0, 1, .*, \.\.\., 98, 99\nhint"):
        load_checkpoint(tmp_path / "c.pth")


def test_weights_that_are_no_numbers_are_named(tmp_path, small_checkpoints):
    content = torch.load(small_checkpoints[0], weights_only=True)  # noqa: TID251 -- our own file
    state = content["model_state_dict"]
    key = next(key for key, value in state.items() if value.is_floating_point() and value.dim() > 1)
    state[key].view(-1)[:2] = torch.tensor([float("nan"), float("inf")])
    torch.save(content, tmp_path / "c.pth")
    with pytest.raises(CheckpointError) as caught:
        export(tmp_path / "c.pth", exporter="rtserve.training.networks:exporter", settings={"n_times": 40})
    assert f"NaN or Inf in {key} (2 of {state[key].numel()})" in caught.value.message
    assert "diverged" in caught.value.hint
