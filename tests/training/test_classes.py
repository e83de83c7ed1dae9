"""Classifiers: trained on class labels, chosen by balanced accuracy, and named classes all the way into the graph."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from rtserve.errors import InputError
from rtserve.graphs.export import export
from rtserve.measure.evaluate import evaluate
from rtserve.signals.splits import make_split
from rtserve.signals.windows import WindowSet
from rtserve.training.ablation import ablate
from rtserve.training.callbacks import best_epoch
from rtserve.training.gates import parse_gate
from rtserve.training.losses import loss_of, targets_of
from rtserve.training.recipe import Recipe
from rtserve.training.seeds import train
from rtserve.training.settled import settled
from rtserve.training.watched import LOG_LOSS, scores

FAST = Recipe(
    max_epochs=4, patience=0, batch_size=16, lr=5e-3, dropout=(0.0, 0.0, 0.0), head_dropout=(0.0, 0.0),
    scheduler="none",
)  # fmt: skip
NAMES = ("rest", "left", "right")


def class_windows(n=240, shares=(0.5, 0.3, 0.2), seed=0, **said):
    """One channel per class; in its own there is a wave."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(shares), n, p=shares)
    X = 0.5 * rng.standard_normal((n, len(shares), 40))
    X[np.arange(n), y] += 2 * np.sin(2 * np.pi * 0.2 * np.arange(40) + rng.uniform(0, 6.28, (n, 1)))
    subject = np.array([f"s{i % 12:02d}" for i in range(n)])
    about = {"target": "class", "classes": NAMES[: len(shares)]} | said
    return WindowSet(X=(1e-5 * X).astype("f4"), y=y.astype("f4"), subject=subject, sfreq=100.0, **about)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    windows = class_windows()
    split = make_split(windows)
    output = tmp_path_factory.mktemp("classes") / "run"
    return windows, split, train(windows, split, recipe=FAST, seeds=[1, 2], output=output)


def test_it_learns_and_says_what_it_did(trained):
    windows, split, run = trained
    for result in run.results:
        score = result["test"]["scores"][0]
        assert score["metric"] == "balanced_accuracy"
        assert score["value"] > 0.9
        assert "argmax of logits" in score["signature"]
        assert result["test"]["baseline"][0]["value"] == pytest.approx(1 / 3)
    text = "\n".join(run.lines())
    counts = [int((windows.y[split.part(part)] == 1).sum()) for part in ("train", "valid", "test")]
    assert "left " + " / ".join(map(str, counts)) in text
    assert "cross_entropy, each class counting the same" in text
    assert "test balanced accuracy" in text
    assert run.about["settings"]["loss"] == "cross_entropy"
    assert run.about["settings"]["monitor"] == "balanced_accuracy"
    row = json.loads((run.folder / "seed1/log.jsonl").read_text().splitlines()[0])
    assert [text.split("|")[0] for text in row["valid"]] == ["balanced_accuracy", "accuracy", "log_loss"]


def test_one_that_decides_for_one_class_alone_says_so(trained, tmp_path):
    windows, _, run = trained
    assert "whatever is there" not in "\n".join(run.lines())
    noise = replace(windows, X=(1e-5 * np.random.default_rng(3).standard_normal(windows.X.shape)).astype("f4"))
    recipe = replace(FAST, max_epochs=1, lr=1e-4, class_weight="none")
    dull = train(noise, make_split(noise), recipe=recipe, seeds=[2], output=tmp_path / "run")
    one = dull.results[0]["test"]["one_class"]
    assert one["decided_for"] == sum(row["n"] for row in dull.results[0]["test"]["per_class"]) > one["n"]
    said = f"decides for {one['class']} in {one['decided_for']} of {one['decided_for']}, whatever is there"
    assert said in "\n".join(dull.lines())


def test_the_graph_knows_its_classes_and_scores_as_the_run_did(trained):
    windows, split, run = trained
    graph = export(run.checkpoints()[0], exporter=run.about["exporter"], settings={"n_times": 40})
    assert (graph.output_spec.classes, graph.output_spec.target) == (NAMES, "class")
    assert (graph.output_spec.n_outputs, graph.output_spec.form) == (3, "logits")
    test = windows.take(split.part("test"))
    found = evaluate(graph, test)
    assert found.scores[0].value == pytest.approx(run.results[0]["test"]["scores"][0]["value"])


def test_a_cut_run_goes_on_to_the_same_bytes(trained, tmp_path):
    windows, split, run = trained
    mixed = replace(FAST, mixup_alpha=0.2, max_epochs=2)
    once = train(windows, split, recipe=mixed, seeds=[1], output=tmp_path / "once")
    again = train(windows, split, recipe=mixed, seeds=[1], output=tmp_path / "again")
    assert once.checkpoints()[0].read_bytes() == again.checkpoints()[0].read_bytes()
    (tmp_path / "again/seed1/result.json").unlink()
    resumed = train(windows, split, recipe=mixed, seeds=[1], output=tmp_path / "again", resume=True)
    assert once.checkpoints()[0].read_bytes() == resumed.checkpoints()[0].read_bytes()
    assert run.checkpoints()[0].read_bytes() != once.checkpoints()[0].read_bytes()


