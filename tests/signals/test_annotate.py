"""`rtserve annotate`: what a window file does not say is written into it once; what it says is changed only by force."""

import json

import numpy as np
import pytest

from rtserve.signals.windows import WindowSet, load_windows

X = (1e1 * np.random.default_rng(0).standard_normal((8, 2, 10))).astype("f4")
NAMES = np.array(["left", "right"] * 4)


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_what_was_unknown_is_written_and_the_samples_stay(suffix, tmp_path, cli):
    path = tmp_path / f"w{suffix}"
    np.savez(tmp_path / "w.npz", X=X, y=np.arange(8.0), session=["a", "b"] * 4)
    if suffix == ".h5":
        assert cli("annotate", tmp_path / "w.npz", "-o", path)[0] == 0
    code, text, _ = cli("annotate", path, "--unit", "uV", "--sfreq", "250", "--target", "age")
    assert code == 0
    assert "unit     uV (was not said)" in text
    windows = load_windows(path)
    assert (windows.sfreq, windows.target, windows.unit) == (250.0, "age", "V")
    assert np.array_equal(windows.X, X * np.float32(1e-6))
    assert windows.extra["session"].tolist() == ["a", "b"] * 4
    code, text, _ = cli("annotate", path, "--unit", "uV", "--json")
    assert json.loads(text)["after"]["unit"] == "uV"


def test_what_is_said_is_changed_only_by_force_and_never_against_the_samples(tmp_path, cli):
    path = tmp_path / "w.npz"
    np.savez(path, X=X, y=np.arange(8.0), unit="mV")
    before = path.read_bytes()
    code, _, err = cli("annotate", path, "--unit", "uV")
    assert (code, "says its unit is mV, not uV" in err) == (2, True)
    code, _, err = cli("annotate", path, "--unit", "V", "--force")
    assert (code, "half its samples exceed" in err) == (2, True)
    assert cli("annotate", path)[0] == 2
    assert path.read_bytes() == before
    assert cli("annotate", path, "--unit", "uV", "--force")[0] == 0
    assert load_windows(path).digest == WindowSet(X=X * np.float32(1e-6), y=np.arange(8.0)).digest


def test_names_of_classes_get_their_numbers(tmp_path, cli):
    path = tmp_path / "w.npz"
    np.savez(path, X=X, y=NAMES, unit="uV")
    code, _, err = cli("inspect", path)
    assert cli("annotate", path, "--classes", "right=0,left=1")[0] == 0
    windows = load_windows(path)
    assert windows.classes == ("right", "left")
    assert windows.y.tolist() == [1, 0] * 4
    assert cli("annotate", path, "--classes", "a=0,b=2")[0] == 2
