"""Wide pools in blocks, and blocks as means: the same numbers, and NaN in its own block alone."""

import numpy as np
import pytest

from rtserve.fusion.ir.clean import cleaned
from rtserve.fusion.join import empty_model
from rtserve.graphs.emit import Emitter
from rtserve.graphs.fold import normalise
from rtserve.streaming.blocks import as_means, in_blocks
from tests.fusion.making import run_both
from tests.fusion.random_graphs import off


def pool(shape, **attributes):
    """A model of one average pool of values of a shape, as normalise leaves it."""
    model = empty_model(3, 96)
    emit = Emitter(model.graph, prefix="net")
    x = emit("Reshape", model.graph.inputs[0], np.array([-1, *shape]))
    y = emit("AveragePool", x, **attributes)
    return ended(model, y)


def ended(model, y):
    y.name = "y"
    model.graph.outputs.append(y)
    normalise(model, name="pool")
    return cleaned(model)[0]


def run(model, x):
    return run_both(model, x)[0]


@pytest.mark.parametrize(
    ("shape", "attributes"),
    [
        ((3, 96), {"kernel_shape": [30], "strides": [10]}),
        ((3, 96), {"kernel_shape": [24], "strides": [18]}),
        ((3, 96, 1), {"kernel_shape": [32, 1], "strides": [8, 1]}),
        ((3, 2, 48), {"kernel_shape": [1, 12], "strides": [1, 9]}),
    ],
)
def test_a_pool_in_blocks_gives_its_numbers(shape, attributes):
    x = np.random.default_rng(0).standard_normal((2, 3, 96)).astype("f4")
    plain, blocked = pool(shape, **attributes), pool(shape, **attributes)
    assert in_blocks(blocked) == 1
    normalise(blocked, name="pool")
    assert [node.op_type for node in blocked.graph].count("AveragePool") == 2
    assert off(run(blocked, x).astype("f8"), run(plain, x).astype("f8")) < 1e-6


@pytest.mark.parametrize(
    "attributes",
    [
        {"kernel_shape": [12], "strides": [12]},
        {"kernel_shape": [12], "strides": [5]},
        {"kernel_shape": [12], "strides": [6], "pads": [3, 3]},
        {"kernel_shape": [12], "strides": [7], "ceil_mode": 1},
    ],
)
def test_other_pools_stay(attributes):
    assert in_blocks(pool((3, 96), **attributes)) == 0


@pytest.mark.parametrize("shape", [(3, 96), (3, 96, 1), (3, 93)])
def test_blocks_side_by_side_are_means(shape):
    rank = len(shape) - 1
    size = {"kernel_shape": [10, 1][:rank], "strides": [10, 1][:rank]}
    x = np.random.default_rng(0).standard_normal((2, 3, 96)).astype("f4")
    if shape[1] != 96:
        x = x[:, :, :93]
        plain, means = (of_93(size) for _ in range(2))
    else:
        plain, means = pool(shape, **size), pool(shape, **size)
    x[0, 1, 41] = np.nan
    assert as_means(means) == 1
    normalise(means, name="pool")
    wanted, found = run(plain, x), run(means, x)
    assert np.isnan(wanted).sum() == 1
    assert np.array_equal(np.isnan(found), np.isnan(wanted))
    assert np.allclose(found, wanted, atol=1e-6, equal_nan=True)


def of_93(size):
    model = empty_model(3, 93)
    return ended(model, Emitter(model.graph, prefix="net")("AveragePool", model.graph.inputs[0], **size))
