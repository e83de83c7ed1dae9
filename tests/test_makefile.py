"""`make install` on a machine as it comes: nothing there, something half made, a checkout that was moved."""

import shutil
import subprocess

import pytest

PYTHON = """#!/bin/sh
echo "$*" >>"$LOG"
case "$1 $2" in
  "-m venv")
    rm -rf .venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
  "-m ensurepip")
    rm broken ;;
  "-m pip")
    test ! -e broken && { test "$3" != install || test ! -e refuse; } ;;
esac
"""
VENV = "-m venv --clear .venv"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make here")


@pytest.fixture
def checkout(tmp_path, repo_dir):
    """A folder with the Makefile and what it reads, and a Python that writes down what it is asked for."""
    folder = tmp_path / "my wörk"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(repo_dir / name, folder)
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)
    return folder


def install(folder):
    """Run `make install`; return whether it succeeded and what Python was asked for."""
    log = folder.parent / "log"
    log.write_text("")
    command = ["make", "install", f"PYTHON={folder.parent / 'python'}"]
    done = subprocess.run(
        command, cwd=folder, env={"PATH": "/usr/bin:/bin", "LOG": str(log)}, capture_output=True, text=True, check=False
    )
    return done.returncode == 0, log.read_text().splitlines()


def test_what_fails_is_tried_again(checkout):
    (checkout / "refuse").touch()
    assert not install(checkout)[0]
    (checkout / "refuse").unlink()
    assert install(checkout)[0]


def test_what_is_installed_stays(checkout):
    fine, asked = install(checkout)
    assert fine
    assert VENV in asked
    assert asked[-1].startswith("-m pip install")
    assert install(checkout) == (True, [])


def test_a_changed_dependency_is_installed_into_what_is_there(checkout):
    install(checkout)
    (checkout / "constraints.txt").write_text("torch==2.13.0\n")
    fine, asked = install(checkout)
    assert fine
    assert VENV not in asked
    assert "-m pip install -qq torch==2.13.0" in asked


def test_an_environment_without_pip_gets_it(checkout):
    """As Ctrl-C leaves it while pip is put into it; what else lies there stays."""
    install(checkout)
    (checkout / ".venv/.installed").unlink()
    (checkout / "broken").touch()
    fine, asked = install(checkout)
    assert fine
    assert VENV not in asked
    assert "-m ensurepip" in asked
    assert asked[-1].startswith("-m pip install")


def test_a_moved_checkout_gets_an_environment_of_its_place(checkout):
    install(checkout)
    moved = checkout.rename(checkout.parent / "elsewhere")
    fine, asked = install(moved)
    assert fine
    assert VENV in asked
    assert install(moved) == (True, [])


def test_an_environment_whose_python_is_gone_is_made_anew(checkout):
    """As where the system went on to another Python."""
    install(checkout)
    (checkout / ".venv/bin/python").unlink()
    (checkout / ".venv/bin/python").symlink_to("/nowhere/python3.10")
    fine, asked = install(checkout)
    assert fine
    assert VENV in asked
