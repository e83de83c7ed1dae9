"""The zip: its bytes repeat, it runs with torch and the standard library alone, and it gives the graph's numbers."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from rtserve.errors import InputError, SpecMismatchError
from rtserve.fusion.fuse import fuse
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import PlanRunner
from rtserve.submission.archive import read_zip, unpack, zip_bytes
from rtserve.submission.build_report import build_text
from rtserve.submission.bundle import build
from rtserve.submission.manifest import _member_layouts
from rtserve.submission.recipe import load_recipe
from rtserve.submission.route_times import BENCHED
from tests.submission.small import small_graph, write_recipe

DRIVE = """
import copy, json, pickle, sys
folder, blocked = sys.argv[1], sys.argv[2:]
for name in blocked:
    sys.modules[name] = None
sys.path.insert(0, folder)
import torch
from submission import Submission
windows = torch.load(folder + "/reference.pt", weights_only=True)["windows"]
answers = {}
with torch.inference_mode():
    for key in "12":
        submission = Submission(100, torch.device("cpu"))
        model = getattr(submission, "get_model_challenge_" + key)()
        model.eval()
        one = model.forward(windows[:1])
        assert one.shape == (1, 1) and one.dtype == torch.float32
        answers[key] = model.forward(windows)[:, 0].tolist()
        for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            assert torch.equal(other.forward(windows), model.forward(windows))
        answers["route " + key] = submission.routes
