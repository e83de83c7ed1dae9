"""The two scripts beside the zoo: forty TCNs, and a classifier the whole way."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from rtserve.errors import InputError
from rtserve.signals.windows import WindowSet, save_windows
from rtserve.submission.recipe import load_recipe
from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import classifier
import tcn40

SFREQ = 100.0


def flicker(n: int = 48, n_chans: int = 3, n_times: int = 100) -> WindowSet:
    """Two classes told apart by the frequency of a sine in noise, over six runs, in volts."""
    rng = np.random.default_rng(0)
    y = np.tile([20.0, 30.0], n // 2).astype(np.float32)
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    wave = np.sin(2 * np.pi * y[:, None, None] * np.arange(n_times) / SFREQ + phase)
    X = 1e-5 * (wave + 0.3 * rng.standard_normal((n, n_chans, n_times)))
    run_id = np.repeat([f"run{i}" for i in range(6)], n // 6)
    return WindowSet(
        X=X.astype(np.float32), y=y, run_id=run_id, subject=np.repeat("s1", n), sfreq=SFREQ,
        ch_names=("Fz", "Cz", "Oz"),
    )  # fmt: skip


def test_forty_members_of_eight_structures() -> None:
    members = tcn40.structures()
    assert len(members) == len(set(members)) == 40
    assert len({(kernel, depth) for kernel, depth, _ in members}) == 8


def test_members_differ_by_seed_and_repeat_for_one() -> None:
    first, again, other = (tcn40.member(3, 2, seed) for seed in (42, 42, 123))
    x = torch.randn(2, 129, 200, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(first(x), again(x))
        assert not torch.allclose(first(x), other(x))


def test_the_recipe_names_every_member(tmp_path: Path) -> None:
    paths = [tmp_path / f"m{i}.onnx" for i in range(3)]
    for path in paths:
        path.write_bytes(path.name.encode())
    (tmp_path / "submission.toml").write_text(tcn40.recipe(paths))
    recipe = load_recipe(tmp_path / "submission.toml")
    assert [len(recipe.challenges[key].members) for key in ("1", "2")] == [3, 1]
    recipe.require_digests(None)


def test_classes_are_numbered_and_one_class_is_refused() -> None:
    windows = classifier.as_classes(flicker(), None)
    assert set(windows.y) == {0.0, 1.0}
    assert (windows.target, windows.classes) == ("class", ("20", "30"))
    with pytest.raises(InputError, match="0 windows of 0 classes"):
        classifier.as_classes(flicker(), "nobody")


def test_a_piece_is_the_middle_of_each_window() -> None:
    whole = flicker()
    piece = classifier.as_classes(whole, None, 0.3)
    np.testing.assert_array_equal(piece.X, whole.X[:, :, 35:65])
    assert piece.t0 == pytest.approx(whole.t0 + 0.35)
    with pytest.raises(InputError, match="200 of 100 samples"):
        classifier.as_classes(whole, None, 2.0)


def test_no_run_is_on_two_sides_and_everyone_is_on_each() -> None:
    windows = flicker()
    split = classifier.by_run(windows, 42)
    runs = {part: set(windows.run_id[split.part(part)].tolist()) for part in ("train", "valid", "test")}
    assert [len(runs[part]) for part in ("train", "valid", "test")] == [3, 1, 2]
    assert not (runs["train"] & runs["test"]) | (runs["valid"] & (runs["train"] | runs["test"]))
    with pytest.raises(InputError, match="2 runs of s1"):
        classifier.by_run(windows.take(np.isin(windows.run_id, ["run0", "run1"])), 42)


@pytest.mark.slow
@pytest.mark.needs("braindecode")
def test_a_classifier_goes_the_whole_way(tmp_path: Path) -> None:
    from click.testing import CliRunner

    save_windows(tmp_path / "w.npz", flicker())
    arguments = [
        str(tmp_path / "w.npz"),
        "--seconds",
        "0",
        "--seeds",
        "1,2",
        "--epochs",
        "15",
        "--work",
        str(tmp_path / "work"),
    ]
    done = CliRunner().invoke(classifier.main, [*arguments, "-o", str(tmp_path / "page.md")], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    page = (tmp_path / "page.md").read_text()
    assert "balanced_accuracy" in page
    assert all(view in page for view in ("sign-flip", "roll:+3"))
