"""What the rewrites of an engine are tried on: views that share their first stage, however small the network."""

from __future__ import annotations

import pytest

from rtserve.fusion.program import build


@pytest.fixture(autouse=True, scope="package")
def _shared():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "pays", lambda stage, views: True)
        yield
