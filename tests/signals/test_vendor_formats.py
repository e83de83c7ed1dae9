"""What GDF, Neuroscan and EGI say of events and breaks, beyond the table of `formats`; the judge is MNE's own epochs."""

from __future__ import annotations

import json
import struct
import sys

import mne
import numpy as np
import pytest
from click.testing import CliRunner

from rtserve.cli.signals import prepare
from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.signals.chosen import EventChoice
from rtserve.signals.cutting import Cutting, cut_windows
from rtserve.signals.events import EventRule
from rtserve.signals.reading import read_recording
from rtserve.signals.recordings import Cleaning, open_recording

from .pulses import NAMES
from .recordings import brain
from .vendor_files import cnt, gdf, matlab73_set, mff

RATE = 200
DATA = brain(n=3, seconds=20, rate=RATE)
AT = [400 + 500 * k for k in range(7)]
RAW = Cleaning(low=None, high=None, sfreq=None)


def _require_mff():
    pytest.importorskip("mffpy")
    pytest.importorskip("mne", minversion="1.13")


def windows(path, *names, start=0.0, stop=1.0):
    choice = EventChoice(names=names)
    return cut_windows(open_recording(path, RAW), Cutting(rule=None, choice=choice, start=start, stop=stop))


def by_mne(raw, name, start=0.0, stop=1.0):
    events = mne.events_from_annotations(raw, {name: 1}, verbose="error")[0]
    rate = raw.info["sfreq"]
    epochs = mne.Epochs(raw, events, tmin=start, tmax=stop - 1 / rate, baseline=None, preload=True, verbose="error")
    return epochs.get_data(picks="eeg").astype("f4"), events[epochs.selection, 0] / rate


def test_a_rejected_segment_of_neuroscan_takes_the_windows_that_mne_takes(tmp_path):
    events = sorted([*((at, 5) for at in AT), (1000, 0), (1600, 0), (2300, 9)])
    accepts = [{1000: 0xC0, 1600: 0xD0, 2300: 0x03}.get(at, 0) for at, _ in events]
    path = cnt(tmp_path / "x.cnt", DATA, RATE, events, names=NAMES, accepts=accepts)
    theirs = mne.io.read_raw_cnt(path, preload=True, verbose="error")
    found, (data, onset) = windows(path, "5"), by_mne(theirs, "5")
    assert np.array_equal(found.X, data)
    assert found.onset_s == pytest.approx(onset, abs=1e-9)
    assert found.dropped["in a segment marked as bad"] == 2
    (marks,) = read_recording(path).marks
    assert marks.name.tolist() == ["5", "5", "BAD_0", "5", "5", "KeyPad Response 3", "5", "5", "5"]
    assert marks.onset == pytest.approx(theirs.annotations.onset, abs=1e-6)
    assert marks.duration == pytest.approx(theirs.annotations.duration, abs=1e-6)


def test_a_neuroscan_file_that_hides_its_width_is_refused(tmp_path):
    path = cnt(tmp_path / "x.cnt", DATA, RATE, [(400, 5)], names=NAMES, samples=0)
    with pytest.raises(InputError, match="does not say whether its samples have 16 or 32 bits") as caught:
        read_recording(path)
    assert "data_format='int32'" in caught.value.hint
    path.write_bytes(path.read_bytes()[:20_000])
    with pytest.raises(InputError, match="cannot be read whole: ") as caught:
        read_recording(path)
    assert "cut off" in caught.value.hint
    cnt(path, DATA, RATE, [(400, 5)], names=NAMES, samples=2 * DATA.shape[1])  # 32 bits that count as 16
    data = bytearray(path.read_bytes())
    data[12:16] = struct.pack("<i", len(data))
    path.write_bytes(bytes(data) + bytes(52) + b"\1" + bytes(20))
    with pytest.raises(InputError, match="says in its last part that samples have 32 bits"):
        read_recording(path)


def test_a_neuroscan_break_is_crossed_by_no_window(tmp_path):
    events = [(at, 5) for at in (396, 400, 401, 402, 1000)] + [(600, 0)]
    path = cnt(tmp_path / "x.cnt", DATA, RATE, events, names=NAMES, accepts=[0] * 5 + [0xE0])
    # Windows of one second that begin at samples 395, 399, 400, 401: the break is before sample 599 or 600.
    found = windows(path, "5", stop=1.0)
    assert (np.rint(found.onset_s * RATE)).tolist() == [395, 399, 999]
    assert found.dropped["across a gap of the recording"] == 2


