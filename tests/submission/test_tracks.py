"""The second contest track by track: what streams, what comes in batches, which unit, and what dies at the door."""

from __future__ import annotations

import numpy as np
import pytest

from rtserve.errors import RtserveError
from rtserve.measure.zipped import evaluate_zip
from rtserve.signals.windows import WindowSet
from rtserve.submission import report as shapes
from rtserve.submission.profile import load_profile
from rtserve.submission.scoring import nearest, predict_zip
from tests.submission.solvers import ANSWERS, HEAD
from tests.submission.zips import write_zip

SHORT = {"pose": "16x500@2000"}
"""Windows by track where the contest's are large: 64 at once of 16 x 10,000, which a good zip is given once."""
GOOD = {track: f"return {answer}" for track, answer in ANSWERS.items()}


def one(answer: str, *pairs: tuple[str, str], head: str = HEAD, **more: object) -> dict[str, object]:
    """Return the files of a submission whose network answers so, with parts of its script replaced."""
    text = head.replace("{answer}", answer)
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return {"submission.py": text, **more}


def found(report, status: str) -> dict[str, str]:
    """Return code and first message of the results of a status."""
    return {
        result.code: result.findings[0].message if result.findings else result.reason
        for result in report.results
        if result.status == status
    }


@pytest.mark.parametrize("phase", ["", ":warm-up"])
@pytest.mark.parametrize("track", GOOD)
def test_a_good_zip_passes_on_its_track_in_both_phases(quick_check, track, phase):
    shape = SHORT.get(track, "") if phase else ""
    report = quick_check(one(GOOD[track]), profile=f"eeg2026/{track}{phase}", shape=shape)
    assert report.verdict == "passed", shapes.tick_list(report)
    assert not found(report, "warned"), shapes.tick_list(report)


LEGAL = {
    "a column of class indices": ("bci", "return ((f * 100).long() % 3)[:, None]"),
    "an array of NumPy": ("sleep", "return np.clip(300 + X.mean(dim=(1, 2)).numpy(), 0, 600)"),
    "a coarser axis": (
        "pose",
        "p = torch.nn.functional.avg_pool1d(X, 8).mean(1, keepdim=True)\n        return 0.1 * p.repeat(1, 20, 1)",
    ),
    "statistics of a shuffled batch": (
        "image",
        "z = (X - X.mean(0)) / X.std(0)\n        return z.mean(2) @ torch.ones(X.shape[1], 1536)",
    ),
    "state within a stream": (
        "sleep",
        "self.t = getattr(self, 't', 0) + 5\n        return torch.full((len(X),), 600.0 - self.t)",
    ),
    "one window at a time alone": ("bci", "assert len(X) == 1\n        return (f * 100).long() % 3"),
}


@pytest.mark.parametrize("name", LEGAL)
def test_what_a_track_allows_is_no_failure(quick_check, name):
    track, answer = LEGAL[name]
    report = quick_check(one(answer), profile=f"eeg2026/{track}", shape=SHORT.get(track, ""))
    assert not report.failed, shapes.tick_list(report)
    assert "RT318" not in found(report, "warned"), shapes.tick_list(report)


