"""Streams that compare themselves with the window."""

import dataclasses

import numpy as np
import pytest

from rtserve.errors import InputError, ParityError
from rtserve.streaming.runner import StepRunner
from rtserve.streaming.verify import VerifiedRunner
from tests.streaming.making import deep, graph_of, made


def samples(n, hop):
    x = np.random.default_rng(1).standard_normal((1, 3, n * hop)).astype("f4")
    x[0, 1, 20 * hop : 20 * hop + 1] = np.nan
    return [x[:, :, k * hop : (k + 1) * hop] for k in range(n)]


def test_every_third_answer_is_compared_and_all_are_the_step_s():
    graph, step, _ = made("deep", 4)
    verified, plain = VerifiedRunner(step, graph, every=3), StepRunner(step)
    for x in samples(30, 4):
        y, z = verified.push(x), plain.push(x)
        assert (y is None) == (z is None)
        assert y is None or np.array_equal(y, z, equal_nan=True)
    assert (verified.answers, verified.compared) == (19, 7)
    verified.reset()
    assert (verified.push(samples(1, 4)[0]), verified.answers, verified.compared) == (None, 0, 0)


def test_what_was_compared_is_counted_over_all_streams():
    graph, step, _ = made("deep", 4)
    verified = VerifiedRunner(step, graph, every=3)
    for _ in range(2):
        verified.reset()
        for x in samples(30, 4):
            verified.push(x)
    assert (verified.compared, verified.ever_compared) == (7, 14)


def test_a_step_that_answers_wrong_is_caught():
    graph, _, _ = made("deep", 4)
    _, other, _ = made("shallow", 4)
    lying = dataclasses.replace(other, provenance=made("deep", 4)[1].provenance)
    verified = VerifiedRunner(lying, graph, every=1)
    *before, last = samples(12, 4)
    assert [verified.push(x) for x in before] == [None] * 11
    with pytest.raises(ParityError, match=r"the answer of step 12 is off by"):
        verified.push(last)


def test_another_window_s_graph_is_refused():
    _, step, _ = made("shallow", 6)
    with pytest.raises(InputError, match="was made of graph"):
        VerifiedRunner(step, graph_of(deep), every=1)
    with pytest.raises(InputError, match="impossible"):
        VerifiedRunner(step, made("shallow", 6)[0], every=0)
