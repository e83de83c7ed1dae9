"""An .xdf is cut by its time stamps: response times, samples, gaps and rates are what they say."""

from __future__ import annotations

import numpy as np
import pytest

from rtserve.errors import InputError
from rtserve.signals.losses import Losses, losses_of
from rtserve.signals.reading import read_recording
from rtserve.signals.windows import load_windows

from .recordings import brain
from .test_prepare import run
from .test_reading import MARKED, ONSET
from .xdf_files import xdf

pytest.importorskip("pyxdf")
ANSWER = 0.7031 + 0.01 * np.arange(len(ONSET))


def marked(start=1000.0, names=("stim", "resp")):
    pairs = zip(ONSET.tolist(), ANSWER.tolist(), strict=True)
    return [(start + at + late, name) for at, rt in pairs for late, name in ((0, names[0]), (rt, names[1]))]


def pulsed(real, seconds=40, wide=0.012):
    """Samples (n, 2) at the rate `real` with a pulse at every stimulus, in microvolt."""
    time = np.arange(int(seconds * real)) / real
    pulse = 100 * np.exp(-0.5 * ((time[:, None] - ONSET) / wide) ** 2).sum(axis=1)
    return np.c_[pulse, 0.1 * np.random.default_rng(0).standard_normal(len(time))]


def test_its_breaks_are_gaps_and_a_marker_in_one_is_counted(tmp_path):
    data = brain(n=2).T
    stamps = 1000.0 + np.arange(len(data)) / 200.0
    stamps[4000:] += 30.0
    texts = [(1000.0 + at + 30.0 * (at >= 20), n) for at in ONSET for at, n in ((at, "stim"), (at + 1, "resp"))]
    texts.append((1035.0, "stim"))
    path = xdf(tmp_path / "x.xdf", data, stamps, texts)
    text = run(path, *MARKED, "-o", tmp_path / "w.npz")
    windows = load_windows(tmp_path / "w.npz")
    # The response to the stimulus at 19 s came after the break.
    kept = [at for at in ONSET if at != 19.0]
    assert windows.X[:] == pytest.approx(
        np.array([data.T[:, round(at * 200) :][:, :400] for at in kept]) * 1e-6, abs=1e-10
    )
    assert "1 across a gap of the recording" in text
    assert "first at 20 s, 30 s long" in text
    assert sum(int(line.split()[1]) for line in text.splitlines() if "dropped" in line) == 2
    with pytest.raises(InputError, match="with a unit 'parsec'"):
        read_recording(xdf(tmp_path / "y.xdf", data, stamps, texts, unit="parsec"))


@pytest.mark.parametrize(
    ("unit", "volts"), [("V", 1.0), ("Volt", 1.0), ("millivolt", 1e-3), ("microvolt", 1e-6), ("μV", 1e-6), ("µV", 1e-6)]
)
def test_units_are_spelled_as_those_of_live_streams(tmp_path, unit, volts):
    data = brain(n=2).T
    path = xdf(tmp_path / "x.xdf", data, 1000.0 + np.arange(len(data)) / 200, marked(), unit=unit)
    assert read_recording(path).raw.get_data() == pytest.approx(volts * data.T, rel=1e-5, abs=1e-5 * volts)


def test_no_unit_is_none_that_is_known(tmp_path):
    data = brain(n=2).T
    with pytest.raises(InputError, match="with a unit ''"):
        read_recording(xdf(tmp_path / "x.xdf", data, 1000.0 + np.arange(len(data)) / 200, marked(), unit=""))


@pytest.mark.parametrize("real", [200.0, 200.004, 199.9, 198.0, 100.0])
@pytest.mark.parametrize("rate", [0, 100, 128])
def test_response_times_and_pulses_are_where_the_stamps_have_them(tmp_path, real, rate):
    data = pulsed(real)
    noise = 0.002 * np.random.default_rng(1).standard_normal(len(data))
    path = xdf(tmp_path / "x.xdf", data, 1000.0 + np.arange(len(data)) / real + noise, marked())
    text = run(path, *MARKED[:4], "--window=-0.5,0.5", "--band", "0,0", "--sfreq", rate, "-o", tmp_path / "w.npz")
    windows = load_windows(tmp_path / "w.npz")
    assert windows.y == pytest.approx(ANSWER, abs=1e-6)
    own = float(windows.sfreq)
    assert own == pytest.approx(rate or (200.0 if abs(real / 200 - 1) <= 1e-3 else real), rel=1e-4)
    pulse = np.clip(windows.X[:, 0] - 2e-6, 0, None)
    centre = (pulse * np.arange(pulse.shape[1])).sum(axis=1) / pulse.sum(axis=1) / own
    assert np.abs(centre - 0.5).max() <= 0.5 / own + 0.0006
    assert ("by its time stamps it has" in text) == (abs(real / 200 - 1) > 1e-3)


