"""A fast part of the suite that covers every room: the cheapest tests first, until a budget is spent.

What a test costs is read from ``tests/durations.json``, which ``pytest --record-durations`` writes after a whole run:
seconds by test function over all of its parameters, and of each fixture that several tests share, which the first of
them pays. With ``--quick`` besides, what turned out dearer than it was written down is corrected: a test that found
something made by another, which is not run now. A test that is not in it yet counts as cheap and runs.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

RECORD = Path(__file__).with_name("durations.json")
BUDGET_S = 30.0
"""Recorded seconds of all workers together; what takes under `LEAST_S`, and starting them, comes on top."""
LEAST_S = 0.02
"""What takes less is not written down, and counted as nothing."""
LEAST_PER_ROOM = 10
"""Tests of each folder that run whatever they cost."""


@dataclass(frozen=True, kw_only=True)
class Seconds:
    """What test functions, and fixtures that outlive a test, take; by `function_of` and `fixture_of`."""

    tests: dict[str, float] = field(default_factory=dict)
    fixtures: dict[str, float] = field(default_factory=dict)

    def of(self, function: str, fixtures: frozenset[str], paid: frozenset[str] | set[str] = frozenset()) -> float:
        """Return what a function takes with its fixtures, but for those that another has paid."""
        return self.tests.get(function, 0.0) + sum(self.fixtures.get(name, 0.0) for name in fixtures - paid)


def function_of(nodeid: str) -> str:
    """Return a test's name without its parameters."""
    return nodeid.partition("[")[0]


def fixture_of(definition) -> str:
    """Return a fixture's name with the file or folder it is from."""
    return f"{definition.baseid}::{definition.argname}"


def room_of(function: str) -> str:
    """Return the folder that a test lies in."""
    return function.partition("::")[0].rpartition("/")[0]


def needs(items: list[pytest.Item]) -> dict[str, frozenset[str]]:
    """Return each test function and which fixtures it uses that outlive a test."""
    found: dict[str, frozenset[str]] = {}
    for item in items:
        definitions = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009 - pytest offers no other way
        shared = {fixture_of(one[-1]) for one in definitions.values() if one and one[-1].scope != "function"}
        name = function_of(item.nodeid)
        found[name] = found.get(name, frozenset()) | shared
    return found


def chosen(functions: Mapping[str, frozenset[str]], seconds: Seconds, budget: float = BUDGET_S) -> set[str]:
    """Return the functions to run: a few of every room, and the cheapest of all until the budget is spent."""
    ranked = sorted(functions, key=lambda name: (seconds.of(name, functions[name]), name))
    kept, paid, rooms, spent = set(), set[str](), defaultdict[str, int](int), 0.0
    for name in ranked:
        cost = seconds.of(name, functions[name], paid)
        few = rooms[room_of(name)] < LEAST_PER_ROOM and cost < budget / 20
        if few or spent + cost <= budget:
            kept.add(name)
            paid |= functions[name]
            rooms[room_of(name)] += 1
            spent += cost
    return kept


def read() -> Seconds:
    """Return what was recorded, nothing where nothing was."""
    return Seconds(**json.loads(RECORD.read_text("utf-8"))) if RECORD.exists() else Seconds()


class Recorder:
    """Adds up what every test function takes, and apart from it the fixtures that several share."""

    def __init__(self) -> None:
        self.tests: dict[str, float] = defaultdict(float)
        self.fixtures: dict[str, float] = defaultdict(float)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request) -> Iterator[None]:
        """Take the time of a shared fixture, and let it travel with the test's report."""
        start = time.perf_counter()
        result = yield
        if fixturedef.scope != "function":
            spent = time.perf_counter() - start
            request._pyfuncitem.user_properties.append(("shared fixture", [fixture_of(fixturedef), spent]))
        return result

    def pytest_runtest_logreport(self, report) -> None:
        """Add one phase of one test."""
        shared = 0.0
        for kind, value in report.user_properties if report.when == "setup" else ():
            if kind == "shared fixture":
                self.fixtures[value[0]] = max(self.fixtures[value[0]], value[1])
                shared += value[1]
        self.tests[function_of(report.nodeid)] += max(0.0, report.duration - shared)

    def pytest_sessionfinish(self, session, exitstatus) -> None:
        """Write the record; the workers of a distributed run report to the process that does."""
        if hasattr(session.config, "workerinput"):
            return
        before = read() if session.config.getoption("--quick") else Seconds()
        found = {
            "tests": _dearest(before.tests, self.tests),
            "fixtures": _dearest(before.fixtures, self.fixtures),
        }
        RECORD.write_text(json.dumps(found, indent=0) + "\n", "utf-8")


def _dearest(before: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    every = {name: max(before.get(name, 0.0), round(now.get(name, 0.0), 2)) for name in {**before, **now}}
    return {name: value for name, value in sorted(every.items()) if value >= LEAST_S}
