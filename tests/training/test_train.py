"""Training: it learns what is there, repeats itself bit for bit, survives being killed, and refuses to leak."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from rtserve.errors import CheckpointError, InputError, NotComparableError, RtserveError
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.signals.splits import make_split
from rtserve.signals.windows import save_windows
from rtserve.training.gates import parse_gate
from rtserve.training.networks import CompactRT
from rtserve.training.recipe import RECIPES, Recipe, recipe_from
from rtserve.training.seeds import train
from tests.conftest import ROOT

from .conftest import small_windows

FAST = Recipe(max_epochs=3, patience=0, batch_size=16, dropout=(0.1, 0.1, 0.1), head_dropout=(0.1, 0.1))


def weights(path):
    # Beside the weights a run that averages them keeps the average.
    return load_checkpoint(path, weights="model_state_dict").state_dict


def same(a, b):
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def nrmse(result):
    return result["test"]["scores"][0]


@pytest.mark.parametrize("said", [{"target": "class"}, {"target": "sex", "classes": ("F", "M")}])
def test_class_labels_are_not_trained_as_numbers(said, tmp_path):
    windows = small_windows(n=48)
    labels = replace(windows, y=(windows.y > 1.6).astype("f4"), **said)
    with pytest.raises(InputError, match="the loss mse would train it as a number"):
        train(labels, make_split(labels), recipe=replace(FAST, loss="mse"), seeds=[1], output=tmp_path / "run")
    with pytest.raises(InputError, match="nrmse is no metric of classes"):
        train(labels, make_split(labels), recipe=replace(FAST, monitor="nrmse"), seeds=[1], output=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_it_learns_what_is_there_and_nothing_where_nothing_is(tmp_path):
    recipe = Recipe(max_epochs=12, patience=0, batch_size=16, lr=3e-3, dropout=(0.0, 0.0, 0.0), head_dropout=(0.0, 0.0))
    there = small_windows(n=480, strength=1.0)
    run = train(there, make_split(there), recipe=recipe, seeds=[1], output=tmp_path / "a")
    assert nrmse(run.results[0])["interval"]["high"] < 0.9
    nothing = small_windows(n=480, strength=0.0)
    recipe = Recipe(max_epochs=2, patience=0, batch_size=16)
    run = train(nothing, make_split(nothing), recipe=recipe, seeds=[1], output=tmp_path / "b")
    assert nrmse(run.results[0])["interval"]["high"] >= 1.0
    assert any("1.00" in line for line in run.results[0]["test"]["notes"])
    assert "constant 1.0" in "\n".join(run.lines())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"loss": "smooth_l1", "mixup_alpha": 0.2, "mixup_fraction": 0.5, "ema": 0.9},
        {"loss": "huber", "huber_delta": 0.5, "mixup_alpha": 0.2, "mixup_per": "sample", "scheduler": "warm_restarts",
         "restart_epochs": 1, "clip_norm": 0.0},
    ],
    ids=["plain", "mixup-ema", "sample-restarts"],
)  # fmt: skip
def test_same_seed_same_weights_and_a_cut_run_goes_on_to_them(windows, split, tmp_path, change):
    recipe = recipe_from(FAST.to_dict() | change)
    whole = train(windows, split, recipe=recipe, seeds=[5], output=tmp_path / "whole")
    again = train(windows, split, recipe=recipe, seeds=[5], output=tmp_path / "again")
    assert (tmp_path / "whole/seed5/best.pth").read_bytes() == (tmp_path / "again/seed5/best.pth").read_bytes()
    assert nrmse(whole.results[0]) == nrmse(again.results[0])

    stop = Interrupt(after=2)
    with pytest.raises(KeyboardInterrupt):
        train_with(stop, windows, split, recipe, tmp_path / "cut")
    assert not (tmp_path / "cut/seed5/result.json").exists()
    with pytest.raises(InputError, match="unfinished seeds"):
        train(windows, split, recipe=recipe, seeds=[5], output=tmp_path / "cut")
    train(windows, split, recipe=recipe, seeds=[5], output=tmp_path / "cut", resume=True)
    for name in ("best.pth", "last.pth"):
        assert same(tmp_path / "whole/seed5" / name, tmp_path / "cut/seed5" / name)
    rows = [json.loads(line) for line in (tmp_path / "cut/seed5/log.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3]


class Interrupt:
    def __init__(self, after):
        self.after = after

    def __call__(self, done, total):
        if done == self.after:
            raise KeyboardInterrupt


def train_with(progress, windows, split, recipe, output):
    from rtserve.training.fit import SeedJob, fit_seed
    from rtserve.training.models import build_network
    from rtserve.training.seeds import describe
    from rtserve.training.settled import settled

    recipe = settled(recipe, windows, split)
    about = describe(windows, split, recipe, build_network(recipe, windows, seed=5))
    (output / "seed5").mkdir(parents=True)
    (output / "run.json").write_text(json.dumps(about))
    fit_seed(SeedJob(seed=5, folder=output / "seed5", recipe=recipe, about=about), windows, split, progress=progress)


@pytest.fixture
def one_thread():
    """As in the processes that are compared with what is computed here."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_kill_minus_nine_at_any_moment_leaves_no_torn_file(tmp_path, cli):
    windows = small_windows(n=160)
    save_windows(tmp_path / "w.npz", windows)
    arguments = ["train", str(tmp_path / "w.npz"), "--seeds", "3", "--max-epochs", "24", "--patience", "0", "--resume"]
    command = [sys.executable, "-m", "rtserve", *arguments, "-o"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    code, _, talk = cli(*arguments, "-o", tmp_path / "whole")
    assert code == 0, talk
    cut = tmp_path / "cut"
    for epochs in (2, 8):
        process = subprocess.Popen(
            [*command, str(cut)], cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        log = cut / "seed3/log.jsonl"
        while process.poll() is None and (not log.exists() or len(log.read_text().splitlines()) < epochs):
            time.sleep(0.003)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for file in cut.glob("seed3/*.pth"):
            load_checkpoint(file)
        assert all(json.loads(line) for line in log.read_text().splitlines())
    code, _, talk = cli(*arguments, "-o", cut)
    assert code == 0, talk
    assert same(tmp_path / "whole/seed3/best.pth", cut / "seed3/best.pth")
    assert same(tmp_path / "whole/seed3/last.pth", cut / "seed3/last.pth")
    assert not list(cut.glob("seed3/.rtserve-*"))


def test_seeds_in_processes_are_those_of_one_process(windows, split, tmp_path):
    one = train(windows, split, recipe=FAST, seeds=[1, 2], output=tmp_path / "one")
    two = train(windows, split, recipe=FAST, seeds=[1, 2], output=tmp_path / "two", n_jobs=2)
    assert [r["seed"] for r in two.results] == [1, 2]
    for seed in (1, 2):
        assert (tmp_path / f"one/seed{seed}/best.pth").read_bytes() == (
            tmp_path / f"two/seed{seed}/best.pth"
        ).read_bytes()
    assert [nrmse(r) for r in one.results] == [nrmse(r) for r in two.results]
    assert not same(tmp_path / "one/seed1/best.pth", tmp_path / "one/seed2/best.pth")


def test_finished_seeds_are_reused_and_another_run_is_refused(windows, split, tmp_path):
    train(windows, split, recipe=FAST, seeds=[1], output=tmp_path / "run")
    before = (tmp_path / "run/seed1/best.pth").stat().st_mtime_ns
    run = train(windows, split, recipe=FAST, seeds=[1, 2], output=tmp_path / "run")
    assert run.reused == (1,)
    assert "reused" in "\n".join(run.lines())
    assert (tmp_path / "run/seed1/best.pth").stat().st_mtime_ns == before
    other = recipe_from(FAST.to_dict() | {"lr": 0.5})
    with pytest.raises(InputError, match=r"settings\.lr: 0\.001 against 0\.5"):
        train(windows, split, recipe=other, seeds=[3], output=tmp_path / "run")
    changed = small_windows(seed=9)
    with pytest.raises(InputError, match=r"data\.sha256"):
        train(changed, make_split(changed), recipe=FAST, seeds=[3], output=tmp_path / "run")


def test_a_checkpoint_says_everything_that_made_it(windows, split, tmp_path):
    run = train(windows, split, recipe=FAST, seeds=[4], output=tmp_path / "run")
    content = torch.load(tmp_path / "run/seed4/best.pth", weights_only=True)  # noqa: TID251
    assert content["settings"] == FAST.to_dict() | {
        "loss": "mse",
        "monitor": "nrmse",
        "device": content["settings"]["device"],
    }
    assert content["settings"]["device"] != "auto"  # nothing is left open
    assert content["data"]["sha256"] == windows.digest
    assert content["split"]["sha256"] == split.digest
    assert content["seed"] == 4
    assert content["n_parameters"] == sum(p.numel() for p in CompactRT(3).parameters())
    assert {"torch", "rtserve", "numpy", "skorch", "python"} <= set(content["versions"])
    (signature, *_) = content["valid"]
    assert signature.startswith("nrmse|norm:std|ddof:0|")
    assert "split:valid" in signature
    assert run.results[0]["test"]["scores"][0]["signature"].split("|")[-2] == "split:test"


def test_early_stopping_keeps_the_best_epoch(windows, split, tmp_path):
    recipe = recipe_from(FAST.to_dict() | {"max_epochs": 30, "patience": 2, "lr": 0.05})
    result = train(windows, split, recipe=recipe, seeds=[1], output=tmp_path / "run").results[0]
    rows = [json.loads(line) for line in (tmp_path / "run/seed1/log.jsonl").read_text().splitlines()]
    values = [next(iter(row["valid"].values())) for row in rows]
    assert result["outcome"] == "stopped early"
    assert len(rows) == result["best_epoch"] + 2
    assert values.index(min(values)) + 1 == result["best_epoch"]


def test_a_leaking_split_is_refused_or_marks_every_figure(windows, tmp_path):
    with pytest.raises(InputError, match="leaks"):
        make_split(windows, by="window")
    split = make_split(windows, by="window", allow_leakage=True)
    run = train(windows, split, recipe=FAST, seeds=[1], output=tmp_path / "run")
    assert "LEAKING" in run.results[0]["test"]["scores"][0]["signature"]
    assert "warning: this split leaks" in "\n".join(run.lines())
    content = torch.load(tmp_path / "run/seed1/best.pth", weights_only=True)  # noqa: TID251
    assert content["split"]["leaks"]


def test_gates_have_three_outcomes(windows, split, tmp_path):
    def outcome(name, marginal, stop):
        gate = parse_gate(f"smooth_l1:marginal={marginal},stop={stop},after=1,fallback=submissions/single")
        return train(windows, split, recipe=FAST, seeds=[1, 2], output=tmp_path / name, gates=[gate])

    good = outcome("good", 10, 20)
    assert [r["outcome"] for r in good.results] == ["finished", "finished"]
    assert not any(r["marginal"] for r in good.results)
    middling = outcome("middling", 0.0, 20)
    assert all(r["marginal"] for r in middling.results)
    assert "MARGINAL" in "\n".join(middling.lines())
    bad = outcome("bad", 0.0, 0.0)
    assert len(bad.results) == 1  # the second seed was not begun
    assert bad.results[0]["epochs"] == 1
    assert "use submissions/single instead" in bad.stopped_by_gate


def test_a_gate_for_another_signature_cannot_judge(windows, split, tmp_path):
    gate = parse_gate("smooth_l1|beta:2:marginal=0.1,stop=0.2")
    with pytest.raises(NotComparableError, match="beta:2"):
        train(windows, split, recipe=FAST, seeds=[1], output=tmp_path / "a", gates=[gate])
    gate = parse_gate("mae:marginal=0.1,stop=0.2")
    with pytest.raises(NotComparableError, match="the run logs"):
        train(windows, split, recipe=FAST, seeds=[1], output=tmp_path / "b", gates=[gate])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "mse",
        "mse:stop=1",
        "mse:marginal=a,stop=1",
        "mse:marginal=1,stop=2,afer=1",
        "moon:marginal=1,stop=2",
        "mse:marginal=2,stop=1",
    ],
)
def test_what_is_no_gate_is_refused(text):
    with pytest.raises(InputError):
        parse_gate(text)


