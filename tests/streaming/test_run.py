"""``rtserve run``: a recording hop after hop, with the windows' own answers."""

import csv
import dataclasses
import json

import mne
import numpy as np
import pytest

from rtserve.graphs.runners import OnnxruntimeRunner
from tests.streaming.making import SPEC, deep, graph_of, made

NAMES = ("F3", "F4", "Cz")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """Ten seconds of four channels at 100 Hz in another order than the graph's; (path, volts in the graph's order)."""
    volts = 1e-5 * np.random.default_rng(0).standard_normal((4, 1000))
    raw = mne.io.RawArray(volts, mne.create_info(["Cz", "Oz", "F4", "F3"], 100.0, "eeg"), verbose="error")
    path = tmp_path_factory.mktemp("recording") / "one_raw.fif"
    raw.save(path, fmt="double", verbose="error")
    return path, volts[[3, 2, 0]]


def named(**more):
    return graph_of(deep, dataclasses.replace(SPEC, ch_names=NAMES, **more))


def answers(path):
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == ["end_s", "y0", "y1"]
    return np.array(rows[1:], float)


def test_a_recording_gives_the_windows_answers(cli, recording, tmp_path):
    graph = named(unit="uV")
    path, out = graph.save(tmp_path / "F.onnx"), tmp_path / "answers.csv"
    code, said, err = cli("run", path, "--source", recording[0], "--hop", 7, "--verify-every", 40, "-o", out, "--json")
    assert code == 0, err
    report, found = json.loads(said), answers(out)
    ends = np.arange(7, 143) * 7
    x = np.stack([1e6 * recording[1][:, end - 48 : end] for end in ends]).astype("f4")
    wanted = OnnxruntimeRunner(graph).infer(x)
    assert np.allclose(found[:, 0], ends / 100)
    assert np.allclose(found[:, 1:], wanted, rtol=1e-4, atol=1e-5)
    assert (report["answers"], report["steps"], report["samples_left"], report["compared"]) == (136, 142, 6, 4)


def test_as_many_seconds_are_taken_as_are_asked_for(cli, recording, tmp_path):
    path = named(unit="uV").save(tmp_path / "F.onnx")
    for seconds, steps in ((6, 100), (6.01, 101), (0.06, 1)):
        code, said, err = cli("run", path, "--source", recording[0], "--hop", 6, "--for", seconds, "--json")
        assert code == 0, err
        assert json.loads(said)["steps"] == steps


def test_a_gap_begins_anew(cli, recording, tmp_path):
    raw = mne.io.read_raw_fif(recording[0], preload=True, verbose="error")
    raw.set_annotations(mne.Annotations([3.0, 7.0], [1.0, 0.0], ["BAD_ACQ_SKIP", "EDGE boundary"]))
    broken = tmp_path / "gap_raw.fif"
    raw.save(broken, verbose="error")
    step_path, out = made("deep", 4)[1].save(tmp_path / "S.onnx"), tmp_path / "answers.csv"
    graph = named().save(tmp_path / "F.onnx")
    assert cli("stream", graph, "--hop", 4, "-o", step_path, "--force")[0] == 0
    code, _, err = cli("run", step_path, "--source", broken, "-o", out)
    assert code == 0, err
    assert "x a gap of the recording" in err
    ends = answers(out)[:, 0]
    assert not ((ends > 3.0) & (ends < 4.48)).any()


def test_what_does_not_fit_is_refused(cli, recording, tmp_path):
    cases = {
        "rate": (named(sfreq=128.0), "has 100 Hz, the graph's windows 128 Hz"),
        "unit": (named(unit="1"), "standardised by factors"),
        "scale": (
            named(preprocessing=(("standardised", "window"),)),
            "windows had standardised window, which is not done",
        ),
        "filter": (named(preprocessing=(("lowpass_hz", "60"),)), "windows had lowpass_hz 60, which is not done"),
        "channels": (graph_of(deep), "has 4 EEG channels, the graph takes 3"),
    }
    for name, (graph, said) in cases.items():
        path, out = graph.save(tmp_path / f"{name}.onnx"), tmp_path / "answers.csv"
        code, _, err = cli("run", path, "--source", recording[0], "--hop", 4, "-o", out)
        assert code == 2, name
        assert said in err
        assert not out.exists()
    code, _, err = cli("run", tmp_path / "rate.onnx", "--source", recording[0])
    assert code == 2
    assert "its hop is open" in err


def test_the_hop_is_the_step_graph_s(cli, recording, tmp_path):
    path = made("deep", 4)[1].save(tmp_path / "S.onnx")
    code, _, err = cli("run", path, "--source", recording[0], "--hop", 5)
    assert code == 2
    assert "takes 4 samples at a time, not 5" in err
    code, _, err = cli("run", path, "--source", recording[0], "--verify-every", 3)
    assert code == 2
    assert "name it: --window F.onnx" in err
