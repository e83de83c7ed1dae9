"""What travels in a container: recordings as hospitals write them, montages, events, and tables that a contest reads."""

from __future__ import annotations

import datetime
import itertools
import json
import warnings

import edfio
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import resample_poly

from rtserve.submission.container_drills import planted
from rtserve.submission.container_parts import Events
from rtserve.submission.container_settings import detector_settings
from rtserve.submission.container_table import faults, read_rows
from rtserve.submission.detector.__main__ import main
from rtserve.submission.detector.events import events_of, table_of
from rtserve.submission.detector.montage import AVERAGE, difference, matrix
from rtserve.submission.detector.network import probabilities, window_starts
from rtserve.submission.detector.recording import open_edf
from rtserve.submission.detector.samples import samples_for
from rtserve.submission.profile import load_profile
from tests.submission.containers import SPEC, named, network

CONTAINER = load_profile("szcore").container
RECORDINGS, TABLE = CONTAINER.recordings, CONTAINER.table
DRILL = planted(RECORDINGS, load_profile("szcore").signal_of("seizures"), 60.0)
REFERRED = DRILL.data + 40 * np.sin(np.arange(DRILL.data.shape[1]) / 40)
"""The same potentials against some electrode that has a signal of its own."""
NAMES = RECORDINGS.electrodes


