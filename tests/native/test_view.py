"""A view is what numpy makes of the same steps."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rtserve.native.view import Buffer, View, loops, steps_of

SHAPE = st.lists(st.integers(1, 4), min_size=2, max_size=4).map(tuple)


def whole(shape):
    """Return a view of numbers that lie one behind the other, and the numbers."""
    numbers = np.arange(np.prod(shape))
    buffer = Buffer(name="B", size=numbers.size, first=0, last=0)
    return View(buffer=buffer, shape=shape, steps=steps_of(shape)), numbers


def read(view, numbers):
    """Return what a view holds."""
    places = np.indices(view.shape).reshape(len(view.shape), -1)
    at = view.offset + np.array(view.steps) @ places
    return numbers[at].reshape(view.shape)


@st.composite
def moves(draw):
    """Return a view and the array it must hold, after a few changes of both."""
    shape = draw(SHAPE)
    view, numbers = whole(shape)
    array = numbers.reshape(shape)
    for _ in range(draw(st.integers(0, 4))):
        kind = draw(st.sampled_from(["turn", "cut", "spread", "unit"]))
        if kind == "turn":
            axes = draw(st.permutations(range(array.ndim)))
            view, array = view.moved(axes), array.transpose(axes)
        elif kind == "cut":
            axis = draw(st.integers(0, array.ndim - 1))
            step = draw(st.sampled_from([1, 2, -1]))
            taken = range(array.shape[axis])[::step][: draw(st.integers(1, array.shape[axis]))]
            view = view.cut(axis, taken.start, len(taken), taken.step)
            array = np.take(array, list(taken), axis=axis)
        elif kind == "spread":
            view, array = view.spread((3, *array.shape)), np.broadcast_to(array, (3, *array.shape))
        else:
            axis = draw(st.integers(0, array.ndim))
            wanted = (*array.shape[:axis], 1, *array.shape[axis:])
            view, array = view.reshaped(wanted), array.reshape(wanted)
    return view, array, numbers


@given(moves())
def test_view_holds_what_numpy_does(made):
    view, array, numbers = made
    np.testing.assert_array_equal(read(view, numbers), array)


@given(moves(), st.data())
def test_another_shape_is_the_same_numbers_or_refused(made, data):
    view, array, numbers = made
    flat = [n for n in array.shape for n in ((n // 2, 2) if n % 2 == 0 and data.draw(st.booleans()) else (n,))]
    while len(flat) > 1 and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(flat) - 2))
        flat[at : at + 2] = [flat[at] * flat[at + 1]]
    found = view.reshaped(flat)
    if found is not None:
        np.testing.assert_array_equal(read(found, numbers), array.reshape(flat))
    elif view.plain:
        raise AssertionError("numbers that lie together take any shape")


@given(moves())
def test_loops_visit_every_number_once(made):
    view, array, numbers = made
    found = loops(view.shape, [view.steps, view.steps])
    at = np.zeros(1, dtype=int)
    for n, (step, other) in found:
        assert step == other
        at = (at[:, None] + step * np.arange(n)).reshape(-1)
    np.testing.assert_array_equal(np.sort(numbers[at + view.offset]), np.sort(array.reshape(-1)))


def test_zeros_follow_an_axis_and_end_with_a_cut():
    view, _ = whole((2, 3, 9))
    padded = View(buffer=view.buffer, shape=(2, 3, 5), steps=view.steps, offset=2, zeros={2: (2, 2)})
    assert padded.moved([2, 0, 1]).zeros == {0: (2, 2)}
    assert padded.reshaped((2, 3, 1, 5)).zeros == {3: (2, 2)}
    assert padded.cut(1, 0, 2).zeros == {2: (2, 2)}
    assert padded.cut(2, 1, 3).zeros == {}
