"""Steps in the torch executor and in native code."""

import copy
import pickle  # noqa: TID251  (our own module, made a line above)

import numpy as np
import pytest
import torch

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.fusion.fuse import fuse
from rtserve.native.compiler import find_compiler
from rtserve.native.writer import SLACK
from rtserve.streaming.build import stream
from rtserve.streaming.check import answers_of
from rtserve.streaming.packed import PackedRunner, packed, step_module
from tests.fusion.random_graphs import off
from tests.streaming.making import deep, graph_of, made, shallow


@pytest.fixture
def compiler():
    try:
        return find_compiler()
    except EnvironmentMissingError as missing:
        pytest.skip(missing.message)


def recording(hops, hop, streams=2):
    return np.random.default_rng(3).standard_normal((streams, 3, hops * hop)).astype("f4")


def pushed(module, x, hop):
    with torch.inference_mode():
        answers = [module(torch.from_numpy(x[:, :, k : k + hop])) for k in range(0, x.shape[2], hop)]
    return np.stack([y.numpy() for y in answers[module.first_answer - 1 :]])


@pytest.mark.parametrize(("kind", "hop"), [("shallow", 6), ("deep", 3)])
def test_the_torch_module_answers_as_the_step(kind, hop):
    _, step, _ = made(kind, hop)
    module, x = step_module(step), recording(step.first_answer + 6, hop)
    found = pushed(module, x, hop)
    assert module.ready
    assert off(found.astype("f8"), answers_of(step, x).astype("f8")) < 1e-5
    module.reset_state()
    assert not module.ready
    assert np.array_equal(pushed(module, x, hop), found)


def test_every_stream_has_a_copy_of_its_own():
    _, step, _ = made("deep", 4)
    one, x, z = step_module(step), recording(20, 4, streams=1), recording(20, 4, streams=1)[:, ::-1].copy()
    other = copy.deepcopy(one)
    apart = [pushed(copy.deepcopy(one), x, 4), pushed(copy.deepcopy(one), z, 4)]
    with torch.inference_mode():
        for k in range(0, 80, 4):
            y, w = one(torch.from_numpy(x[:, :, k : k + 4])), other(torch.from_numpy(z[:, :, k : k + 4]))
    assert np.array_equal(y.numpy(), apart[0][-1])
    assert np.array_equal(w.numpy(), apart[1][-1])


def test_samples_of_another_shape_are_refused_and_leave_the_state():
    _, step, _ = made("deep", 4)
    module, x = step_module(step), recording(20, 4)
    found = pushed(module, x, 4)
    with pytest.raises(ValueError, match="came for a step of"):
        module(torch.zeros(1, 3, 4))
    assert module.steps == 20
    assert found.shape == (9, 2, 2)


def test_views_lie_beside_the_batch_in_a_packed_step():
    graph = fuse([graph_of(shallow), graph_of(deep)], views="identity,roll:+3,time-reverse", force=True, engine="torch")
    step, _ = stream(graph, hop=6)
    x = recording(20, 6)
    assert off(pushed(step_module(step), x, 6).astype("f8"), answers_of(step, x).astype("f8")) < 1e-5


@pytest.mark.tools
@pytest.mark.parametrize(
    ("kind", "hop", "streams"), [("shallow", 6, 1), ("shallow", 6, 2), ("deep", 3, 1), ("deep", 4, 2)]
)
def test_native_code_answers_as_the_step(compiler, kind, hop, streams):
    _, step, _ = made(kind, hop)
    runner, x = PackedRunner(step, engine="native", batch=streams), recording(20, hop, streams)
    found = [runner.push(x[:, :, k : k + hop]) for k in range(0, 20 * hop, hop)]
    first = step.first_answer
    assert [y is None for y in found[:first]] == [True] * (first - 1) + [False]
    assert off(np.stack(found[first - 1 :]).astype("f8"), answers_of(step, x).astype("f8")) < 1e-5
    with pytest.raises(InputError, match="came for a step"):
        runner.push(x[:, :, : hop - 1])
    runner.reset()
    again = [runner.push(x[:, :, k : k + hop]) for k in range(0, 20 * hop, hop)]
    assert np.array_equal(np.stack(again[first - 1 :]), np.stack(found[first - 1 :]))


@pytest.mark.tools
def test_a_copy_of_a_native_stream_goes_on_by_itself(compiler):
    _, step, _ = made("deep", 4)
    one, x, z = PackedRunner(step, engine="native"), recording(24, 4, 1), recording(48, 4, 1)[:, :, 96:]
    for k in range(0, 48, 4):
        one.push(x[:, :, k : k + 4])
    other, third = copy.deepcopy(one), pickle.loads(pickle.dumps(one))
    for k in range(48, 96, 4):
        answers = [runner.push(y[:, :, k : k + 4]) for runner, y in ((one, x), (other, z), (third, x))]
    mixed = np.concatenate([x[:, :, :48], z[:, :, 48:]], axis=2)
    assert off(answers[0].astype("f8"), answers_of(step, x)[-1].astype("f8")) < 1e-5
    assert off(answers[1].astype("f8"), answers_of(step, mixed)[-1].astype("f8")) < 1e-5
    assert np.array_equal(answers[2], answers[0])


def test_states_with_their_channels_inside_are_the_same_states():
    _, step, _ = made("deep", 4)
    runners = [PackedRunner(step, engine="onnxruntime", batch=2, turned=turned) for turned in (False, True)]
    x = recording(20, 4)
    one, two = (
        [runner.push(x[:, :, k : k + 4]) for k in range(0, 80, 4)][step.first_answer - 1 :] for runner in runners
    )
    assert np.array_equal(np.stack(one), np.stack(two))
    assert packed(step, turned=True).input_spec.n_times == packed(step).input_spec.n_times + SLACK
