"""The page on contests: its table is what the profiles say, and the contest that it writes out can be checked against."""

from __future__ import annotations

import re

import pytest
from zips import ENTRY, NETWORK, saved, state

from rtserve.submission import report as shapes
from rtserve.submission.profile import load_profile, profile_names
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "contests.md").read_text("utf-8")
COUPLING = {"fail": "fails", "warn": "is a warning", "allow": "is allowed"}


def rows():
    """Return the table as the profiles have it."""
    for name in profile_names():
        profile = load_profile(name)
        for challenge in profile.challenges:
            given = "one at a time" if challenge.batch == 1 else f"in batches of {challenge.batch}"
            given += ", a copy for each stream" if challenge.streaming else ""
            signal = profile.signal_of(challenge.key)
            yield f"| `{name}/{challenge.key}` | {signal} | {given} | {COUPLING[challenge.coupling]} |"


def test_the_table_is_what_the_profiles_say():
    assert [line for line in PAGE.splitlines() if line.startswith("| `")] == list(rows())


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(re.search(r"```toml\n(.*?)```", PAGE, re.S)[1], "utf-8")
    return path


def files(scale="0.1"):
    entry = ENTRY[: ENTRY.index("    def get_model_challenge_2")]
    text = (NETWORK + entry).replace("n_chans=129", "n_chans=8").replace("x * 1e5", f"x * {scale}")
    return {"submission.py": text, "weights_1.pt": saved(state(seed=1, n_chans=8))}


def test_a_contest_of_ones_own_is_one_file(quick_check, own):
    report = quick_check(files(), profile=str(own))
    assert report.verdict == "passed", shapes.tick_list(report)
    assert report.profile.name == "mine"


def test_what_is_wrong_there_is_found(quick_check, own):
    wide = files() | {"weights_1.pt": saved(state(seed=1, n_chans=9))}
    report = quick_check(wide, profile=str(own))
    assert "RT305" in {result.code for result in report.results if result.status == "failed"}
    volts = quick_check(files(scale="0"), profile=str(own))
    assert "RT319" in {result.code for result in volts.results if result.status == "warned"}
