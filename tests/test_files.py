"""What files are called where several of a name are given, and that no locale changes what is in them."""

import ast

import pytest

from rtserve.files import file_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["x/a.onnx", "b.onnx"], ["a.onnx", "b.onnx"]),
        (["x/m.onnx", "y/m.onnx", "y/n.onnx"], ["x/m.onnx", "y/m.onnx", "n.onnx"]),
        (["1/best/m.onnx", "2/best/m.onnx"], ["1/best/m.onnx", "2/best/m.onnx"]),
        (["m.onnx", "x/m.onnx"], ["{here}/m.onnx", "x/m.onnx"]),
        (["x/m.onnx", "x/m.onnx", "x/../x/m.onnx"], ["m.onnx", "m.onnx", "m.onnx"]),
        (["ä b/m ü.onnx", "c/m ü.onnx"], ["ä b/m ü.onnx", "c/m ü.onnx"]),
        ([], []),
    ],
)
def test_files_alike_in_name_are_told_apart_by_their_folders(paths, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert file_names(paths) == [name.format(here=tmp_path) for name in names]


def unnamed_encodings(source):
    """Return the lines of a module that read or write text in whatever encoding the user's locale has."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
            continue
        match node.func:
            case ast.Attribute(attr="read_text"):
                named = len(node.args) > 0
            case ast.Attribute(attr="write_text"):
                named = len(node.args) > 1
            case ast.Name(id="open"):
                named = "b" in ast.unparse(node.args[1:2])
            case _:
                continue
        if not named:
            yield node.lineno


@pytest.mark.parametrize("line", ["p.read_text()", "p.write_text(t)", "open(p)", "open(p, 'w')"])
def test_text_in_the_encoding_of_a_locale_is_noticed(line):
    assert list(unnamed_encodings(line)) == [1]


def test_files_are_read_and_written_alike_in_every_locale(repo_dir):
    found = [
        f"{path.relative_to(repo_dir)}:{line}"
        for folder in ("rtserve", "exporters")
        for path in sorted((repo_dir / folder).rglob("*.py"))
        for line in unnamed_encodings(path.read_text("utf-8"))
    ]
    assert found == []
