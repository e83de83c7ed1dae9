"""The ways to run one graph: each gives its numbers, says its name, copies, pickles, and yields to the plan."""

import copy
import io
import json
import pickle  # noqa: TID251  (only of models made here)
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest
import torch

import rtserve.runtime.onnxruntime_route
import rtserve.runtime.script_route
from rtserve.errors import BundleError, ExportError, InputError, ParityError, ProfileError
from rtserve.files import sha256_bytes
from rtserve.runtime.node import OPERATORS
from rtserve.runtime.serving import load_model
from rtserve.submission.artefacts import make_artefact, plan_bytes, tensor_bytes
from rtserve.submission.recipe import load_recipe
from rtserve.submission.torchscript import repeatable
from rtserve.submission.vendored import trim_wheel, vendored_files
from tests.submission.small import agreed, small_graph, write_recipe

WINDOWS = 1e-2 * torch.randn(5, 129, 200, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def script():
    return make_artefact("1", small_graph(0), "torchscript")


@pytest.fixture
def folder(script, tmp_path):
    for name, data in script.files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


@pytest.mark.parametrize("route", ["torch", "torchscript", "onnxruntime"])
def test_route_gives_the_plans_numbers_and_survives_copies(folder, route):
    plan = load_model(folder, "challenge_1", "cpu", "torch")
    model = load_model(folder, "challenge_1", torch.device("cpu"), route)
    assert (model.route, model.reason) == (route, "")
    assert not model.training
    with torch.inference_mode():
        for batch in (1, 2, 5):
            expected = plan.forward(WINDOWS[:batch])
            for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
                got = other.forward(WINDOWS[:batch])
                assert got.shape == (batch, 1)
                torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_auto_prefers_onnxruntime_on_a_cpu_and_the_plan_elsewhere(folder):
    assert load_model(folder, "challenge_1", "cpu", "auto").route == "onnxruntime"
    model = load_model(folder, "challenge_1", "meta", "auto")
    assert model.route == "torch"
    assert "meta" in model.reason
    assert model.forward(WINDOWS.to("meta")).shape == (5, 1)


def test_route_that_cannot_be_taken_yields_to_the_plan_and_says_why(folder):
    (folder / "challenge_1.ts").write_bytes(b"not an archive")
    model = load_model(folder, "challenge_1", "cpu", "torchscript")
    assert model.route == "torch"
    assert model.reason
    assert model.forward(WINDOWS).shape == (5, 1)


def test_script_bytes_repeat_and_hold_no_local_path(script, repo_dir):
    again = make_artefact("1", small_graph(0), "torchscript")
    assert again.files["challenge_1.ts"] == script.files["challenge_1.ts"]
    data = script.files["challenge_1.ts"]
    assert str(repo_dir).encode() not in data
    names = zipfile.ZipFile(io.BytesIO(data)).namelist()  # noqa: TID251
    assert all(name.startswith("archive/") and not name.endswith(".debug_pkl") for name in names)
    assert repeatable(data) == data


def with_tensors(artefact, change):
    """The artefact with `change` applied to its weights by the name they have in the small graph."""
    tensors = torch.load(io.BytesIO(artefact.files["challenge_1.pt"]), weights_only=True)  # noqa: TID251
    change({name.removeprefix("t_"): tensor for name, tensor in tensors.items()})
    return replace(artefact, files=artefact.files | {"challenge_1.pt": tensor_bytes(tensors)})


def with_plan(artefact, change):
    plan = json.loads(artefact.files["challenge_1.json"])
    change(plan)
    return replace(artefact, files=artefact.files | {"challenge_1.json": plan_bytes(plan)})


def test_agreement_fails_where_a_route_gives_other_numbers(script):
    wrong = with_tensors(script, lambda tensors: tensors["b2"].add_(1e-2))
    with pytest.raises(ParityError, match="challenge 1 by torch"):
        agreed(wrong)


def test_agreement_allows_1e_5_and_no_more(script):
    """Outputs are of order 1 to 1e4 over the probes; the unit ones leave an offset of 1e-4 no room."""
    largest = max(case.allowed for report in agreed(script).values() for case in report.cases)
    assert largest == 1e-5
    with pytest.raises(ParityError) as caught:
        agreed(with_tensors(script, lambda tensors: tensors["b2"].mul_(1 + 1e-4)))
    assert 1e-5 < caught.value.report.max_error < 1e-3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_agreement_fails_where_a_route_is_not_finite_and_the_graph_is(script, value):
    with pytest.raises(ParityError, match=r"by torch .* worst NaN, Inf"):
        agreed(with_tensors(script, lambda tensors: tensors["w2"].view(-1)[0].fill_(value)))


def test_agreement_fails_where_only_one_batch_size_is_wrong(script):
    def only_batch_two(plan):
        plan["sizes"]["rows"] = {"scalar": False, "values": [2, 1]}
        plan["nodes"].append({"op": "Reshape", "inputs": ["y", "rows"], "outputs": ["z"], "attrs": {}})
        plan["output"] = "z"

    with pytest.raises(BundleError, match=r"by torch on white noise x .*, batch [15] fails: RuntimeError: shape"):
        agreed(with_plan(script, only_batch_two))


def test_agreement_fails_for_the_route_that_is_wrong_alone(script):
    other = make_artefact("1", small_graph(1), "torchscript")
    wrong = replace(script, files=script.files | {"challenge_1.ts": other.files["challenge_1.ts"]})
    with pytest.raises(ParityError, match="challenge 1 by torchscript"):
        agreed(wrong)
    swapped = replace(script, files=script.files | {"challenge_1.onnx": other.files["challenge_1.onnx"]})
    with pytest.raises(ParityError, match="challenge 1 by onnxruntime"):
        agreed(replace(swapped, runtime="auto"))


def test_plan_may_not_vouch_for_itself(script, monkeypatch):
    """An operator that is wrong in every precision agrees with itself; onnx's own evaluator and onnxruntime tell."""
    monkeypatch.setitem(OPERATORS, "Relu", lambda node: torch.abs)
    with pytest.raises(ParityError, match=r"NOT EQUAL.*the executor in float64 contradicts the other two witnesses"):
        agreed(script)


def test_operator_that_the_executor_lacks_is_named_at_build_time(script, monkeypatch):
    monkeypatch.delitem(OPERATORS, "Relu")
    with pytest.raises(ExportError, match=r"no operator Relu"):
        make_artefact("1", small_graph(0), "torch")


def test_agreement_covers_batch_1_2_and_5_on_every_route(script):
    reports = agreed(script)
    assert set(reports) == {"torch", "torchscript"}
    for report in reports.values():
        assert report.max_error < 1e-5
        assert all(any(f"batch {b}" in case.name for case in report.cases) for b in (1, 2, 5))


def test_numbers_that_are_not_finite_stay_so_on_every_route(folder):
    x = WINDOWS.clone()
    x[0, 3, 7] = float("nan")
    for route in ("torch", "torchscript", "onnxruntime"):
        y = load_model(folder, "challenge_1", "cpu", route).forward(x)
        assert torch.isfinite(y).tolist() == [[False], [True], [True], [True], [True]]


def test_tensors_reach_onnxruntime_without_numpy(folder, monkeypatch):
    """torch 2.2 cannot talk to numpy 2: dlpack carries the numbers, whatever the strides of the input."""
    expected = load_model(folder, "challenge_1", "cpu", "onnxruntime").forward(WINDOWS)
    monkeypatch.setattr(rtserve.runtime.onnxruntime_route, "_has_numpy_bridge", lambda: False)
    monkeypatch.setattr(torch.Tensor, "numpy", refuse)
    monkeypatch.setattr(torch, "from_numpy", refuse)
    model = load_model(folder, "challenge_1", "cpu", "onnxruntime")
    assert (model.route, model.reason) == ("onnxruntime", "")
    with torch.inference_mode():
        assert torch.equal(model.forward(WINDOWS), expected)
        assert torch.equal(model.forward(WINDOWS.transpose(1, 2).contiguous().transpose(1, 2)), expected)
        first = model.forward(WINDOWS[:1])
        model.forward(WINDOWS[1:2])
        assert torch.equal(first, model.forward(WINDOWS[:1]))
        assert torch.equal(copy.deepcopy(model).forward(WINDOWS), expected)


def refuse(*_):
    raise RuntimeError("numpy is not available")


WHEEL = "onnxruntime-1.23.2-cp310-cp310-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"


def wheel_at(path):
    """Write something with a wheel's names."""
    names = [
        "__init__.py",
        "LICENSE",
        "capi/onnxruntime_pybind11_state.cpython-310-x86_64-linux-gnu.so",
        "tools/big.py",
    ]
    with zipfile.ZipFile(path, "w") as out:  # noqa: TID251
        for name in names:
            out.writestr(f"onnxruntime/{name}", name)
    return path


def test_wheel_is_trimmed_to_what_runs_a_graph(tmp_path):
    data = trim_wheel(wheel_at(tmp_path / WHEEL))
    assert sorted(zipfile.ZipFile(io.BytesIO(data)).namelist()) == [  # noqa: TID251
        "onnxruntime/LICENSE",
        "onnxruntime/__init__.py",
        "onnxruntime/capi/onnxruntime_pybind11_state.cpython-310-x86_64-linux-gnu.so",
    ]
    assert trim_wheel(tmp_path / WHEEL) == data


def recipe_with(tmp_path, head):
    return load_recipe(write_recipe(tmp_path / "recipe", head=head))


def test_onnxruntime_needs_a_wheel_and_a_wheel_needs_onnxruntime(tmp_path):
    with pytest.raises(ProfileError, match="without a wheel"):
        vendored_files(recipe_with(tmp_path, 'runtime = "onnxruntime"'), None)
    assert vendored_files(recipe_with(tmp_path, 'runtime = "auto"'), None) == {}
    wheel_at(tmp_path / "recipe" / WHEEL)
    digest = sha256_bytes((tmp_path / "recipe" / WHEEL).read_bytes())
    named = f'wheel = {{ path = "{WHEEL}", sha256 = "{digest}" }}'
    assert list(vendored_files(recipe_with(tmp_path, f'runtime = "auto"\n{named}'), None)) == [
        "onnxruntime-1.23.2-cp310-x86_64.zip"
    ]
    with pytest.raises(ProfileError, match="no challenge runs"):
        vendored_files(recipe_with(tmp_path, f'runtime = "torch"\n{named}'), None)
    with pytest.raises(InputError, match="sha256"):
        vendored_files(recipe_with(tmp_path, f'runtime = "auto"\n{named}'.replace(digest, "0" * 64)), None)


IMPORT = """
import sys
sys.modules["onnxruntime"] = None
del sys.modules["onnxruntime"]
class Hide:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime" and path is None and not any("onnxruntime-" in p for p in sys.path):
            raise ImportError("hidden")
sys.meta_path.insert(0, Hide())
from pathlib import Path
from rtserve.runtime.onnxruntime_route import make_importable
make_importable(Path(sys.argv[1]))
import onnxruntime
print(onnxruntime.HERE)
"""


def test_package_that_travels_is_unpacked_elsewhere_and_imported(tmp_path):
    import platform

    name = f"onnxruntime-9.9-cp{sys.version_info[0]}{sys.version_info[1]}-{platform.machine()}.zip"
    with zipfile.ZipFile(tmp_path / name, "w") as out:  # noqa: TID251
        out.writestr("onnxruntime/__init__.py", "HERE = __file__")
    tmp_path.chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", IMPORT, str(tmp_path)], capture_output=True, text=True, check=False
        )
    finally:
        tmp_path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) not in done.stdout
    assert "onnxruntime-" in done.stdout


def test_what_a_graph_costs_is_told_without_torch(tmp_path):
    path = small_graph(0).save(tmp_path / "g.onnx")
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from rtserve.graphs.graph import Graph\n"
        "from rtserve.submission.route_times import graph_us\n"
        f"print(graph_us(Graph.load({str(path)!r})) > 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("True", 0), done.stderr
