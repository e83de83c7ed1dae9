"""Columns: what two windows a hop apart have in common."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtserve.streaming.columns import NONE, Columns, Numbering
from rtserve.streaming.link import Slide


@given(
    st.integers(8, 60), st.integers(1, 7), st.integers(1, 4), st.integers(1, 3), st.integers(0, 5), st.integers(1, 12)
)
def test_what_is_called_the_same_is_the_same(n, taps, stride, dilation, left, hop):
    slide = Slide(taps=taps, stride=stride, dilation=dilation, left=min(left, taps - 1), spatial=0)
    n_out = (n + slide.left - dilation * (taps - 1) - 1) // stride + 1
    index = slide.index(n, max(n_out, 0))
    if not len(index) or (index == NONE).all(1).any():
        return
    x = Columns.window(n)
    made = Numbering().computed("filter", [x.take(index[:, k]) for k in range(taps)])
    signal, weight = np.random.default_rng(0).standard_normal(n + hop), np.random.default_rng(1).standard_normal(taps)
    now, before = (
        (np.where(index == NONE, 0.0, window[np.clip(index, 0, None)]) * weight).sum(1)
        for window in (signal[hop:], signal[:n])
    )
    earlier = made.earlier(hop)
    same = earlier != NONE
    assert np.array_equal(now[same], before[earlier[same]])
    inside = (index != NONE).all(1)
    moved = np.arange(len(index)) + hop // stride
    whole = inside & (moved < len(index)) & (hop % stride == 0)
    whole[whole] &= inside[moved[whole]]
    assert same[whole].all()


def test_padding_is_another_thing_than_zeros_and_these_have_a_shape():
    numbering, x = Numbering(), Columns.window(4).take(np.array([0, 1]))
    fronts = [Columns.window(4).take(np.array([NONE])), numbering.zeros((3,), 1), numbering.zeros((5,), 1)]
    made = [
        numbering.computed("max", [Columns(kind=np.append(one.kind, x.kind), at=np.append(one.at, x.at))])
        for one in fronts
    ]
    assert len({one.kind[0] for one in made}) == 3
    assert all(np.array_equal(one.kind[1:], made[0].kind[1:]) for one in made)


def test_a_signal_played_backwards_moves_the_other_way():
    backwards = Columns.window(10).take(np.arange(10)[::-1])
    assert backwards.earlier(3).tolist() == [NONE, NONE, NONE, 0, 1, 2, 3, 4, 5, 6]


def test_columns_three_apart_return_after_three_hops_of_one():
    every_third = Columns.window(12).take(np.arange(0, 12, 3))
    assert (every_third.earlier(1) == NONE).all()
    assert (every_third.lag(1), every_third.lag(3), every_third.lag(2)) == (3, 1, 3)
    assert every_third.earlier(3).tolist() == [1, 2, 3, NONE]


def test_alike_constants_are_alike_and_others_are_not():
    kinds = Numbering().constants(np.array([[1.0, 2.0], [1.0, 2.0], [1.0, 3.0]])).kind
    assert kinds[0] == kinds[1] != kinds[2]
