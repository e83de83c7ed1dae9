"""Workers take the dearest files first, each whole."""

from tests import fast_part
from tests.order import longest_first


def test_what_takes_longest_comes_first_with_its_fixtures_and_what_is_new_last():
    seconds = fast_part.Seconds(
        tests={"a.py::test_1": 2.0, "a.py::test_2": 2.0, "b.py::test_1": 3.0, "gone.py::test_1": 9.0},
        fixtures={"c.py::made": 5.0, "folder::shared": 7.0},
    )
    assert longest_first(["b.py", "new.py", "a.py", "c.py", "a.py"], seconds) == ["c.py", "a.py", "b.py", "new.py"]


def test_the_files_of_a_run_are_in_that_order_and_whole(request):
    """Among workers; by itself a run keeps the order in which the tests stand."""
    files = [item.nodeid.partition("::")[0] for item in request.session.items]
    taken = list(dict.fromkeys(files))
    assert files == [file for file in taken for _ in range(files.count(file))]
    if hasattr(request.config, "workerinput"):
        assert taken == longest_first(taken, fast_part.read())
