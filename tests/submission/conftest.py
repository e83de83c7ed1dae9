"""`quick_check`: files in, validation report out, without a fresh Python for every drive."""

from __future__ import annotations

import functools
import multiprocessing
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

PATIENT_S = 60.0
"""What the probes of a challenge may take here: on a machine under load the usual 3 s leave some out, and a verdict."""


@pytest.fixture(scope="session")
def _server():
    loaded = [
        "torch",
        "torch._refs",
        "torch._decomp",
        "torch.fx.experimental.symbolic_shapes",
        "sympy",
        "sklearn.metrics",
    ]
    multiprocessing.get_context("forkserver").set_forkserver_preload([*loaded, "quick"])


@pytest.fixture
def quick_drives(_server, monkeypatch):
    """Every drive is a fork of one Python that has torch loaded."""
    import quick

    from rtserve.submission import sandbox

    monkeypatch.setattr(sandbox, "run", quick.forked_run)
    monkeypatch.setattr(sandbox, "best_kind", lambda: "plain")


@pytest.fixture
def quick_check(quick_drives, tmp_path, monkeypatch):
    import zips

    from rtserve.submission import validate
    from rtserve.submission.validate import check

    monkeypatch.setattr(validate, "drive", functools.partial(validate.drive, budget_s=PATIENT_S))

    def run(files, **options):
        path = zips.write_zip(tmp_path / "submission.zip", files) if isinstance(files, dict) else files
        return check(path, kind="plain", **options)

    return run
