"""Commands ask for what a window file does not say, and take the answer as an option: the same as said by the file."""

import json
from dataclasses import replace

import numpy as np
import pytest

from rtserve import files
from rtserve.signals.windows import Stated, load_windows, save_windows


@pytest.mark.usefixtures("sides_here")
def test_commands_ask_and_take_the_answer(tmp_path, cli, graph, windows):
    graph = graph.save(tmp_path / "f.onnx")
    silent = tmp_path / "silent.npz"
    np.savez(silent, X=1e6 * windows.X, y=windows.y, subject=windows.subject)
    said = save_windows(tmp_path / "said.npz", load_windows(silent, stated=Stated(unit="uV", sfreq=100.0)))
    code, _, err = cli("evaluate", graph, "--data", silent)
    assert code == 2
    assert "does not say its unit" in err
    assert "--unit" in err
    code, _, err = cli("evaluate", graph, "--data", silent, "--unit", "uV")
    assert code == 2
    assert "does not say its sfreq" in err
    answer = ("--unit", "uV", "--sfreq", "100")
    for command in ("evaluate", "search"):
        scored = cli(command, graph, "--data", silent, *answer)
        assert scored[0] == 0, scored[2]
    first = cli("evaluate", graph, "--data", silent, *answer, "--json")
    assert json.loads(first[1])["scores"] == json.loads(cli("evaluate", graph, "--data", said, "--json")[1])["scores"]
    compared = cli("compare", graph, graph, "--data", silent, *answer)
    assert compared[0] == 0, compared[2]
    assert cli("evaluate", graph, "--data", said, "--unit", "uV")[0] == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"schema": "rtserve.evaluation/1", "name": "x"}', "but is not whole (KeyError: 'graph_sha256')"),
        ("[" * 100_000, "is not JSON (maximum recursion"),
        ('{"schema": "rtserve.evaluation/1"', "is not JSON"),
    ],
)
def test_a_result_that_is_none_is_one_line(text, says, tmp_path, cli):
    (tmp_path / "r.json").write_text(text)
    code, _, err = cli("compare", tmp_path / "r.json", tmp_path / "r.json")
    assert code == 2
    assert says in err
    assert len(err.strip().splitlines()) == 2


def test_json_larger_than_is_read_is_refused_by_its_size(tmp_path, cli, monkeypatch):
    monkeypatch.setattr(files, "LARGEST_JSON", 1000)
    (tmp_path / "r.json").write_text(json.dumps({"schema": "rtserve.evaluation/1", "x": "a" * 2000}))
    code, _, err = cli("compare", tmp_path / "r.json", tmp_path / "r.json")
    assert code == 2
    assert "at most 1,000 are read" in err


@pytest.mark.parametrize("command", ["evaluate", "search", "compare", "calibrate"])
def test_channels_of_other_names_are_said_by_every_command(tmp_path, cli, graph, windows, command):
    spec = replace(graph.input_spec, ch_names=("Fz", "Cz", "Pz"))
    named = replace(graph, input_spec=spec).save(tmp_path / "f.onnx")
    marks = np.where(np.arange(len(windows)) % 12 < 6, "valid", "test")
    marked = replace(windows, extra={"split": marks})
    for names, said in ((("F3", "F4", "Oz"), 1), (("Fz", "Cz", "Pz"), 0)):
        data = save_windows(tmp_path / "w.npz", replace(marked, ch_names=names), force=True)
        more = {"compare": (named,), "calibrate": ("-o", tmp_path / "c.onnx", "--force")}.get(command, ())
        code, out, err = cli(command, named, *more, "--data", data)
        assert code == 0, err
        assert ("channel names of the windows and of f.onnx differ: channel 0 is F3 against Fz" in out + err) == said
    other = save_windows(tmp_path / "o.npz", replace(marked, ch_names=("Cz", "Fz", "Pz")))
    assert cli(command, named, *more, "--data", other)[0] == 2
