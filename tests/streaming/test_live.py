"""Live sources: what comes is brought to the graph, what breaks is named and forgotten, and nothing grows."""

import dataclasses
import itertools
import resource
import threading
import time
from pathlib import Path

import mne
import numpy as np
import pytest
from scipy.signal import sosfilt

from rtserve.errors import InputError, SpecMismatchError
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.spec import InputSpec
from rtserve.streaming.live.causal import causal_for
from rtserve.streaming.live.fitting import fitting_for
from rtserve.streaming.live.loop import run_loop
from rtserve.streaming.live.lsl import LslSource, lsl_module
from rtserve.streaming.live.source import About, Chunk
from rtserve.streaming.live.synthetic import SyntheticSource
from rtserve.streaming.live.tally import Tally
from rtserve.streaming.runner import StepRunner
from rtserve.streaming.running import Running, run_source
from tests.streaming.making import SPEC, graph_of, made, shallow

NAMES = ("F3", "F4", "Cz")
HOP = 6


class Given:
    """A source of chunks that are there, in the order of its own channels."""

    def __init__(self, chunks, names=("Cz", "X", "f4", "F3"), unit="mV", watched=False):
        self.about = About(name="given", sfreq=100.0, ch_names=names, n_chans=len(names), units=(unit,) * len(names))
        self.notes, self.watched, self._chunks = [], watched, chunks

    def chunks(self):
        return iter(self._chunks)

    def now(self):
        return None

    def close(self):
        pass


@pytest.fixture(scope="module")
def named():
    """A step of three named channels in uV, and the window's graph."""
    graph, step, _ = made("shallow", HOP)
    spec = dataclasses.replace(SPEC, ch_names=NAMES, unit="uV")
    return dataclasses.replace(step, input_spec=spec), graph


def ran(step, source, **said):
    found = []
    breaks = []
    fitting = fitting_for(step, source.about, **said)
    lap = run_loop(StepRunner(step), source, fitting, told=[lambda end, y: found.append((end, y.copy()))],
                   broken=lambda at, why: breaks.append((at, why)))  # fmt: skip
    return lap, found, breaks


def chunks_of(x, sizes, times=None):
    times = np.arange(x.shape[1]) / 100 if times is None else times
    edges = np.cumsum([0, *sizes])
    return [Chunk(x=x[:, a:b], times=times[a:b]) for a, b in itertools.pairwise(edges)]


def test_channels_unit_and_hops_are_the_graph_s(named):
    step, graph = named
    x = 1e-2 * np.random.default_rng(0).standard_normal((4, 300))
    lap, found, _ = ran(step, Given(chunks_of(x, [1, 7, 50, 3, 100, 139])))
    ends = np.arange(8, 51) * HOP
    windows = np.stack([1e3 * x[[3, 2, 0], end - 48 : end] for end in ends]).astype("f4")
    assert np.allclose([end for end, _ in found], ends / 100)
    assert np.allclose([y for _, y in found], OnnxruntimeRunner(graph).infer(windows), rtol=1e-4, atol=1e-5)
    assert (lap.steps, lap.answers, lap.left, lap.streams) == (50, 43, 0, 1)


