"""`rtserve bench`: what it reports, and the warnings it owes. No test asserts a time."""

import json
from dataclasses import replace

import numpy as np
import pytest

import rtserve
from rtserve.errors import InputError, SpecMismatchError
from rtserve.fusion.fuse import fuse
from rtserve.measure.bench import bench
from rtserve.measure.bench_report import AGAIN, BenchReport, Contender
from rtserve.measure.results import load_result
from rtserve.measure.timing import Timings

from .conftest import linear_graph


@pytest.fixture
def other():
    return linear_graph([[1.0], [2.0], [3.0]])


def made_up(ratio: float, *, rounds: int = 40, calls: int = 3, **first: object) -> BenchReport:
    """A report whose first contender takes `ratio` of the second, within one part in a thousand."""
    rng = np.random.default_rng(0)

    def times(f: float) -> np.ndarray:
        return (1e6 * f * (1 + 1e-3 * rng.standard_normal(calls))).astype(np.int64)

    rows = tuple({"f": times(ratio), "m": times(1.0), AGAIN: times(1.0)} for _ in range(rounds))
    contenders = (
        Contender(**({"name": "f", "digest": "1", "engine": "onnxruntime"} | first)),
        Contender(name="m", digest="2", engine="onnxruntime"),
    )
    return BenchReport(
        contenders=contenders, timings=Timings(rounds=rows), batch=1, threads=1, max_difference={"m": 0.0}, hop_ms=0.9
    )


def test_report_says_everything(graph, other):
    report = bench(graph, other, rounds=4, loop=3, batch=2, hop_ms=100.0)
    assert rtserve.bench is bench
    values = report.to_dict()
    assert (values["batch"], values["threads"], values["scenario"]) == (2, 1, "offline")
    mine, theirs = values["contenders"]
    assert mine["digest"] == graph.digest
    assert theirs["loop"] == 3
    assert theirs["ratio"]["low"] <= theirs["ratio"]["value"] <= theirs["ratio"]["high"]
    assert theirs["max_difference"] > 0
    assert mine["deadline_misses"] == 0.0
    assert mine["throughput"] == pytest.approx(2e6 / report.timings.median_us("graph"))
    assert values["noise_floor"] >= 0
    assert set(values["environment"]) >= {"cpu", "versions", "threads", "cores"}
    assert len(values["raw"]["rounds"]) == 4


def test_one_graph_alone_has_no_ratio(graph):
    report = bench(graph, rounds=2)
    assert report.noise_floor is None
    assert "ratio" not in report.row(report.contenders[0])


def test_clear_difference_is_called_one_and_a_null_is_not():
    assert made_up(0.8).different("m")
    assert "1.25 times as fast" in "\n".join(made_up(0.8).lines())
    assert not made_up(1.0001).different("m")
    assert "not told apart from 1" in "\n".join(made_up(1.0001).lines())


def test_misses_of_the_hop_are_counted():
    assert made_up(0.8).row(made_up(0.8).contenders[1])["deadline_misses"] == 1.0
    assert made_up(0.8).row(made_up(0.8).contenders[0])["deadline_misses"] == 0.0


def test_more_work_in_less_time_is_flagged():
    assert any("5 branches and costs less" in note for note in made_up(0.8, branches=5).notes())
    assert not any("branches" in note for note in made_up(1.2, branches=5).notes())
    assert not any("branches" in note for note in made_up(0.8, branches=1).notes())
    assert not any("branches" in note for note in made_up(0.8, branches=5, passes=2).notes())


def test_the_same_bytes_are_flagged(graph, other):
    assert any("same bytes" in note for note in bench(graph, graph, rounds=2).notes())
    assert not any("same bytes" in note for note in bench(graph, other, rounds=2).notes())


def test_too_few_calls_for_p99_is_said():
    assert any("p99 needs 1000" in note for note in made_up(0.8).notes())
    assert not any("p99" in note for note in made_up(0.8, calls=30).notes())