WRONG = {
    "statistics of the batch where windows are streamed": (
        "bci",
        "return ((f - f.mean()) / (f.std() + 1e-12) > 0).long()",
        "RT318",
        "one at a time",
    ),
    "a class that there is not": ("bci", "return (f * 100).long() % 3 + 1", "RT328", "class lies in 0 to 2"),
    "embeddings of another network": ("image", "return X.mean(2)", "RT312", "(B, 1536)"),
    "joints of another hand": ("pose", "return X.mean(1, keepdim=True).repeat(1, 22, 1)", "RT312", "(B, 20, T)"),
    "complex numbers": ("sleep", "return torch.complex(f, f)", "RT312", "real numbers"),
    "batches of one size alone": (
        "image",
        "assert len(X) == 8\n        return X.mean(2) @ torch.ones(32, 1536)",
        "RT318",
        "a batch of 2 raises",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_a_track_cannot_score_fails(quick_check, name):
    track, answer, code, said = WRONG[name]
    report = quick_check(one(answer), profile=f"eeg2026/{track}", shape=SHORT.get(track, ""))
    assert said in found(report, "failed").get(code, ""), shapes.tick_list(report)


def test_angles_beyond_a_turn_in_one_plausible_unit_alone_are_a_warning(quick_check):
    report = quick_check(
        one("return 1e3 * X.mean(1, keepdim=True).repeat(1, 20, 1)"), profile="eeg2026/pose", shape=SHORT["pose"]
    )
    assert not report.failed, shapes.tick_list(report)
    assert "does not state its unit" in found(report, "warned").get("RT328", ""), shapes.tick_list(report)


def test_degrees_are_a_warning_as_the_scorer_reads_them(quick_check):
    report = quick_check(
        one("return (X.mean(1, keepdim=True) + 30).repeat(1, 20, 1)"), profile="eeg2026/pose", shape=SHORT["pose"]
    )
    assert not report.failed, shapes.tick_list(report)
    assert "joint angles lies in -6.2832 to 6.2832" in found(report, "warned")["RT328"], shapes.tick_list(report)


def test_batch_statistics_on_pose_are_a_warning(quick_check):
    report = quick_check(
        one("return (X - X.mean(0)).mean(1, keepdim=True).repeat(1, 20, 1)"),
        profile="eeg2026/pose",
        shape=SHORT["pose"],
    )
    assert not report.failed, shapes.tick_list(report)
    assert "RT318" in found(report, "warned")


def test_weights_for_volts_answer_one_class_in_microvolts(quick_check):
    answer = "return (f * 1e7).clamp(0, 250).long() // 100"
    report = quick_check(one(answer), profile="eeg2026/bci")
    said = found(report, "warned").get("RT319", "")
    assert "the contest gives 10 uV" in said, shapes.tick_list(report)
    assert "times as small" in said


DEAD = {
    "no name": (('    name = "mine"\n', ""), "RT303", "no name"),
    "a package that the image lacks": (("import numpy as np", "import onnxruntime"), "RT105", "onnxruntime"),
    "weights beside the script": (
        ("return Model(meta)", "torch.load(__import__('pathlib').Path(__file__).parent / 'w.pt')"),
        "RT304",
        "w.pt",
    ),
    "a script that ends the process": (("import numpy as np", "raise SystemExit(0)"), "RT303", "SystemExit"),
}


@pytest.mark.parametrize("name", DEAD)
def test_what_dies_at_the_door_fails(quick_check, name):
    pair, code, said = DEAD[name]
    files = one(GOOD["bci"], pair, **{"w.pt": b"numbers"})
    report = quick_check(files, profile="eeg2026/bci")
    assert said in found(report, "failed").get(code, ""), shapes.tick_list(report)


def test_the_cure_for_a_path_is_the_folder_of_meta(quick_check):
    pair, _, _ = DEAD["weights beside the script"]
    report = quick_check(one(GOOD["bci"], pair, **{"w.pt": b"numbers"}), profile="eeg2026/bci")
    assert "meta['submission_dir'] / NAME" in shapes.tick_list(report)


def test_a_second_file_is_found_through_the_folder_of_meta(quick_check):
    body = """
        import importlib.util

        spec = importlib.util.spec_from_file_location("lib", meta["submission_dir"] / "lib.py")
        lib = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(lib)
        return lib.Other()"""
    other = "class Other:\n    def predict(self, X):\n        return (X.std(dim=(1, 2)) * 100).long() % 3\n"
    report = quick_check(
        one(GOOD["bci"], ("return Model(meta)", body.strip()), **{"lib.py": other}), profile="eeg2026/bci"
    )
    assert report.verdict == "passed", shapes.tick_list(report)


def test_a_network_that_cannot_be_copied_matters_only_where_streams_are(quick_check):
    lock = ("return Model(meta)", "model = Model(meta); model.lock = __import__('threading').Lock(); return model")
    assert "RT323" in found(quick_check(one(GOOD["bci"], lock), profile="eeg2026/bci"), "failed")
    report = quick_check(one(GOOD["pose"], lock), profile="eeg2026/pose", shape=SHORT["pose"])
    assert report.verdict == "passed", shapes.tick_list(report)


def test_a_model_that_lies_ready_is_no_failure_and_another_one_is(quick_check):
    fetch = "raise ConnectionError('no network here: cannot fetch {}')"
    for name, verdict in (("facebook/dinov2-giant", "incomplete"), ("somebody/else", "failed")):
        pair = ("return Model(meta)", fetch.format(name))
        report = quick_check(one(GOOD["image"], pair), profile="eeg2026/image")
        assert report.verdict == verdict, shapes.tick_list(report)


def test_without_a_track_the_one_that_fits_is_taken_and_named(quick_check):
    report = quick_check(one(GOOD["bci"]), profile="eeg2026")
    assert report.verdict == "passed", shapes.tick_list(report)
    assert any("taken for challenge bci" in note and "--profile eeg2026/bci" in note for note in report.notes)


def test_without_a_track_a_list_is_taken_for_the_one_it_fits(quick_check):
    report = quick_check(one("return (300 + f).tolist()"), profile="eeg2026")
    assert "taken for challenge sleep; name it with --profile eeg2026/sleep" in report.notes
    assert report.verdict == "passed", shapes.tick_list(report)


def test_a_list_is_read_as_numpy_reads_it(quick_check):
    report = quick_check(one("return (300 + f).tolist()"), profile="eeg2026/sleep")
    assert report.verdict == "passed", shapes.tick_list(report)
    ragged = quick_check(one("return [[1.0], [2.0, 3.0]]"), profile="eeg2026/sleep")
    assert "RT312" in found(ragged, "failed"), shapes.tick_list(ragged)


def test_embeddings_are_scored_whole_through_the_entry_point(quick_drives, tmp_path):
    signal = load_profile("eeg2026/image").signal_of("image")
    X = np.random.default_rng(0).standard_normal((70, signal.n_chans, signal.n_times)).astype("f4")
    answer = "return X[:, :, :48].flatten(1)"  # 32 x 48 numbers: the window's own samples
    path = write_zip(tmp_path / "x.zip", one(answer))
    windows = WindowSet(
        X=X, y=X[:, :, :48].reshape(70, -1), unit="1", sfreq=120.0, target="embedding",
        subject=np.repeat(list("ABCDEFG"), 10), extra={"image_id": np.arange(70)},
    )  # fmt: skip
    np.testing.assert_array_equal(predict_zip(path, windows, profile="eeg2026/image"), windows.y)
    metric = load_profile("eeg2026/image").challenges[0].metric
    scored = evaluate_zip(path, windows, lambda p, w: predict_zip(p, w, profile="eeg2026/image"), metrics=[metric])
    assert scored.scores[0].value == 1.0
    few = write_zip(tmp_path / "y.zip", one("return X[:, :, 0]"))
    with pytest.raises(RtserveError, match=r"answered by 32 numbers a window, \(B, 1536\) is read"):
        predict_zip(few, windows, profile="eeg2026/image")


def test_lists_are_scored_whole_as_arrays_are(quick_drives, tmp_path):
    signal = load_profile("eeg2026/image").signal_of("image")
    X = np.random.default_rng(0).standard_normal((3, signal.n_chans, signal.n_times)).astype("f4")
    path = write_zip(tmp_path / "x.zip", one("return X[:, :, :48].flatten(1).tolist()"))
    windows = WindowSet(X=X, y=X[:, :, :48].reshape(3, -1), unit="1", sfreq=120.0, target="embedding")
    np.testing.assert_array_equal(predict_zip(path, windows, profile="eeg2026/image"), windows.y)


def test_a_coarser_axis_is_brought_to_the_samples_as_labels_are():
    np.testing.assert_array_equal(nearest(np.array([[1.0, 2.0, 3.0]]), 7), [[1, 1, 1, 2, 2, 3, 3]])
    np.testing.assert_array_equal(nearest(np.arange(6.0)[None], 6), np.arange(6.0)[None])
    np.testing.assert_array_equal(nearest(np.arange(6.0)[None], 3), [[0, 2, 4]])