def test_a_lost_chunk_is_named_and_no_window_goes_across_it(named):
    step, _ = named
    x = np.random.default_rng(0).standard_normal((4, 600))
    times = np.arange(600) / 100
    times[301:] += 0.2
    lap, found, breaks = ran(step, Given(chunks_of(x, [10] * 60, times), watched=True))
    assert [why for _, why in breaks] == ["samples were lost: 20 (210 ms between two)"]
    assert lap.breaks == {"samples were lost": 1}
    assert lap.streams == 2
    assert lap.left == 301 % HOP + 299 % HOP
    ends = np.array([end for end, _ in found])
    assert not ((ends > times[300] + 0.011) & (ends < times[301] + 0.47)).any()
    assert ((ends < times[301]).sum(), (ends > times[301]).sum()) == (301 // HOP - 7, 299 // HOP - 7)


@pytest.mark.parametrize("shift", [0.02, -0.02])
def test_another_difference_of_two_clocks_is_no_loss(named, shift):
    step, _ = named
    x = np.random.default_rng(0).standard_normal((4, 600))
    chunks = chunks_of(x, [10] * 60)
    chunks[30:] = [dataclasses.replace(one, times=one.times + shift, shift=shift) for one in chunks[30:]]
    lap, found, breaks = ran(step, Given(chunks, watched=True))
    assert breaks == []
    assert (lap.answers, lap.streams) == (93, 1)
    assert found[-1][0] == pytest.approx(6 + shift)


def test_a_filter_runs_as_samples_come_and_its_start_is_in_no_answer(named):
    step, graph = named
    steps = (("lowpass_hz", "20"), ("reference", "average"))
    step = dataclasses.replace(step, input_spec=dataclasses.replace(step.input_spec, preprocessing=steps))
    x = np.random.default_rng(0).standard_normal((3, 600))
    source = Given(chunks_of(x, [9] * 66), names=NAMES, unit="uV")
    fitting = fitting_for(step, source.about)
    settles = fitting.causal.settles
    assert 5 < settles < 60
    assert "a delay of" in fitting.causal.said[0]
    assert "differs by up to" in fitting.causal.said[0]
    _, found, _ = ran(step, source)
    sections = fitting.causal._filtered.sections
    clean = sosfilt(sections, x - x.mean(0), axis=1)  # from another start: what is told has forgotten it
    for end, y in found:
        at = round(100 * end)
        assert at - 48 >= settles
        window = clean[None, :, at - 48 : at].astype("f4")
        assert np.allclose(y, OnnxruntimeRunner(graph).infer(window)[0], rtol=0.05, atol=0.05)
    assert round(100 * found[0][0]) - 48 < settles + HOP


def test_a_filter_forgets_what_is_no_number(named):
    step, _ = named
    step = dataclasses.replace(
        step, input_spec=dataclasses.replace(step.input_spec, preprocessing=(("lowpass_hz", "20"),))
    )
    x = np.random.default_rng(0).standard_normal((3, 400))
    x[1, 100:120] = np.nan
    _, found, breaks = ran(step, Given(chunks_of(x, [10] * 40), names=NAMES, unit="uV"))
    assert [why for _, why in breaks] == ["samples were no numbers, which the filter would never forget"] * 2
    told = [end for end, y in found]
    assert any(end > 2 for end in told)
    assert all(np.isfinite(y).all() for end, y in found if end <= 1.0 or end > 1.2 + 0.48)


def test_what_cannot_be_done_live_is_refused(named):
    step, _ = named
    about = Given([]).about
    spec = step.input_spec
    for key, value in (("standardised", "window"), ("reference", "Cz"), ("lowpass_hz", "50"), ("highpass_hz", "x")):
        other = dataclasses.replace(step, input_spec=dataclasses.replace(spec, preprocessing=((key, value),)))
        with pytest.raises(SpecMismatchError, match=f"{key} {value}"):
            fitting_for(other, about)
        fitting_for(other, about, filtered=True)
    for change, said in (
        ({"sfreq": 128.0}, "has 128 Hz"),
        ({"ch_names": ("F3", "F4"), "n_chans": 2}, "lacks 1 of the graph's 3 channels: Cz"),
        ({"ch_names": (), "n_chans": 4}, "has 4 channels, the graph takes 3"),
    ):
        with pytest.raises(SpecMismatchError, match=said):
            fitting_for(step, dataclasses.replace(about, **change))
    with pytest.raises(InputError, match="does not say its unit"):
        fitting_for(step, dataclasses.replace(about, units=("",) * 4))
    assert fitting_for(step, dataclasses.replace(about, units=("",) * 4), source_unit="V").factor == 1e6


def test_the_channels_that_are_taken_have_one_unit(named):
    step, _ = named
    about = Given([]).about  # Cz, X, f4, F3: the graph takes no X
    for foreign in ("V", ""):
        assert fitting_for(step, dataclasses.replace(about, units=("mV", foreign, "mV", "mV"))).factor == 1e3
    unknown = dataclasses.replace(about, units=("", "mV", "", ""))
    assert fitting_for(step, unknown, source_unit="uV").factor == 1
    for units, said in (
        (("mV", "", "uV", "mV"), "are in mV and uV\nhint: "),
        (("mV", "", "", "mV"), "are in mV and in none that is known"),
    ):
        with pytest.raises(InputError, match=said):
            fitting_for(step, dataclasses.replace(about, units=units), source_unit="mV")


@pytest.mark.parametrize(("low", "high", "inner"), [(0.5, 40, "1 to 32"), (1, 30, "2 to 24"), (8, 12, "9 to 11")])
def test_the_delay_that_is_said_is_the_delay(low, high, inner):
    causal = causal_for({"highpass_hz": str(low), "lowpass_hz": str(high)}, 250.0)
    assert f"ms from {inner} Hz" in causal.said[0]
    assert "at 10 Hz" in causal.said[0]
    said = float(causal.said[0].partition("a delay of ")[2].partition(" ms")[0])
    times = np.arange(5000) / 250
    burst = np.exp(-(((times - 10) / 0.5) ** 2)) * np.sin(2 * np.pi * 10 * times)
    out = causal(burst[None])[0]
    late = [1e3 * np.sum(times * np.abs(x) ** 2) / np.sum(np.abs(x) ** 2) for x in (burst, out)]
    assert late[1] - late[0] == pytest.approx(said, abs=1.5)


def test_an_hour_leaves_memory_as_it_was(named):
    step = dataclasses.replace(made("shallow", 24)[1], input_spec=dataclasses.replace(SPEC, unit="uV"))
    source = SyntheticSource(step, seconds=3600, paced=False, chunk_s=1.0)
    seen = {}

    def told(end, y):
        if round(100 * end) in (60_000, 360_000):
            seen[round(end)] = resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[1])

    lap = run_loop(StepRunner(step), source, fitting_for(step, source.about), told=[told])
    assert (lap.steps, lap.answers) == (15_000, 14_999)
    assert seen[3600] - seen[600] < 2**20


