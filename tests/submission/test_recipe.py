"""submission.toml: what is read, where members are found, and what is refused before anything is written."""

from dataclasses import replace

import pytest
from click.testing import CliRunner

from rtserve.cli.build import build as build_command
from rtserve.errors import InputError, ProfileError
from rtserve.submission.recipe import RUNTIMES, load_recipe
from tests.submission.small import write_recipe


@pytest.fixture
def recipe_path(tmp_path):
    return write_recipe(tmp_path / "recipe")


def edited(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_recipe_says_members_views_and_runtime(recipe_path):
    recipe = load_recipe(recipe_path)
    assert [m.graph for m in recipe.challenges["1"].members] == ["m0.onnx", "m1.onnx"]
    assert recipe.challenges["1"].views == ("identity", "roll:+3")
    assert recipe.challenges["2"].views == ("identity",)
    assert recipe.runtime_of("1") == "torch"
    assert len(recipe.require_digests(None)) == 3


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("views =", "veiws =", ["'veiws'", "did you mean views?"]),
        ('runtime = "torch"', 'runtim = "torch"', ["'runtim'", "did you mean runtime?"]),
        ('runtime = "torch"', 'runtime = "tensorrt"', ["tensorrt", "torchscript"]),
        ('runtime = "torch"', 'layout = "gpu"', ["'gpu'", "cuda"]),
        ('profile = "eeg2025"', 'profile = "eeg2052"', ["eeg2052", "eeg2025"]),
        ("[[challenges.2.members]]", "[[challenges.3.members]]", ["'3'", "1, 2"]),
        ('graph = "m0.onnx"', 'checkpoint = "m0.pth"', ["exporter"]),
        ('graph = "m0.onnx"', "graph = 3", ["3", "str"]),
        ("[[challenges.2.members]]", "[[challenges.1.members]]", ["challenge 2"]),
        ('profile = "eeg2025"', 'profile "eeg2025"', ["TOML"]),
    ],
)
def test_impossible_recipes_name_what_is_wrong(recipe_path, old, new, words):
    with pytest.raises(InputError) as caught:
        load_recipe(edited(recipe_path, old, new))
    text = f"{caught.value.message} {caught.value.hint}"
    assert all(word in text for word in words), text


def test_graphs_are_laid_out_for_what_runs_them_or_as_the_recipe_says(recipe_path):
    recipe = load_recipe(recipe_path)
    found = {name: replace(recipe, runtime=name).layout_of("1") for name in RUNTIMES}
    torchs = dict.fromkeys(("torch", "torchscript"), "torch")
    assert found == torchs | {"native": "native", "onnxruntime": "onnxruntime", "auto": "onnxruntime"}
    assert load_recipe(edited(recipe_path, 'runtime = "torch"', 'layout = "cuda"')).layout_of("1") == "cuda"


def test_digest_that_is_no_digest(recipe_path):
    with pytest.raises(ProfileError, match="sha256"):
        load_recipe(edited(recipe_path, 'sha256 = "', 'sha256 = "zz'))


def test_root_may_be_the_folder_above_or_the_first_folder_of_the_path(tmp_path):
    path = write_recipe(tmp_path / "checkpoints")
    text = path.read_text().replace('graph = "', 'graph = "checkpoints/')
    recipe_path = tmp_path / "elsewhere" / "submission.toml"
    recipe_path.parent.mkdir()
    recipe_path.write_text(text)
    recipe = load_recipe(recipe_path)
    for root in (tmp_path, tmp_path / "checkpoints"):
        assert len(recipe.require_digests(root)) == 3
    with pytest.raises(InputError, match=r"m0\.onnx"):
        recipe.require_digests(tmp_path / "elsewhere")


def test_exporter_beside_above_or_from_the_current_folder(tmp_path, monkeypatch):
    path = write_recipe(tmp_path / "checkout" / "submissions" / "one")
    exporters = tmp_path / "checkout" / "exporters"
    exporters.mkdir()
    (exporters / "net.py").write_text("")
    recipe = load_recipe(path)
    assert recipe.locate_exporter("exporters/net.py:Net").endswith("checkout/exporters/net.py:Net")
    assert recipe.locate_exporter("package.module:exporter") == "package.module:exporter"
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "other.py").write_text("")
    with pytest.raises(InputError, match=r"other\.py"):
        recipe.locate_exporter("other.py")
    monkeypatch.chdir(tmp_path / "here")
    assert recipe.locate_exporter("other.py").endswith("other.py")


@pytest.mark.parametrize("fault", ["digest", "missing", "key"])
def test_command_refuses_with_exit_2_and_writes_nothing(recipe_path, tmp_path, fault):
    from rtserve.cli.main import main

    if fault == "digest":
        (recipe_path.parent / "m1.onnx").write_bytes(b"other bytes")
    elif fault == "missing":
        (recipe_path.parent / "m1.onnx").unlink()
    else:
        edited(recipe_path, "views =", "view =")
    output = tmp_path / "out" / "s.zip"
    with pytest.raises(SystemExit) as stopped:
        main(["build", str(recipe_path), "-o", str(output)])
    assert stopped.value.code == 2
    assert not output.exists()
    assert not output.parent.exists()


def test_help_names_the_recipe():
    result = CliRunner().invoke(build_command, ["--help"])
    assert result.exit_code == 0
    assert "submission.toml" in result.output