def test_gates_ask_about_log_loss_and_accuracy(trained, tmp_path):
    windows, split, _ = trained
    gates = [parse_gate("log_loss:marginal=0.0,stop=100"), parse_gate("balanced_accuracy:marginal=0.0,stop=0.0")]
    one = train(windows, split, recipe=replace(FAST, max_epochs=1), seeds=[1], output=tmp_path / "a", gates=gates)
    assert one.results[0]["marginal"]
    strict = [parse_gate("balanced_accuracy:marginal=1.1,stop=1.05")]
    run = train(windows, split, recipe=replace(FAST, max_epochs=1), seeds=[1], output=tmp_path / "b", gates=strict)
    assert "balanced_accuracy" in run.stopped_by_gate
    assert "is worse than 1.05" in run.stopped_by_gate


def test_an_ablation_of_classes_is_of_balanced_accuracy(trained, tmp_path):
    windows, split, _ = trained
    found = ablate(
        windows, split, recipe=replace(FAST, max_epochs=1), change={"class_weight": "none"}, seeds=[1, 2],
        output=tmp_path / "a",
    )  # fmt: skip
    assert "test balanced accuracy" in found.lines()[0]
    assert 0 <= found.ensemble.first <= 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda w, y: {"y": y + 0.5}, "window 0 has"),
        (lambda w, y: {"y": y + 1}, "classes are numbered"),
        (lambda w, y: {"y": -y}, "classes are numbered"),
        (lambda w, y: {"classes": (*NAMES, "foot")}, "no train window is of 1 of the 4 classes (foot)"),
        (lambda w, y: {"y": 0 * y}, "different targets"),
    ],
)
def test_labels_that_cannot_be_meant_are_refused(change, says, tmp_path):
    windows = class_windows()
    wrong = replace(windows, **change(windows, windows.y))
    with pytest.raises(InputError) as caught:
        train(wrong, make_split(windows), recipe=FAST, seeds=[1], output=tmp_path / "run")
    assert says in f"{caught.value.message} {caught.value.hint}"
    assert not (tmp_path / "run").exists()


def test_numbers_are_not_trained_as_classes(windows, split, tmp_path):
    with pytest.raises(InputError, match="cross_entropy is a loss of classes"):
        train(windows, split, recipe=Recipe(loss="cross_entropy"), seeds=[1], output=tmp_path / "run")
    with pytest.raises(InputError, match="log_loss is no metric of numbers"):
        train(windows, split, recipe=Recipe(monitor="log_loss"), seeds=[1], output=tmp_path / "run")


def test_log_loss_and_its_constant_are_scikit_learns():
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    y, logits = rng.integers(0, 3, 50).astype("f4"), rng.standard_normal((50, 3))
    found = scores("log_loss", y, logits, data="x")
    value = next(value for text, value in found.items() if text.startswith("log_loss"))
    assert value == pytest.approx(sklearn_metrics.log_loss(y, torch.from_numpy(logits).softmax(1).numpy()))
    shares = np.bincount(y.astype(int)) / len(y)
    assert LOG_LOSS(y, LOG_LOSS.constant(y)) == pytest.approx(sklearn_metrics.log_loss(y, np.tile(shares, (50, 1))))


def test_balanced_weights_make_the_loss_a_mean_over_classes():
    rng = np.random.default_rng(1)
    y = rng.choice(3, 200, p=(0.7, 0.2, 0.1))
    logits = torch.from_numpy(rng.standard_normal((200, 3))).float()
    each = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y), reduction="none").numpy()
    counts = np.bincount(y).tolist()
    targets = targets_of(y, 3, classes=True)
    balanced = loss_of(Recipe(loss="cross_entropy"), counts)(logits, targets).item()
    assert balanced == pytest.approx(np.mean([each[y == k].mean() for k in range(3)]), rel=1e-5)
    plain = loss_of(Recipe(loss="cross_entropy", class_weight="none"), counts)(logits, targets).item()
    assert plain == pytest.approx(each.mean(), rel=1e-5)


def test_of_equal_accuracies_the_one_with_less_log_loss_is_the_best_epoch():
    y = np.array([0.0, 1.0])
    rows = []
    for epoch, size in enumerate((1.0, 4.0, 2.0), 1):
        answers = np.array([[size, 0.0], [0.0, size]])
        rows.append({"epoch": epoch, "valid": scores("balanced_accuracy", y, answers, data="x")})
    assert best_epoch(rows, "balanced_accuracy") == 2


def test_class_numbers_that_nobody_calls_so_are_not_regressed_unasked(tmp_path):
    windows = replace(class_windows(n=60), target="", classes=())
    split = make_split(windows)
    with pytest.raises(InputError, match="0 to 2 alone, and nothing says what it is"):
        settled(Recipe(), windows, split)
    assert settled(Recipe(loss="mse"), windows, split).loss == "mse"
    assert settled(Recipe(), replace(windows, target="rating"), split).loss == "mse"
    assert settled(Recipe(), replace(windows, target="class"), split).loss == "cross_entropy"
    assert settled(Recipe(), replace(windows, y=windows.y + 0.5), split).loss == "mse"
    assert settled(Recipe(), replace(windows, y=np.arange(60, dtype="f4")), split).loss == "mse"