def test_tallies_are_right_to_a_percent():
    tally, us = Tally(), np.random.default_rng(0).lognormal(5, 1, 20_000)
    for value in us:
        tally.add(value)
    for q in (0.5, 0.99, 0.999):
        assert tally.quantile(q) == pytest.approx(np.quantile(us, q, method="inverted_cdf"), rel=0.01)
    assert tally.spread == pytest.approx(us.std())
    assert tally.to_dict()["max"] == us.max()


def test_synthetic_samples_come_when_they_are_due(named):
    step, _ = named
    begun = time.perf_counter()
    source = SyntheticSource(step, seconds=0.6)
    lap, found, _ = ran(step, source)
    assert time.perf_counter() - begun >= 0.59
    assert lap.answers == len(found) == 3
    assert lap.answer_us.n == 3
    assert lap.answer_us.quantile(0.5) > 0


def pushing(lsl, name, x, *, unit="microvolts", rate=100.0, lost=None, ready=None):
    """An outlet of Cz, a trigger, F4, F3 that begins once somebody listens; its thread, and the time of its first sample."""
    info = lsl.StreamInfo(name, "EEG", 4, rate, "float32", f"id-{name}")
    channels = info.desc().append_child("channels")
    for label, kind in (("Cz", "EEG"), ("T", "Trigger"), ("F4", "EEG"), ("F3", "EEG")):
        channel = channels.append_child("channel")
        channel.append_child_value("label", label)
        channel.append_child_value("type", kind)
        channel.append_child_value("unit", unit)
    outlet, zero = lsl.StreamOutlet(info), lsl.local_clock()

    def push():
        outlet.wait_for_consumers(20)
        if ready is not None:
            ready.wait(20)
        for start in range(0, x.shape[1], 10):
            if lost is None or not lost[0] <= start < lost[1]:
                outlet.push_chunk(x[:, start : start + 10].T.tolist(), zero + (start + 9) / 100)
            time.sleep(0.02)
        time.sleep(0.5)

    thread = threading.Thread(target=push, daemon=True)
    thread.start()
    return thread, zero, outlet


@pytest.fixture(scope="module")
def lsl():
    return lsl_module()


