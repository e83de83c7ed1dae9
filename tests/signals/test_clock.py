"""The clock: windows lie where the events are, in every format and at every rate, and nothing goes across a gap."""

from __future__ import annotations

import mne
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.signals.clock import GAP, OUTSIDE, Clock, Stretch
from rtserve.signals.cutting import Cutting, cut_windows
from rtserve.signals.events import EventRule
from rtserve.signals.recordings import Cleaning, open_recording, resample

from . import formats
from .edf_files import write_discontinuous
from .formats import GAPPED, MAKERS, RATE, by_mne, cut, expected_s, lateness_s
from .pulses import WIDTH_S

RULE = EventRule(stimulus=("stim",), response=("resp",))
RAW = Cleaning(low=None, high=None, sfreq=None)


def _require(package):
    pytest.importorskip(package)
    if package == "mffpy":
        pytest.importorskip("mne", minversion="1.13")  # which is the first that reads .mff with it


@pytest.fixture(scope="module", params=MAKERS)
def made(request, tmp_path_factory):
    if package := formats.needs(request.param):
        _require(package)
    return request.param, MAKERS[request.param](tmp_path_factory.mktemp("recording"))


def test_a_pulse_stays_at_its_event_at_every_rate(made):
    name, recorded = made
    for rate in (None, 100.0, 128.0, 333.0):
        found, true_rate = cut(recorded, rate)
        assert len(found.X) == len(recorded.stimuli), name
        assert lateness_s(found.X, true_rate) == pytest.approx(expected_s(recorded, true_rate), abs=2e-4), (name, rate)
        assert found.onset_s == pytest.approx(recorded.stimuli, abs=1e-5)
        assert found.y == pytest.approx(np.full(len(found.y), formats.ANSWER_S), abs=3e-3)


def test_windows_are_those_of_mne(made):
    name, recorded = made
    windows = by_mne(recorded)
    if windows is None:
        assert recorded.why, name
        return
    assert np.array_equal(cut(recorded, None)[0].X, windows)


def test_windows_across_a_gap_are_counted(made):
    name, recorded = made
    far = cut(recorded, None, start=0.0, stop=4.0)[0]
    # Only the window from 11.37 s goes across; those that begin less than 4 s before the end are outside.
    assert far.dropped["across a gap of the recording"] == (1 if name in GAPPED else 0)
    assert far.dropped["outside the recording"] == 1
    assert len(far.X) == (5 if name in GAPPED else 6)


def test_the_table_in_the_docs_is_what_was_found():
    for package in sorted({package for name in MAKERS if (package := formats.needs(name))}):
        _require(package)
    assert formats.written() == formats.table()


@settings(max_examples=30)
@given(
    n=st.integers(1500, 2600),
    old=st.sampled_from([100.0, 128.0, 200.0, 250.0, 256.0, 500.0, 512.0, 999.5, 1000.0]),
    new=st.sampled_from([64.0, 100.0, 120.0, 128.0, 250.0, 333.0]),
    place=st.floats(0.3, 0.7),
)
def test_resampling_moves_no_pulse_at_any_length(n, old, new, place):
    t, middle = np.arange(n) / old, place * n / old
    width = max(WIDTH_S, 2.5 / min(old, new))
    there = resample(np.exp(-0.5 * ((t - middle) / width) ** 2)[None], old, new)[0]
    there = (there - 0.02).clip(0)
    assert (there * np.arange(len(there))).sum() / there.sum() / new == pytest.approx(middle, abs=0.01 * width)


def test_resampling_is_mnes_polyphase_where_the_length_comes_out_whole():
    x = np.random.default_rng(0).standard_normal((2, 5120))
    ours, theirs = resample(x, 512.0, 100.0), mne.filter.resample(x, 100, 512, method="polyphase", verbose="error")
    assert np.array_equal(ours, theirs)


