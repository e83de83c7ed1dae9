"""Scoring environments: what is refused, how stubs are made, and (make test-envs) a real zip driven in real ones."""

import ctypes
import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.submission import environments
from rtserve.submission.bundle import build
from rtserve.submission.custody import verify
from rtserve.submission.environments import create, find_python
from rtserve.submission.profile import load_profile
from rtserve.submission.stubs import write_stubs
from rtserve.submission.validate import check
from tests.submission.small import write_recipe

PROFILE = load_profile("eeg2025")
needs_compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="stub libraries need gcc")


def test_unknown_environment_is_named(tmp_path):
    with pytest.raises(InputError, match="newest"):
        create(PROFILE, tmp_path / "envs", only=["newest"])
    assert not (tmp_path / "envs").exists()


def test_file_in_place_of_the_folder(tmp_path):
    (tmp_path / "envs").write_text("")
    with pytest.raises(InputError, match="is a file"):
        create(PROFILE, tmp_path / "envs")


def test_python_that_is_not_there_exits_with_4(tmp_path):
    with pytest.raises(EnvironmentMissingError, match=r"no Python 3\.10") as caught:
        find_python("3.10", tmp_path / "python")
    assert caught.value.exit_code == 4


def test_failed_install_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    def fail(command):
        raise EnvironmentMissingError("no index", hint="")

    monkeypatch.setattr(environments, "find_python", lambda version, given: Path("python"))
    monkeypatch.setattr(environments, "_run", fail)
    with pytest.raises(EnvironmentMissingError):
        create(PROFILE, tmp_path, only=["older"])
    assert not (tmp_path / "older" / "environment.json").exists()


def test_whole_environment_of_the_same_packages_is_kept(tmp_path):
    folder = tmp_path / "older"
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text("")
    older = next(e for e in PROFILE.environments if e.name == "older")
    report = {"name": "older", "python": "x", "versions": {"torch": "2.2.2"}, "slim": True, "megabytes": 1}
    requested = {"packages": older.packages, "slim": True, "minimal": False}
    (folder / "environment.json").write_text(json.dumps({"requested": requested, "report": report}))
    (kept,) = create(PROFILE, tmp_path, only=["older"])
    assert kept.python == folder / "bin" / "python"
    assert kept.versions == {"torch": "2.2.2"}


@needs_compiler
def test_stub_stands_for_a_library_with_versioned_symbols(tmp_path):
    real, lib = tmp_path / "real", tmp_path / "lib"
    real.mkdir()
    lib.mkdir()
    (real / "a.c").write_text("int cudaFree(void) { return 0; }")
    (real / "a.map").write_text("libcudart.so.12 { global: *; };")
    (lib / "user.c").write_text("int cudaFree(void); int use(void) { return cudaFree(); }")
    gcc = ["gcc", "-shared", "-fPIC"]
    named = ["-Wl,-soname,libcudart.so.12", f"-Wl,--version-script={real}/a.map"]
    subprocess.run([*gcc, "-o", real / "libcudart.so.12", real / "a.c", *named], check=True)
    subprocess.run(
        [*gcc, "-o", lib / "libuser.so", lib / "user.c", real / "libcudart.so.12", "-Wl,-rpath,$ORIGIN"], check=True
    )
    assert write_stubs(lib) == ["libcudart.so.12"]
    assert ctypes.CDLL(str(lib / "libuser.so")).use() == 999


def built_environments():
    root = os.environ.get("RTSERVE_ENVS", "")
    return [Path(root) / e.name for e in PROFILE.environments] if root else []


@pytest.mark.envs
@pytest.mark.parametrize("name", [e.name for e in PROFILE.environments])
@pytest.mark.parametrize("runtime", ["torch", "torchscript"])
def test_zip_is_checked_and_verified_in_the_environment(tmp_path, name, runtime):
    folder = next((path for path in built_environments() if path.name == name and path.exists()), None)
    if folder is None:
        pytest.skip("no scoring environments here: make test-envs builds them")
    built = build(write_recipe(tmp_path / "recipe", head=f'runtime = "{runtime}"'), output=tmp_path / "s.zip")
    report = check(built.path, profile="eeg2025", env=folder)
    assert report.exit_code == 0, report
    assert verify(built.path, env=folder).passed
