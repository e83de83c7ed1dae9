"""Compiled code in a zip answers only where it is its graph's and runs here; otherwise the plan does, and says why."""

import copy
import json
import pickle  # noqa: TID251  (only of models made here)
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

import rtserve.runtime.native_route  # noqa: F401  (enters its route)
from rtserve.cli.main import main
from rtserve.errors import EnvironmentMissingError, ProfileError
from rtserve.files import sha256_bytes
from rtserve.graphs.native import generate_graph
from rtserve.native.build import build as build_code
from rtserve.native.compiler import find_compiler, levels_here
from rtserve.runtime.serving import load_model
from rtserve.submission.archive import read_zip, unpack, zip_bytes
from rtserve.submission.artefacts import make_artefact, tensor_bytes
from rtserve.submission.bundle import build
from rtserve.submission.compiled import NATIVE, require_compiled_allowed
from rtserve.submission.custody import verify
from rtserve.submission.manifest import seal
from rtserve.submission.profile import load_profile
from rtserve.submission.recipe import load_recipe
from tests.submission.small import agreed, small_graph, write_recipe

pytestmark = pytest.mark.tools
WINDOWS = 1e-2 * torch.randn(5, 129, 200, generator=torch.Generator().manual_seed(1))
CODE, WEIGHTS, TOLD = (f"challenge_1{ending}" for ending in NATIVE)


@pytest.fixture(scope="module", autouse=True)
def _compiler():
    try:
        find_compiler()
    except EnvironmentMissingError as missing:
        pytest.skip(missing.message)


def files_of(seed):
    """Files of a challenge, with the reference windows that a zip has."""
    artefact = make_artefact("1", small_graph(seed), "native", windows=WINDOWS.numpy())
    folder_free = {**artefact.files}
    return artefact, folder_free


@pytest.fixture(scope="module")
def made():
    """Two graphs' files, the first with its reference beside it."""
    (one, files), (_, other) = files_of(0), files_of(1)
    from rtserve.graphs.runners import PlanRunner

    answers = PlanRunner(one.graph, double=True).infer(WINDOWS.numpy()).astype("f4")
    files["reference.pt"] = tensor_bytes({"windows": WINDOWS, "challenge_1": torch.from_numpy(answers)})
    return one, files, other


def opened(folder, files, runtime="native"):
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return load_model(folder, "challenge_1", "cpu", runtime)


def test_code_gives_the_plans_numbers_and_survives_copies(made, tmp_path):
    model, plan = opened(tmp_path, made[1]), load_model(tmp_path, "challenge_1", "cpu", "torch")
    assert (model.route, model.reason) == ("native", "")
    assert not model.training
    assert not model.state_dict()
    for batch in (0, 1, 2, 5):
        expected = plan.forward(WINDOWS[:batch])
        for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            got = other.forward(WINDOWS[:batch])
            assert got.shape == (batch, 1)
            torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    turned = WINDOWS.transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(model.forward(turned), model.forward(WINDOWS), rtol=0, atol=0)


def test_what_is_no_number_stays_with_its_window(made, tmp_path):
    x = WINDOWS.clone()
    x[1, 3, 7] = float("nan")
    y = opened(tmp_path, made[1]).forward(x)
    assert torch.isfinite(y).tolist() == [[True], [False], [True], [True], [True]]


def test_windows_of_another_shape_are_refused(made, tmp_path):
    model = opened(tmp_path, made[1])
    with pytest.raises(ValueError, match=r"\(200, 129\).*\[129, 200\]"):
        model.forward(WINDOWS.transpose(1, 2))


def test_code_of_two_graphs_is_not_mixed_up(made, tmp_path):
    """Each library is loaded under a name of its own, whatever numbers the system gives its files."""
    _, files, other = made
    models = []
    for k, data in enumerate((files, {**other, "reference.pt": files["reference.pt"]}, files)):
        (tmp_path / str(k)).mkdir()
        models.append(opened(tmp_path / str(k), data))
    first, second, third = models
    assert (first.route, third.route) == ("native", "native")
    assert second.route == "torch"  # the reference is the first graph's
    assert "reference windows" in second.reason
    assert torch.equal(first.forward(WINDOWS), third.forward(WINDOWS))


def told(files, **changes):
    return json.dumps(json.loads(files[TOLD]) | changes).encode()