def write(path, data, labels, *, sfreq=256, unit="uV", annotated=False, record_s=None):
    largest = max((float(np.abs(row).max(initial=0)) for row in data), default=0)
    limit = 10.0 ** np.ceil(np.log10(max(1e-9, largest)))
    rates = sfreq if isinstance(sfreq, list) else [sfreq] * len(labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signals = [
            edfio.EdfSignal(row, rate, label=label, physical_dimension=unit, physical_range=(-limit, limit))
            for row, label, rate in zip(data, labels, rates, strict=True)
        ]
        edfio.Edf(
            signals, recording=edfio.Recording(startdate=datetime.date(2024, 2, 29)), starttime=datetime.time(23, 59, 30),
            annotations=[edfio.EdfAnnotation(1, None, "seen")] if annotated else [], data_record_duration=record_s,
        ).write(path)  # fmt: skip
    return path


def model_of(graph, folder):
    """Write the settings and the network of a graph as they lie in an image."""
    folder.mkdir(exist_ok=True)
    settings = detector_settings(graph, CONTAINER, CONTAINER.events, network="net.onnx")
    (folder / "detector.json").write_text(json.dumps(settings))
    graph.save(folder / "net.onnx", force=True)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_of(network(), tmp_path_factory.mktemp("model"))


def answered(path, model, capsys):
    """Return the exit code, the table and what was said."""
    target = path.parent / "table.tsv"
    target.write_text("")
    code = main(str(path), str(target), model)
    return code, target.read_text("utf-8"), capsys.readouterr().err


def resampled(rate):
    return resample_poly(DRILL.data, rate // 2, 128, axis=1)[:, : 60 * rate]


MODERN = [{"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}.get(name, name) for name in NAMES]
ALIKE = {
    "against another reference, in small letters": (REFERRED, [f"eeg {name.lower()}-ref" for name in NAMES], {}),
    "backwards and in capitals": (REFERRED[::-1], [f"EEG {name.upper()}-LE" for name in NAMES[::-1]], {}),
    "by electrodes alone": (DRILL.data, NAMES, {}),
    "by newer names": (DRILL.data, [f"{name}-Avg" for name in MODERN], {}),
    "in mV": (DRILL.data * 1e-3, DRILL.labels, {"unit": "mV"}),
    "in V": (DRILL.data * 1e-6, DRILL.labels, {"unit": "V"}),
    "in no unit": (DRILL.data, DRILL.labels, {"unit": ""}),
    "at 500 Hz": (resampled(500), DRILL.labels, {"sfreq": 500}),
    "at 1024 Hz": (resampled(1024), DRILL.labels, {"sfreq": 1024}),
    "with other channels": (
        [DRILL.data[0], *DRILL.data, np.ones(60)],
        ["ECG", *DRILL.labels, "SpO2"],
        {"sfreq": [256] * 20 + [1]},
    ),
    "with every channel twice": (np.concatenate([DRILL.data, 0 * DRILL.data]), [*DRILL.labels, *DRILL.labels], {}),
    "with one channel lacking": (DRILL.data[:-1], DRILL.labels[:-1], {}),
    "with annotations": (DRILL.data, DRILL.labels, {"annotated": True}),
    "in records of an eighth": (DRILL.data, DRILL.labels, {"record_s": 0.125}),
}


@pytest.mark.parametrize("how", ALIKE)
def test_the_same_potentials_are_answered_alike_however_they_are_written(how, model, tmp_path, capsys):
    data, labels, options = ALIKE[how]
    stated = answered(write(tmp_path / "stated.edf", DRILL.data, DRILL.labels), model, capsys)[1]
    code, table, _ = answered(write(tmp_path / "other.edf", data, labels, **options), model, capsys)
    assert code == 0
    assert faults(table, TABLE, seconds=60.0) == []
    rows, expected = ([(row.onset, row.end) for row in read_rows(text, TABLE)] for text in (table, stated))
    assert len(rows) == len(expected) == 2
    hop = (
        1.01 if "sfreq" in options or len(data) < 19 else 0.01
    )  # a window beside the threshold may fall to its other side
    np.testing.assert_allclose(rows, expected, atol=hop)


REFUSED = {
    "bipolar": (DRILL.data[:18], RECORDINGS.chains, {}, "19 of the network's 19 channels do not follow"),
    "three lacking": (DRILL.data[:-3], DRILL.labels[:-3], {}, "at most 2 are filled"),
    "no electrodes": (DRILL.data[:2], ["ECG", "EMG"], {}, "it has ECG, EMG"),
    "degrees": (DRILL.data, DRILL.labels, {"unit": "degC"}, "is in 'degC', which is no unit of volts"),
    "two rates": (
        [*DRILL.data[:9], *DRILL.data[9:, ::2]], DRILL.labels, {"sfreq": [256] * 9 + [128] * 10}, "several rates",
    ),
    "shorter than a window": (DRILL.data[:, :768], DRILL.labels, {}, "holds 3 s, less than a window of 4 s"),
}  # fmt: skip


@pytest.mark.parametrize("how", REFUSED)
def test_what_cannot_be_answered_is_said_and_ends_with_a_table_all_the_same(how, model, tmp_path, capsys):
    data, labels, options, said = REFUSED[how]
    code, table, err = answered(write(tmp_path / "odd.edf", data, labels, **options), model, capsys)
    assert code == 0  # a contest may end its evaluation with the first command that fails
    assert said in err
    seconds = len(data[0]) / 256
    assert faults(table, TABLE, seconds=seconds) == []
    assert [row.kind for row in read_rows(table, TABLE)] == [TABLE.background]


def field(data, size, name, text, channel=0):
    """Return a file with one field of one signal's header changed."""
    widths = {
        "label": 16,
        "transducer": 80,
        "unit": 8,
        "physical_min": 8,
        "physical_max": 8,
        "digital_min": 8,
        "digital_max": 8,
    }
    n, at = size // 256 - 1, 256
    for key, width in widths.items():
        if key == name:
            at += channel * width
            return data[:at] + text.ljust(width).encode() + data[at + width :]
        at += n * width
    raise KeyError(name)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"physical_min": "5", "physical_max": "5"}, "its physical minimum and maximum are both 5"),
        ({"digital_min": "7", "digital_max": "7"}, "its digital minimum and maximum are both 7"),
        ({"physical_max": "inf"}, "its physical range is no number"),
        ({"physical_min": "-1e308", "physical_max": "1e308"}, "its physical range is -1e+308 to 1e+308"),
        ({"physical_max": "nan"}, "its physical range is -1000 to nan"),
    ],
)
def test_a_channel_without_a_scale_is_as_one_that_lacks(changed, said, model, tmp_path, capsys):
    lacking = answered(write(tmp_path / "lacking.edf", DRILL.data[:-1], DRILL.labels[:-1]), model, capsys)
    path = write(tmp_path / "odd.edf", DRILL.data, DRILL.labels)
    for name, text in changed.items():
        path.write_bytes(field(*header(path), name, text, channel=len(NAMES) - 1))
    code, table, err = answered(path, model, capsys)
    assert (code, table) == lacking[:2]
    assert f"{DRILL.labels[-1]} of odd.edf is not used: {said}" in err
    for channel in range(len(NAMES)):
        for name, text in changed.items():
            path.write_bytes(field(*header(path), name, text, channel=channel))
    code, table, err = answered(path, model, capsys)
    assert (code, [row.kind for row in read_rows(table, TABLE)]) == (0, [TABLE.background])
    assert "19 of the network's 19 channels do not follow" in err