@pytest.mark.needs("pylsl")
def test_a_stream_of_a_device_on_loopback(lsl, tmp_path):
    graph = graph_of(shallow, dataclasses.replace(SPEC, ch_names=NAMES, unit="V"))
    path, out = graph.save(tmp_path / "F.onnx"), tmp_path / "answers.csv"
    x = 10 * np.random.default_rng(0).standard_normal((4, 400))
    listening = threading.Event()
    thread, zero, _ = pushing(lsl, "rtserve-test-eeg", x, lost=(200, 230), ready=listening)
    heard, said = [], []

    def listen():
        found = lsl.resolve_byprop("name", "rtserve-test-answers", 1, 20)
        inlet = lsl.StreamInlet(found[0])
        inlet.open_stream(20)
        listening.set()
        while thread.is_alive():
            y, stamp = inlet.pull_sample(timeout=0.1)
            if y is not None:
                heard.append((stamp, y))

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    how = Running(hop=HOP, output=out, outlet="rtserve-test-answers", seconds=3.8)
    report = run_source(path, "lsl:rtserve-test-eeg", how, said=said.append)
    listener.join(20)
    rows = np.loadtxt(out, delimiter=",", skiprows=1)
    ends = np.rint(100 * (rows[:, 0] - zero)).astype(int)
    windows = np.stack([1e-6 * x[[3, 2, 0], end - 48 : end] for end in ends]).astype("f4")
    assert np.allclose(rows[:, 1:], OnnxruntimeRunner(graph).infer(windows), rtol=1e-4, atol=1e-5)
    assert len(rows) == report["answers"] >= 20
    assert not ((ends > 200) & (ends < 230 + 48)).any()
    assert sum(report["breaks"].values()) == 1
    assert any("samples were lost: 30 " in text for text in said)
    assert any("1 of 4 channels are no EEG" in text for text in said)
    assert report["answer_us"]["p50"] > 0
    assert heard
    for stamp, y in heard:
        assert np.allclose(rows[np.abs(rows[:, 0] - stamp).argmin(), 1:], y, rtol=1e-5)


@pytest.mark.needs("pylsl")
def test_a_device_s_clock_is_followed_and_what_was_added_is_told(lsl, monkeypatch):
    monkeypatch.setattr("rtserve.streaming.live.lsl.CORRECTED_S", 0.2)
    thread, zero, _ = pushing(lsl, "rtserve-test-clock", np.zeros((4, 600)))
    source, measured = LslSource("rtserve-test-clock", silent_s=1.0), itertools.count()
    monkeypatch.setattr(source, "_corrected", lambda: 0.05 * next(measured))
    chunks = list(source.chunks())
    source.close()
    thread.join(20)
    sent = np.concatenate([one.times - one.shift for one in chunks])
    assert {one.shift for one in chunks} >= {0.0, 0.05, 0.1}
    assert np.allclose(sent, zero + np.arange(600) / 100, atol=1e-6)


@pytest.mark.needs("pylsl")
def test_streams_that_do_not_fit_are_refused(lsl, tmp_path):
    path = graph_of(shallow, dataclasses.replace(SPEC, ch_names=NAMES, unit="V")).save(tmp_path / "F.onnx")
    x = np.zeros((4, 20))
    kept = [pushing(lsl, "rtserve-test-rate", x, rate=128.0), pushing(lsl, "rtserve-test-unit", x, unit="")]
    for name, said in (("rate", "has 128 Hz"), ("unit", "does not say its unit")):
        with pytest.raises((InputError, SpecMismatchError), match=said):
            run_source(path, f"lsl:rtserve-test-{name}", Running(hop=HOP))
    with pytest.raises(InputError, match="no streams are called rtserve-test-nobody") as refused:
        LslSource("rtserve-test-nobody", found_s=0.3)
    assert "rtserve-test-rate" in refused.value.hint
    assert kept


def test_a_recording_is_filtered_as_it_comes(cli, tmp_path):
    spec = InputSpec(**dataclasses.asdict(SPEC) | {"preprocessing": (("highpass_hz", "1"),), "unit": "uV"})
    path = graph_of(shallow, spec).save(tmp_path / "F.onnx")
    raw = mne.io.RawArray(
        1e-5 * np.random.default_rng(0).standard_normal((3, 800)), mne.create_info(3, 100.0, "eeg"), verbose="error"
    )
    raw.save(tmp_path / "x_raw.fif", verbose="error")
    code, _, err = cli("run", path, "--source", tmp_path / "x_raw.fif", "--hop", HOP, "-o", tmp_path / "a.csv")
    assert code == 0, err
    assert "highpass 1 Hz as samples come" in err
    code, _, err = cli("run", path, "--source", tmp_path / "x_raw.fif", "--hop", HOP, "--fast")
    assert code == 2