def test_markers_of_another_clock_are_brought_to_the_samples_clock(tmp_path):
    data = pulsed(200.0)
    offsets = [(1000.0 + 5.0 * k + 777.0, -777.0) for k in range(9)]
    path = xdf(tmp_path / "x.xdf", data, 1000.0 + np.arange(len(data)) / 200, marked(1777.0), offsets=offsets)
    run(path, *MARKED, "-o", tmp_path / "w.npz")
    windows = load_windows(tmp_path / "w.npz")
    assert windows.y == pytest.approx(ANSWER, abs=1e-6)
    assert windows.extra["onset_s"] == pytest.approx(ONSET, abs=1e-4)


def test_markers_that_are_numbers_are_events(tmp_path):
    data = pulsed(200.0)
    path = xdf(tmp_path / "x.xdf", data, np.arange(len(data)) / 200, marked(0.0, (7, 8)), ints=True)
    run(path, "--stimulus", "7", "--response", "8", *MARKED[4:], "-o", tmp_path / "w.npz")
    assert load_windows(tmp_path / "w.npz").y == pytest.approx(ANSWER, abs=1e-6)


def lossy(stamps, data, places, n):
    """Leave out `n` samples at each place."""
    kept = np.ones(len(stamps), bool)
    for at in places:
        kept[at : at + n] = False
    return stamps[kept], data[kept]


@pytest.mark.parametrize("noise", [0.0, 0.0001, 0.002])
@pytest.mark.parametrize("n", [1, 40])
def test_lost_samples_are_a_gap(tmp_path, noise, n):
    data, at = pulsed(200.0), 200 * (ONSET[3] + 0.9)
    stamps = np.arange(len(data)) / 200 + noise * np.random.default_rng(1).standard_normal(len(data))
    stamps, data = lossy(stamps, data, [round(at)], n)
    path = xdf(tmp_path / "x.xdf", data, stamps, marked(0.0))
    text = run(path, *MARKED[:4], "--window=-0.5,1.5", "--band", "0,0", "--sfreq", "0", "-o", tmp_path / "w.npz")
    windows = load_windows(tmp_path / "w.npz")
    kept = [k for k in range(len(ONSET)) if k != 3 and ONSET[k] - 0.5 >= 0 and ONSET[k] + 1.5 <= 40]
    assert windows.extra["onset_s"] == pytest.approx(ONSET[kept], abs=1e-3)
    assert windows.y == pytest.approx(ANSWER[kept], abs=1e-6)
    assert "1 across a gap of the recording" in text
    assert "samples are missing (or doubled) at 1 places" in text
    pulse = np.clip(windows.X[:, 0] - 2e-6, 0, None)
    centre = (pulse * np.arange(pulse.shape[1])).sum(axis=1) / pulse.sum(axis=1) / 200
    assert np.abs(centre - 0.5).max() <= 0.5 / 200 + 0.0006
    assert "by its time stamps it has" not in text


def late(stamps, places, seconds):
    """Have samples wait: from each place on they come at once when the stall ends."""
    out = stamps.copy()
    for at in places:
        waits = (np.arange(len(out)) >= at) & (out < stamps[at] + seconds)
        out[waits] = stamps[at] + seconds
    return out


@pytest.mark.parametrize("seconds", [0.24, 0.6])
def test_a_stall_moves_no_sample_and_is_no_gap(tmp_path, seconds):
    data = pulsed(200.0)
    stamps = late(np.arange(len(data)) / 200, [3010], seconds)
    reading = read_recording(xdf(tmp_path / "x.xdf", data, stamps, marked(0.0)))
    (stretch,) = reading.clock.stretches
    assert stretch.stop == len(data)
    assert reading.clock.time_of(np.array([100, 7900])) == pytest.approx([0.5, 39.5], abs=1e-5)


def test_large_losses_in_a_short_uneven_recording_are_found():
    stamps = np.arange(13_312) / 512 + 0.002 * np.random.default_rng(3).standard_normal(13_312)
    left, _ = lossy(stamps, stamps, [2000, 4500, 7000, 9900], 60)
    found = losses_of(left, 512.0).places
    assert [before < at <= after for (before, after), at in zip(found, [2000, 4440, 6880, 9720], strict=True)] == [
        True
    ] * 4