def test_architectures_are_compared_before_training(windows, split, tmp_path):
    torch.save(CompactRT(3).state_dict(), tmp_path / "same.pth")
    torch.save(CompactRT(5).state_dict(), tmp_path / "other.pth")
    train(windows, split, recipe=FAST, seeds=[1], output=tmp_path / "a", like=str(tmp_path / "same.pth"))
    with pytest.raises(CheckpointError, match=r"46,529 parameters.*46,977.*features\.0\.weight"):
        train(windows, split, recipe=FAST, seeds=[1], output=tmp_path / "b", like=str(tmp_path / "other.pth"))
    assert not (tmp_path / "b").exists()


def test_a_loss_that_explodes_is_an_error(windows, split, tmp_path):
    recipe = recipe_from(FAST.to_dict() | {"lr": 1e3, "clip_norm": 0.0, "weight_decay": 100.0})
    with pytest.raises(RtserveError, match="the loss is"):
        train(windows, split, recipe=recipe, seeds=[1], output=tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [{"los": "mse"}, {"loss": "mses"}, {"max_epochs": 0}, {"lr": -1}, {"mixup_fraction": 2}, {"scheduler": "cosin"},
     {"ema": 1.0}, {"dropout": [0.1]}],
)  # fmt: skip
def test_impossible_settings_are_refused(change, windows, split, tmp_path):
    with pytest.raises(InputError) as caught:
        train(windows, split, recipe=recipe_from(change), seeds=[1], output=tmp_path / "run")
    assert caught.value.hint


def test_recipes_round_trip():
    for recipe in RECIPES.values():
        assert recipe_from(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(("seeds", "says"), [([], "none"), ([1, 1], "repeated"), ([-1], "negative")])
def test_seeds_must_be_seeds(seeds, says, windows, split, tmp_path):
    with pytest.raises(InputError, match=says):
        train(windows, split, recipe=FAST, seeds=seeds, output=tmp_path / "run")


def test_a_folder_with_something_else_in_it_is_left_alone(windows, split, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="holds no run"):
        train(windows, split, recipe=FAST, seeds=[1], output=tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_constant_target_is_refused(windows, split, tmp_path):
    from dataclasses import replace

    flat = replace(windows, y=np.ones_like(windows.y))
    with pytest.raises(InputError, match="1 different targets"):
        train(flat, split, recipe=FAST, seeds=[1], output=tmp_path / "run")
