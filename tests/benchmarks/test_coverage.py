"""The coverage benchmark at a size that says nothing but that it runs, stops and goes on."""

import json
import sys

import numpy as np
from click.testing import CliRunner

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import coverage
import coverage_metrics
import coverage_search
import coverage_sets


def test_every_kind_of_part_gives_a_row():
    few = coverage_sets.Situation(name="few", people=6, draw=coverage_sets.SITUATIONS[0].draw)
    row = coverage.intervals(few, 3)
    assert set(coverage.NAMES) < set(row)
    assert all(0 <= row[name] <= 1 for name in coverage.NAMES)
    assert 0 <= coverage.reports(8, 60, 3)["reports with a false verdict"] <= 1
    assert coverage.power(8, 60, 8)["stated as detectable"] > 0


def test_every_other_metric_is_tried_on_studies_of_its_own():
    names = [study.name for study in coverage_metrics.METRIC_STUDIES]
    assert len(set(names)) == len(names)
    for study in coverage_metrics.METRIC_STUDIES[1::3]:
        held, different, around = coverage_metrics.one_study(study, 0, true=1e9)
        assert not held
        assert isinstance(different, bool)
        assert isinstance(around, bool)
    row = coverage.metrics(coverage_metrics.METRIC_STUDIES[0], 8)
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


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    calls: list[str] = []

    def parts(sets: int) -> dict:
        return {"A": [(key, lambda key=key: calls.append(key) or {"key": key, "share": 0.5}) for key in ("one", "two")]}

    monkeypatch.setattr(coverage, "parts", parts)
    known = {"schema": "rtserve.coverage/1", "tables": {"A": {"one": {"key": "one", "share": 0.25}}}}
    (tmp_path / "coverage.json").write_text(json.dumps(known))
    result = CliRunner().invoke(coverage.main, ["-o", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert calls == ["two"]
    assert "| one | 0.250 |" in (tmp_path / "coverage.md").read_text()
