"""The study of planted stalls, small, on a clock of our own: what it plants is what it counts."""

import sys

import pytest

from tests.conftest import ROOT
from tests.measure.test_hops import Clock

sys.path.insert(0, str(ROOT / "benchmarks"))
import planted_stalls


@pytest.mark.parametrize(("stall_ms", "found"), [(5.0, True), (1.0, False)])
def test_a_stall_is_counted_at_the_hop_where_it_was_planted(stall_ms, found):
    clock = Clock()
    seen = planted_stalls.one_stream(
        lambda: clock.sleep(0.0002), 30, hop_ms=4.0, hops=60, stall_ms=stall_ms, clock=clock, sleep=clock.sleep
    )
    assert seen["found"] is found
    assert seen["first"] == (30 if found else None)


def test_a_stream_without_a_stall_finds_none():
    clock = Clock()
    settings = {"hop_ms": 4.0, "hops": 60, "stall_ms": 5.0, "clock": clock, "sleep": clock.sleep}
    seen = planted_stalls.one_stream(lambda: clock.sleep(0.0002), None, **settings)
    assert (seen["found"], seen["stalls"]) == (False, 0)


def test_a_stall_that_was_not_found_is_counted_so():
    row = {"planted": 30, "found": False, "first": None, "stalls": 0, "loaded": ["busy"]}
    rows = [row, row | {"found": True, "first": 30, "stalls": 2}, row | {"planted": None}]
    found = planted_stalls.summary(rows)
    assert (found["streams"], found["found"], found["found_first"]) == (2, 1, 1)
    assert (found["without"], found["without_shows_a_stall"], found["loaded"]) == (1, 0, 3)
