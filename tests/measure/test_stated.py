"""Commands ask for what a window file does not say, and take the answer as an option: the same as said by the file."""

import json

import numpy as np

from rtserve.signals.windows import Stated, load_windows, save_windows


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
