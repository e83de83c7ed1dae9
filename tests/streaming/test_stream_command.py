"""``rtserve stream`` on the command line."""

import json

from rtserve.streaming.report import stream_text
from tests.streaming.making import graph_of, normed, shallow


def test_a_step_is_written_and_explained(cli, tmp_path):
    graph, output = graph_of(shallow).save(tmp_path / "F.onnx"), tmp_path / "S.onnx"
    code, out, err = cli("stream", graph, "--hop", 6, "-o", output, "--explain", "--json")
    assert code == 0, err
    assert output.exists()
    assert "answers are the windows' from step 8 on" in err
    assert "lays time out beside channels" in err
    report = json.loads(out)
    assert report["schema"] == "rtserve.stream/1"
    assert report["macs"]["step"] < report["macs"]["window"]
    assert report["layers"][0]["computed"] == 6
    assert "times fewer" in err
    more = stream_text(report | {"macs": {"window": 4_000_000, "form": 9_000_000, "step": 5_000_000}}, explain=False)
    assert "4.00 M multiply-adds per window (9.00 M in the form that is streamed) -> 5.00 M per hop;" in more
    code, _, err = cli("stream", graph, "--hop", 6, "-o", output)
    assert code == 2
    assert "--force" in err


def test_what_is_refused_leaves_nothing(cli, tmp_path):
    graph, output = graph_of(normed).save(tmp_path / "F.onnx"), tmp_path / "S.onnx"
    code, _, err = cli("stream", graph, "--hop", 6, "-o", output)
    assert code == 2
    assert "share nothing" in err
    assert not output.exists()
    code, _, err = cli("stream", graph, "--hop", 60, "-o", output)
    assert code == 2
    assert "hint: give a hop of 1 to 47 samples" in err


def test_the_graph_itself_is_never_replaced(cli, tmp_path):
    graph = graph_of(shallow).save(tmp_path / "F.onnx")
    before = graph.read_bytes()
    code, _, err = cli("stream", graph, "--hop", 6, "-o", graph, "--force")
    assert code == 2
    assert "is the graph itself" in err
    assert graph.read_bytes() == before
