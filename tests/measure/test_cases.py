"""From outputs to scores: probabilities, recordings, tables, columns that a file carries, results that are read again."""

import json
from dataclasses import replace

import numpy as np
import pytest
import sklearn.metrics as sk

from rtserve.errors import InputError
from rtserve.measure import rescore
from rtserve.measure.branches import try_branches
from rtserve.measure.cases import Per
from rtserve.measure.class_tables import class_tables, one_class_text
from rtserve.measure.compare import compare
from rtserve.measure.evaluate import evaluate
from rtserve.measure.evaluation import score_predictions
from rtserve.measure.predict import predict
from rtserve.signals.windows import Stated, WindowSet, load_windows, save_windows

from .conftest import N_CHANS, N_TIMES, linear_graph

EVERY = ("balanced_accuracy", "accuracy", "kappa", "f1", "auc", "log_loss")
THREE = linear_graph(np.array([[1e5, 0, 0], [0, 1e5, 0], [0, 0, 1e5]]), target="class")
ONE = linear_graph([[1e5], [-1e5], [0.0]], target="class")
BLUNT = linear_graph(np.array([[2e4, 0, 0], [0, 4e3, 0], [0, 0, 2e4]]), target="class")


def labelled(n=240, *, k=3, per_run=6, told=1.0, seed=0):
    """Windows whose channel c holds what speaks for class c; runs of one class, four of each subject."""
    rng = np.random.default_rng(seed)
    run = np.arange(n) // per_run
    y = (rng.permutation(n // per_run) % k)[run]
    X = np.zeros((n, N_CHANS, N_TIMES), "f4")
    X[:] = 1e-5 * (told * np.eye(N_CHANS)[y] + rng.standard_normal((n, N_CHANS)))[:, :, None]
    return WindowSet(
        X=X,
        y=y.astype("f4"),
        subject=np.array([f"s{r // 4:02d}" for r in run]),
        run_id=np.array([f"r{r:03d}" for r in run]),
        sfreq=100.0,
        target="class",
        classes=tuple("abc"[:k]),
        extra={"session": np.array([f"{r % 2}" for r in run])},
    )


def softmax(x):
    e = np.exp(np.float64(x) - np.float64(x).max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def test_every_metric_of_classes_is_scored_with_a_signature_an_interval_and_a_constant(tmp_path):
    windows = labelled()
    found = evaluate(THREE, windows, metrics=EVERY, resamples=60)
    p = softmax(predict(THREE, windows))
    assert found["auc"].value == pytest.approx(sk.roc_auc_score(windows.y, p, multi_class="ovr"), abs=1e-9)
    assert found["log_loss"].value == pytest.approx(sk.log_loss(windows.y, p), rel=1e-6)
    assert all(score.interval.over == "subjects" for score in found.scores)
    assert "auc|multiclass:ovr-macro|from:logits|agg:windows|n:240" in str(found["auc"].signature)
    constants = {c.signature.metric: c.value for c in found.baseline}
    assert constants["auc"] == 0.5
    assert constants["kappa"] == 0.0
    stored = json.loads(found.save(tmp_path / "r.json").read_bytes())
    assert np.array(stored["raw"]["probabilities"]) == pytest.approx(p)


def test_tables_say_which_class_was_taken_for_which_and_what_each_subject_gets():
    windows = labelled()
    found = evaluate(THREE, windows, metrics=["balanced_accuracy", "auc"], resamples=20)
    tables, p = found.tables(), predict(THREE, windows).argmax(axis=1)
    assert tables["confusion"] == {"classes": ["a", "b", "c"], "counts": sk.confusion_matrix(windows.y, p).tolist()}
    report = sk.classification_report(windows.y, p, output_dict=True)
    for k, row in enumerate(tables["per_class"]):
        theirs = report[f"{k}.0"]
        assert [row[key] for key in ("recall", "precision", "f1")] == pytest.approx(
            [theirs[key] for key in ("recall", "precision", "f1-score")]
        )
    for row in tables["per_subject"]:
        own = windows.subject == row["subject"]
        assert row["n"] == own.sum()
        recalls = [np.mean(p[own & (windows.y == c)] == c) for c in set(windows.y[own])]
        assert row["balanced_accuracy"] == pytest.approx(np.mean(recalls))
    assert any(row["auc"] is None for row in tables["per_subject"]) == any(
        len(set(windows.y[windows.subject == s])) < 3 for s in set(windows.subject)
    )
    text = "\n".join(found.table_lines())
    assert "there \\ decided" in text
    assert "subject" in text
    assert found.to_dict(raw=False)["confusion"] == tables["confusion"]


@pytest.mark.parametrize("how", ["recording", "recording:vote"])
def test_recordings_are_scored_by_the_mean_of_their_answers_or_a_vote(how):
    windows = labelled()
    found = evaluate(THREE, windows, metrics=["accuracy", "log_loss"], per=how, resamples=20)
    p, runs = softmax(predict(THREE, windows)), np.unique(windows.run_id)
    shares = np.eye(3)[p.argmax(axis=1)] if "vote" in how else p
    mean = np.stack([shares[windows.run_id == r].mean(axis=0) for r in runs])
    truth = np.array([windows.y[windows.run_id == r][0] for r in runs])
    assert found["accuracy"].value == pytest.approx(sk.accuracy_score(truth, mean.argmax(axis=1)))
    loss = -np.log(np.clip(mean[np.arange(40), truth.astype(int)], np.finfo("f4").eps, 1)).mean()
    assert found["log_loss"].value == pytest.approx(loss, rel=1e-6)
    said = "vote" if "vote" in how else "mean of probabilities"
    assert f"|agg:run_id ({said})|n:40|" in str(found["accuracy"].signature)
    assert found["accuracy"].interval.over == "subjects"
    assert f"240 windows, as 40 by run_id ({said}), 10 subjects" in found.lines()[0]
    assert found.to_dict(raw=False)["n_windows"] == 240
    windows_alone = evaluate(THREE, windows, metrics=["accuracy"], resamples=20)
    assert "agg" in str(found["accuracy"].signature.differences(windows_alone["accuracy"].signature))


def test_numbers_of_recordings_have_a_mean_and_no_vote():
    windows = replace(labelled(), target="", classes=(), y=np.repeat(np.arange(40.0), 6).astype("f4"))
    p = np.random.default_rng(0).standard_normal(240)
    found = score_predictions(p, windows, metrics=["mae"], per=Per.parse("recording"), resamples=20)
    assert found["mae"].value == pytest.approx(np.abs(p.reshape(40, 6).mean(axis=1) - np.arange(40)).mean())
    assert "agg:run_id (mean)" in str(found["mae"].signature)
    with pytest.raises(InputError, match="numbers cannot be voted on"):
        score_predictions(p, windows, metrics=["mae"], per=Per.parse("recording:vote"))
    with pytest.raises(InputError, match="0 has windows of several targets"):
        score_predictions(p, windows, metrics=["mae"], per=Per.parse("session"))
    with pytest.raises(InputError, match="needs the column 'night'"):
        score_predictions(p, windows, metrics=["mae"], per=Per.parse("night"))
    with pytest.raises(InputError, match="cannot bring answers together"):
        Per.parse("recording:most")


def test_class_numbers_alone_have_no_probabilities():
    windows = labelled()
    with pytest.raises(InputError, match="auc reads probabilities, and the answers are class numbers"):
        score_predictions(windows.y, windows, metrics=["auc"])
    silent = replace(THREE, provenance=replace(THREE.provenance, kind="fuse"))
    with pytest.raises(InputError, match="does not say whether its 3 outputs are logits or probabilities"):
        evaluate(silent, windows, metrics=["log_loss"])
    assert evaluate(silent, windows, metrics=["accuracy"], resamples=20).scores


def test_results_are_compared_by_metrics_of_probabilities_and_of_cells(tmp_path):
    windows = labelled(n=480, told=1.5)
    path = save_windows(tmp_path / "w.npz", windows)
    metrics = ["auc", "log_loss", "cell_balanced_accuracy:by=subject,session"]
    results = []
    for name, graph in (("a", BLUNT), ("b", THREE)):
        evaluate(graph, path, metrics=metrics, resamples=20).save(tmp_path / f"{name}.json")
        results.append(tmp_path / f"{name}.json")
        graph.save(tmp_path / f"{name}.onnx")
    stored = compare(*results)
    assert [s.metric for s, _ in stored.differences] == ["auc", "log_loss", "cell_balanced_accuracy"]
    assert all(d.verdict == "helps" for s, d in stored.differences), [d.sentence() for _, d in stored.differences]
    job = {"split": "all", "exporter": None, "stated": vars(Stated()), "options": {"metrics": metrics, "per": None}}
    (tmp_path / "job.json").write_text(json.dumps(job))
    names = [str(tmp_path / name) for name in ("b.onnx", path.name, "again.json", "job.json")]
    assert rescore.main(names) == 0
    again = compare(results[0], tmp_path / "again.json")
    assert [(str(s), d.value) for s, d in again.differences] == [(str(s), d.value) for s, d in stored.differences]
    other = evaluate(THREE, path, metrics=["auc"], per="recording", resamples=20)
    other.save(tmp_path / "c.json")
    refused = compare(results[0], tmp_path / "c.json")
    assert not refused.comparable
    assert "what is scored differs" in refused.refusals[0] or "other windows" in refused.refusals[0]


@pytest.mark.parametrize("metric", ["accuracy", "kappa", "f1", "auc", "log_loss"])
def test_branches_are_judged_by_every_metric_of_classes(tmp_path, metric):
    from rtserve.fusion.fuse import fuse

    windows = labelled(n=240, told=2.0)
    noise = linear_graph(np.array([[0, 0, 3e4], [3e4, 0, 0], [0, 3e4, 0]]), target="class")
    THREE.save(tmp_path / "good.onnx")
    noise.save(tmp_path / "noise.onnx")
    fused = fuse([tmp_path / "good.onnx", tmp_path / "noise.onnx"], merge="mean-logits")
    fused.save(tmp_path / "f.onnx")
    report = try_branches(tmp_path / "f.onnx", windows, by=["member"], metric=metric, cost=False, resamples=60)
    verdicts = {trial.name: trial.change.verdict for trial in report.trials}
    assert report.metric == metric
    assert verdicts["good.onnx"] == "helps"


def test_vectors_are_scored_by_metrics_of_vectors(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.standard_normal((12, 3)).astype("f4")
    shown = rng.integers(0, 12, 120)
    X = 1e-5 * (images[shown] + 0.5 * rng.standard_normal((120, 3)))
    windows = WindowSet(
        X=np.repeat(X[:, :, None], N_TIMES, axis=2).astype("f4"),
        y=images[shown],
        subject=np.array([f"s{k % 8}" for k in range(120)]),
        sfreq=100.0,
        extra={"image": shown.astype("U")},
    )
    graph = linear_graph(1e5 * np.eye(3))
    path = save_windows(tmp_path / "w.npz", windows)
    metrics = ["retrieval:top=2:average=subject:image=image", "angular_mae"]
    found = evaluate(graph, path, metrics=metrics, resamples=40)
    assert found["retrieval"].value > found.baseline[0].value
    assert found["retrieval"].interval.over == "subjects"
    assert found["angular_mae"].value == pytest.approx(np.abs(predict(graph, windows) - windows.y).mean(), rel=1e-5)
    rows = found.tables()["per_subject"]
    queries = [len(np.unique(shown[windows.subject == row["subject"]])) for row in rows]
    assert np.average([row["retrieval"] for row in rows], weights=queries) == pytest.approx(found["retrieval"].value)
    found.save(tmp_path / "a.json")
    evaluate(linear_graph(5e4 * np.eye(3)[::-1]), path, metrics=metrics, resamples=40).save(tmp_path / "b.json")
    assert compare(tmp_path / "a.json", tmp_path / "b.json").differences[0][1].verdict == "hurts"
    for metric, said in (
        ("mse", "mse reads one"),
        ("accuracy", "accuracy reads one"),
        (None, "several targets per window"),
    ):
        with pytest.raises(InputError, match=said):
            evaluate(graph, path, metrics=[metric] if metric else None)
    with pytest.raises(InputError, match="retrieval reads several numbers per window"):
        evaluate(THREE, labelled(), metrics=["retrieval"])


def test_columns_are_written_into_a_file_and_found_there(tmp_path, run_cli):
    windows = replace(labelled(n=60), extra={}, run_id=np.empty(0, "U1"))
    for ending in ("npz", "h5"):
        path = save_windows(tmp_path / f"w.{ending}", windows)
        THREE.save(tmp_path / "g.onnx", force=True)
        metric = "cell_balanced_accuracy:by=subject,session"
        code, _, said = run_cli("evaluate", tmp_path / "g.onnx", "--data", path, "--metric", metric)
        assert code == 2
        assert "needs the column 'session'" in said
        table = tmp_path / "columns.tsv"
        table.write_text("session\trecording\n" + "".join(f"{k // 30}\trun{k // 6}\n" for k in range(60)))
        assert run_cli("annotate", path, "--columns", table)[0] == 0
        assert load_windows(path).run_id[7] == "run1"
        assert load_windows(path).digest == windows.digest
        options = ("--metric", metric, "--tables")
        code, out, _ = run_cli("evaluate", tmp_path / "g.onnx", "--data", path, *options)
        assert code == 0
        assert "cell_balanced_accuracy|by:subject,session|keys:" in out
        assert "there \\ decided" in out
        code, out, _ = run_cli("evaluate", tmp_path / "g.onnx", "--data", path, "--per", "recording", "--json")
        assert code == 0
        assert json.loads(out)["n_cases"] == 10


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("session\n1\n", "has 1 rows for 12 windows"),
        ("y\n" + "1\n" * 12, "a column 'y', which is no column of labels"),
        ("session\tz\n" + "1\t2\n" * 5 + "\t2\n" + "1\t2\n" * 6, "no session in line 7"),
        ("session\n" + "1\n" * 12, "has other entries in session"),
    ],
)
def test_a_table_that_is_no_column_of_these_windows_is_refused(tmp_path, run_cli, text, said):
    path = save_windows(tmp_path / "w.npz", labelled(n=12))
    before = path.read_bytes()
    (tmp_path / "t.tsv").write_text(text)
    code, _, error = run_cli("annotate", path, "--columns", tmp_path / "t.tsv")
    assert code == 2
    assert said in error
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("decided", "there", "said"),
    [
        (100, 50, "decides for b in 100 of 100, whatever is there (50 are of it)"),
        (99, 98, "decides for b in 99 of 100, whatever is there (98 are of it)"),
        (98, 50, ""),
        (100, 99, ""),  # as many are of it
        (100, 100, ""),
    ],
)
def test_a_classifier_that_decides_for_one_class_alone_is_told(decided, there, said):
    y, p = (np.repeat([1.0, 0.0], [n, 100 - n]) for n in (there, decided))
    assert one_class_text(class_tables(y, p, ("a", "b"))) == said