loaded = [name for name in blocked if sys.modules.get(name) is not None]
print(json.dumps({"answers": answers, "loaded": loaded}))
"""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    recipe = write_recipe(folder / "recipe", tail="[challenges.2.calibration]\nscale = 0.5\nclip = [-9.0, 9.0]")
    return build(recipe, output=folder / "s.zip")


def run_zip(path, folder, blocked=("numpy", "onnx", "onnxruntime", "onnx_ir", "rtserve", "scipy")):
    unpack(read_zip(path), folder / "input")
    for file in (folder / "input").iterdir():
        file.chmod(0o444)
    (folder / "input").chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", DRIVE, str(folder / "input"), *blocked],
            capture_output=True,
            text=True,
            cwd="/",
            env={"OMP_NUM_THREADS": "1"},
            check=False,
        )
    finally:
        (folder / "input").chmod(0o755)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_zip_runs_alone_and_gives_the_graphs_numbers(bundle, tmp_path):
    result = run_zip(bundle.path, tmp_path)
    assert result["loaded"] == []
    files = read_zip(bundle.path)
    windows = torch.load(tmp_path / "input" / "reference.pt", weights_only=True)["windows"].numpy()  # noqa: TID251
    for key in "12":
        graph = Graph.from_bytes(files[f"challenge_{key}.onnx"])
        expected = PlanRunner(graph, double=True).infer(windows)[:, 0]
        np.testing.assert_allclose(result["answers"][key], expected, rtol=1e-5)
        assert result["answers"][f"route {key}"] == {f"challenge_{key}": "torch"}


def test_manifest_has_the_digest_of_every_other_file(bundle):
    import hashlib

    files = read_zip(bundle.path)
    manifest = json.loads(files["manifest.json"])
    assert manifest == bundle.manifest
    assert set(manifest["files"]) == set(files) - {"manifest.json"}
    for name, digest in manifest["files"].items():
        assert hashlib.sha256(files[name]).hexdigest() == digest
    one = manifest["challenges"]["1"]
    assert one["graph_sha256"] == manifest["files"][one["graph"]]
    assert [len(member["sha256"]) for member in one["members"]] == [64, 64]
    assert one["views"] == ["identity", "roll:+3"]
    assert manifest["challenges"]["2"]["calibration"]["scale"] == 0.5


def test_manifest_says_everything_that_custody_needs(bundle):
    manifest = bundle.manifest
    assert manifest["profile"] == "eeg2025"
    assert manifest["rtserve"]
    assert {"torch", "onnx", "onnxruntime", "numpy"} <= set(manifest["libraries"])
    assert manifest["reference"] == {"file": "reference.pt", "windows": 4, "from": "seeded noise"}
    assert manifest["evidence"] == []
    for key, views in (("1", ["identity", "roll:+3"]), ("2", ["identity"])):
        one = manifest["challenges"][key]
        assert (one["views"], one["merge"]) == (views, "mean")
        assert one["metric"] == "nrmse|norm:std|ddof:0|agg:windows|v:1"
        assert isinstance(one["passes"], list)
        assert (one["runtime"], one["routes"]) == ("torch", ["torch"])
        assert len(one["graph_sha256"]) == 64


def test_a_layout_that_is_not_that_of_what_runs_is_said(bundle):
    one = bundle.manifest["challenges"]["1"]
    assert (one["layout"], one["member_layouts"]) == ("torch", [])
    assert "laid out" not in build_text(bundle)
    for changed, said in (
        ({"layout": "cuda"}, "laid out for the torch executor on a CUDA device, as the recipe asks"),
        ({"member_layouts": ["onnxruntime", "torch"]}, "fused for onnxruntime and keeps that layout"),
    ):
        challenges = {**bundle.manifest["challenges"], "1": one | changed}
        text = build_text(replace(bundle, manifest=bundle.manifest | {"challenges": challenges}))
        assert said in text
        assert text.count("\n") == build_text(bundle).count("\n") + 1


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_members_fused_before_keep_their_layout_and_the_manifest_says_so(engine):
    member = fuse([small_graph(0)], views="identity,scale:1.02", engine=engine, parity=False)
    graph = fuse([member, small_graph(1)], engine="torch", parity=False)
    assert _member_layouts(graph.provenance.details) == [engine]


def test_same_inputs_same_bytes(bundle, tmp_path):
    recipe = write_recipe(tmp_path / "again", tail="[challenges.2.calibration]\nscale = 0.5\nclip = [-9.0, 9.0]")
    again = build(recipe, output=tmp_path / "again.zip")
    assert again.path.read_bytes() == bundle.path.read_bytes()


def test_existing_output_needs_force(bundle, tmp_path):
    recipe = write_recipe(tmp_path / "again")
    before = bundle.path.read_bytes()
    with pytest.raises(InputError, match="exists already"):
        build(recipe, output=bundle.path)
    assert bundle.path.read_bytes() == before


def test_entry_script_holds_no_linter_notes_and_no_local_path(bundle, repo_dir):
    text = read_zip(bundle.path)["submission.py"].decode()
    assert "noqa" not in text
    assert "# type:" not in text
    assert str(repo_dir) not in text
    assert "import rtserve" not in text
    assert "class Submission" in text


def test_window_of_another_shape_is_refused(tmp_path):
    recipe = write_recipe(tmp_path / "recipe", n_chans=3)
    with pytest.raises(SpecMismatchError, match="129 against 3"):
        build(recipe, output=tmp_path / "s.zip")
    assert not (tmp_path / "s.zip").exists()


def test_zip_names_that_lead_out_are_refused(tmp_path):
    path = tmp_path / "evil.zip"
    path.write_bytes(zip_bytes({"../evil.py": b""}))
    with pytest.raises(InputError, match="leads out"):
        read_zip(path)


def test_recipe_builds_again_from_its_recorded_environment(tmp_path):
    from rtserve.errors import ProfileError
    from rtserve.submission.custody import verify
    from rtserve.submission.pins import read_pins, record_pins

    recipe = write_recipe(tmp_path / "recipe")
    pins = record_pins(recipe.parent / "environment.txt")
    assert {"torch", "onnx", "onnx-ir", "numpy"} <= set(pins)
    recipe.write_text('environment = "environment.txt"\n' + recipe.read_text())
    built = build(recipe, output=tmp_path / "s.zip")
    assert built.manifest["environment"]["differs"] == {}
    assert verify(built.path, replay=False).passed
    text = (recipe.parent / "environment.txt").read_text()
    assert len(read_pins(recipe.parent / "environment.txt")) == len(pins)
    (recipe.parent / "environment.txt").write_text(text.replace("numpy==", "numpy==0."))
    later = build(recipe, output=tmp_path / "later.zip")
    assert list(later.manifest["environment"]["differs"]) == ["numpy"]
    (recipe.parent / "environment.txt").write_text("numpy>=1\n")
    with pytest.raises(ProfileError, match="line 1"):
        build(recipe, output=tmp_path / "never.zip")


RECIPES = ("v8_views5", "v8_single")


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_this_checkout_were_recorded_with_what_make_install_sets_up(repo_dir, name):
    """So that a recipe is built again from its recorded environment by every run of the tests."""
    from rtserve.submission.pins import read_pins

    recipe = load_recipe(repo_dir / "submissions" / name / "submission.toml")
    recorded, installed = read_pins(recipe.folder / recipe.environment), read_pins(repo_dir / "constraints.txt")
    assert {"torch", "onnx", "onnxscript", "onnxruntime", "braindecode", "numpy"} <= set(recorded)
    shared = recorded.keys() & installed.keys()
    assert {n: recorded[n] for n in shared} == {n: installed[n] for n in shared}, (
        f"`rtserve env record -o submissions/{name}/environment.txt --force`, build, check and verify, and commit both"
    )


@pytest.mark.shared
@pytest.mark.parametrize("name", RECIPES)
def test_recipes_of_this_checkout_find_their_members(shared_dir, repo_dir, name):
    recipe = load_recipe(repo_dir / "submissions" / name / "submission.toml")
    for root in (shared_dir, shared_dir / "checkpoints"):
        assert len(recipe.require_digests(root)) == (6 if name == "v8_views5" else 2)


@pytest.mark.shared
@pytest.mark.slow
@pytest.mark.needs("braindecode.models")
def test_recipe_of_this_checkout_still_builds_checks_and_verifies(
    shared_dir, repo_dir, exported, tmp_path, monkeypatch
):
    from rtserve.submission.custody import verify
    from rtserve.submission.validate import check

    def once(path, *, exporter, settings, weights):  # the same exports are scored in tests/test_main_path.py
        assert not weights
        return Graph.load(exported(path, exporter, **settings))

    monkeypatch.setattr("rtserve.graphs.export.export", once)
    recipe = repo_dir / "submissions" / "v8_single" / "submission.toml"
    built = build(recipe, root=shared_dir, output=tmp_path / "s.zip")
    assert set(built.agreement) == {"1", "2"}
    assert all(set(times) == {"torch", BENCHED} for times in built.times.values())
    assert all(us > 0 for times in built.times.values() for us in times.values())
    assert f"    {BENCHED}: {built.times['1'][BENCHED]:,.0f} us (batch 1" in build_text(built)
    assert built.to_dict()["us_per_window"] == built.times
    assert built.manifest["challenges"]["1"]["members"][0]["exporter"] == "exporters/compact_rt.py"
    assert run_zip(built.path, tmp_path)["loaded"] == []
    report = check(built.path, profile="eeg2025")
    said = [note for note in report.notes if "rtserve bench times it" in note]
    assert [note.partition(":")[0] for note in said] == ["challenge 1", "challenge 2"]
    assert report.exit_code == 0, [result.code for result in report.results if result.status == "failed"]
    proof = verify(built.path)
    assert proof.passed, proof
    assert {step.status for step in proof.steps} == {"ok"}
