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
from rtserve.signals.reading import read_recording

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
