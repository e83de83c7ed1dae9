"""Every rule of the catalogue: the submission that breaks it, and its neighbours that must not."""

from __future__ import annotations

import dataclasses

import pytest
from broken import BROKEN, FINE, WARNED, forward
from zips import good, write_zip

from rtserve.submission.checks.catalogue import all_rules
from rtserve.submission.profile import load_profile
from rtserve.submission.report import tick_list
from rtserve.submission.validate import check


def codes(report, status):
    return {result.code for result in report.results if result.status == status}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_submission_fails_with_its_code(quick_check, name):
    files, expected = BROKEN[name]
    report = quick_check(files)
    assert codes(report, "failed") == expected, tick_list(report)
    assert report.exit_code == 1


@pytest.mark.parametrize("name", FINE)
def test_a_valid_submission_is_never_refused(quick_check, name):
    report = quick_check(FINE[name])
    assert report.verdict == "passed", tick_list(report)
    assert report.exit_code == 0
    if name in WARNED:
        assert WARNED[name] in codes(report, "warned"), tick_list(report)
    if name == "good":
        assert not codes(report, "warned"), tick_list(report)


@pytest.mark.parametrize(("numpy", "status"), [("2.2.6", "warned"), ("2.3.5", "warned"), ("2.4.0", "failed")])
def test_the_scorers_numpy_decides_whether_an_array_of_one_number_is_read(quick_check, numpy, status):
    profile = load_profile("eeg2025")
    primary = dataclasses.replace(profile.primary, packages={**profile.primary.packages, "numpy": numpy})
    profile = dataclasses.replace(profile, environments=(primary, *profile.environments[1:]))
    report = quick_check(
        forward("return self.head(torch.relu(self.conv(x * 1e5)).mean(-1))[:, :, None]"), profile=profile
    )
    assert "RT312" in codes(report, status), tick_list(report)


def test_uncalled_work_shows_both_numbers_and_fails_only_under_strict(quick_check):
    report = quick_check(FINE["dead views"], strict=True)
    assert codes(report, "failed") == {"RT108"}
    message = next(r for r in report.results if r.code == "RT108").findings[0].message
    assert "the scorer sees" in message
    assert "the method gives" in message


def test_an_inert_part_is_named_with_its_cost(quick_check):
    report = quick_check(FINE["module attribute"])
    finding = next(r for r in report.results if r.code == "RT325").findings[0]
    assert "extra (Linear" in finding.message
    assert "never run" in finding.message


def test_a_constant_in_volts_names_the_unit(quick_check):
    report = quick_check(FINE["wrong unit"])
    text = " ".join(f.message for r in report.results if r.code == "RT319" for f in r.findings)
    assert "times as large" in text
    assert "scores 1.0" in text


def test_every_key_that_does_not_fit_is_named(quick_check):
    report = quick_check(BROKEN["prefixed keys"][0])
    message = next(r for r in report.results if r.code == "RT305").findings[0].message
    for key in ("conv.weight", "conv.bias", "head.weight", "head.bias", "module.conv.weight", "module.head.bias"):
        assert key in message
    assert "weights_1.pt" in message


def test_a_misspelt_getter_is_recognised(quick_check):
    report = quick_check(BROKEN["misspelt getter"][0])
    finding = next(r for r in report.results if r.code == "RT104").findings[0]
    assert "did you mean get_models_challenge_1" in finding.message
    assert finding.where.startswith("submission.py:")


def test_backslashes_and_doubles_are_named(tmp_path, recwarn):
    import warnings
    import zipfile

    path = write_zip(tmp_path / "x.zip", good(**{"w\\extra.pt": b"1"}))
    with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as archive:  # noqa: TID251 - a stranger's zip
        warnings.simplefilter("ignore")
        archive.writestr("submission.py", archive.read("submission.py"))
    found = next(r for r in check(path, run=False).results if r.code == "RT007")
    assert found.status == "warned"
    assert len(found.findings) == 2


def test_a_large_archive_is_a_warning(tmp_path):
    profile = load_profile("eeg2025")
    small = dataclasses.replace(profile, limits=dataclasses.replace(profile.limits, archive_bytes=1000))
    report = check(write_zip(tmp_path / "x.zip", good()), profile=small, run=False)
    assert codes(report, "warned") == {"RT006"}
    assert not report.failed


def test_a_long_run_is_a_warning(quick_check):
    profile = load_profile("eeg2025")
    slow = dataclasses.replace(profile, limits=dataclasses.replace(profile.limits, seen_seconds=1e-3))
    report = quick_check(good(), profile=slow)
    assert codes(report, "warned") == {"RT326"}
    assert report.forecasts[0].low < report.forecasts[0].seconds < report.forecasts[0].high


def test_weights_from_a_gpu_without_map_location_are_named(tmp_path):
    files = good()
    pickled = b"\x80\x02X\x06\x00\x00\x00cuda:0."
    script = str(files["submission.py"]).replace(", map_location=self.device", "")
    report = check(write_zip(tmp_path / "x.zip", {"submission.py": script, "weights_1.pt": pickled}), run=False)
    assert "RT205" in codes(report, "warned")
    kept = check(write_zip(tmp_path / "y.zip", files | {"weights_1.pt": pickled}), run=False)
    assert "RT205" not in codes(kept, "warned")


def test_every_rule_says_what_it_is_why_it_breaks_and_what_cures_it():
    rules = all_rules()
    assert len({rule.code for rule in rules}) == len(rules)
    known = {rule.code for rule in rules}
    for rule in rules:
        assert rule.sentence.endswith(".")
        assert rule.cause
        assert rule.cure
        assert set(rule.requires) < known
        assert rule.severity in ("fail", "warn")


def test_every_rule_has_a_case():
    covered = set().union(*(expected for _, expected in BROKEN.values())) | set(WARNED.values())
    elsewhere = {
        "RT001", "RT002", "RT003", "RT006", "RT007", "RT109", "RT110", "RT204", "RT205", "RT301", "RT326",
        "RT111", "RT323", "RT324", "RT328", "RT329", "RT402", "RT403", "RT404", "RT405", "RT406",  # in other files
        "RT501", "RT502", "RT503", "RT504", "RT505", "RT506", "RT507", "RT508", "RT509", "RT510",
    }  # fmt: skip
    assert {rule.code for rule in all_rules()} <= covered | elsewhere


def test_a_written_device_and_a_download_are_warned_about(tmp_path):
    for name, code in (("cuda in a branch", "RT109"), ("tries to download", "RT110")):
        report = check(write_zip(tmp_path / "x.zip", FINE[name]), run=False)
        assert code in codes(report, "warned")
    for name in ("cuda if there is one", "autocast by keyword", "autocast"):
        report = check(write_zip(tmp_path / "x.zip", FINE[name]), run=False)
        assert not codes(report, "warned"), name
