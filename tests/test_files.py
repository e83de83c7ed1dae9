"""What files are called where several of a name are given."""

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
