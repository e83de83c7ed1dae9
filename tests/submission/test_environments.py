"""Scoring environments: what is refused, how stubs are made, and (make test-envs) a real zip driven in real ones."""

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.files import sha256_file
from rtserve.submission import environments
from rtserve.submission.bundle import build
from rtserve.submission.custody import verify
from rtserve.submission.environments import create, find_python
from rtserve.submission.profile import load_profile
from rtserve.submission.stubs import symbols_of, write_stubs
from rtserve.submission.validate import check
from tests.runtime import onnx_nodes
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


def test_a_closed_folder_of_pyenv_is_passed_over(tmp_path, monkeypatch):
    def closed(self, pattern):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setattr(Path, "glob", closed)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert find_python(version, sys.executable) == Path(sys.executable)


def test_python_that_is_not_there_exits_with_4(tmp_path):
    with pytest.raises(EnvironmentMissingError, match=r"no Python 3\.10") as caught:
        find_python("3.10", tmp_path / "python")
    assert caught.value.exit_code == 4


def test_an_environment_without_torch_needs_neither_stubs_nor_torch(tmp_path, monkeypatch):
    ran = []

    def run(command):
        ran.append(command)
        if command[1:3] == ["-m", "venv"]:
            Path(command[3]).mkdir(parents=True)
        return '{"edfio": "0.4.18"}\n'

    monkeypatch.setattr(environments, "_run", run)
    monkeypatch.setattr(environments, "find_python", lambda *_: Path(sys.executable))
    (report,) = create(load_profile("szcore"), tmp_path / "envs")
    assert report.versions == {"edfio": "0.4.18"}
    installs = [command for command in ran if "install" in command]
    assert all("edfio==0.4.18" in command for command in installs)
    assert len(installs) == 1
    assert not any("import torch" in part for command in ran for part in command)


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


def test_a_version_that_is_not_called_as_its_library_is_known_by_its_symbols():
    versioned = {"NVSHMEM": {"nvshmemx_mc_ptr", "nvshmem_free"}, "libcudart.so.13": {"cudaFree"}}
    assert symbols_of("libnvshmem_host.so.3", versioned, {"nvshmem_old"}) == (versioned["NVSHMEM"], "NVSHMEM")
    assert symbols_of("libcudart.so.13", versioned, set()) == ({"cudaFree"}, "libcudart.so.13")
    assert symbols_of("libcublas.so.13", versioned, {"cublasCreate", "nvshmem_old"}) == ({"cublasCreate"}, "")


@pytest.mark.tools
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
    # In a process of its own: where torch is built for CUDA, this one has the real library.
    code = "import ctypes, sys; print(ctypes.CDLL(sys.argv[1]).use())"
    done = subprocess.run([sys.executable, "-c", code, lib / "libuser.so"], capture_output=True, text=True, check=True)
    assert done.stdout == "999\n"


def environment_folder(name):
    """The environment of that name under RTSERVE_ENVS; a skip where it is not built."""
    folder = Path(os.environ.get("RTSERVE_ENVS", "nowhere")) / name
    if not folder.exists():
        pytest.skip("no scoring environments here: make test-envs builds them")
    return folder


@pytest.mark.envs
@pytest.mark.parametrize("name", [e.name for e in PROFILE.environments])
@pytest.mark.parametrize("runtime", ["torch", "torchscript", "onnxruntime", "auto"])
def test_zip_is_checked_and_verified_in_the_environment(tmp_path, name, runtime):
    """By the route that the recipe asks for; ``auto`` with no wheel along yields to the plan and says so."""
    folder, head = environment_folder(name), f'runtime = "{runtime}"'
    if runtime == "onnxruntime":
        head += wheel_beside(tmp_path / "recipe")
    built = build(write_recipe(tmp_path / "recipe", head=head), output=tmp_path / "s.zip")
    report = check(built.path, profile="eeg2025", env=folder)
    assert report.exit_code == 0, report
    proof = verify(built.path, env=folder)
    assert proof.passed
    if runtime == "auto":
        runtime = (
            f"torch (ImportError: no onnxruntime installed, and none travels along for cp310-{platform.machine()})"
        )
        assert f"challenge 1 ran by {runtime}" in report.notes
    assert proof.routes == {"1": runtime, "2": runtime}


