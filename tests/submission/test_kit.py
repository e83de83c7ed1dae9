"""The contest's own kit beside ours: both verdicts, what one sees and the other does not, and kits that cannot run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from solvers import ANSWERS
from test_tracks import GOOD, found, one

from rtserve.errors import InputError
from rtserve.submission import report as shapes
from rtserve.submission.profile import load_profile
from rtserve.submission.report_profile import profile_text
from rtserve.submission.validate import check
from tests.conftest import ROOT

KIT = Path(__file__).parent / "kit"


@pytest.fixture
def both(quick_check):
    """Check a submission for a track with the small kit beside it; return the report and the kit's run."""

    def run(files, track, kit=KIT, **options):
        report = quick_check(files, profile=f"eeg2026/{track}", against=kit, **options)
        return report, report.kits[0]

    return run


@pytest.mark.parametrize("track", GOOD)
def test_a_good_zip_is_scored_by_both(both, track):
    report, run = both(one(GOOD[track]), track)
    assert report.verdict == "passed", shapes.tick_list(report)
    assert run.scored
    assert run.scores
    assert f"kit, challenge {track}: kit scores it" in shapes.tick_list(report)
    assert "so does rtserve" in shapes.tick_list(report)
    assert shapes.to_dict(report)["kit"][0]["scored"] is True


DEAD = {
    "no name": ("bci", GOOD["bci"], ('    name = "mine"\n', ""), "RT303", "TypeError"),
    "an absent package": ("bci", GOOD["bci"], ("import numpy as np", "import onnxruntime"), "RT105", "no class Solver"),
    "other embeddings": ("image", "return X.mean(2)", None, "RT312", "ValueError"),
    "a scalar": ("sleep", "return X.mean()", None, "RT312", "one answer per window"),
    "numbers that are no classes": ("bci", "return 0.01 * f", None, "RT328", "ValueError"),
    "one number a class": ("bci", "return torch.stack([f, -f, f], 1)", None, "RT312", "ValueError"),
}  # fmt: skip


@pytest.mark.parametrize("name", DEAD)
def test_what_the_kit_dies_of_fails_here_by_another_rule_too(both, name):
    track, answer, pair, code, said = DEAD[name]
    report, run = both(one(answer, *([pair] if pair else [])), track)
    assert {"RT329", code} <= set(found(report, "failed")), shapes.tick_list(report)
    assert said in run.died
    assert "so it does by " in report.beside(run)
    assert code in report.beside(run)


def test_what_the_kit_does_not_look_at_is_named(both):
    report, run = both(one("return ((f - f.mean()) / (f.std() + 1e-12) > 0).long()"), "bci")
    assert run.scored
    assert report.failed
    assert "rtserve fails it by RT318, of which the kit knows nothing" in shapes.tick_list(report)
    assert "RT329" not in found(report, "failed")


def test_a_kit_that_cannot_run_here_leaves_the_check_incomplete(both, tmp_path):
    program = tmp_path / "kit" / "codabench" / "ingestion_program" / "ingestion.py"
    program.parent.mkdir(parents=True)
    (tmp_path / "kit" / "tracks" / "bci_decoding").mkdir(parents=True)
    program.write_text("import package_of_nobody\n", "utf-8")
    report, run = both(one(GOOD["bci"]), "bci", kit=tmp_path / "kit")
    assert report.verdict == "incomplete", shapes.tick_list(report)
    assert "package_of_nobody is not installed" in run.why_not
    program.write_text("raise FileNotFoundError(2, 'No such file', 'benchopt')\n", "utf-8")
    report, run = both(one(GOOD["bci"]), "bci", kit=tmp_path / "kit")
    assert "pip install benchopt" in run.why_not, run
    program.write_text("", "utf-8")
    report, run = both(one(GOOD["bci"]), "bci", kit=tmp_path / "kit")
    assert run.died == "it wrote no results"
    assert "no other rule says so" in report.beside(run)
    report, run = both(one(GOOD["sleep"]), "sleep", kit=tmp_path / "kit")
    assert "it has no tracks/sleep_onset" in run.why_not


def test_a_folder_that_is_no_kit_is_refused(tmp_path):
    path = tmp_path / "x.zip"
    path.write_bytes(b"PK")
    with pytest.raises(InputError, match=r"holds no codabench/ingestion_program/ingestion\.py"):
        check(path, profile="eeg2026/bci", against=tmp_path)
    with pytest.raises(InputError, match="eeg2025 says nothing of a kit"):
        check(path, profile="eeg2025", against=KIT)


def test_windows_of_the_kit_are_of_the_phases_size():
    from rtserve.submission.kit import _config

    profile = load_profile("eeg2026/image:warm-up")
    assert profile.kit.source in profile_text(profile)
    assert "n_chans=63,n_times=120" in _config(profile, profile.challenges[0])


def test_the_variants_of_the_agreement_study_are_texts_that_differ():
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import kit_agreement
    import kit_zips

    for track in ANSWERS:
        made = [kit_zips.files_of(variant, track) for variant in kit_zips.VARIANTS.values()]
        assert len({str(files) for files in made}) == len(made) >= 40
    scored, died = ({"why_not": "", "scored": yes} for yes in (True, False))
    assert [kit_agreement.judge(scored, codes) for codes in ([], ["RT318"], ["RT312"])] == [
        "both pass",
        "stricter",
        "refused",
    ]
    assert [kit_agreement.judge(died, codes) for codes in ([], ["RT312"])] == ["missed", "both fail"]