@pytest.mark.parametrize("lasts", ["-1", "0", "1e9", "nan", "inf", "", "one", "9999999", "1000"])
def test_a_record_of_no_length_ends_with_a_reason_and_a_table(lasts, model, tmp_path, capsys):
    path = write(tmp_path / "odd.edf", DRILL.data, DRILL.labels)
    data = path.read_bytes()
    path.write_bytes(data[:244] + lasts.ljust(8).encode() + data[252:])
    code, table, err = answered(path, model, capsys)
    assert (code, [row.kind for row in read_rows(table, TABLE)]) == (0, [TABLE.background])
    long = lasts in ("1e9", "9999999", "1000")
    assert ("or its data records do not last" if long else f"a data record lasts '{lasts}' s") in err
    assert "2024-02-29 23:59:30" in table


def test_a_rate_of_a_wrong_header_is_no_rate(model, tmp_path, capsys):
    path = write(tmp_path / "odd.edf", DRILL.data, DRILL.labels)
    data = path.read_bytes().replace(
        b"EDF Annotations", b"something else "
    )  # of plain EDF, where nothing else says a time
    path.write_bytes(data[:192] + b"     " + data[197:244] + b"600     " + data[252:])
    code, table, err = answered(path, model, capsys)
    assert (code, [row.kind for row in read_rows(table, TABLE)]) == (0, [TABLE.background])
    assert "has 0.426667 Hz: too few for a network that takes 256 Hz" in err


def test_what_was_passed_over_is_said(model, tmp_path, capsys):
    path = write(tmp_path / "twice.edf", np.concatenate([DRILL.data, DRILL.data[:1]]), [*DRILL.labels, "EEG FP1-AVG"])
    assert "EEG FP1-AVG of twice.edf is not used: Fp1-Avg before it is the same" in answered(path, model, capsys)[2]
    slow = write(tmp_path / "slow.edf", DRILL.data[:, ::2], DRILL.labels, sfreq=128)
    assert "slow.edf has 128 Hz: above 64 Hz there is nothing" in answered(slow, model, capsys)[2]


def header(path):
    data = path.read_bytes()
    return data, int(data[184:192])


def zero(data, size):
    return data[:236] + b"0       " + data[244:size], 0.0, "holds 0 s"