@pytest.mark.parametrize("version", ["2.20", "1.25"])
@pytest.mark.parametrize("event_rate", [100.0, 200.0, 1000.0])
def test_events_of_a_gdf_count_at_their_own_rate(tmp_path, version, event_rate):
    events = [(at, 769) for at in AT] + [(AT[0] + 3, 0x7FFF)]
    path = gdf(tmp_path / "x.gdf", DATA, RATE, events, names=NAMES, version=version, event_rate=event_rate)
    found = windows(path)
    assert found.onset_s == pytest.approx(np.array(AT) / RATE, abs=1e-9)
    whole = mne.io.read_raw_gdf(path, preload=True, verbose="error").get_data()
    assert np.array_equal(found.X, np.array([whole[:, at : at + RATE] for at in AT], "f4"))


UNITS = {1.0: (4275, b"uV"), 1e-3: (4274, b"mV"), 1e-6: (4256, b"V"), 1e3: (4276, b"nV")}


@pytest.mark.parametrize("size", UNITS)
@pytest.mark.parametrize("version", ["2.20", "1.25"])
def test_a_gdf_is_in_the_unit_that_it_names(tmp_path, version, size):
    unit = UNITS[size][version == "1.25"]
    path = gdf(tmp_path / "x.gdf", DATA, RATE, [(at, 769) for at in AT], names=NAMES, version=version)
    written, data = windows(path).X, bytearray(path.read_bytes())
    named = struct.pack("<H", unit) if isinstance(unit, int) else unit.ljust(8, b"\0")
    at = 256 + 3 * (16 + 80 + (6 if isinstance(unit, int) else 0))
    limits = struct.pack("<3d", *[-200.0 * size] * 3) + struct.pack("<3d", *[200.0 * size] * 3)
    data[at : at + 3 * len(named) + 48] = 3 * named + limits
    path.write_bytes(bytes(data))
    assert pytest.approx(written, rel=1e-5, abs=1e-12) == windows(path).X
    word = {1.0: "uV", 1e-3: "mV", 1e-6: "V", 1e3: "nV"}[size]
    said = open_recording(path, Cleaning(low=None, high=None, sfreq=None, unit=word))  # which takes the claim's place
    assert said.data == pytest.approx(open_recording(path, RAW).data, rel=1e-9, abs=1e-15)


def test_a_break_of_a_gdf_is_no_class(tmp_path):
    events = sorted([*((at, 769) for at in AT), (AT[2] + 300, 0x7FFE)])
    path = gdf(tmp_path / "x.gdf", DATA, RATE, events, names=NAMES)
    (marks,) = read_recording(path).marks
    assert marks.name[marks.joins].tolist() == ["boundary"]
    assert windows(path).event.tolist() == ["769"] * len(AT)


def test_half_a_set_of_v73_is_called_so(tmp_path):
    pytest.importorskip("pymatreader")
    path = matlab73_set(tmp_path / "x.set", DATA, RATE, [(at, "go") for at in AT], names=NAMES)
    whole = path.read_bytes()
    assert len(windows(path, "go").X) == len(AT)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cannot be read whole: .*truncated file") as caught:
        read_recording(path)
    assert "cut off" in caught.value.hint


def test_a_gdf_that_was_not_ended_is_refused(tmp_path):
    path = gdf(tmp_path / "x.gdf", DATA, RATE, [(400, 1)], names=NAMES, records=-1)
    with pytest.raises(InputError, match="its header says -1 records"):
        read_recording(path)


@pytest.mark.parametrize("gap", [(401, 411), (400, 410), (401, 412)])
def test_what_fills_a_gap_of_an_mff_is_in_no_window(tmp_path, gap):
    _require_mff()
    rate, data = 1000, 1e-3 + brain(n=3, seconds=2, rate=1000)
    n = data.shape[1] + gap[1] - gap[0]
    near = [gap[0] - 20 + k for k in range(-2, 3)] + [gap[1] + k for k in range(-12, 4)]
    events = [(at / rate, "go") for at in sorted(near)]
    path = mff(tmp_path / "x.mff", data, rate, events, parts=[(0, gap[0]), (gap[1], n)], names=NAMES)
    theirs = mne.io.read_raw_egi(path, preload=True, verbose="error", events_as_annotations=True)
    found, (expected, onset) = windows(path, "go", stop=0.02), by_mne(theirs, "go", stop=0.02)
    assert found.onset_s == pytest.approx(onset, abs=1e-9)
    assert np.array_equal(found.X, expected)
    assert np.abs(found.X).min(axis=1).min() > 0


