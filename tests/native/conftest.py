"""What is compiled is skipped where there is no compiler."""

import pytest

from rtserve.errors import EnvironmentMissingError
from rtserve.fusion.fuse import fuse
from rtserve.graphs.graph import Graph
from rtserve.native.compiler import find_compiler

VIEWS = "identity,roll:+3,scale:1.02"


def pytest_runtest_setup(item):
    """Skip with the reason that a user would be given."""
    if item.get_closest_marker("tools") is not None:
        try:
            find_compiler()
        except EnvironmentMissingError as missing:
            pytest.skip(missing.message)


@pytest.fixture(scope="session")
def fused(small_members):
    """Two small members and three views, as fuse leaves them for native code."""
    return fuse([Graph.load(path) for path in small_members], views=VIEWS, engine="native")
