"""The coverage benchmark at a size that says nothing but that it runs, stops and goes on."""

import dataclasses
import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import coverage
import coverage_metrics
import coverage_parts
import coverage_search
import coverage_sets
import measured_code


def test_every_kind_of_part_gives_a_row():
    few = coverage_sets.Situation(name="few", people=6, draw=coverage_sets.SITUATIONS[0].draw)
    row = coverage_parts.intervals(few, 3)
    assert set(coverage_parts.NAMES) < set(row)
    assert all(0 <= row[name] <= 1 for name in coverage_parts.NAMES)
    assert 0 <= coverage_parts.reports(8, 60, 3)["reports with a false verdict"] <= 1
    assert coverage_parts.power(8, 60, 8)["stated as detectable"] > 0


def test_every_other_metric_is_tried_on_studies_of_its_own():
    names = [study.name for study in coverage_metrics.METRIC_STUDIES]
    assert len(set(names)) == len(names)
    for study in coverage_metrics.METRIC_STUDIES[1::3]:
        held, different, around = coverage_metrics.one_study(study, 0, true=1e9)
        assert not held
        assert isinstance(different, bool)
        assert isinstance(around, bool)
    row = coverage_parts.metrics(coverage_metrics.METRIC_STUDIES[0], 8)
    assert row["holds the truth"] > 0.6


def test_a_search_is_told_on_people_it_did_not_choose_on():
    row = coverage_search.one_search(coverage_search.SEARCHES[2], 0)
    assert row["low"] <= row["value"] <= row["high"]
    assert row["true"] < 0


def test_better_predictors_are_better_by_what_was_asked():
    rng = np.random.default_rng(0)
    study = coverage_sets.family(rng, 2000, 60_000, 1, better=0.05)
    from rtserve.measure.metrics import METRICS

    first, second = (METRICS["nrmse"](study.y, p) for p in study.p)
    assert abs(first - second - 0.05) < 0.01


@pytest.fixture
def two_parts(monkeypatch):
    """A table of two rows that note when they are measured."""
    calls: list[str] = []

    def parts(sets: int) -> dict:
        return {"A": [(key, lambda key=key: calls.append(key) or {"key": key, "share": 0.5}) for key in ("one", "two")]}

    monkeypatch.setattr(coverage, "parts", parts)
    monkeypatch.setattr(coverage, "code_of", lambda name: "today")
    return calls


def recorded(folder, code: str) -> None:
    known = {"A": {"one": {"key": "one", "share": 0.25, "code": code}}}
    (folder / "coverage.json").write_text(json.dumps({"schema": "rtserve.coverage/1", "tables": known}))


def test_an_interrupted_run_goes_on(tmp_path, two_parts):
    recorded(tmp_path, "today")
    result = CliRunner().invoke(coverage.main, ["-o", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert two_parts == ["two"]
    assert "| one | 0.250 |" in (tmp_path / "coverage.md").read_text()


def test_a_row_of_other_code_is_measured_again(tmp_path, two_parts):
    recorded(tmp_path, "yesterday")
    listed = CliRunner().invoke(coverage.main, ["-o", str(tmp_path), "--stale"])
    assert listed.output.splitlines() == ["A: one: of other code", "A: two: missing"]
    assert two_parts == []
    CliRunner().invoke(coverage.main, ["-o", str(tmp_path), "--only", "B"])
    assert "1 of these 1 rows measured other code than there is now." in (tmp_path / "coverage.md").read_text()
    CliRunner().invoke(coverage.main, ["-o", str(tmp_path)])
    assert two_parts == ["one", "two"]
    assert "other code" not in (tmp_path / "coverage.md").read_text()


@pytest.mark.needs("grimp")
def test_comments_make_no_record_old_and_code_does(tmp_path):
    script = tmp_path / "study.py"
    digests = []
    for text in ('"""A."""\nx = 1\n', '"""B."""\nx = 1  # one\n', '"""B."""\nx = 2\n'):
        script.write_text(text)
        measured_code._code.cache_clear()
        digests.append(measured_code.code_digest(["rtserve.measure.tails"], [script]))
    assert digests[0] == digests[1] != digests[2]
    for name in coverage_parts.parts(8):
        assert len(coverage_parts.code_of(name)) == 12


def test_answers_as_good_as_nothing_are(monkeypatch):
    monkeypatch.setattr(coverage_sets, "TRUTH_PEOPLE", 4000)
    from rtserve.measure.metrics import METRICS

    for situation in (coverage_sets.SITUATIONS[0], coverage_sets.SITUATIONS[4], coverage_sets.SITUATIONS[8]):
        fresh = dataclasses.replace(situation)
        many = fresh.population()
        assert abs(METRICS["nrmse"](many.y, fresh.worthless(many, "nrmse")) - 1) < 0.01
        assert abs(METRICS["pearson"](many.y, fresh.worthless(many, "pearson"))) < 0.03
    row = coverage_parts.against_the_constant(coverage_sets.SITUATIONS[7], 6)
    assert {key for key in row if key.startswith(("nrmse", "pearson"))} == {
        f"{name} {word}" for name in ("nrmse", "pearson") for word in ("better", "worse")
    }
