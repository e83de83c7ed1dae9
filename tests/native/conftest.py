"""What is compiled is skipped where there is no compiler."""

import pytest

from rtserve.errors import EnvironmentMissingError
from rtserve.native.compiler import find_compiler


def pytest_runtest_setup(item):
    """Skip with the reason that a user would be given."""
    if item.get_closest_marker("tools") is not None:
        try:
            find_compiler()
        except EnvironmentMissingError as missing:
            pytest.skip(missing.message)