def test_what_a_reader_prints_is_not_in_the_json(tmp_path):
    _require_mff()
    events = [(at / RATE, name) for at in AT for name in ("stim",)] + [(at / RATE + 0.5, "resp") for at in AT]
    path = mff(tmp_path / "x.mff", DATA, RATE, events, parts=[(0, DATA.shape[1])], names=NAMES)
    arguments = [path, "--stimulus", "stim", "--response", "resp", "--subject", "x", "-o", tmp_path / "w.npz", "--json"]
    done = CliRunner().invoke(prepare, [str(a) for a in arguments])
    assert json.loads(done.stdout)["n_windows"] == len(AT)


def test_events_of_an_mff_keep_their_times_and_are_all_counted(tmp_path):
    _require_mff()
    times = [(-1.0, "stim"), (-0.5, "resp"), (3.0, "stim"), (3.4123, "resp"), (12.0013, "stim"), (12.5, "resp")]
    times += [(15.0, "TREV"), (30.0, "stim"), (30.5, "resp")]
    path = mff(tmp_path / "x.mff", DATA, RATE, times, parts=[(0, DATA.shape[1])], names=NAMES)
    rule = EventRule(stimulus=("stim",), response=("resp",))
    found = cut_windows(open_recording(path, RAW), Cutting(rule=rule, start=0.0, stop=1.0))
    assert found.y == pytest.approx([0.4123, 0.4987], abs=1e-6)
    assert found.onset_s == pytest.approx([3.0, 12.0013], abs=1e-6)
    assert found.dropped == {"outside the recording": 2}
    theirs = mne.io.read_raw_egi(path, preload=True, verbose="error", events_as_annotations=True)
    assert np.array_equal(found.X, by_mne(theirs, "stim")[0])


@pytest.mark.parametrize("name", ["resp", "eog", "stim"])
def test_a_channel_may_be_called_as_a_type_is(tmp_path, name):
    info = mne.create_info(["Fz", "Cz", name], RATE, ["eeg", "eeg", "eeg"], verbose="error")
    raw = mne.io.RawArray(DATA * 1e-6, info, verbose="error")
    raw.set_annotations(mne.Annotations(np.array(AT) / RATE, 0.0, "go"))
    raw.save(tmp_path / "x_raw.fif", fmt="double", verbose="error")
    expected = np.array([raw.get_data()[2, at : at + RATE] for at in AT])
    assert np.array_equal(windows(tmp_path / "x_raw.fif", "go").X[:, 2], expected.astype("f4"))


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    _require_mff()
    path = mff(tmp_path / "x.mff", DATA, RATE, [(1.0, "go")], parts=[(0, DATA.shape[1])], names=NAMES)
    for name in [name for name in sys.modules if name.partition(".")[0] == "mffpy"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mffpy", None)
    with pytest.raises(EnvironmentMissingError, match="needs the package mffpy"):
        read_recording(path)


@pytest.mark.parametrize(
    ("size", "vertex", "kept"),
    [(128, "VREF", 129), (256, "VREF", 257), (256, "E257", 257), (64, "VREF", 65), (64, "E65", 65)],
)
def test_the_vertex_of_the_net_is_its_cz_and_a_larger_net_is_another(tmp_path, size, vertex, kept):
    names = [*(f"E{k}" for k in range(1, size + 1)), vertex]
    data = brain(n=size + 1, seconds=6, rate=RATE)
    info = mne.create_info(names, RATE, "eeg", verbose="error")
    raw = mne.io.RawArray(data * 1e-6, info, verbose="error")
    raw.save(tmp_path / "x_raw.fif", fmt="double", verbose="error")
    ready = open_recording(tmp_path / "x_raw.fif", Cleaning(channels=("auto",), low=None, high=None, sfreq=None))
    assert len(ready.ch_names) == kept
    assert ready.ch_names[-1] == ("Cz" if size == 128 else vertex)
    assert np.array_equal(ready.data, raw.get_data())
