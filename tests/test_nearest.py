"""What may be meant: names and files that resemble what was asked for, and none that do not."""

from pathlib import Path

import pytest

from rtserve.nearest import MOST_FILES, file_meant, meant, nearest, nearest_file


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("W.npz", "M1.onnx", "members/best.pth", "members/last.pth", ".hidden.npz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("W.nzp", "W.npz"),
        ("w.npz", "W.npz"),
        ("M1.onx", "M1.onnx"),
        ("M1.pth", "M1.onnx"),
        ("members/bst.pth", "members/best.pth"),
        ("member/best.pth", "members/best.pth"),
        ("member/other.pth", "members"),
        (".hiden.npz", ".hidden.npz"),
    ],
)
def test_a_file_that_is_nearly_there_is_found(folder, given, found):
    assert nearest_file(given) == Path(found)
    assert file_meant(given, "else") == f"did you mean {found}?"


@pytest.mark.parametrize("given", ["recording.npz", "zzz.onnx", "hidden.npz", "W.npz", "other/far/x.pth", ""])
def test_a_common_ending_makes_no_two_files_alike(folder, given):
    assert nearest_file(given) is None
    assert file_meant(given, "else") == "else"


def test_the_same_ending_goes_before_a_nearer_name(folder):
    for name in ("run1.pth", "run11.onnx"):
        Path(name).touch()
    assert nearest_file("run12.pth") == Path("run1.pth")


def test_a_folder_that_cannot_be_listed_and_a_huge_one_are_no_trouble(folder, monkeypatch):
    assert nearest_file("W.npz/x") is None
    monkeypatch.setattr("rtserve.nearest.MOST_FILES", 0)
    assert nearest_file("W.nzp") is None
    assert MOST_FILES >= 1000


def test_names_are_found_whatever_their_case():
    assert nearest("uv", ["V", "mV", "uV"]) == ["uV"]
    assert nearest("SCALE", ["scale", "roll"]) == ["scale"]
    assert meant("eeg202", ["eeg2025", "eeg2026", "bci"], "none", n=2) in (
        "did you mean eeg2025 or eeg2026?",
        "did you mean eeg2026 or eeg2025?",
    )
    assert meant("zzz", ["roll"], "views are roll") == "views are roll"
