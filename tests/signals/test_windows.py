"""Window sets: what is written is read back, in volts, and what is no window set is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from rtserve.errors import InputError, SpecMismatchError
from rtserve.signals.windows import Stated, Target, WindowSet, load_windows, save_windows


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


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_several_targets_classes_and_what_is_unknown_come_back(tmp_path, suffix):
    plain = small()
    hand = Target(values=np.array([0, 1, 1, 0, 0, 1], "f4"), classes=("left", "right"))
    windows = replace(
        plain,
        targets={"hand": hand, "age": Target(values=np.arange(6, dtype="f4"))},
        preprocessing=(("highpass_hz", "0.5"),),
        unit=None,
        sfreq=0.0,
    )
    again = load_windows(save_windows(tmp_path / f"w{suffix}", windows))
    assert (again.unit, again.sfreq, again.preprocessing) == (None, 0.0, (("highpass_hz", "0.5"),))
    assert again.input_spec == windows.input_spec
    by_hand = again.with_target("hand")
    assert (by_hand.target, by_hand.classes, by_hand.y.tolist()) == ("hand", ("left", "right"), hand.values.tolist())
    assert by_hand.targets["response_time"].values.tolist() == plain.y.tolist()
    assert by_hand.take(np.array([5, 0])).targets["age"].values.tolist() == [5, 0]
    assert by_hand.with_target("response_time").digest == again.digest
    with pytest.raises(InputError, match="no target 'sex'"):
        again.with_target("sex")


def test_nothing_is_said_for_a_file_that_says_nothing(tmp_path):
    np.savez(tmp_path / "w.npz", X=small().X, y=small().y)
    windows = load_windows(tmp_path / "w.npz")
    assert (windows.unit, windows.sfreq, windows.target, windows.ch_names) == (None, 0.0, "", ())
    spec = replace(small().input_spec, ch_names=())
    with pytest.raises(InputError, match=r"w\.npz does not say its unit; net takes unit V") as caught:
        windows.require_spec(spec, name="net")
    assert "--unit" in caught.value.hint
    with pytest.raises(InputError, match="does not say its sfreq; net takes sfreq 128"):
        load_windows(tmp_path / "w.npz", stated=Stated(unit="V")).require_spec(spec, name="net")
    said = load_windows(tmp_path / "w.npz", stated=Stated(unit="V", sfreq=128.0, target="age"))
    assert said.require_spec(spec, name="net") == ""
    assert said.target == "age"


def test_what_is_stated_may_not_contradict_the_file(tmp_path):
    path = save_windows(tmp_path / "w.npz", small())
    assert load_windows(path, stated=Stated(unit="V", sfreq=128.0)).digest == small().digest
    for stated, says in (
        (Stated(unit="uV"), "says its unit is V, not uV"),
        (Stated(sfreq=100.0), "says its sfreq is 128 Hz, not 100 Hz"),
        (Stated(target="age"), "holds the target response_time, not age"),
    ):
        with pytest.raises(InputError, match=says):
            load_windows(path, stated=stated)


def test_standardised_windows_are_a_kind_of_their_own(tmp_path):
    X = np.random.default_rng(0).standard_normal((6, 3, 20)).astype("f4")
    windows = replace(small(), X=X, unit="1")
    again = load_windows(save_windows(tmp_path / "w.npz", windows))
    assert again.unit == "1"
    assert np.array_equal(again.X, X)
    assert again.digest == windows.digest != replace(windows, unit=None).digest
    with pytest.raises(InputError, match="half its samples exceed"):
        WindowSet(X=X, y=small().y)
    with pytest.raises(InputError, match="that is the size of EEG in volts"):
        replace(small(), unit="1")
    np.savez(tmp_path / "small.npz", X=small().X, y=small().y, unit="uV")
    with pytest.raises(InputError, match="half its samples are under"):
        load_windows(tmp_path / "small.npz")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"X": np.zeros((6, 3))}, r"X is float64 \(6, 3\)"),
        ({"y": np.zeros(5)}, r"y is float64 \(5,\) for 6 windows"),
        ({"y": np.array(["a"] * 6)}, "y is <U1"),
        ({"y": np.full(6, np.nan)}, "6 targets do"),
        ({"X": np.full((6, 3, 20), np.inf)}, "6 windows hold NaN or Inf"),
        ({"unit": "uV"}, "windows in unit 'uV'"),
        ({"ch_names": ("A",)}, "1 channel names for 3"),
        ({"subject": np.array(["s"])}, "1 entries in subject"),
        ({"sfreq": -1.0}, "-1.0 Hz is impossible"),
        ({"t0": float("nan")}, "first sample at nan s is impossible"),
        ({"ch_names": ("A", "B", "A")}, "two channels are called A"),
        ({"targets": {"age": Target(values=np.zeros(2))}}, "target age is"),
    ],
)
def test_windows_made_here_are_checked_as_a_file_is(change, says):
    arguments = {"X": small().X, "y": small().y, **change}
    with pytest.raises(InputError, match=says):
        WindowSet(**arguments)


def test_names_of_classes_need_their_order(tmp_path):
    names = np.array(["right", "left", "left", "right", "left", "left"])
    np.savez(tmp_path / "w.npz", X=small().X, y=names, unit="V")
    with pytest.raises(InputError, match="nothing says which class number each has") as caught:
        load_windows(tmp_path / "w.npz")
    assert "--classes left,right" in caught.value.hint
    windows = load_windows(tmp_path / "w.npz", stated=Stated(classes=("right", "left")))
    assert windows.y.tolist() == [0, 1, 1, 0, 1, 1]
    assert windows.classes == ("right", "left")
    with pytest.raises(InputError, match="'right', which is none of the classes left"):
        load_windows(tmp_path / "w.npz", stated=Stated(classes=("left",)))
    np.savez(tmp_path / "w.npz", X=small().X, y=np.arange(6), unit="V", classes=["left", "right"])
    with pytest.raises(InputError, match="has 2 at window 2, no number of the 2 classes"):
        load_windows(tmp_path / "w.npz")


def test_scalars_of_any_shape_and_bytes_are_read(tmp_path):
    np.savez(tmp_path / "w.npz", X=1e6 * small().X, y=small().y, sfreq=np.array([250.0]), unit=b"\xc2\xb5V", t0=[[-1]])
    windows = load_windows(tmp_path / "w.npz")
    assert (windows.sfreq, windows.t0, windows.unit) == (250.0, -1.0, "V")
    assert np.allclose(windows.X, small().X, rtol=1e-5)
    for wrong, says in ((np.array([100.0, 250.0]), "has 2 values"), ("fast", "'fast', no number"), (-5, "impossible")):
        np.savez(tmp_path / "w.npz", X=small().X, y=small().y, sfreq=wrong)
        with pytest.raises(InputError, match=says):
            load_windows(tmp_path / "w.npz")
