"""On a GPU: it is taken where there is one, repeats itself, learns what a CPU learns, and its files load without it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from rtserve.training.recipe import Recipe
from rtserve.training.seeds import train

from .test_classes import class_windows
from .test_options import run

pytestmark = pytest.mark.gpu
RECIPE = Recipe(max_epochs=3, patience=0, batch_size=16, lr=5e-3, ema=0.5, dropout=(0.0, 0.0, 0.0),
                head_dropout=(0.0, 0.0), scheduler="none")  # fmt: skip


def test_it_is_taken_and_repeats_itself(tmp_path):
    windows = class_windows()
    once, again = (run(windows, tmp_path / name, RECIPE) for name in ("once", "again"))
    assert once.about["settings"]["device"] == "cuda:0"
    assert "on cuda:0, in float32" in "\n".join(once.lines())
    assert once.checkpoints()[0].read_bytes() == again.checkpoints()[0].read_bytes()


def test_it_learns_what_the_cpu_learns(windows, tmp_path):
    recipe = replace(RECIPE, ema=0.0)
    gpu, cpu = (run(windows, tmp_path / name, replace(recipe, device=name)) for name in ("cuda", "cpu"))
    first, second = (next(iter(done.results[0]["valid"].values())) for done in (gpu, cpu))
    assert first == pytest.approx(second, rel=0.02)
    for name in ("best.pth", "last.pth"):
        content = torch.load(gpu.folder / "seed1" / name, weights_only=True)  # noqa: TID251
        assert all(value.device.type == "cpu" for value in content["model_state_dict"].values())


def test_a_resumed_run_goes_on_to_the_same_weights(windows, split, tmp_path):
    whole = run(windows, tmp_path / "whole", RECIPE)

    def cut(done, total):
        if done == 2:
            raise KeyboardInterrupt

    from rtserve.training import fit

    job_progress = fit._fit
    fit._fit = lambda job, windows, split, progress: job_progress(job, windows, split, cut)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(windows, tmp_path / "cut", RECIPE)
    finally:
        fit._fit = job_progress
    resumed = train(windows, split, recipe=RECIPE, seeds=[1], output=tmp_path / "cut", resume=True)
    assert whole.checkpoints()[0].read_bytes() == resumed.checkpoints()[0].read_bytes()


@pytest.mark.parametrize("change", [{"amp": True}, {"mixup_alpha": 0.2}], ids=["amp", "mixup"])
def test_other_settings_run_there(change, tmp_path):
    done = run(class_windows(), tmp_path / "run", replace(RECIPE, **change))
    assert done.results[0]["test"]["scores"][0]["value"] > 0.5