@given(
    first=st.integers(0, 5000),
    onsets=st.lists(st.floats(0, 9.9), min_size=1, max_size=20, unique=True),
    rate=st.sampled_from([100.0, 128.0, 250.0, 512.0]),
    dated=st.booleans(),
)
def test_onsets_are_rounded_as_mne_rounds_them(first, onsets, rate, dated):
    from pathlib import Path

    from rtserve.signals.marks import annotated

    info = mne.create_info(["Fz"], rate, "eeg", verbose="error")
    raw = mne.io.RawArray(np.zeros((1, int(10 * rate))), info, first_samp=first, verbose="error")
    raw.set_meas_date(1_700_000_000 if dated else None)
    raw.set_annotations(mne.Annotations(onsets, 0.0, "x"))
    theirs = mne.events_from_annotations(raw, verbose="error")[0][:, 0] - raw.first_samp
    marks = annotated(raw, Path("x_raw.fif"), lost=False)
    clock = Clock.of(rate, [Stretch(start=0, stop=raw.n_times, time=0.0)])
    placed = clock.at_stored(marks.stored, marks.onset)
    assert placed.sample[placed.stretch == 0].tolist() == theirs[(theirs >= 0) & (theirs < raw.n_times)].tolist()


PAUSED = Clock.of(100.0, [Stretch(start=0, stop=1000, time=0.0), Stretch(start=1000, stop=1500, time=40.0)])


@pytest.mark.parametrize(
    ("time", "stretch", "sample"),
    [
        (0.0, 0, 0), (-0.004, 0, 0), (-0.02, OUTSIDE, -1), (9.994, 0, 999), (9.996, GAP, -1), (25.0, GAP, -1),
        (39.98, GAP, -1), (39.996, 1, 1000), (40.0, 1, 1000), (44.99, 1, 1499), (45.0, OUTSIDE, -1),
    ],
)  # fmt: skip
def test_the_edges_of_a_gap(time, stretch, sample):
    placed = PAUSED.at_times(np.array([time]))
    assert (placed.stretch[0], placed.sample[0]) == (stretch, sample)


def recorded(tmp_path, notes, *, rate=100.0, seconds=60.0, spans=(), **change):
    """Write a .fif of noise with (onset, name) and (onset, duration, name) annotations; return its path."""
    data = 1e-5 * np.random.default_rng(1).standard_normal((2, round(seconds * rate)))
    raw = mne.io.RawArray(data, mne.create_info(["Fz", "Cz"], rate, "eeg", verbose="error"), verbose="error")
    every = [*((at, 0.0, name) for at, name in notes), *spans]
    raw.set_annotations(mne.Annotations(*([row[k] for row in every] for k in range(3))))
    raw.save(tmp_path / "x_raw.fif", fmt="double", overwrite=True, verbose="error")
    return tmp_path / "x_raw.fif"


def windows_of(path, *, start=0.0, stop=2.0, rule=RULE, **change):
    return cut_windows(open_recording(path, RAW), Cutting(rule=rule, start=start, stop=stop, **change))


def test_a_response_beyond_a_gap_is_no_response(tmp_path):
    notes = [(5.0, "stim"), (9.0, "resp"), (20.0, "stim"), (21.0, "resp")]
    path = recorded(tmp_path, notes, spans=[(8.0, 0.0, "EDGE boundary")])
    found = windows_of(path)
    assert found.onset_s.tolist() == [20.0]
    assert found.dropped == {"across a gap of the recording": 1}


def test_a_window_may_touch_a_gap_and_not_enter_it(tmp_path):
    notes = [(5.0, "stim"), (5.5, "resp"), (7.0, "stim"), (7.5, "resp"), (12.0, "stim"), (12.5, "resp")]
    for gap, kept in ((7.0, [5.0, 7.0, 12.0]), (6.99, [7.0, 12.0]), (9.0, [5.0, 7.0, 12.0]), (8.99, [5.0, 12.0])):
        assert windows_of(recorded(tmp_path, notes, spans=[(gap, 0.0, "boundary")])).onset_s.tolist() == kept
    skip = windows_of(recorded(tmp_path, notes, spans=[(9.0, 3.0, "BAD_ACQ_SKIP")]))
    assert skip.onset_s.tolist() == [5.0, 7.0, 12.0]


def test_a_stimulus_in_filler_samples_gives_no_window(tmp_path):
    notes = [(5.0, "stim"), (5.5, "resp"), (10.0, "stim"), (10.5, "resp")]
    found = windows_of(recorded(tmp_path, notes, spans=[(9.0, 3.0, "BAD_ACQ_SKIP")]))
    assert found.onset_s.tolist() == [5.0]
    assert found.dropped == {"across a gap of the recording": 1}