def flipped(data):
    data = bytearray(data)
    data[len(data) // 2] ^= 1
    return bytes(data)


def with_digests(files, **changes):
    """The files with their description made right again: what is left to tell is the answers."""
    digests = json.loads(files[TOLD])["sha256"] | {
        "so": sha256_bytes(files[CODE]),
        "weights": sha256_bytes(files[WEIGHTS]),
    }
    return files | {TOLD: told(files, sha256=digests, **changes)}


def no_level(files):
    generated = generate_graph(small_graph(0))
    levels = [replace(level, able="0") for level in levels_here()[:1]]
    built = build_code(generated, levels=levels, extra=("-O1",))
    return with_digests(files | {CODE: built.library}, levels=[level.name for level in levels])


CHANGES = {
    "code": (lambda f, o: f | {CODE: flipped(f[CODE])}, CODE),
    "weights": (lambda f, o: f | {WEIGHTS: flipped(f[WEIGHTS])}, WEIGHTS),
    "weights with their digest": (lambda f, o: with_digests(f | {WEIGHTS: flipped(f[WEIGHTS])[:-4]}), "the weights"),
    "other weights with their digest": (lambda f, o: with_digests(f | {WEIGHTS: o[WEIGHTS]}), "reference windows"),
    "description": (lambda f, o: f | {TOLD: b"{}"}, "KeyError"),
    "not JSON": (lambda f, o: f | {TOLD: b"\xff"}, "Error"),
    "another graph's": (lambda f, o: f | {name: o[name] for name in (CODE, WEIGHTS, TOLD)}, "challenge_1.onnx"),
    "another graph's, said to be this one's": (
        lambda f, o: f | {CODE: o[CODE], WEIGHTS: o[WEIGHTS], TOLD: told(o, graph=json.loads(f[TOLD])["graph"])},
        "reference windows",
    ),
    "a level is missing": (lambda f, o: f | {TOLD: told(f, levels=["x86-64-v9"])}, "instruction sets"),
    "a processor without": (lambda f, o: no_level(f), "this processor has none of"),
    "another machine's": (lambda f, o: f | {TOLD: told(f, machine="riscv64")}, "riscv64"),
    "another window": (lambda f, o: f | {TOLD: told(f, window=[129, 100])}, "window"),
    "no tolerance": (lambda f, o: f | {TOLD: told(f, tolerance=0.0)}, "reference windows"),
    "no library at all": (lambda f, o: with_digests(f | {CODE: b"\x7fELF nothing"}), "OSError"),
    "no reference": (lambda f, o: {name: data for name, data in f.items() if name != "reference.pt"}, "reference.pt"),
}  # fmt: skip


@pytest.mark.parametrize("kind", CHANGES)
def test_code_that_is_not_the_graphs_yields_to_the_plan_and_says_why(made, tmp_path, kind):
    change, said = CHANGES[kind]
    _, files, other = made
    model = opened(tmp_path, change(files, other))
    assert model.route == "torch"
    assert said in model.reason
    torch.testing.assert_close(model.forward(WINDOWS), load_model(tmp_path, "challenge_1", "cpu").forward(WINDOWS))


def test_elsewhere_than_on_a_cpu_the_plan_answers(made, tmp_path):
    opened(tmp_path, made[1])
    model = load_model(tmp_path, "challenge_1", "meta", "native")
    assert (model.route, "meta" in model.reason) == ("torch", True)


def test_agreement_covers_the_code(made):
    artefact, files, other = made
    beside = {"reference.pt": files["reference.pt"]}
    assert set(agreed(artefact, beside)) == {"torch", "native"}


DRIVE = """
import copy, json, pickle, sys
for name in ("numpy", "onnx", "onnxruntime", "onnx_ir", "rtserve", "scipy"):
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
import torch
from submission import Submission
windows = torch.load(sys.argv[1] + "/reference.pt", weights_only=True)
said = {}
with torch.inference_mode():
    for key in "12":
        submission = Submission(100, torch.device("cpu"))
        model = getattr(submission, "get_model_challenge_" + key)()
        for other in (model, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            torch.testing.assert_close(other.forward(windows["windows"]), windows["challenge_" + key])
        said[key] = [model.route, model.reason]
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    recipe = write_recipe(folder / "recipe", members=1, views=("identity",), head='runtime = "native"')
    return build(recipe, output=folder / "s.zip")


def test_zip_runs_its_code_with_torch_alone(bundle, tmp_path):
    unpack(read_zip(bundle.path), tmp_path / "input")
    for file in (tmp_path / "input").iterdir():
        file.chmod(0o444)
    (tmp_path / "input").chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", DRIVE, str(tmp_path / "input")],
            capture_output=True, text=True, cwd="/", env={"OMP_NUM_THREADS": "1"}, check=False,
        )  # fmt: skip
    finally:
        (tmp_path / "input").chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"1": ["native", ""], "2": ["native", ""]}


def test_manifest_and_agreement_name_the_code(bundle):
    one = bundle.manifest["challenges"]["1"]
    assert (one["runtime"], one["native"], one["routes"]) == ("native", TOLD, ["torch", "native"])
    assert {CODE, WEIGHTS, TOLD} <= set(bundle.manifest["files"])
    assert set(bundle.agreement["1"]) == {"torch", "native"}


def test_zip_is_verified(bundle):
    result = verify(bundle.path)
    assert result.passed, [step for step in result.steps if step.status == "failed"]
    assert result.routes == {"1": "native", "2": "native"}


def test_zip_passes_its_check(bundle, quick_check):
    report = quick_check(bundle.path)
    status = {r.code: (r.status, r.findings) for r in report.results}
    assert {code: status[code][0] for code in ("RT401", "RT402", "RT403", "RT406")} == dict.fromkeys(
        ("RT401", "RT402", "RT403", "RT406"), "passed"
    ), status
    assert not report.failed


def resealed(bundle, folder, change):
    files = read_zip(bundle.path)
    change(files)
    manifest = json.loads(files["manifest.json"])
    listed = {name: sha256_bytes(data) for name, data in files.items() if name != "manifest.json"}
    files["manifest.json"] = (
        json.dumps(seal({**manifest, "files": listed}), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    ).encode()
    path = folder / "changed.zip"
    path.write_bytes(zip_bytes(files))
    return path


def swap(files):
    for ending in NATIVE:
        one, two = f"challenge_1{ending}", f"challenge_2{ending}"
        files[one], files[two] = files[two], files[one]


def patch_code(files):
    files |= with_digests({**files, CODE: files[CODE] + b"more"})


def patch_weights(files):
    files |= with_digests({**files, WEIGHTS: flipped(files[WEIGHTS])})


def take_away(files):
    del files[CODE]


def edit_c(files):
    digests = json.loads(files[TOLD])["sha256"] | {"c": "0" * 64}
    files[TOLD] = told(files, sha256=digests)


@pytest.mark.parametrize(("change", "name"), [
    (swap, TOLD), (patch_code, CODE), (patch_weights, WEIGHTS), (take_away, CODE), (edit_c, TOLD),
])  # fmt: skip
def test_changes_are_caught_even_with_digests_made_right(bundle, tmp_path, change, name):
    result = verify(resealed(bundle, tmp_path, change), replay=False)
    found = [text for step in result.steps if step.status == "failed" for text in step.findings]
    assert any(text.startswith(f"{name}:") for text in found), found


def test_check_tells_code_of_another_graph(bundle, quick_check, tmp_path):
    report = quick_check(resealed(bundle, tmp_path, swap), run=False)
    (result,) = (r for r in report.results if r.code == "RT406")
    assert result.status == "failed"
    assert {finding.where for finding in result.findings} == {TOLD, "challenge_2.native.json"}


def test_contest_that_forbids_code_says_so(bundle, quick_check, tmp_path):
    profile = replace(load_profile("eeg2025"), no_binaries="own-packages")
    recipe = load_recipe(write_recipe(tmp_path / "r", members=1, head='runtime = "native"'))
    with pytest.raises(ProfileError, match=r'"native" of challenge 1 .*eeg2025 says: extra packages'):
        require_compiled_allowed(recipe, profile)
    require_compiled_allowed(recipe, load_profile("eeg2025"))
    require_compiled_allowed(load_recipe(write_recipe(tmp_path / "t", members=1)), profile)
    report = quick_check(bundle.path, profile=profile, run=False)
    (result,) = (r for r in report.results if r.code == "RT406")
    assert [finding.where for finding in result.findings] == [CODE]
    assert "official start kit" in result.findings[0].message


def test_no_compiler_is_said_in_one_line(monkeypatch, tmp_path, capsys):
    recipe = write_recipe(tmp_path / "r", members=1, views=("identity",), head='runtime = "native"')
    monkeypatch.setenv("CC", "no-such-compiler")
    with pytest.raises(SystemExit) as end:
        main(["build", str(recipe), "-o", str(tmp_path / "s.zip")])
    said = capsys.readouterr().err
    assert end.value.code == 4
    assert "no C compiler no-such-compiler" in said
    assert "Traceback" not in said
    assert not (tmp_path / "s.zip").exists()
