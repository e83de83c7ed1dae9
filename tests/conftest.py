"""Where the tests find real checkpoints and recordings, and small graphs made on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("RTSERVE_SHARED", ROOT.parent / "shared"))

settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the real files where they are absent; a user's checkout has none."""
    if (SHARED / "checkpoints").is_dir():
        return
    reason = pytest.mark.skip(reason=f"real checkpoints and recordings are not at {SHARED.name}/ beside the checkout")
    for item in items:
        if "shared" in item.keywords:
            item.add_marker(reason)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with real checkpoints/ and data/; only tests marked ``shared`` use it."""
    return SHARED


@pytest.fixture(scope="session")
def repo_dir() -> Path:
    """The checkout."""
    return ROOT