@pytest.mark.parametrize("bad", [{"batch": 0}, {"loop": 0}, {"rounds": 0}, {"hop_ms": 0.0}])
def test_impossible_numbers_are_refused(graph, bad):
    with pytest.raises(InputError):
        bench(graph, **bad)


def test_command(graph, other, tmp_path, run_cli):
    f, m, out = graph.save(tmp_path / "f.onnx"), other.save(tmp_path / "m.onnx"), tmp_path / "b.json"
    code, text, err = run_cli("bench", f, "--against", m, "--rounds", 4, "--json", "-o", out)
    assert code == 0
    assert json.loads(text)["schema"] == "rtserve.bench/1"
    assert "raw" not in json.loads(text)
    assert f"wrote {out}" in err
    assert "raw" in load_result(out, "bench")
    assert str(tmp_path) not in out.read_text()
    assert run_cli("bench", f, "--rounds", 2, "-o", out)[0] == 2
    code, text, _ = run_cli("bench", f, "--against", m, "--rounds", 4)
    assert "noise floor (A/A)" in text
    assert "f.onnx takes" in text


def test_a_missing_graph_is_exit_2(tmp_path, run_cli):
    assert run_cli("bench", tmp_path / "no.onnx")[0] == 2


@pytest.mark.parametrize(
    ("inputs", "outputs", "words"),
    [
        ({"unit": "uV"}, {}, "unit V against uV"),
        ({"sfreq": 250.0}, {}, "sfreq 100.0 against 250.0"),
        ({"ch_names": ("B", "A", "C")}, {}, "channel 0 is A against B"),
        ({"preprocessing": (("highpass_hz", "1"),)}, {}, "highpass_hz 0.5 against 1"),
        ({}, {"target": "age"}, "predicts response_time"),
    ],
)
def test_graphs_for_other_windows_or_another_target_are_no_pair(graph, inputs, outputs, words):
    known = {"unit": "V", "sfreq": 100.0, "ch_names": ("A", "B", "C"), "preprocessing": (("highpass_hz", "0.5"),)}
    first = replace(graph, input_spec=replace(graph.input_spec, **known))
    first = replace(first, output_spec=replace(graph.output_spec, target="response_time"))
    second = replace(first, input_spec=replace(first.input_spec, **inputs))
    second = replace(second, output_spec=replace(second.output_spec, **outputs))
    with pytest.raises(SpecMismatchError, match=words):
        bench(first, second, rounds=2)


def test_a_unit_that_a_graph_does_not_state_is_said(graph):
    unknown = replace(graph, input_spec=replace(graph.input_spec, unit=None))
    known = replace(graph, input_spec=replace(graph.input_spec, unit="uV"))
    alone, beside = bench(unknown, rounds=2).notes(), bench(unknown, known, rounds=2).notes()
    assert "graph does not state its unit: it was timed on windows of size 1" in alone
    assert "graph does not state its unit: it was timed on windows in uV, as the others take" in beside
    assert not any("does not state" in note for note in bench(known, rounds=2).notes())


def test_a_fixed_batch_is_the_one_that_is_timed(tmp_path, cli):
    fixed = linear_graph([[1.0], [0.0], [0.0]], batch=4).save(tmp_path / "f.onnx")
    free = linear_graph([[1.0], [0.0], [0.0]]).save(tmp_path / "g.onnx")
    for order in ((fixed, free), (free, fixed)):
        assert bench(order[0], against=order[1], rounds=1).batch == 4
    with pytest.raises(InputError, match=r"f\.onnx takes 4 windows per call, not 8") as caught:
        bench(free, against=fixed, batch=8, rounds=1)
    assert "rtserve annotate f.onnx -o NEW.onnx" in caught.value.hint
    with pytest.raises(InputError, match=r"the batch of f\.onnx is fixed") as caught:
        fuse([fixed])
    assert "rtserve annotate f.onnx -o NEW.onnx" in caught.value.hint