def wheel_beside(folder):
    """Copy the wheel that `make test-envs` fetched beside a recipe; return the line that names it."""
    wheel = next((Path(os.environ["RTSERVE_ENVS"]) / "wheels").glob("onnxruntime-*-cp310-*.whl"), None)
    if wheel is None:
        pytest.skip("no onnxruntime wheel here: make test-envs fetches it")
    folder.mkdir()
    shutil.copy(wheel, folder)
    return f'\nwheel = {{ path = "{wheel.name}", sha256 = "{sha256_file(wheel)}" }}'


OPERATORS_DRIVE = """
import json, sys
import torch
folder = sys.argv[1]
space = {"__name__": "submission"}
exec(compile(open(folder + "/runtime.py").read(), "runtime.py", "exec"), space)
wrong = []
for name, case in json.load(open(folder + "/cases.json")).items():
    tensors = torch.load(f"{folder}/{name}.pt", weights_only=True)
    program = space["Program"](case["plan"], tensors["weights"], torch.zeros(()))
    for slot, value in zip(case["inputs"], tensors["inputs"]):
        program.template[program._slot(slot)] = value
    with torch.inference_mode():
        values = program.trace(tensors["inputs"][0] if tensors["inputs"] else torch.zeros(1))
    for output, expected in zip(case["outputs"], tensors["expected"]):
        got = values[output]
        got = got if isinstance(got, torch.Tensor) else space["as_tensor"](got, torch.device("cpu"))
        wide = torch.complex128 if expected.is_complex() else torch.float64
        if got.shape != expected.shape or not torch.allclose(got.to(wide), expected.to(wide), 1e-4, 1e-5, True):
            wrong.append(name)
print(json.dumps({"torch": torch.__version__, "wrong": wrong}))
"""


def write_operator_cases(folder):
    """Write the executor with every operator, and onnx's cases with what it answers here; return how many."""
    from rtserve.runtime.node import OPERATORS
    from rtserve.submission.sources import runtime_source

    (folder / "runtime.py").write_text(runtime_source(OPERATORS))
    cases = {}
    for case in onnx_nodes.node_cases():
        for number, (arrays, expected) in enumerate(onnx_nodes.arrays_of(case)):
            first = min(1, len(arrays))
            if onnx_nodes.judge_form(case, arrays, expected, first)[0] == "passed":
                name = f"{case.name}-{number}"
                cases[name] = write_case(
                    onnx_nodes.with_constants(case.model, arrays, first), arrays, folder / f"{name}.pt"
                )
    (folder / "cases.json").write_text(json.dumps(cases))
    return len(cases)


def write_case(model, arrays, path):
    """Write a case's weights, inputs and what this machine answers; return its plan and the names in it."""
    import torch

    plan, weights, inputs, outputs = onnx_nodes.plan_of(model)
    program = onnx_nodes.program_of(model)[0]
    values = [onnx_nodes.torch_of(array) for array in arrays[: len(inputs)]]
    expected = onnx_nodes.run(program, inputs, outputs, arrays[: len(inputs)])
    torch.save({"weights": weights, "inputs": values, "expected": [value.clone() for value in expected]}, path)
    return {"plan": plan, "inputs": inputs, "outputs": outputs}


@pytest.mark.envs
@pytest.mark.parametrize("name", [e.name for e in PROFILE.environments])
def test_every_operator_gives_the_same_numbers_in_the_environment(tmp_path, name):
    python = environment_folder(name) / "bin" / "python"
    assert write_operator_cases(tmp_path) > 500
    done = subprocess.run(
        [python, "-W", "ignore", "-c", OPERATORS_DRIVE, tmp_path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["torch"].startswith(next(e for e in PROFILE.environments if e.name == name).packages["torch"])
    assert answer["wrong"] == []