def cut(data, size):
    return (
        data[: size + (len(data) - size) // 2],
        60.0,
        "is cut off: its header says 60 data records, the file holds 30",
    )


def begun(data, size):
    return data[: size + 100], 60.0, "the file holds 0"


def unknown(data, size):
    return data[:236] + b"-1      " + data[244:], 60.0, "network"


def gap(data, size):
    at = data.index(b"+30\x14\x14")
    return data[:192] + b"EDF+D" + data[197:at] + b"+31" + data[at + 3 :], 60.0, "has gaps (EDF+D)"


def no_gap(data, size):
    return data[:192] + b"EDF+D" + data[197:], 60.0, "network"


@pytest.mark.parametrize("change", [zero, cut, begun, unknown, gap, no_gap])
def test_a_file_that_is_not_whole_has_the_length_of_its_header(change, model, tmp_path, capsys):
    path = write(tmp_path / "whole.edf", DRILL.data, DRILL.labels, annotated=change in (gap, no_gap))
    data, seconds, said = change(*header(path))
    path.write_bytes(data)
    code, table, err = answered(path, model, capsys)
    assert (code, faults(table, TABLE, seconds=seconds)) == (0, [])
    assert said in err


@pytest.mark.parametrize("data", [b"", b"no recording", b"0       " + b" " * 292])
def test_without_a_header_there_is_no_table(data, model, tmp_path, capsys):
    (tmp_path / "odd.edf").write_bytes(data)
    code, table, err = answered(tmp_path / "odd.edf", model, capsys)
    assert (code, table) == (2, "")
    assert "cannot be read as EDF" in err
    assert main(str(tmp_path / "none.edf"), str(tmp_path / "t"), model) == 2


def test_a_network_of_bipolar_channels_answers_both_kinds_of_recording(tmp_path, capsys):
    model = model_of(network(spec=named("Fp1-F3", "F3-C3", "Fp2-F4", "F4-C4")), tmp_path / "model")
    place = {name: k for k, name in enumerate(NAMES)}
    chains = [DRILL.data[place[a]] - DRILL.data[place[b]] for a, b in (c.split("-") for c in RECORDINGS.chains)]
    tables = {}
    for name, data, labels in (
        ("chains", np.stack(chains), RECORDINGS.chains),
        ("referred", REFERRED, [f"{n}-REF" for n in NAMES]),
    ):
        _, tables[name], err = answered(write(tmp_path / f"{name}.edf", data, labels), model, capsys)
        assert "error" not in err
    rows = [[(row.onset, row.end) for row in read_rows(table, TABLE)] for table in tables.values()]
    assert rows[0] == rows[1] != []


def test_samples_are_filtered_to_the_band_of_the_networks_windows_without_delay(tmp_path):
    spec = named("Cz-Avg", "Pz-Avg", preprocessing=(("highpass_hz", "4"), ("lowpass_hz", "20")))
    settings = detector_settings(network(spec=spec), CONTAINER, CONTAINER.events, network="n")
    time = np.arange(DRILL.data.shape[1]) / 256
    data = np.zeros_like(DRILL.data)
    kept = 50 * np.sin(2 * np.pi * 10 * time)
    data[NAMES.index("Cz")] = kept + 50 * np.sin(2 * np.pi * 0.5 * time) + 50 * np.sin(2 * np.pi * 45 * time)
    x, notes = samples_for(open_edf(str(write(tmp_path / "a.edf", data, DRILL.labels))), settings["samples"])
    assert notes == []
    inside = slice(512, -512)
    assert np.abs(x[0, inside] - kept[inside]).max() < 1.0
    assert np.abs(x[1]).max() < 0.01


WORDS = {"electrodes": list(NAMES), "aliases": {"T3": ["T7"]}, "prefixes": ["EEG"], "averages": ["avg"]}


@given(st.integers(0, 2**16), st.sampled_from(["Avg", "REF", "Cz", "LE"]))
def test_any_reference_gives_the_average_one_and_every_chain(seed, reference):
    rng = np.random.default_rng(seed)
    potentials = rng.standard_normal((19, 5))
    against = potentials.mean(axis=0) if reference == "Avg" else rng.standard_normal(5)
    against = potentials[NAMES.index("Cz")] if reference == "Cz" else against
    has = [difference(f"{name}-{reference}", WORDS) for name in NAMES if name != reference]
    data = np.stack([x - against for name, x in zip(NAMES, potentials, strict=True) if name != reference])
    wanted = [difference(label, WORDS) for label in ("Fp1-Avg", "Cz-Avg", "T7-Fp2", "O1-O2")]
    factors, lacking = matrix(has, wanted, NAMES)
    assert lacking == []
    average, at = potentials.mean(axis=0), lambda name: potentials[NAMES.index(name)]
    truth = [at("Fp1") - average, at("Cz") - average, at("T3") - at("Fp2"), at("O1") - at("O2")]
    np.testing.assert_allclose(factors @ data, truth, atol=1e-9)


def test_labels_are_read_as_they_are_written_in_files():
    for label in ("EEG Fp1-Ref", "fp1-ref", "FP1 - REF", "Fp1-Ref-1"):
        assert difference(label, WORDS) == ("Fp1", "ref")
    assert difference("Fp1-AVG", WORDS) == ("Fp1", AVERAGE)
    assert difference("T7-Fp2", WORDS) == ("T3", "Fp2")
    for label in ("ECG", "", "EEG", "Fp1-F3-C3-P3", "Status"):
        assert difference(label, WORDS) is None


@given(st.lists(st.booleans(), max_size=60), st.floats(0, 9), st.floats(0, 9))
def test_events_cover_what_is_above_the_threshold_and_never_touch(above, merge_s, min_s):
    scores = np.where(np.array(above, bool), 0.9, 0.1)
    centres = 2.0 + np.arange(len(above))
    seconds = len(above) + 3.0
    events = events_of(scores, centres, seconds, threshold=0.5, merge_s=merge_s, min_s=min_s)
    for one, other in itertools.pairwise(events):
        assert other.begin > one.end
        assert other.begin - one.end >= merge_s
    for one in events:
        assert 0 <= one.begin < one.end <= seconds
        assert one.end - one.begin >= min_s
        assert one.confidence == pytest.approx(0.9)
    if not merge_s and not min_s:
        covered = [any(one.begin <= centre <= one.end for one in events) for centre in centres]
        assert covered == list(above)
    settings = {
        "columns": TABLE.columns, "separator": "\t", "event": "sz", "background": "bckg", "no_date": TABLE.no_date,
    }  # fmt: skip
    text = table_of(events, settings, seconds=seconds, start=None)
    assert faults(text, TABLE, seconds=seconds) == []


def test_a_number_of_an_answer_is_a_probability():
    logits = np.array([[0.0, 2.0], [800.0, -800.0]])
    score = {"output": 1, "form": "logits", "other": False}
    np.testing.assert_allclose(probabilities(logits, score), [1 / (1 + np.exp(-2.0)), 0.0], atol=1e-12)
    lone = {"output": 0, "form": "logits", "other": True}
    np.testing.assert_allclose(
        probabilities(np.array([[2.0], [-900.0]]), lone), [1 / (1 + np.exp(2.0)), 1.0], atol=1e-12
    )
    logs = {"output": 1, "form": "log-probabilities", "other": False}
    np.testing.assert_allclose(probabilities(np.log([[0.2, 0.8]]), logs), [0.8])


@given(st.integers(1, 400), st.integers(1, 90), st.integers(0, 3000))
def test_windows_are_whole_and_end_at_multiples_of_the_hop(n_times, hop, length):
    starts = window_starts(length, n_times, hop)
    assert all(0 <= start <= length - n_times and (start + n_times) % hop == 0 for start in starts)
    ends = [end for end in range(hop, length + 1, hop) if end >= n_times]
    assert len(starts) == len(ends)


def test_events_of_a_profile_are_sensible():
    assert CONTAINER.events == Events(
        hop_s=1.0, threshold=0.5, merge_s=10.0, min_s=10.0, classes=("sz", "seizure", "ictal")
    )
    assert SPEC.n_times == load_profile("szcore").signal_of("seizures").n_times
