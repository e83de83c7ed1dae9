"""What pickles and joblibs need to load is read from their opcodes: nothing of them is built, and nothing is missed."""

from __future__ import annotations

import dataclasses
import pickle  # noqa: TID251 - writes files as participants do
import subprocess
import sys

import joblib
import numpy as np
import pytest
from pyriemann.estimation import Covariances
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from test_tracks import GOOD, found, one

from rtserve.submission import report as shapes
from rtserve.submission.checks.needs import read_needs
from rtserve.submission.checks.pickles import read_model_file
from rtserve.submission.profile import load_profile
from rtserve.submission.validate import check
from tests.submission.zips import write_zip


@pytest.fixture(scope="module")
def objects():
    X, y = np.random.default_rng(0).standard_normal((12, 3)), np.arange(12) % 3
    forest = RandomForestClassifier(2, random_state=0).fit(X, y)  # trees are arrays of records
    words, mixed = np.array(["a", "bc"]), np.array(["a", None, LinearDiscriminantAnalysis()], object)
    return [forest, words, mixed, np.zeros(300_000), Covariances("oas")]


@pytest.mark.parametrize("how", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)])
def test_a_joblib_is_read_to_its_end_however_it_is_packed(objects, how, tmp_path):
    import sklearn

    path = tmp_path / "m.joblib"
    joblib.dump(objects, path, compress=how)
    needs = read_needs(path)
    assert "pyriemann.estimation.Covariances" in needs.globals  # behind every array
    assert "sklearn.discriminant_analysis.LinearDiscriminantAnalysis" in needs.globals
    assert needs.versions == {"scikit-learn": (sklearn.__version__,)}
    assert read_model_file(path).kind == "pickle"


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_pickle_of_every_protocol_says_the_same(objects, protocol, tmp_path):
    path = tmp_path / "m.pkl"
    path.write_bytes(pickle.dumps(objects, protocol=protocol))
    assert "pyriemann.estimation.Covariances" in read_needs(path).globals
    assert "scikit-learn" in read_needs(path).versions


class _Runs:
    def __reduce__(self):
        import os

        return os.mkdir, ("made by a pickle",)


def test_nothing_of_a_pickle_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "m.joblib"
    joblib.dump([_Runs(), LinearDiscriminantAnalysis()], path, compress=3)
    assert any(name.endswith(".mkdir") for name in read_model_file(path).unsafe)
    assert not (tmp_path / "made by a pickle").exists()


@pytest.mark.parametrize(
    "data", [b"", b"x\x9cno", b"\x1f\x8b\x08", b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f", b"]\x00\x00\x80", b"\x80\x05]("]
)
def test_damaged_files_need_nothing(data, tmp_path):
    path = tmp_path / "m.joblib"
    path.write_bytes(data)
    assert read_needs(path).versions == {}


def test_a_check_says_what_a_joblib_needs_where_the_contest_does_not_pin_it(objects, tmp_path):
    import sklearn

    joblib.dump(objects, tmp_path / "m.joblib", compress=3)
    pair = ("return Model(meta)", "import joblib; joblib.load(meta['submission_dir'] / 'm.joblib'); return Model(meta)")
    files = one(GOOD["bci"], pair, **{"m.joblib": (tmp_path / "m.joblib").read_bytes()})
    path = write_zip(tmp_path / "x.zip", files)
    (note,) = [text for text in check(path, profile="eeg2026/bci", run=False).notes if "m.joblib needs" in text]
    assert f"scikit-learn (written by {sklearn.__version__}), pyriemann to load" in note
    assert "rtserve env try" in note
    profile = load_profile("eeg2026/bci")
    packages = {"scikit-learn": "0.24.2", "pyriemann": "0.12"}
    pinned = dataclasses.replace(profile.primary, assumed=False, packages=packages)
    report = check(path, profile=dataclasses.replace(profile, environments=(pinned,)), run=False)
    said = found(report, "warned").get("RT203", "")
    assert f"written by scikit-learn {sklearn.__version__}; the scorer has 0.24.2" in said, shapes.tick_list(report)
    assert not [text for text in report.notes if "m.joblib needs" in text]
    half = dataclasses.replace(pinned, packages={"scikit-learn": sklearn.__version__})
    report = check(path, profile=dataclasses.replace(profile, environments=(half,)), run=False)
    (note,) = [text for text in report.notes if "m.joblib needs" in text]
    assert "m.joblib needs pyriemann to load; eeg2026/bci does not state" in note


def test_what_is_read_without_a_run_is_read_without_torch(objects, tmp_path):
    joblib.dump(objects, tmp_path / "m.joblib", compress=3)
    pair = ("return Model(meta)", "import joblib; joblib.load(meta['submission_dir'] / 'm.joblib'); return Model(meta)")
    files = one(GOOD["bci"], pair, **{"m.joblib": (tmp_path / "m.joblib").read_bytes()})
    path = write_zip(tmp_path / "x.zip", files)
    code = """import sys
sys.modules["torch"] = None
from rtserve.submission.validate import check
report = check(sys.argv[1], profile="eeg2026/bci", run=False)
assert any("m.joblib needs scikit-learn" in note and "pyriemann" in note for note in report.notes), report.notes
"""
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
