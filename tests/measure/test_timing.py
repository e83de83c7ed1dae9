"""Interleaved timing: the order, the pairs, and what may be concluded from them. No test asserts a time."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.measure.timing import Timings, interleave, repeat


def simulated(rng: np.random.Generator, *, slower: float = 1.0, rounds: int = 40) -> Timings:
    """Times as a shared machine gives them: a slow drift for both, interference now and then, heavy tails."""
    drift = np.exp(np.cumsum(0.02 * rng.standard_normal(rounds)))
    out = []
    for k in range(rounds):
        stolen = 1 + (rng.random(2) < 0.15) * rng.exponential(0.8, 2)
        times = 1e5 * drift[k] * stolen[:, None] * np.exp(0.02 * rng.standard_t(3, (2, 9)))
        out.append({"a": (times[0] * slower).astype(np.int64), "b": times[1].astype(np.int64)})
    return Timings(rounds=tuple(out))


def test_every_round_has_every_burst_and_turns_are_mirrored():
    order: list[str] = []
    calls = {name: (lambda name=name: order.append(name)) for name in "abc"}
    timings = interleave(calls, rounds=6, min_burst_us=0.0, min_calls=2, warmup_us=0.0)
    assert timings.names == ("a", "b", "c")
    assert [len(r[name]) for r in timings.rounds for name in r] == [2] * 18
    turns = "".join(order)[9:]
    blocks = [turns[i : i + 9] for i in range(0, len(turns), 9)]
    assert all(sorted(block[::3]) == ["a", "b", "c"] for block in blocks)
    assert all(second == first[::-1] for first, second in zip(blocks[::2], blocks[1::2], strict=True))
    assert len(set(blocks)) > 2


def test_a_burst_is_long_enough_and_bounded():
    timings = interleave({"nap": lambda: time.sleep(2e-4)}, rounds=2, min_burst_us=2000, warmup_us=1000, max_calls=5)
    assert all(3 <= len(r["nap"]) <= 5 for r in timings.rounds)
    assert timings.calls_us("nap").min() >= 200


def test_a_thing_twice_as_long_is_seen_as_that():
    timings = interleave(
        {"two": lambda: time.sleep(2e-3), "one": lambda: time.sleep(1e-3)}, rounds=8, min_burst_us=0, warmup_us=0
    )
    ratio, low, high = timings.ratio("two", "one")
    assert low <= ratio <= high
    assert low > 1.0


@pytest.mark.parametrize("calls", [{}, {"a": int}])
def test_nothing_to_time_is_refused(calls):
    with pytest.raises(InputError):
        interleave(calls, rounds=0)


def test_ratio_sees_through_drift_and_interference():
    ratio, low, high = simulated(np.random.default_rng(0), slower=1.10).ratio("a", "b")
    assert low <= 1.10 <= high
    assert high - low < 0.08
    assert abs(ratio - 1.10) < 0.04


def test_fifty_null_pairs_are_rarely_called_different():
    rng = np.random.default_rng(1)
    called = sum(not low <= 1 <= high for _, low, high in (simulated(rng).ratio("a", "b") for _ in range(200)))
    assert called <= 0.08 * 200


@given(seed=st.integers(0, 2**32 - 1))
def test_the_ratio_turned_round_is_its_inverse(seed):
    timings = simulated(np.random.default_rng(seed), slower=1.3, rounds=7)
    ratio, low, high = timings.ratio("a", "b")
    back, back_low, back_high = timings.ratio("b", "a")
    assert back == pytest.approx(1 / ratio)
    assert (back_low, back_high) == pytest.approx((1 / high, 1 / low), rel=1e-6)


@given(seed=st.integers(0, 2**32 - 1))
def test_timings_read_as_written(seed):
    timings = simulated(np.random.default_rng(seed), rounds=3)
    again = Timings.from_dict(timings.to_dict())
    assert again.to_dict() == timings.to_dict()
    assert again.ratio("a", "b") == timings.ratio("a", "b")


def test_p99_is_refused_under_a_thousand_calls():
    timings = simulated(np.random.default_rng(2), rounds=40)
    assert timings.percentile_us("a", 99) is None
    assert timings.percentile_us("a", 90) is not None
    more = simulated(np.random.default_rng(2), rounds=120)
    assert more.percentile_us("a", 99) == pytest.approx(np.percentile(more.calls_us("a"), 99))


@pytest.mark.parametrize(
    ("factor", "word"),
    [
        (np.ones(40), None),
        (1 + np.arange(40) / 100, "second half"),
        (np.tile([1.0, 1.4], 20), "rounds differ"),
    ],
)
def test_unstable_runs_say_why(factor, word):
    rounds = tuple({"a": np.array([1000 * f] * 3, np.int64)} for f in factor)
    reasons = " ".join(Timings(rounds=rounds).unstable("a"))
    assert (word in reasons) if word else not reasons


def test_few_rounds_are_called_few():
    assert "few" in " ".join(Timings(rounds=({"a": np.array([5, 5])},) * 4).unstable("a"))


def offset_sessions(rng: np.random.Generator, *, slower: float = 1.0) -> Timings:
    """Nine restarts: each session has an offset of its own that all of its rounds share."""
    rounds, restarts = [], []
    for k in range(9):
        offset = np.exp(0.003 * rng.standard_normal(2))
        for part in simulated(rng, slower=slower, rounds=6).rounds:
            rounds.append({"a": (part["a"] * offset[0]).astype(int), "b": (part["b"] * offset[1]).astype(int)})
            restarts.append(k)
    return Timings(rounds=tuple(rounds), restarts=tuple(restarts))


def test_offsets_of_sessions_are_not_called_a_difference():
    rng = np.random.default_rng(5)
    pairs = [offset_sessions(rng) for _ in range(150)]
    apart = [not low <= 1 <= high for _, low, high in (t.ratio("a", "b") for t in pairs)]
    forgetful = [Timings(rounds=t.rounds).ratio("a", "b") for t in pairs]
    assert sum(apart) <= 0.08 * 150
    assert sum(not low <= 1 <= high for _, low, high in forgetful) >= sum(apart)
    _, low, high = offset_sessions(rng, slower=1.10).ratio("a", "b")
    assert low <= 1.10 <= high
    assert low > 1.0


def test_everything_is_built_anew_in_each_restart():
    built: list[str] = []

    def factory(name: str):
        def fresh():
            built.append(name)
            return lambda: None

        return fresh

    timings = repeat(
        {n: factory(n) for n in "ab"}, restarts=7, rounds=2, min_burst_us=0.0, warmup_us=0.0, min_calls=1, max_calls=1
    )
    assert sorted(built) == ["a"] * 7 + ["b"] * 7
    assert timings.restarts == tuple(k for k in range(7) for _ in range(2))
    assert timings.names == ("a", "b")
    assert len(set(zip(built[::2], built[1::2], strict=True))) == 2
    assert Timings.from_dict(timings.to_dict()).ratio("a", "b") == timings.ratio("a", "b")
