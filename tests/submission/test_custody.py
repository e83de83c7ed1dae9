"""Custody: an untouched zip verifies; whatever is changed is caught, and the file is named."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.files import sha256_bytes
from rtserve.submission.archive import read_zip, zip_bytes
from rtserve.submission.bundle import build
from rtserve.submission.custody import verify
from rtserve.submission.manifest import seal
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


def test_answers_that_changed_are_caught_by_the_replay(built, tmp_path):
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


def test_evidence_of_this_graph_is_cited(built, tmp_path):
    digest = built.manifest["challenges"]["1"]["graph_sha256"]
    recipe = write_recipe(tmp_path / "recipe")
    (recipe.parent / "bench.json").write_text(json.dumps({"schema": "rtserve.bench/1", "graph_sha256": digest}))
    recipe.write_text('evidence = ["bench.json"]\n' + recipe.read_text())
    manifest = build(recipe, output=tmp_path / "s.zip").manifest
    assert manifest["evidence"][0]["challenges"] == ["1"]
    assert manifest["evidence"][0]["file"] == "bench.json"
