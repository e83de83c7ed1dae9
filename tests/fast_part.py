"""A fast part of the suite that covers every room: the cheapest tests first, until a budget is spent.

What a test costs is read from ``tests/durations.json``, seconds by test function over all of its parameters, which
``pytest --record-durations`` writes after a whole run. A test that is not in it yet counts as cheap and runs.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

RECORD = Path(__file__).with_name("durations.json")
BUDGET_S = 12.0
"""Recorded seconds of all workers together; what takes under `LEAST_S`, and starting them, comes on top."""
LEAST_S = 0.02
"""What takes less is not written down, and counted as nothing."""
LEAST_PER_ROOM = 10
"""Tests of each folder that run whatever they cost."""


def function_of(nodeid: str) -> str:
    """Return a test's name without its parameters."""
    return nodeid.partition("[")[0]


def room_of(function: str) -> str:
    """Return the folder that a test lies in."""
    return function.partition("::")[0].rpartition("/")[0]


def chosen(functions: Iterable[str], seconds: Mapping[str, float], budget: float = BUDGET_S) -> set[str]:
    """Return the functions to run: a few of every room, and the cheapest of all until the budget is spent."""
    ranked = sorted(set(functions), key=lambda name: (seconds.get(name, 0.0), name))
    kept, rooms, spent = set(), defaultdict[str, int](int), 0.0
    for name in ranked:
        cost = seconds.get(name, 0.0)
        few = rooms[room_of(name)] < LEAST_PER_ROOM and cost < budget / 20
        if few or spent + cost <= budget:
            kept.add(name)
            rooms[room_of(name)] += 1
            spent += cost
    return kept


def read() -> dict[str, float]:
    """Return what was recorded, nothing where nothing was."""
    return json.loads(RECORD.read_text("utf-8")) if RECORD.exists() else {}


class Recorder:
    """Adds up what every test function takes, its share of fixtures included."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report) -> None:
        """Add one phase of one test."""
        self.seconds[function_of(report.nodeid)] += report.duration

    def pytest_sessionfinish(self, session, exitstatus) -> None:
        """Write the record; the workers of a distributed run report to the process that does."""
        if not hasattr(session.config, "workerinput"):
            found = {name: round(value, 2) for name, value in sorted(self.seconds.items()) if value >= LEAST_S}
            RECORD.write_text(json.dumps(found, indent=0) + "\n", "utf-8")
