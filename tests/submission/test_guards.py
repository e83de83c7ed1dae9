"""What the scorer lacks is hidden wherever this machine's Python lies; what a submission unpacks is its own."""

import sys

import pytest

from rtserve.submission.harness.guards import block_absent


@pytest.fixture
def hidden(tmp_path, monkeypatch):
    """Hide everything but the standard library from scripts in a folder, a place of packages below /tmp among it."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packages"), *sys.path])
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    told: list[str] = []
    block_absent(str(tmp_path / "zip"), [], told.append)
    return told


def imports(folder, name):
    """Import a module as a script in a folder does."""
    exec(compile(f"import {name}", str(folder / "submission.py"), "exec"), {})


def test_a_package_of_this_python_is_hidden_also_below_tmp(tmp_path, hidden):
    (tmp_path / "packages").mkdir()
    (tmp_path / "packages" / "rtserve_of_this_machine.py").write_text("")
    with pytest.raises(ModuleNotFoundError):
        imports(tmp_path / "zip", "rtserve_of_this_machine")
    assert hidden == ["rtserve_of_this_machine"]
    imports(tmp_path / "elsewhere", "rtserve_of_this_machine")


def test_what_a_submission_puts_there_itself_is_found(tmp_path, hidden):
    (tmp_path / "unpacked").mkdir()
    (tmp_path / "unpacked" / "rtserve_of_this_zip.py").write_text("")
    sys.path.insert(0, str(tmp_path / "unpacked"))
    imports(tmp_path / "zip", "rtserve_of_this_zip")
    assert hidden == []
