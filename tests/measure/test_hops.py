"""Calls at the pace of a hop, on a clock of our own: a stall is found wherever it is. No test asserts a time."""

import numpy as np
import pytest

from rtserve.measure.bench import bench
from rtserve.measure.bench_report import BenchReport, Contender
from rtserve.measure.hops import HopTimes, quantile_ends, share_ends, stream
from rtserve.measure.machine import Machine, watched
from rtserve.measure.timing import Timings


class Clock:
    """Nanoseconds that pass only where something takes time."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 800
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += round(seconds * 1e9)


def streamed(stalls: dict[int, int], *, hops: int = 400, hop_ms: float = 4.0, call_ns: int = 200_000) -> HopTimes:
    """Calls of 0.2 ms, but for those that stall by so many nanoseconds."""
    clock, calls = Clock(), iter(range(-5, hops))

    def call() -> None:
        clock.now += call_ns + stalls.get(next(calls), 0)

    return stream(call, hop_ms=hop_ms, hops=hops, clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize("seed", range(20))
def test_a_planted_stall_is_found_and_placed(seed):
    at = int(np.random.default_rng(seed).integers(0, 400))
    found = streamed({at: 5_000_000}).summary()
    assert found["stalls"]["first"] == at
    assert found["misses"]["count"] >= 1
    assert found["answer_us"]["max"] >= 5200


def test_no_stall_is_found_where_there_is_none():
    found = streamed({}).summary()
    assert found["stalls"] == {"count": 0, "first": None}
    assert (found["misses"]["count"], found["misses"]["low"]) == (0, 0.0)
    assert found["misses"]["high"] == pytest.approx(1 - 0.025 ** (1 / 400))
    assert found["jitter_us"] < 1


def test_a_stall_delays_the_answers_behind_it():
    times = streamed({10: 9_000_000})
    assert (times.answer_us > 4000).sum() == 2
    assert times.late_us[11] > 5000
    assert times.late_us[13] < 1


def test_a_call_longer_than_the_hop_falls_ever_further_behind():
    times = streamed({}, hop_ms=0.1, hops=50)
    assert (np.diff(times.answer_us) > 0).all()
    assert times.summary()["misses"]["share"] == 1.0


def test_times_read_as_written():
    times = streamed({3: 1_000_000}, hops=30)
    assert HopTimes.from_dict(times.to_dict()).summary() == times.summary()
    assert any("not known: too few hops" in line for line in times.lines())


def test_intervals_of_shares_and_quantiles_hold_the_truth():
    rng = np.random.default_rng(0)
    shares = tails = 0
    for _ in range(300):
        values = rng.exponential(size=5000)
        low, high = share_ends(int((values > 3).sum()), 5000)
        shares += low <= np.exp(-3) <= high
        tail = quantile_ends(values, 0.999)
        tails += tail["low"] <= -np.log(0.001) <= tail["high"]
    assert shares >= 0.92 * 300
    assert tails >= 0.92 * 300
    assert share_ends(10, 10)[1] == 1.0


@pytest.mark.parametrize(
    ("readings", "word"),
    [
        ({"load_before": 3.0}, "load average"),
        ({"steal": 0.05}, "stolen"),
        ({"others": 1.2}, "other processes"),
        ({"load_before": 0.5, "steal": 0.0, "others": 0.05}, None),
        ({}, None),
    ],
)
def test_a_loaded_machine_says_so_and_quotes_no_p99(readings, word):
    machine = Machine(cores=2, **readings)
    rounds = tuple({"f": np.full(100, 1_000_000)} for _ in range(20))
    report = BenchReport(
        contenders=(Contender(name="f", digest="1", engine="onnxruntime"),),
        timings=Timings(rounds=rounds),
        batch=1,
        threads=1,
        max_difference={},
        machine=machine,
    )
    row, text = report.row(report.contenders[0]), "\n".join(report.lines())
    assert (row["latency_us"]["p99"] is None) == (word is not None)
    assert ("p99 is not quoted" in text) == (word is not None)
    assert word is None or word in text
    assert report.to_dict()["machine"]["loaded"] == list(machine.loaded)


def test_the_machine_is_read_around_a_block():
    with watched() as machine:
        sum(range(200_000))
    assert machine.cores >= 1
    assert machine.steal is None or 0 <= machine.steal <= 1
    assert machine.others is None or machine.others >= 0


def test_bench_calls_every_graph_at_the_pace_of_the_hop(graph):
    report = bench(graph, graph, rounds=2, hop_ms=1.0, hops=40)
    assert set(report.hops) == {c.name for c in report.contenders}
    row = report.row(report.contenders[0])
    assert row["hop"]["hops"] == 40
    assert row["deadline_interval"][0] <= row["deadline_misses"] <= row["deadline_interval"][1]
    assert "jitter" in "\n".join(report.lines())
    assert len(report.to_dict()["raw"]["hops"][report.contenders[0].name]["call_us"]) == 40
