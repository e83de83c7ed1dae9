"""A zip tried in a contest's environments: those that are there are, each with its own verdict and forecast."""

from __future__ import annotations

import functools
import json
import sys

import pytest
from test_tracks import GOOD, one

from rtserve.errors import EnvironmentMissingError
from rtserve.submission import tried
from rtserve.submission.environments import RECORD
from tests.submission.zips import write_zip


@pytest.fixture
def environments(tmp_path, monkeypatch, quick_drives):
    """Two of the three environments of eeg2026, which are this Python."""
    for name in ("primary", "older"):
        (tmp_path / "env" / name / "bin").mkdir(parents=True)
        (tmp_path / "env" / name / "bin" / "python").symlink_to(sys.executable)
        (tmp_path / "env" / name / RECORD).write_text("{}", "utf-8")
    monkeypatch.setattr(tried, "check", functools.partial(tried.check, kind="plain"))
    return tmp_path / "env"


def test_each_environment_that_is_there_is_tried(environments, tmp_path, cli):
    path = write_zip(tmp_path / "x.zip", one(GOOD["sleep"]))
    code, text, said = cli("env", "try", path, "--profile", "eeg2026/sleep", "--path", environments)
    assert code == 0, said
    lines = text.splitlines()
    assert [line.partition(":")[0] for line in lines if not line.startswith(" ")] == ["primary", "older"]
    assert "scikit-learn 1.7.2" in text
    assert "no source states these versions" in text
    assert "of the limit" in text  # 60 minutes for all windows
    broken = write_zip(tmp_path / "y.zip", one(GOOD["sleep"], ("def predict", "def infer")))
    code, text, _ = cli("env", "try", broken, "--profile", "eeg2026/sleep", "--path", environments, "--json")
    assert code == 1
    assert [trial["failed"] for trial in json.loads(text)["trials"]] == [["RT310"], ["RT310"]]


def test_where_none_is_there_it_is_said_how_to_make_one(tmp_path):
    path = write_zip(tmp_path / "x.zip", one(GOOD["sleep"]))
    with pytest.raises(EnvironmentMissingError, match="primary, previous, older") as caught:
        tried.try_environments(path, tmp_path, profile="eeg2026/sleep")
    assert "rtserve env create eeg2026/sleep" in caught.value.hint
