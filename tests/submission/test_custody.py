"""Custody: an untouched zip verifies; whatever is changed is caught, and the file is named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.files import sha256_bytes
from rtserve.submission.archive import read_zip, zip_bytes
from rtserve.submission.bundle import build
from rtserve.submission.custody import verification_text, verify
from rtserve.submission.manifest import seal
from rtserve.submission.validate import check
from tests.submission.small import write_recipe


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("custody")
    return build(write_recipe(folder / "recipe"), output=folder / "s.zip")


def changed(built, folder, change, *, reseal=False):
    """Write the zip with `change` applied to its files; optionally with digests and seal made right again."""
    files = read_zip(built.path)
    change(files)
    if reseal:
        manifest = json.loads(files["manifest.json"])
        listed = {name: sha256_bytes(data) for name, data in files.items() if name != "manifest.json"}
        files["manifest.json"] = json.dumps(seal({**manifest, "files": listed}), indent=1, sort_keys=True).encode()
    path = folder / "changed.zip"
    path.write_bytes(zip_bytes(files))
    return path


def findings(result):
    return [text for step in result.steps if step.status == "failed" for text in step.findings]


def test_untouched_zip_verifies_through_the_real_entry_point(built):
    result = verify(built.path)
    assert result.passed, findings(result)
    assert {step.status for step in result.steps} == {"ok"}
    assert result.graphs == {k: c["graph_sha256"] for k, c in built.manifest["challenges"].items()}
    assert result.routes == {"1": "torch", "2": "torch"}
    assert "challenge 1 ran by torch" in verification_text(result)


def rising(told):
    """Whether what was told of progress never falls back, and never claims more than there is."""
    done = [one[0] for one in told]
    return done == sorted(done) and all(0 <= done < total for done, total, _ in told)


def test_stages_are_told_as_they_come(built, quick_drives):
    told = []
    assert verify(built.path, progress=lambda *one: told.append(one)).passed
    assert rising(told)
    said = [what for _, _, what in told]
    assert said[:2] == ["manifest", "digests"]
    assert said.index("starting the sandbox") < said.index("challenge 1: windows as they are scored")
    assert told[-1][1] == told[0][1] + 5  # the sandbox, and each challenge twice
    told.clear()
    found = check(built.path, progress=lambda *one: told.append(one))
    assert found.verdict == "passed"
    assert rising(told)
    said = [what for _, _, what in told]
    assert said[0] == "reading the zip"
    assert said[said.index("asking the rules") + 1 :] == [f"rule {result.code}" for result in found.results]
    kinds = {"challenge 2: windows of other scales", "challenge 1: windows in batches", "importing the script"}
    assert kinds <= set(said)
    assert told[-1][0] == told[-1][1] - 1


def test_a_run_that_fails_comes_to_the_last_stage(built, tmp_path, quick_drives):
    told = []

    def spoil(files):
        files["submission.py"] = b"raise SystemExit(3)\n"

    check(changed(built, tmp_path, spoil), progress=lambda *one: told.append(one))
    assert rising(told)
    assert told[-1][0] == told[-1][1] - 1


def test_one_flipped_bit_in_any_file_is_caught_and_the_file_named(built, tmp_path):
    for name in read_zip(built.path):

        def flip(files, name=name):
            data = bytearray(files[name])
            data[len(data) // 2] ^= 1
            files[name] = bytes(data)

        result = verify(changed(built, tmp_path, flip))
        assert not result.passed
        assert any(text.startswith(f"{name}:") for text in findings(result)), (name, findings(result))
        assert result.steps[-1].status == "skipped"


@settings(max_examples=25)
@given(st.data())
def test_one_flipped_bit_of_the_zip_itself_is_caught(built, data):
    raw = bytearray(built.path.read_bytes())
    index = data.draw(st.integers(0, len(raw) - 1))
    raw[index] ^= 1 << data.draw(st.integers(0, 7))
    path = built.path.with_name("flipped.zip")
    path.write_bytes(bytes(raw))
    assert not verifies(path)


def verifies(path):
    """Whether a zip passes; one that cannot be read at all does not."""
    try:
        return verify(path, replay=False).passed
    except InputError:
        return False


def swap(files):
    for suffix in (".onnx", ".json", ".pt"):
        files["challenge_1" + suffix], files["challenge_2" + suffix] = (
            files["challenge_2" + suffix],
            files["challenge_1" + suffix],
        )


def edit_script(files):
    files["submission.py"] = files["submission.py"].replace(b"return self._load", b"return  self._load", 1)


def rename_view(files):
    manifest = json.loads(files["manifest.json"])
    manifest["challenges"]["1"]["views"] = ["identity"]
    files["manifest.json"] = json.dumps(manifest, indent=1, sort_keys=True).encode()


def swap_view(files):
    """As many views as before, one of them another."""
    edit_manifest(files, lambda one: one.update(views=["identity", "roll:-3"]))


def other_merge(files):
    edit_manifest(files, lambda one: one.update(merge="median"))


def other_checkpoint(files):
    edit_manifest(files, lambda one: one["members"][1].update(sha256="0" * 64))


def edit_manifest(files, change):
    manifest = json.loads(files["manifest.json"])
    change(manifest["challenges"]["1"])
    files["manifest.json"] = json.dumps(manifest, indent=1, sort_keys=True).encode()


def other_members(files):
    manifest = json.loads(files["manifest.json"])
    manifest["challenges"]["1"]["member_graphs"][0] = "0" * 64
    files["manifest.json"] = json.dumps(manifest, indent=1, sort_keys=True).encode()


def other_weights(files):
    import io

    import torch

    tensors = torch.load(io.BytesIO(files["challenge_1.pt"]), weights_only=True)  # noqa: TID251
    name = next(iter(tensors))
    tensors[name].reshape(-1)[0] += 1
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    files["challenge_1.pt"] = buffer.getvalue()


@pytest.mark.parametrize("reseal", [False, True])
@pytest.mark.parametrize(
    ("change", "name"),
    [
        (swap, "challenge_1.onnx"),
        (edit_script, "submission.py"),
        (rename_view, "challenge_1.onnx"),
        (swap_view, "challenge_1.onnx"),
        (other_merge, "challenge_1.onnx"),
        (other_checkpoint, "challenge_1.onnx"),
        (other_members, "challenge_1.onnx"),
        (other_weights, "challenge_1.pt"),
    ],
)
def test_changes_are_caught_even_with_digests_made_right(built, tmp_path, change, name, reseal):
    result = verify(changed(built, tmp_path, change, reseal=reseal))
    assert not result.passed
    assert any(text.startswith((f"{name}:", "manifest.json:")) for text in findings(result)), findings(result)
    if reseal:
        assert any(text.startswith(f"{name}:") for text in findings(result)), findings(result)


def test_extra_and_missing_files_are_named(built, tmp_path):
    extra = verify(changed(built, tmp_path, lambda files: files.update({"more.py": b"x = 1\n"})))
    assert "more.py: is in the zip, but not in the manifest" in findings(extra)
    missing = verify(changed(built, tmp_path, lambda files: files.pop("challenge_2.pt")))
    assert "challenge_2.pt: is in the manifest, but not in the zip" in findings(missing)


def test_answers_that_changed_are_caught_by_the_replay(built, tmp_path, quick_drives):
    def other_reference(files):
        import io

        import torch

        content = torch.load(io.BytesIO(files["reference.pt"]), weights_only=True)  # noqa: TID251
        content["challenge_2"] += 0.01
        buffer = io.BytesIO()
        torch.save(content, buffer)
        files["reference.pt"] = buffer.getvalue()

    result = verify(changed(built, tmp_path, other_reference, reseal=True))
    assert [step.name for step in result.steps if step.status == "failed"] == ["reference windows"]
    assert findings(result)[0].startswith("challenge_2.onnx:")


def test_what_was_not_built_here_is_bad_input(tmp_path):
    path = tmp_path / "other.zip"
    path.write_bytes(zip_bytes({"submission.py": b""}))
    with pytest.raises(InputError, match=r"manifest\.json"):
        verify(path)
    (tmp_path / "text.zip").write_text("no zip")
    with pytest.raises(InputError, match="no zip"):
        verify(tmp_path / "text.zip")


def test_command_exits_1_on_a_changed_zip(built, tmp_path, capsys):
    from rtserve.cli.main import main

    path = changed(built, tmp_path, edit_script)
    with pytest.raises(SystemExit) as stopped:
        main(["verify", str(path), "--json"])
    assert stopped.value.code == 1
    report = json.loads(capsys.readouterr().out)
    assert report["schema"] == "rtserve.verify/1"
    assert not report["passed"]


def test_evidence_of_another_graph_stops_the_build(tmp_path):
    from rtserve.errors import BundleError

    recipe = write_recipe(tmp_path / "recipe")
    (recipe.parent / "bench.json").write_text(json.dumps({"schema": "rtserve.bench/1", "graph_sha256": "0" * 64}))
    recipe.write_text('evidence = ["bench.json"]\n' + recipe.read_text())
    with pytest.raises(BundleError, match=r"bench\.json"):
        build(recipe, output=tmp_path / "s.zip")
    assert not (tmp_path / "s.zip").exists()


@pytest.fixture(scope="module")
def measured(built, tmp_path_factory):
    """A recipe beside a real score and a real benchmark of its first graph."""
    from rtserve.graphs.graph import Graph
    from rtserve.measure.bench import bench
    from rtserve.measure.evaluate import evaluate
    from rtserve.measure.results import save_result
    from rtserve.signals.simulate import simulate

    recipe = write_recipe(tmp_path_factory.mktemp("evidence") / "recipe")
    graph = Graph.from_bytes(read_zip(built.path)["challenge_1.onnx"], name="challenge_1.onnx")
    graph.save(recipe.parent / "F.onnx")
    windows = simulate(40, r=0.46, seed=1)
    score = evaluate(recipe.parent / "F.onnx", windows)
    save_result(recipe.parent / "score.json", "evaluation", score.to_dict())
    save_result(recipe.parent / "bench.json", "bench", bench(recipe.parent / "F.onnx", rounds=3).to_dict())
    return recipe


def test_score_and_benchmark_of_this_graph_are_cited_by_id_and_signature(built, measured, tmp_path):
    text = measured.read_text()
    try:
        measured.write_text('evidence = ["score.json", "bench.json"]\n' + text)
        again = build(measured, output=tmp_path / "s.zip")
    finally:
        measured.write_text(text)
    score, times = again.manifest["evidence"]
    assert (score["file"], score["kind"], score["challenges"]) == ("score.json", "evaluation", ["1"])
    assert (times["file"], times["kind"], times["challenges"]) == ("bench.json", "bench", ["1"])
    for entry in (score, times):
        assert entry["id"] == sha256_bytes((measured.parent / entry["file"]).read_bytes())
    assert [one.partition("|")[0] for one in score["signatures"]] == ["mse", "nrmse", "rmse"]
    assert all("|n:40|" in one for one in score["signatures"])
    assert times["signatures"] == []
    assert again.manifest["challenges"] == built.manifest["challenges"]
    assert verify(again.path, replay=False).passed


def test_report_of_these_results_renders_beside_this_zip_and_beside_no_other(built, measured, tmp_path):
    from rtserve.errors import BundleError
    from rtserve.report.build import write_report

    results = [measured.parent / "score.json", measured.parent / "bench.json"]
    write_report([*results, built.path], [tmp_path / "r.md"])
    assert (tmp_path / "r.md").exists()
    other = build(write_recipe(tmp_path / "other", views=("identity",)), output=tmp_path / "other.zip")
    for result in results:
        with pytest.raises(BundleError, match=r"other\.zip"):
            write_report([result, other.path], [tmp_path / "never.md"])
    assert not (tmp_path / "never.md").exists()


def test_evidence_that_is_no_result_is_bad_input(tmp_path):
    recipe = write_recipe(tmp_path / "recipe")
    (recipe.parent / "notes.json").write_text("{}")
    recipe.write_text('evidence = ["notes.json"]\n' + recipe.read_text())
    with pytest.raises(InputError, match=r"notes\.json"):
        build(recipe, output=tmp_path / "s.zip")
