"""A value that the user names is a value; what is left out without being named is said."""

from __future__ import annotations

import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.signals.windows import load_windows

from .recordings import brain, write_bdf
from .test_prepare import run

AROUND = ["--window", "0,1", "--channels", "all"]
NAMES = ("none", "left", "null", "boundary_cue", "edge_left", "right")


def data_set(folder, rows, *, people="sub-01\t1\n", head="trial_type"):
    write_bdf(folder / "sub-01" / "eeg" / "sub-01_task-x_eeg.bdf", brain(30))
    table = "".join(f"{2 + 2 * k}\t0\t{row}\n" for k, row in enumerate(rows))
    (folder / "sub-01" / "eeg" / "sub-01_task-x_events.tsv").write_text(f"onset\tduration\t{head}\n{table}")
    (folder / "dataset_description.json").write_text("{}")
    (folder / "participants.tsv").write_text("participant_id\tlevel\n" + people)
    return folder


def counts(path):
    windows = load_windows(path)
    return {name: int((windows.y == k).sum()) for k, name in enumerate(windows.classes)}


def test_events_of_the_experiment_are_chosen_and_others_said(tmp_path):
    data_set(tmp_path, [*NAMES, *NAMES])
    text = run(tmp_path, "--target", "class", *AROUND, "-o", tmp_path / "w.npz")
    assert counts(tmp_path / "w.npz") == {"boundary_cue": 2, "edge_left": 2, "left": 2, "right": 2}
    for word in ("none", "null"):
        assert f"events called {word} are taken for no events" in text
    assert "(said 2 times)" in text


@pytest.mark.parametrize("keys", ["none,left", "none=1,left=2", "edge_left,null", "badge,left"])
@pytest.mark.parametrize("target", ["class", "events:trial_type"])
def test_named_classes_have_their_windows(tmp_path, keys, target):
    data_set(tmp_path, [*NAMES, "badge"])
    run(tmp_path, "--target", target, "--classes", keys, *AROUND, "-o", tmp_path / "w.npz")
    assert counts(tmp_path / "w.npz") == {key.partition("=")[0]: 1 for key in keys.split(",")}


def test_a_star_takes_no_missing_value(tmp_path):
    data_set(tmp_path, ["none", "left", "n/a", "right"])
    run(tmp_path, "--target", "events:trial_type", "--classes", "left,*", *AROUND, "-o", tmp_path / "w.npz")
    assert counts(tmp_path / "w.npz") == {"left": 1, "*": 1}


def test_a_person_may_have_a_level_of_none(tmp_path):
    data_set(tmp_path, ["a"], people="sub-01\tnone\n")
    more = ["--target", "level", "--fixed", "2,2", "--crop", "0", "--channels", "all"]
    run(tmp_path, *more, "--classes", "none", "-o", tmp_path / "w.npz")
    assert list(counts(tmp_path / "w.npz")) == ["none"]
    with pytest.raises(InputError, match="no subject has a value of level"):
        run(tmp_path, *more, "--classes", "all", "-o", tmp_path / "v.npz")


@pytest.mark.parametrize("keys", ["all", "1,2", "1.0,2", "1=0,2=1"])
def test_one_and_one_point_nought_are_one_class(tmp_path, keys):
    data_set(tmp_path, ["a\t1", "a\t1.0", "b\t2.00", "b\t2"], head="trial_type\tx")
    run(tmp_path, "--target", "events:x", "--classes", keys, *AROUND, "-o", tmp_path / "w.npz")
    assert load_windows(tmp_path / "w.npz").y.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("cells", "values", "kind"),
    [
        (["1,5", "2,25", "n/a"], [1.5, 2.25], "decimal ones"),
        (["1,500", "0,25", "3"], [1.5, 0.25, 3.0], "decimal ones"),
        (["1,500", "12.5", "3"], [1500.0, 12.5, 3.0], "those of thousands"),
        (["-1,5", ",5", "inf"], [-1.5, 0.5], "decimal ones"),
    ],
)
def test_values_with_commas_are_read_as_onsets_are(tmp_path, cells, values, kind):
    data_set(tmp_path, [f"a\t{cell}" for cell in cells], head="trial_type\tz")
    text = run(tmp_path, "--target", "events:z", *AROUND, "-o", tmp_path / "w.npz")
    assert load_windows(tmp_path / "w.npz").y.tolist() == values
    assert f"events.tsv: commas in z are read as {kind}" in text
    run(tmp_path, "--target", "events:z", "--classes", "all", *AROUND, "-o", tmp_path / "v.npz")
    assert set(load_windows(tmp_path / "v.npz").classes) == set(cells) - {"n/a"}


@pytest.mark.parametrize(
    ("cells", "says"),
    [
        (["1,500", "3"], "column z of its events has '1,500': whether its comma"),
        (["0,5", "2.500"], "has '0,5', whose comma is a decimal one, and '2.500'"),
        (["0,5", "many"], "z 'many' is no number, and other values are, such as 0,5"),
    ],
)
def test_values_whose_commas_are_not_clear_are_refused(tmp_path, cells, says):
    data_set(tmp_path, [f"a\t{cell}" for cell in cells], head="trial_type\tz")
    with pytest.raises(InputError, match=says):
        run(tmp_path, "--target", "events:z", *AROUND, "-o", tmp_path / "w.npz")


@pytest.mark.parametrize(("flat", "said"), [([2], "the same value in every sample: E3"), (range(8), "all 8 channels")])
def test_flat_channels_are_said(tmp_path, flat, said):
    data_set(tmp_path, ["a", "b"])
    data = brain(30)
    data[list(flat)] = 0.0
    data[0, :] += 1e-9 * np.ones(data.shape[1]) if 0 not in flat else 0
    path = tmp_path / "sub-01" / "eeg" / "sub-01_task-x_eeg.bdf"
    write_bdf(path, data if np.ptp(data) else data + 1.0)
    text = run(tmp_path, "--target", "class", *AROUND, "--unit", "uV", "-o", tmp_path / "w.npz")
    assert said in text
