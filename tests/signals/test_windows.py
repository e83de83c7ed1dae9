"""Window sets: what is written is read back, in volts, and what is no window set is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtserve.errors import InputError, SpecMismatchError
from rtserve.signals.windows import WindowSet, load_windows, save_windows


def small(n=6):
    rng = np.random.default_rng(0)
    return WindowSet(
        X=(1e-5 * rng.standard_normal((n, 3, 20))).astype("f4"),
        y=rng.uniform(0, 2, n).astype("f4"),
        subject=np.array([f"s{i // 2}" for i in range(n)]),
        run_id=np.array([f"r{i % 2}" for i in range(n)]),
        ch_names=("A", "B", "C"),
        sfreq=128.0,
        t0=-0.5,
        target="response_time",
        extra={"split": np.array(["train", "test"] * (n // 2)), "planted_r": np.float64(0.3)},
    )


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_a_set_comes_back_as_it_was(tmp_path, suffix):
    windows = small()
    path = save_windows(tmp_path / f"w{suffix}", windows)
    again = load_windows(path)
    assert again.digest == windows.digest
    assert (again.sfreq, again.t0, again.target, again.ch_names) == (128.0, -0.5, "response_time", ("A", "B", "C"))
    assert again.run_id.tolist() == windows.run_id.tolist()
    assert again.extra["split"].tolist() == windows.extra["split"].tolist()
    assert float(again.extra["planted_r"]) == 0.3


def test_same_windows_same_bytes(tmp_path):
    first, second = (save_windows(tmp_path / name, small()) for name in ("a.npz", "b.npz"))
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(("unit", "factor"), [("uV", 1e6), ("mV", 1e3), ("V", 1.0)])
def test_samples_are_volts_in_memory_whatever_the_file_says(tmp_path, unit, factor):
    windows = small()
    np.savez(tmp_path / "w.npz", X=windows.X * factor, y=windows.y, unit=unit, sfreq=100.0)
    assert np.allclose(load_windows(tmp_path / "w.npz").X, windows.X, rtol=1e-5)


def test_microvolt_declared_as_volt_is_named_with_the_factor(tmp_path):
    np.savez(tmp_path / "w.npz", X=small().X * 1e6, y=small().y, unit="V")
    with pytest.raises(InputError, match="its unit is V") as caught:
        load_windows(tmp_path / "w.npz")
    assert "1e6" in caught.value.hint


def test_windows_that_are_not_finite_are_refused_unless_asked_for(tmp_path):
    X = small().X.copy()
    X[2, 1, 3] = np.nan
    np.savez(tmp_path / "w.npz", X=X, y=small().y)
    with pytest.raises(InputError, match="1 windows hold NaN or Inf"):
        load_windows(tmp_path / "w.npz")
    assert np.isnan(load_windows(tmp_path / "w.npz", allow_nonfinite=True).X).sum() == 1


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"X": np.zeros((2, 3, 4))}, "has no y"),
        ({"X": np.zeros((2, 3)), "y": np.zeros(2)}, r"X in .* is float64 \(2, 3\)"),
        ({"X": np.zeros((2, 3, 4)), "y": np.zeros(3)}, "for 2 windows"),
        ({"X": np.zeros((2, 3, 4)), "y": np.zeros(2), "ch_names": ["A"]}, "names 1 channels for 3"),
        ({"X": np.zeros((2, 3, 4)), "y": np.zeros(2), "subject": ["A"]}, "1 entries in subject"),
        ({"X": np.zeros((2, 3, 4)), "y": np.zeros(2), "unit": "furlong"}, "unknown unit 'furlong'"),
    ],
)
def test_arrays_that_contradict_each_other(tmp_path, arrays, says):
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(InputError, match=says):
        load_windows(tmp_path / "w.npz")


@pytest.mark.parametrize("name", ["w.npz", "w.h5"])
def test_a_file_that_is_something_else(tmp_path, name):
    (tmp_path / name).write_bytes(b"PK\x03\x04 not a window set")
    with pytest.raises(InputError, match="not a"):
        load_windows(tmp_path / name)
    with pytest.raises(InputError, match="does not exist"):
        load_windows(tmp_path / f"absent-{name}")


def test_take_keeps_everything_together():
    part = small().take(np.array([4, 1]))
    assert part.subject.tolist() == ["s2", "s0"]
    assert part.extra["split"].tolist() == ["train", "test"]
    assert float(part.extra["planted_r"]) == 0.3


def test_a_network_for_other_windows_is_named_with_both_values():
    windows = small()
    windows.require_spec(windows.input_spec, name="net")
    with pytest.raises(SpecMismatchError, match="n_times 20 against 200"):
        windows.require_spec(replace(windows.input_spec, n_times=200), name="net")
    with pytest.raises(SpecMismatchError, match="channel 1 is B against C"):
        windows.require_spec(replace(windows.input_spec, ch_names=("A", "C", "B")), name="net")
    # Other names for as many channels are the user's to judge; they are noted.
    assert "B against X" in windows.require_spec(replace(windows.input_spec, ch_names=("A", "X", "C")), name="net")
