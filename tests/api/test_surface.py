"""What `import rtserve` is: cheap, its names pinned, typed, and each error says what to do."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import resources

import pytest

import rtserve
from rtserve import errors

NAMES = [
    "Graph", "InputSpec", "OutputSpec", "RtserveClassifier", "RtserveError", "RtserveRegressor", "WindowSet", "__version__",
    "attest", "bench", "build", "calibrate", "check", "compare", "compile", "evaluate", "export", "fuse", "load_windows",
    "predict", "replay", "save_windows", "search", "simulate", "soup", "stream", "verify",
]  # fmt: skip
"""A name that goes, or is called otherwise, breaks somebody's script: that takes a line in CHANGELOG.md."""


def test_the_public_names_are_these_and_all_of_them_are_there():
    assert rtserve.__all__ == NAMES
    assert dir(rtserve) == sorted(NAMES)
    for name in NAMES:
        assert getattr(rtserve, name) is getattr(rtserve, name)
    verbs = [getattr(rtserve, name) for name in NAMES[NAMES.index("attest") :]]
    assert [verb for verb in verbs if not (callable(verb) and verb.__doc__)] == []
    with pytest.raises(AttributeError, match=r"'fuze'; it has .*fuse"):
        rtserve.fuze  # noqa: B018


def test_the_import_loads_nothing_heavy():
    code = (
        "import sys, rtserve; dir(rtserve)\n"
        "print(sorted({m.partition('.')[0] for m in sys.modules} & {'numpy', 'torch', 'onnx', 'onnx_ir', 'mne', 'sklearn'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_package_says_that_it_is_typed_and_type_checkers_are_told_the_same_places():
    assert resources.files("rtserve").joinpath("py.typed").is_file()
    told = ast.parse(resources.files("rtserve").joinpath("__init__.pyi").read_text("utf-8"))
    places = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in told.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert places == rtserve._PLACES


@pytest.mark.parametrize("name", errors.__all__)
def test_every_error_says_its_hint_and_keeps_its_message(name):
    kind = getattr(errors, name)
    one = kind("a is 1, b is 2", hint="make them equal")
    assert str(one) == "a is 1, b is 2\nhint: make them equal"
    assert (one.message, one.hint, str(kind("alone"))) == ("a is 1, b is 2", "make them equal", "alone")