@settings(max_examples=25)
@given(
    spans=st.lists(st.tuples(st.floats(0, 55), st.floats(0, 6)), max_size=4),
    name=st.sampled_from(["BAD_movement", "bad", "BAD boundary"]),
    first=st.sampled_from([0, 777]),
)
def test_bad_segments_take_the_windows_that_mne_takes(spans, name, first):
    data = 1e-5 * np.random.default_rng(1).standard_normal((2, 6000))
    info = mne.create_info(["Fz", "Cz"], 100.0, "eeg", verbose="error")
    raw = mne.io.RawArray(data, info, first_samp=first, verbose="error")
    onset = np.arange(2.0, 56.0, 3.0)
    raw.set_annotations(
        mne.Annotations(
            np.r_[onset, onset + 0.7, [at for at, _ in spans]],
            np.r_[np.zeros(2 * len(onset)), [lasts for _, lasts in spans]],
            ["stim"] * len(onset) + ["resp"] * len(onset) + [name] * len(spans),
        ),
        verbose="error",  # MNE cuts a segment that goes on beyond the recording, and says so
    )
    epochs = mne.Epochs(
        raw, mne.events_from_annotations(raw, {"stim": 1}, verbose="error")[0], tmin=0.5, tmax=2.49, baseline=None,
        preload=True, verbose="error",
    )  # fmt: skip
    ready = as_signal(raw)
    if not len(epochs):
        with pytest.raises(ValueError, match="marked as bad"):
            cut_windows(ready, Cutting(rule=RULE))
        return
    found = cut_windows(ready, Cutting(rule=RULE))
    assert np.array_equal(found.X, epochs.get_data(copy=False).astype("f4"))
    assert found.dropped["in a segment marked as bad"] == len(onset) - len(epochs)
    assert len(cut_windows(ready, Cutting(rule=RULE, keep_bad=True)).X) == len(onset)


def as_signal(raw):
    """Return a recording as `open_recording` would, without a file."""
    from pathlib import Path

    from rtserve.signals.clock import stretches_of
    from rtserve.signals.marks import annotated
    from rtserve.signals.notes import Notes
    from rtserve.signals.recordings import Signal

    marks = annotated(raw, Path("x_raw.fif"), lost=False)
    rate = float(raw.info["sfreq"])
    clock = Clock.of(rate, stretches_of(rate, raw.n_times, [marks]))
    return Signal(
        path=Path("x_raw.fif"),
        data=raw.get_data(),
        ch_names=tuple(raw.ch_names),
        clock=clock,
        marks=(marks,),
        notes=Notes(),
    )


def test_events_at_one_time_and_before_the_first_sample(tmp_path):
    path = recorded(tmp_path, [(5.0, "stim"), (5.0, "resp"), (9.0, "stim"), (9.0, "stim"), (9.5, "resp")])
    found = windows_of(path)
    assert found.y.tolist() == [0.0, 0.5]
    assert found.dropped == {"stimulus repeated at the same time": 1}
    early = tmp_path / "sub-1_task-x_eeg.fif"
    recorded(tmp_path, []).rename(early)
    rows = [(-3.0, "stim"), (-2.0, "resp"), (-0.5, "stim"), (0.4, "resp"), (4.0, "stim"), (4.5, "resp")]
    table = "".join(f"{at}\t0\t{name}\n" for at, name in rows)
    (tmp_path / "sub-1_task-x_events.tsv").write_text(f"onset\tduration\ttrial_type\n{table}")
    found = windows_of(early)
    assert found.onset_s.tolist() == [4.0]
    assert found.dropped == {"outside the recording": 2}


def test_fixed_windows_stay_within_a_stretch(tmp_path):
    path = recorded(tmp_path, [], spans=[(21.0, 0.0, "EDGE boundary")])
    found = cut_windows(open_recording(path, RAW), Cutting(rule=None, start=0.0, stop=4.0, every=4.0))
    assert found.onset_s.tolist() == [at for at in np.arange(0.0, 60.0, 4.0) if at != 20.0]
    assert found.dropped == {"across a gap of the recording": 1}


def test_a_file_without_times_for_its_records_is_refused(tmp_path):
    path = write_discontinuous(tmp_path / "x.edf", formats.signal(seconds=4.0), [0.0, 1.0, 5.0, 6.0], [])
    data = path.read_bytes()
    path.write_bytes(data.replace(b"+5\x14\x14", b"x5\x14\x14"))
    with pytest.raises(ValueError, match="record 2 does not say when it begins"):
        open_recording(path, RAW)
    path.write_bytes(data.replace(b"+5\x14\x14", b"+0\x14\x14"))
    with pytest.raises(ValueError, match="record 2 begins at 0 s, inside or before record 1"):
        open_recording(path, RAW)
    assert RATE == 512.0
