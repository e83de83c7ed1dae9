"""What a training can do besides: workers, augmentation, a pretrained start, curves, mixed precision, a device."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rtserve.errors import CheckpointError, EnvironmentMissingError, InputError, RtserveError
from rtserve.fusion.fuse import fuse
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.measure.evaluation import score_predictions
from rtserve.signals.membership import find_records, membership
from rtserve.signals.splits import make_split
from rtserve.signals.stored import StoredArray
from rtserve.signals.windows import WindowSet, load_windows, save_windows
from rtserve.spec import TRAINED_ON
from rtserve.training.callbacks import infer
from rtserve.training.commands import make_recipe
from rtserve.training.fit import _run, rising
from rtserve.training.models import build_network, carrier
from rtserve.training.networks import CompactRT
from rtserve.training.recipe import Recipe
from rtserve.training.scaling import PLAIN, scale_of
from rtserve.training.seeds import TrainingRun, train
from rtserve.training.settled import settled
from rtserve.training.start import start_from

from .conftest import small_windows
from .test_classes import class_windows

FAST = Recipe(
    max_epochs=2, patience=0, batch_size=16, dropout=(0.1, 0.1, 0.1), head_dropout=(0.1, 0.1), device="cpu"
)  # fmt: skip
DROP = "ChannelsDropout:probability=1.0,p_drop=0.4"


def run(windows, folder, recipe=FAST, **more):
    return train(windows, make_split(windows), recipe=recipe, seeds=[1], output=folder, **more)


@pytest.mark.parametrize("stored", [False, True], ids=["memory", "file"])
def test_workers_make_the_same_batches(stored, tmp_path, monkeypatch):
    windows = small_windows(n=96)
    if stored:
        monkeypatch.setattr("rtserve.signals.stored.WHOLE_BYTES", 0)
        windows = load_windows(save_windows(tmp_path / "w.h5", windows))
        assert isinstance(windows.X, StoredArray)
    recipe = replace(FAST, mixup_alpha=0.3)
    alone = run(windows, tmp_path / "alone", recipe)
    helped = run(windows, tmp_path / "helped", recipe, workers=1)
    assert alone.checkpoints()[0].read_bytes() == helped.checkpoints()[0].read_bytes()


@pytest.mark.needs("braindecode")
def test_augmentation_changes_training_and_repeats_itself(windows, tmp_path):
    plain = run(windows, tmp_path / "plain")
    recipe = replace(FAST, augment=(DROP, "SignFlip"))
    once, again = (run(windows, tmp_path / name, recipe) for name in ("once", "again"))
    assert once.checkpoints()[0].read_bytes() == again.checkpoints()[0].read_bytes()
    assert once.results[0]["valid"] != plain.results[0]["valid"]


@pytest.mark.needs("braindecode")
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ChannelDropout", "no augmentation 'ChannelDropout'"),
        ("ChannelsDropout:drop=1", "unexpected keyword"),
        ("Mixup", "no augmentation of x alone"),
        ("Transform", "no augmentation 'Transform'"),
    ],
)
def test_what_is_no_augmentation_is_refused(text, says, windows, tmp_path):
    with pytest.raises(InputError, match=says):
        run(windows, tmp_path / "run", replace(FAST, augment=(text,)))
    assert not (tmp_path / "run").exists()


def test_a_start_from_itself_answers_as_it_did(windows, tmp_path):
    first = run(windows, tmp_path / "first")
    checkpoint = first.checkpoints()[0]
    split = make_split(windows)
    network = build_network(settled(FAST, windows, split), windows, seed=9)
    scale = scale_of(windows.y[split.part("train")], carrier(network, windows))
    assert start_from(network, checkpoint, scale)
    index, X = split.part("test"), torch.from_numpy(windows.X)
    answers = infer(network, X, index, scale=scale)[:, 0]
    np.testing.assert_allclose(answers, first.results[0]["test"]["raw"]["predictions"], rtol=1e-4)
    second = run(windows, tmp_path / "second", init=checkpoint)
    assert "27 of 27 tensors" in "\n".join(second.lines())
    assert second.about["init"]["not_loaded"] == []
    with pytest.raises(InputError, match="holds another run: init"):
        run(windows, tmp_path / "second")


def test_a_start_that_knows_the_test_windows_leaks(windows, tmp_path):
    first = run(windows, tmp_path / "first").checkpoints()[0]
    other = make_split(windows, seed=1)
    again = {"recipe": FAST, "seeds": [1], "init": first}
    with pytest.raises(
        InputError, match=r"best\.pth, which this starts from, knows valid windows: .* knows test windows: "
    ):
        train(windows, other, output=tmp_path / "a", **again)
    assert not (tmp_path / "a").exists()
    leaking = train(windows, other, output=tmp_path / "b", allow_leakage=True, **again)
    assert "|split:LEAKING-test|" in leaking.results[0]["test"]["scores"][0]["signature"]
    assert "warning: this split leaks: best.pth, which this starts from, knows test windows" in "\n".join(
        leaking.lines()
    )


def test_what_a_start_was_trained_on_is_remembered_by_what_starts_from_it(windows, tmp_path):
    first = run(windows, tmp_path / "first").checkpoints()[0]
    new = small_windows(seed=7)
    new = replace(new, subject=np.char.add("t", new.subject), run_id=np.char.add("t", new.run_id))
    second = run(new, tmp_path / "second", init=first)
    assert "does not say" not in "\n".join(second.lines())
    records = find_records({TRAINED_ON: load_checkpoint(second.checkpoints()[0]).trained_on})
    assert len(records) == 2
    for known in (windows, new):
        assert membership(records, known).n_trained == len(make_split(known).part("train"))
    third = run(new, tmp_path / "third", init=second.checkpoints()[0])  # the same split: nothing leaks
    assert third.about["split"]["leaks"] == []
    torch.save(CompactRT(3).state_dict(), tmp_path / "plain.pth")
    told = run(windows, tmp_path / "fourth", init=tmp_path / "plain.pth").lines()
    assert any(
        "it does not say what it was trained on: whether the test windows are new to it" in line for line in told
    )


def test_a_start_says_what_did_not_fit(windows, tmp_path):
    classes = class_windows(n=120)
    checkpoint = run(windows, tmp_path / "numbers").checkpoints()[0]
    started = run(classes, tmp_path / "classes", init=checkpoint)
    text = "\n".join(started.lines())
    assert "25 of 27 tensors; begun anew: regressor.6.weight (3, 32) against (1, 32)" in text
    torch.save({"other.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="nothing of"):
        run(windows, tmp_path / "a", init=tmp_path / "other.pth")


def test_a_graph_to_start_from_names_the_checkpoints_it_came_from(windows, tmp_path, small_checkpoints, small_members):
    named = [f"{path.name} (sha256 {sha256(path.read_bytes()).hexdigest()[:12]})" for path in small_checkpoints[:2]]
    with pytest.raises(InputError, match="is a graph") as caught:
        run(windows, tmp_path / "a", init=small_members[0])
    assert caught.value.hint == f"start from the checkpoint it was exported from: {named[0]}"
    fuse(small_members[:2]).save(tmp_path / "f.onnx")
    with pytest.raises(InputError, match="is a graph") as caught:
        run(windows, tmp_path / "b", init=tmp_path / "f.onnx")
    start, _, listed = caught.value.hint.partition(": ")
    assert (start, sorted(listed.split(", "))) == (
        "start from a checkpoint its members were exported from",
        sorted(named),
    )
    with pytest.raises(InputError, match=r"missing\.onnx"):
        run(windows, tmp_path / "c", init=tmp_path / "missing.onnx")


def test_a_start_from_weights_for_volts_takes_volts(windows, tmp_path):
    theirs = CompactRT(3).eval()  # no input scale, as the contest's checkpoints
    torch.save(theirs.state_dict(), tmp_path / "volts.pth")
    mine = build_network(settled(FAST, windows, make_split(windows)), windows, seed=9)
    start_from(mine, tmp_path / "volts.pth", PLAIN)
    X = torch.from_numpy(windows.X)
    np.testing.assert_array_equal(infer(mine, X, np.arange(9)), infer(theirs, X, np.arange(9)))


def test_curves_are_written_for_other_tools(windows, tmp_path):
    done = run(windows, tmp_path / "run", logs=("csv",))
    rows = list(csv.DictReader((done.folder / "seed1/log.csv").read_text().splitlines()))
    logged = [json.loads(line) for line in (done.folder / "seed1/log.jsonl").read_text().splitlines()]
    assert [float(row["train/loss"]) for row in rows] == [row["train_loss"] for row in logged]
    assert [float(row["valid/nrmse"]) for row in rows] == [next(iter(row["valid"].values())) for row in logged]
    with pytest.raises(InputError, match="unknown log 'tsv'"):
        run(windows, tmp_path / "other", logs=("tsv",))
    assert not (tmp_path / "other").exists()


@pytest.mark.needs("tensorboard")
@pytest.mark.filterwarnings("ignore")
def test_tensorboard_reads_the_curves(windows, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = run(windows, tmp_path / "run", logs=("tensorboard",))
    events = EventAccumulator(str(done.folder / "seed1/tensorboard")).Reload()
    logged = [json.loads(line) for line in (done.folder / "seed1/log.jsonl").read_text().splitlines()]
    found = [event.value for event in events.Scalars("train/loss")]
    assert found == pytest.approx([row["train_loss"] for row in logged], rel=1e-6)


def test_mixed_precision_is_off_and_said_where_it_is_on(windows, tmp_path):
    plain, mixed = run(windows, tmp_path / "plain"), run(windows, tmp_path / "amp", replace(FAST, amp=True))
    assert not plain.about["settings"]["amp"]
    assert "bfloat16 (--amp)" in "\n".join(mixed.lines())
    assert plain.results[0]["valid"] != mixed.results[0]["valid"]
    weights = torch.load(mixed.checkpoints()[0], weights_only=True)["model_state_dict"]  # noqa: TID251
    assert all(value.dtype != torch.bfloat16 for value in weights.values())


@pytest.mark.parametrize("device", ["gpu", "cpu:1", "cuda:x", "tpu"])
def test_what_is_no_device_is_refused(device, windows, tmp_path):
    with pytest.raises(InputError, match="unknown device"):
        run(windows, tmp_path / "run", replace(FAST, device=device))


def test_a_device_that_is_not_there_is_named(windows, tmp_path):
    with pytest.raises(EnvironmentMissingError, match="cuda:99 is asked for"):
        run(windows, tmp_path / "run", replace(FAST, device="cuda:99"))


def test_still_improving_at_the_end_is_said(windows, tmp_path):
    def rows(*values):
        return [
            {"epoch": e, "valid": {"nrmse|norm:std|n:9|data:x|split:valid|v:1": v}} for e, v in enumerate(values, 1)
        ]

    recipe = Recipe(max_epochs=10, monitor="nrmse")
    assert rising(rows(*np.linspace(1.0, 0.5, 10)), recipe)
    assert not rising(rows(*np.linspace(1.0, 0.5, 9), 0.499), recipe)
    assert not rising(rows(*np.linspace(1.0, 0.5, 9), 0.9), recipe)
    assert not rising(rows(*np.linspace(1.0, 0.5, 7)), recipe)  # stopped before
    done = run(windows, tmp_path / "run", replace(FAST, lr=5e-3, scheduler="none"))
    said = "still improving at the end" in "\n".join(done.lines())
    assert said == done.results[0]["rising"] == done.to_dict()["seeds"][0]["rising"]
    verdicts = [result["test"]["against_constant"][0]["verdict"] for result in done.results]
    assert all(verdict.startswith("better") or verdict in "\n".join(done.lines()) for verdict in verdicts)
    assert any(word in verdicts[0] for word in ("better", "not told apart", "worse"))


def test_the_seeds_of_a_run_are_one_family(tmp_path):
    """One of four seeds is better by chance: alone it would be called so, and is not beside the others."""
    people, rng = np.repeat(np.arange(12), 20).astype("U"), np.random.default_rng(1)
    y = rng.normal(1.6, 0.4, len(people)).astype("f4")
    data = WindowSet(X=np.zeros((len(y), 1, 1), "f4"), y=y, subject=people)
    noise = 0.1 * rng.standard_normal((4, len(y)))
    slopes = np.linspace(0.02, 0.5, 60)
    little = next(found for s in slopes if (found := scored_with(data, s, noise[0])).standings[0].side > 0)
    every = [little, *(scored_with(data, 0.0, each) for each in noise[1:])]
    assert little.standings[0].p > 0.0125
    results = tuple(
        {
            "seed": k,
            "test": one.to_dict(),
            "marginal": False,
            "best_epoch": 1,
            "epochs": 1,
            "outcome": "",
            "stopped_by": "",
        }
        for k, one in enumerate(every)
    )
    about = {
        "settings": {"model": "m", "device": "cpu", "amp": False},
        "n_parameters": 1,
        "split": {"text": "", "leaks": []},
    }
    lines = TrainingRun(folder=tmp_path, about=about, results=results).lines()
    assert "not told apart from the constant (p 0.0" in lines[1]
    assert "(4 seeds of this run)" in lines[1]
    assert "told apart" not in TrainingRun(folder=tmp_path, about=about, results=results[:1]).lines()[1]


def scored_with(data, slope, noise):
    """Return the scores of answers that explain as much."""
    p = 1.6 + slope * (data.y - 1.6) + noise
    return score_predictions(p.astype("f4"), data, metrics=["nrmse"], resamples=200)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"dropout": "0.5", "model": "net.py:Net"}, {"dropout": "0.3,0.4,0.5"}),
        ({"huber_delta": 2.0}, {"huber_delta": 2.0, "loss": "huber"}),
        ({"restart_epochs": 3}, {"restart_epochs": 3, "scheduler": "warm_restarts"}),
        ({"mixup_per": "sample"}, {"mixup_per": "sample", "mixup_alpha": 0.2}),
        ({"mixup_fraction": 0.5}, {"mixup_fraction": 0.5, "mixup_alpha": 0.2}),
    ],
)
def test_an_option_that_nothing_reads_is_refused(given, read):
    with pytest.raises(InputError, match=f"--{next(iter(given)).replace('_', '-')} would do nothing here"):
        make_recipe("default", None, given)
    key = next(iter(read))
    assert getattr(make_recipe("default", None, read), key) != getattr(Recipe(), key) or key == "dropout"


def test_a_loader_process_that_dies_is_named():
    def dies(*_, **__):
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")

    net = SimpleNamespace(rows_=[], notify=lambda *_, **__: None, fit_loop=dies)
    job = SimpleNamespace(recipe=Recipe(max_epochs=2, patience=0, monitor="nrmse"))
    with pytest.raises(RtserveError, match="makes batches ended by itself") as caught:
        _run(net, job, done=0)
    assert "--workers" in caught.value.hint
    net.fit_loop = lambda *_, **__: (_ for _ in ()).throw(RuntimeError("another"))
    with pytest.raises(RuntimeError, match="another"):
        _run(net, job, done=0)