UNEVEN = {
    "even": lambda t, rng: t,
    "quantised to 1 ms": lambda t, rng: np.round(t, 3),
    "noise of 2 ms": lambda t, rng: t + 0.002 * rng.standard_normal(len(t)),
    "delays of 2 ms": lambda t, rng: t + rng.exponential(0.002, len(t)),
    "eight at once": lambda t, rng: t[np.minimum(np.arange(len(t)) // 8 * 8 + 7, len(t) - 1)],
    "in packets of 12": lambda t, rng: t + np.repeat(rng.exponential(0.0005, len(t) // 12 + 1), 12)[: len(t)],
    "stalls": lambda t, rng: late(t, [3000, 9000, 15000], 0.2),
    "stalls and delays": lambda t, rng: late(t, [3000, 15000], 0.2) + rng.exponential(0.001, len(t)),
    "a slow clock": lambda t, rng: 1.00005 * t + 0.003 * np.sin(t / 10),
}


@pytest.mark.parametrize("kind", UNEVEN)
@pytest.mark.parametrize("rate", [128.0, 250.0])
def test_what_is_late_is_no_loss_and_what_is_lost_is_found(kind, rate):
    n, places = 20_000, [6000, 12_000, 18_000]
    stamps = UNEVEN[kind](np.arange(n) / rate, np.random.default_rng(2))
    assert losses_of(stamps, rate) == Losses(seen=losses_of(stamps, rate).seen)
    assert losses_of(stamps, rate).seen <= 1.0
    for missing in (1, 2, 25):
        left, _ = lossy(stamps, stamps, places, missing)
        found = losses_of(left, rate).places
        assert len(found) == 3
        for (before, after), at in zip(found, [at - missing * k for k, at in enumerate(places)], strict=True):
            assert before < at <= after, (kind, missing)


@pytest.mark.parametrize("every", [20, 100, 700])
@pytest.mark.parametrize("kind", ["even", "quantised to 1 ms", "a slow clock"])
def test_losses_again_and_again_are_all_found(kind, every):
    places = list(range(100, 20_000, every))
    stamps = UNEVEN[kind](np.arange(20_000) / 256, np.random.default_rng(2))
    left, _ = lossy(stamps, stamps, places, 1)
    assert losses_of(left, 256.0).places == tuple((at - k - 1, at - k) for k, at in enumerate(places))


def test_among_delays_a_loss_is_in_the_samples_of_unknown_time(tmp_path):
    n, rng = 100_000, np.random.default_rng(0)
    stamps = np.arange(n) / 500 + np.repeat(rng.exponential(0.0005, n // 10), 10)
    assert losses_of(stamps, 500.0).places == ()
    places = np.arange(2000, n, 4000)
    left, _ = lossy(stamps, stamps, places, 1)
    zones = np.array(losses_of(left, 500.0).places)
    assert (zones[1:, 0] >= zones[:-1, 1]).all()
    for at in places - np.arange(len(places)):
        assert ((zones[:, 0] < at + 30) & (at - 30 <= zones[:, 1])).any()


def test_stamps_that_cannot_show_a_loss_are_said(tmp_path):
    data = pulsed(200.0)
    noise = 0.03 * np.random.default_rng(1).standard_normal(len(data))
    said = read_recording(xdf(tmp_path / "x.xdf", data, np.arange(len(data)) / 200 + noise, marked(0.0))).notes.lines()
    assert any("too uneven to show fewer than" in line for line in said)


def test_half_an_xdf_is_none(tmp_path):
    data = pulsed(200.0)
    stamps = np.arange(len(data)) / 200
    whole = xdf(tmp_path / "x.xdf", data, stamps, marked(0.0), footer=len(data))
    read_recording(whole)
    with pytest.raises(InputError, match="is cut off: its stream amp has 8,000 samples, its footer promises 9,000"):
        read_recording(xdf(tmp_path / "y.xdf", data, stamps, marked(0.0), footer=9000))
    whole.write_bytes(whole.read_bytes()[:100_000])
    with pytest.raises(InputError, match="cannot be read whole"):
        read_recording(whole)


def test_stamps_that_go_back_or_are_none_are_refused(tmp_path):
    data = pulsed(200.0)
    stamps = np.arange(len(data)) / 200
    back = np.r_[stamps[:4000], stamps[4000:] - 10]
    with pytest.raises(InputError, match="go back by 10 s at sample 4,000"):
        read_recording(xdf(tmp_path / "x.xdf", data, back, marked(0.0)))
    for odd in (np.where(stamps == 5.0, np.nan, stamps), stamps[::-1], 0 * stamps):
        with pytest.raises(InputError, match="are no numbers, or do not go on"):
            read_recording(xdf(tmp_path / "x.xdf", data, odd, marked(0.0)))


def test_what_is_said_of_a_plain_file_is_nothing(tmp_path):
    data = pulsed(200.0)
    path = xdf(tmp_path / "x.xdf", data, np.arange(len(data)) / 200, marked(0.0))
    assert read_recording(path).notes.lines() == []
    halved = xdf(tmp_path / "y.xdf", data, np.arange(len(data)) / 100, marked(0.0))
    said = read_recording(halved).notes.lines()
    assert said[0] == "the EEG stream names 200 Hz, by its time stamps it has 100 Hz, which is taken"
