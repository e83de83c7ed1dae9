"""What lies ready for braindecode in contrib/: its mixin exports, it stands alone, and its text says what was measured."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import subprocess
import sys
import warnings
from importlib.metadata import files, version
from types import ModuleType

import pytest

from tests.conftest import ROOT

FOLDER = ROOT / "contrib" / "braindecode_to_onnx"


def part(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import a file of the folder, as its own tests do."""
    monkeypatch.syspath_prepend(str(FOLDER.parent))
    return importlib.import_module(f"{FOLDER.name}.{name}")


@pytest.mark.needs("braindecode.models")
@pytest.mark.parametrize(("name", "rewritten"), [("EEGNet", ()), ("SCCNet", ()), ("SyncNet", ("SyncNet",))])
def test_the_mixin_exports_graphs_that_answer_the_same(name, rewritten, monkeypatch):
    models, mixin = part("models", monkeypatch), part("onnx_mixin", monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model, example = models.build(name)
        export = mixin.OnnxMixin.to_onnx(model, example=example)
    assert 0 <= export.largest_error <= 1e-4
    assert (export.batches, export.rewrites) == ((1, 2, 5), rewritten)


def test_the_mixin_depends_on_nothing_of_ours():
    imported = set()
    for path in (FOLDER / "onnx_mixin.py", FOLDER / "onnx_rewrites.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0] if node.level == 0 else f".{node.module}")
    foreign = {"numpy", "torch", "onnxruntime", "onnxscript", ".onnx_rewrites"}
    assert imported - set(sys.stdlib_module_names) == foreign


def test_the_text_says_what_was_measured(monkeypatch):
    measured = json.loads((FOLDER / "measured.json").read_text("utf-8"))
    text = (FOLDER / "PULL_REQUEST.md").read_text("utf-8")
    assert part("measure", monkeypatch).table(measured) in text
    assert f"braindecode {measured['versions']['braindecode']}" in text


@pytest.mark.needs("braindecode.models")
def test_the_patch_applies_to_the_braindecode_that_it_names(tmp_path):
    patch = FOLDER / "base.patch"
    named = patch.read_text("utf-8").split("\n", 1)[0].removeprefix("Against braindecode ")
    if version("braindecode") != named:
        pytest.skip(f"the patch is against braindecode {named}, here is {version('braindecode')}")
    source = next(path for path in files("braindecode") if path.match("braindecode/models/base.py"))
    target = tmp_path / "braindecode" / "models" / "base.py"
    target.parent.mkdir(parents=True)
    shutil.copyfile(source.locate(), target)
    subprocess.run(["git", "apply", str(patch)], cwd=tmp_path, check=True)
    assert "class EEGModuleMixin(OnnxMixin, " in target.read_text("utf-8")
