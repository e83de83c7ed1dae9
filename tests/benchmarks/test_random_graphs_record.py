"""The record of random graphs says which seeds which code judged, and nothing of what it does not know."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))
import measured_code
import random_graphs


def record(seeds: int, **more: Any) -> dict[str, Any]:
    return {"seeds": seeds, "equal": seeds, "engines": {}, "others": {}, "undone": {}} | more


def test_seeds_are_of_the_code_that_judged_them() -> None:
    made = record(0, judged=[])
    for seeds, code in ((1, "one"), (2, "one"), (3, "two")):
        first, made["seeds"] = made["seeds"], seeds
        random_graphs.enter_code(made, first, code)
    assert random_graphs.codes(made) == "seeds 0 to 1 one, seeds 2 to 2 two"


def test_an_older_record_does_not_get_todays_code() -> None:
    made = record(7)
    random_graphs.enter_code(made, 7, "today")
    assert random_graphs.codes(made) == "seeds 0 to 6 not recorded"
    made["seeds"] = 9
    random_graphs.enter_code(made, 7, "today")
    assert random_graphs.codes(made) == "seeds 0 to 6 not recorded, seeds 7 to 8 today"
    page = random_graphs.page(made | {"others": {"3": {"kind": "refused", "why": "so"}}})
    assert "seeds 7 to 8 today" in page
    assert "- 3: refused: so" in page


def test_what_is_judged_again_says_by_which_code() -> None:
    from tests.fusion.random_graphs import Verdict

    made = record(7, judged=[])
    random_graphs.enter(made, Verdict(seed=3, kind="refused", why="so", engine="torch"), "today")
    assert random_graphs.told(made["others"]["3"]) == "refused by today: so"


def test_a_digest_is_never_of_other_files_than_those_that_run(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured_code.require_beside()
    monkeypatch.setattr(measured_code, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match="rtserve is imported from"):
        measured_code.require_beside()
