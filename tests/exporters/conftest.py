"""Exporters are files handed over by path; the tests import them as the export does."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.conftest import ROOT


@pytest.fixture(scope="session")
def family() -> Callable[[str], ModuleType]:
    """Import a file of exporters/ by its stem."""
    import sys

    def load(stem: str) -> ModuleType:
        sys.path.insert(0, str(ROOT / "exporters"))
        try:
            return importlib.import_module(stem)
        finally:
            sys.path.remove(str(ROOT / "exporters"))

    return load
