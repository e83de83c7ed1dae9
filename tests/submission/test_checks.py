"""Every rule of the catalogue: the submission that breaks it, and its neighbours that must not."""

from __future__ import annotations

import pytest
from broken import BROKEN, FINE

from rtserve.submission.report import tick_list


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
    assert not codes(report, "failed"), tick_list(report)
    assert report.verdict == "passed", tick_list(report)
    assert report.exit_code == 0
