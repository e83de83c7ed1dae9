"""Half a recording is no recording: what a file lacks is an error, and a trial beyond its end is counted."""

from __future__ import annotations

import gzip
import struct
import warnings

import mne
import numpy as np
import pytest
import scipy.io

from rtserve.errors import InputError
from rtserve.signals import wholeness
from rtserve.signals.bids import find_recordings
from rtserve.signals.chosen import EventChoice
from rtserve.signals.cutting import Cutting, cut_windows
from rtserve.signals.reading import read_recording
from rtserve.signals.recordings import Cleaning, open_recording

from . import formats
from .formats import STIMULI, cut


def rewrite(path, data):
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("after", [0, 7, 16, 24])
def test_a_fif_that_was_cut_off_at_a_tag_is_named(tmp_path, after):
    path = tmp_path / "x_raw.fif"
    formats._raw().save(path, buffer_size_sec=2, verbose="error")
    data, place, buffers = path.read_bytes(), 0, []
    while place < len(data):
        kind, _, size, then = struct.unpack(">iIii", data[place : place + 16])
        buffers += [place] if kind == 300 else []
        place = then if then > 0 else place + 16 + size if then == 0 else len(data)
    rewrite(path, data[: buffers[len(buffers) // 2] + after])
    with pytest.raises(InputError, match="cannot be read whole"):
        read_recording(path)


def test_edf_of_a_recorder_that_was_not_stopped_is_read_whole(tmp_path):
    made = formats._edf(tmp_path)
    data = made.path.read_bytes()
    for claimed in (b"-1      ", b"9       "):
        rewrite(made.path, data[:236] + claimed + data[244:])
        found, _ = cut(made, None)
        assert np.array_equal(found.X, formats.by_mne(made))
        assert len(found.X) == len(STIMULI)
    rewrite(made.path, data[:-100])
    with pytest.raises(InputError, match="is cut off"):
        read_recording(made.path)


def test_trials_beyond_the_end_of_brainvisions_samples_are_counted(tmp_path):
    pytest.importorskip("pybv")
    made = formats._brainvision(tmp_path)
    samples = tmp_path / "x.eeg"
    data = samples.read_bytes()
    end = STIMULI[4] - 0.2  # before the fifth stimulus
    rewrite(samples, data[: 12 * round(end * formats.RATE)])
    found, _ = cut(made, None)
    assert len(found.X) + sum(found.dropped.values()) == len(STIMULI)
    assert len(found.X) == 4
    rewrite(samples, data[:-3])
    with pytest.raises(InputError, match=r"x\.eeg has .* no whole number of samples of 3 channels"):
        read_recording(made.path)
    rewrite(samples, data)
    head = made.path.read_text(encoding="utf-8")
    made.path.write_text(head.replace("NumberOfChannels", "DataPoints=999999\nNumberOfChannels"), encoding="utf-8")
    with pytest.raises(InputError, match="its header promises 999,999"):
        read_recording(made.path)


def test_a_lost_marker_file_is_named_unless_a_table_has_the_events(tmp_path):
    pytest.importorskip("pybv")
    if tuple(map(int, mne.__version__.split(".")[:2])) < (1, 12):
        pytest.skip("MNE before 1.12 reads no recording without its marker file, and is quoted with its name")
    made = formats._brainvision(tmp_path)
    (tmp_path / "x.vmrk").unlink()
    with pytest.raises(InputError, match=r"names the marker file x\.vmrk, which is not beside it"):
        read_recording(made.path)
    (tmp_path / "x_events.tsv").write_text("onset\tduration\ttrial_type\n2.53\t0\tstim\n", encoding="utf-8")
    assert read_recording(made.path).marks[0].name.tolist() == ["stim"]


def test_trials_beyond_the_end_of_eeglabs_samples_are_counted(tmp_path):
    pytest.importorskip("eeglabio")
    made = formats._eeglab(tmp_path)
    content = scipy.io.loadmat(made.path, simplify_cells=True)
    content = {key: value for key, value in content.items() if not key.startswith("__")}
    inner = content.get("EEG", content)
    inner["data"], inner["pnts"] = inner["data"][:, :5000], 5000
    inner.pop("times", None)
    scipy.io.savemat(made.path, {"EEG": inner})
    found, _ = cut(made, None)
    assert len(found.X) == (STIMULI < 9).sum()
    assert len(found.X) + sum(found.dropped.values()) == len(STIMULI)


def test_a_packed_file_of_nothing_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(wholeness, "SMALL_BYTES", 4 << 20)
    bomb = tmp_path / "x_raw.fif.gz"
    bomb.write_bytes(gzip.compress(bytes(9 << 20)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="unpacks to more than 4,194,304"):
            read_recording(bomb)
    scipy.io.savemat(tmp_path / "x.set", {"EEG": {"data": np.zeros((8, 300_000))}}, do_compression=True)
    with pytest.raises(InputError, match="unpacks to more than 4,194,304"):
        read_recording(tmp_path / "x.set")
    formats._raw().save(tmp_path / "y_raw.fif.gz", verbose="error")
    assert read_recording(tmp_path / "y_raw.fif.gz").raw.n_times == mne.io.read_raw(tmp_path / "y_raw.fif.gz").n_times


@pytest.mark.parametrize("text", ["/annex/objects/MD5E-s12--a.edf\n", "version https://git-lfs.github.com/spec/v1\n"])
def test_a_pointer_is_no_recording(tmp_path, text):
    rewrite(tmp_path / "x.edf", text.encode())
    with pytest.raises(InputError, match="is a pointer of") as caught:
        read_recording(tmp_path / "x.edf")
    assert "fetch it" in caught.value.hint


def test_recordings_that_were_not_fetched_are_counted(tmp_path):
    for who in ("01", "02", "03"):
        folder = tmp_path / f"sub-{who}" / "eeg"
        folder.mkdir(parents=True)
        path = folder / f"sub-{who}_task-x_eeg.edf"
        if who == "01":
            formats._edf(folder).path.rename(path)
        else:
            path.symlink_to(tmp_path / ".git/annex" / who)
    found = find_recordings([tmp_path])
    assert [item.path.name for item in found.items] == ["sub-01_task-x_eeg.edf"]
    assert any("2 recordings are links to files that are not there" in note for note in found.notes)
    (tmp_path / "sub-01/eeg/sub-01_task-x_eeg.edf").unlink()
    with pytest.raises(InputError, match=r"all 2 recordings of .* are links") as caught:
        find_recordings([tmp_path])
    assert "fetch" in caught.value.hint
    with pytest.raises(InputError, match=r"is a link to .*02, which is not there"):
        read_recording(tmp_path / "sub-02/eeg/sub-02_task-x_eeg.edf")


def test_events_outside_a_recording_are_no_events_at_one_time(tmp_path):
    made = formats._edf(tmp_path)
    rows = "".join(f"{at}\t0\tx\n" for at in (-5, -1, 5, 100, 200, 300))
    (tmp_path / "x_events.tsv").write_text(f"onset\tduration\ttrial_type\n{rows}", encoding="utf-8")
    ready = open_recording(made.path, Cleaning(low=None, high=None, sfreq=None))
    found = cut_windows(ready, Cutting(rule=None, choice=EventChoice(names=("x",)), start=0, stop=1))
    assert dict(found.dropped) == {"outside the recording": 5}
    assert found.onset_s.tolist() == [5.0]


def test_a_later_part_named_alone_is_said_to_be_one(tmp_path):
    raw = formats._raw()
    raw = mne.concatenate_raws([raw, *(raw.copy() for _ in range(40))], verbose="error")
    raw.save(tmp_path / "x_raw.fif", split_size="2MB", buffer_size_sec=1, verbose="error")
    with pytest.raises(InputError, match=r"x_raw-1\.fif is a later part .* goes on where x_raw\.fif ends"):
        read_recording(tmp_path / "x_raw-1.fif")
    read_recording(tmp_path / "x_raw.fif")
    (tmp_path / "x_raw.fif").unlink()
    with pytest.raises(InputError, match="later part") as caught:
        read_recording(tmp_path / "x_raw-1.fif")
    assert "is not there" in caught.value.hint
