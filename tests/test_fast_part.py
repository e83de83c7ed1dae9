"""The fast part is chosen by what tests cost, and no room goes without."""

from tests import fast_part

NONE = frozenset[str]()
SECONDS = {f"tests/{room}/test_a.py::test_{k}": 2.0 * k for room in ("x", "y") for k in range(20)}


def chosen(names, tests, **more):
    return fast_part.chosen(dict.fromkeys(names, NONE), fast_part.Seconds(tests=tests), **more)


def test_the_cheapest_run_until_the_budget_is_spent():
    names = [f"tests/x/test_a.py::test_{k}" for k in range(20)]
    kept = chosen(names, SECONDS, budget=60.0)
    assert kept == set(names[:8])  # 0 + 2 + ... + 14 = 56


def test_every_room_runs_some_tests():
    names = [*SECONDS, *(f"tests/z/test_b.py::test_{k}" for k in range(15))]
    dear = SECONDS | {f"tests/z/test_b.py::test_{k}": 2.5 for k in range(15)}
    kept = chosen(names, dear, budget=60.0)
    assert sum(name.startswith("tests/z/") for name in kept) >= fast_part.LEAST_PER_ROOM


def test_what_is_not_recorded_runs():
    assert chosen(["tests/x/test_new.py::test_it"], {}) == {"tests/x/test_new.py::test_it"}


def test_a_shared_fixture_is_paid_once_and_by_whoever_needs_it():
    names = {f"tests/x/test_a.py::test_{k}": frozenset({"tests/x::dear"}) for k in range(2)}
    names |= {f"tests/x/test_b.py::test_{k}": frozenset({"tests/x::cheap"}) for k in range(2)}
    seconds = fast_part.Seconds(
        tests=dict.fromkeys(names, 1.0), fixtures={"tests/x::dear": 90.0, "tests/x::cheap": 4.0}
    )
    assert fast_part.chosen(names, seconds, budget=6.0) == {name for name in names if "test_b" in name}
    assert fast_part.chosen(names, seconds, budget=98.0) == set(names)


def test_what_was_found_made_and_is_dearer_by_itself_is_corrected():
    assert fast_part._dearest({"a": 1.0, "b": 2.0}, {"a": 3.0, "c": 0.001}) == {"a": 3.0, "b": 2.0}


def test_the_fixtures_of_a_test_that_outlive_it_are_known(request, repo_dir, tmp_path):
    (found,) = fast_part.needs([request.node]).values()
    assert "tests::repo_dir" in found
    assert not any("tmp_path" in name and "factory" not in name for name in found)


def test_parameters_are_one_function():
    assert fast_part.function_of("tests/a/test_b.py::test_c[x-1]") == "tests/a/test_b.py::test_c"


def test_the_record_names_tests_that_are_there(repo_dir):
    """Names that are gone are dead weight: a few may be, until the next whole run."""
    record = fast_part.read().tests
    assert record, "pytest -n 2 --record-durations"
    there = [name for name in record if (repo_dir / name.partition("::")[0]).exists()]
    assert len(there) > 0.9 * len(record)
