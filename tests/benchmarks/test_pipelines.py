"""The record of pipelines is what its script writes of what was measured, and says that the numbers were the library's."""

import json
import sys

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import pipelines


@pytest.fixture(scope="module")
def document():
    return json.loads(pipelines.RESULTS.read_text("utf-8"))


def test_the_page_is_what_was_measured(document):
    assert pipelines.RESULTS.with_suffix(".md").read_text("utf-8") == pipelines.table(document)
    assert {len(row["runs"]) for row in document["rows"]} == {pipelines.PROCESSES}


@pytest.mark.needs("pyriemann")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:pyriemann")
def test_every_pipeline_is_recorded(document):
    alone = f"{pipelines.MEMBERS} LDAs alone, on features"
    assert [row["name"] for row in document["rows"]] == [*pipelines.pipelines(), alone]


def test_what_was_timed_gave_the_librarys_numbers(document):
    off = [
        value
        for row in document["rows"]
        for run in row["runs"]
        for one in run.values()
        for value in one["off"].values()
    ]
    assert max(off) < 1e-5
