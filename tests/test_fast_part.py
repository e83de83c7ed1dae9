"""The fast part is chosen by what tests cost, and no room goes without."""

from tests import fast_part

SECONDS = {f"tests/{room}/test_a.py::test_{k}": 2.0 * k for room in ("x", "y") for k in range(20)}


def test_the_cheapest_run_until_the_budget_is_spent():
    names = [f"tests/x/test_a.py::test_{k}" for k in range(20)]
    kept = fast_part.chosen(names, SECONDS, budget=60.0)
    assert kept == set(names[:8])  # 0 + 2 + ... + 14 = 56


def test_every_room_runs_some_tests():
    names = [*SECONDS, *(f"tests/z/test_b.py::test_{k}" for k in range(15))]
    dear = SECONDS | {f"tests/z/test_b.py::test_{k}": 2.5 for k in range(15)}
    kept = fast_part.chosen(names, dear, budget=60.0)
    assert sum(name.startswith("tests/z/") for name in kept) >= fast_part.LEAST_PER_ROOM


def test_what_is_not_recorded_runs():
    assert fast_part.chosen(["tests/x/test_new.py::test_it"], {}) == {"tests/x/test_new.py::test_it"}


def test_parameters_are_one_function():
    assert fast_part.function_of("tests/a/test_b.py::test_c[x-1]") == "tests/a/test_b.py::test_c"


def test_the_record_names_tests_that_are_there(repo_dir):
    """Names that are gone are dead weight: a few may be, until the next whole run."""
    record = fast_part.read()
    assert record, "pytest -n 2 --record-durations"
    there = [name for name in record if (repo_dir / name.partition("::")[0]).exists()]
    assert len(there) > 0.9 * len(record)
