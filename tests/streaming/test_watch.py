"""Losses and wrong rates, found in times that jitter."""

import re

import numpy as np
import pytest

from rtserve.streaming.live.watch import LATE_S, Watch

RATE = 250.0


def seen(times, size=10):
    watch, found = Watch(RATE), []
    for start in range(0, len(times), size):
        found += [(start + place, said) for place, said in watch.see(times[start : start + size])]
    return found


def jittered(n, sd, seed=0, size=10):
    """Times of samples that come in chunks, each chunk late by its own amount."""
    late = np.abs(np.random.default_rng(seed).normal(0, sd, -(-n // size)))
    return np.arange(n) / RATE + np.repeat(late, size)[:n]


@pytest.mark.parametrize("sd", [0.0, 1e-4, 1e-3, 3e-3])
@pytest.mark.parametrize("seed", range(5))
def test_what_is_late_is_not_lost(sd, seed):
    assert seen(np.sort(jittered(20_000, sd, seed))) == []


@pytest.mark.parametrize(("sd", "n"), [(0.0, 1), (1e-4, 1), (1e-3, 5), (3e-3, 25), (3e-3, 10)])
def test_what_is_lost_is_found_within_two_periods(sd, n):
    times = np.sort(jittered(6000, sd))
    at = 3210
    times[at:] += n / RATE
    found = seen(times)
    assert found
    assert at <= found[0][0] <= at + 2 * 2 * RATE
    assert "lost" in found[0][1] or "too few" in found[0][1]


def test_a_long_silence_is_a_loss_whatever_was_seen():
    times = np.arange(100) / RATE
    times[50:] += LATE_S + 1 / RATE
    assert seen(times) == [(50, "samples were lost: 51 (208 ms between two)")]


def test_times_that_go_back_are_named():
    times = np.arange(100) / RATE
    times[60:] -= 0.1
    assert seen(times)[0] == (60, "times went back: by 96.0 ms")


def test_a_period_says_how_many_samples_lack():
    times = np.sort(jittered(6000, 3e-3))
    times[3210:] += 5 / RATE
    said = [said for _, said in seen(times)]
    assert len(said) == 1
    assert re.fullmatch(r"samples too few: 5 at 250 Hz, 500 came in 2\.02\d s", said[0])


@pytest.mark.parametrize("rate", [245.0, 256.0])
def test_another_rate_than_is_said_is_called_one(rate):
    found = [said for _, said in seen(np.arange(8000) / rate)]
    assert f"another rate than was said: {rate:.2f} Hz, not 250 Hz" in found


def test_clocks_may_drift():
    assert seen(np.arange(20_000) / (RATE * (1 + 1e-4))) == []
