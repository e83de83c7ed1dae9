"""Which engine is fastest is measured once, and holds for what it was measured on."""

import json
import shutil

import numpy as np
import pytest

from rtserve.cli.main import main
from rtserve.errors import InputError
from rtserve.graphs.graph import Graph
from rtserve.measure.timing import Timings
from rtserve.measure.tuned import TIMED, _best, place_of, tune, tuned_engine


@pytest.fixture(scope="module")
def tuned(small_members, tmp_path_factory):
    """A graph with an answer beside it."""
    path = tmp_path_factory.mktemp("tuned") / "F.onnx"
    shutil.copy(small_members[0], path)
    return path, tune(path, rounds=2)


def test_every_engine_is_timed_or_has_a_reason(tuned):
    path, found = tuned
    assert {*found.median_us, *found.left_out} == set(TIMED)
    assert {"onnxruntime", "torch"} <= set(found.median_us)
    assert all(found.left_out.values())
    assert found.graph == Graph.load(path).digest
    assert json.loads(place_of(path).read_text())["best"] == found.best == tuned_engine(path)
    assert any(found.best in line for line in found.lines())


def test_another_engine_must_be_surely_faster():
    rng = np.random.default_rng(0)

    def timings(**times):
        return Timings(rounds=tuple(
            {name: (us * 1000 * rng.normal(1, 0.02, 20)).astype(np.int64) for name, us in times.items()} for _ in range(30)
        ))  # fmt: skip

    assert _best(timings(onnxruntime=100, torch=400, native=60)) == "native"
    assert _best(timings(onnxruntime=100, torch=400, native=100)) == "onnxruntime"
    assert _best(timings(onnxruntime=100, torch=400, native=130)) == "onnxruntime"
    assert _best(timings(onnxruntime=100, openvino=70, native=60)) == "native"


@pytest.mark.parametrize(("change", "said"), [
    ({"graph": "0" * 64}, "graph"), ({"threads": 2}, "threads"), ({"machine": {"cpu": "another"}}, "cpu"),
    ({"best": "reference"}, "no answer"), ({"schema": "other"}, "no answer"),
])  # fmt: skip
def test_an_answer_about_something_else_is_refused(tuned, tmp_path, change, said):
    path = tmp_path / "F.onnx"
    shutil.copy(tuned[0], path)
    told = json.loads(place_of(tuned[0]).read_text())
    place_of(path).write_text(json.dumps(told | change))
    with pytest.raises(InputError, match=said):
        tuned_engine(path)


def test_another_batch_is_refused(tuned):
    assert tuned_engine(tuned[0], batch=1)
    with pytest.raises(InputError, match="batch 1, asked is 8"):
        tuned_engine(tuned[0], batch=8)


def test_auto_without_an_answer_names_the_command(small_members, capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", str(small_members[1]), "--engine", "auto"])
    assert end.value.code == 2
    assert "rtserve tune" in capsys.readouterr().err


def test_bench_takes_the_answer(tuned, capsys):
    with pytest.raises(SystemExit) as end:
        main(["bench", str(tuned[0]), "--engine", "auto", "--rounds", "1"])
    assert not end.value.code
    said = capsys.readouterr()
    assert f"engine {tuned[1].best}" in said.err
    assert f"[{tuned[1].best}]" in said.out


def test_bench_shows_all_engines_side_by_side(small_members, tmp_path, capsys):
    command = ["bench", str(small_members[0]), "--engine", "all", "--rounds", "1"]
    with pytest.raises(SystemExit) as end:
        main([*command, "-o", str(tmp_path / "all.json")])
    assert not end.value.code
    said, found = capsys.readouterr().out, json.loads((tmp_path / "all.json").read_text())
    assert {*found["median_us"], *found["left_out"]} == set(TIMED)
    assert all(f"  {name} " in said for name in TIMED)
    assert not place_of(small_members[0]).exists()


@pytest.mark.parametrize("more", [["--against", "F.onnx"], ["--hop-ms", "2"], ["--loop", "2"]])
def test_all_engines_are_of_one_graph(small_members, capsys, more):
    with pytest.raises(SystemExit) as end:
        main(["bench", str(small_members[0]), "--engine", "all", *more])
    assert end.value.code == 2
    assert more[0] in capsys.readouterr().err


def test_an_answer_is_not_replaced_unasked(tuned):
    before = place_of(tuned[0]).read_bytes()
    with pytest.raises(InputError, match="exists already"):
        tune(tuned[0], rounds=1)
    assert place_of(tuned[0]).read_bytes() == before
