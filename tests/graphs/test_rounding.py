"""What float32 costs, against what it did cost; and who is believed where witnesses differ."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from rtserve.errors import ParityError
from rtserve.graphs import runners
from rtserve.graphs.graph import Graph
from rtserve.graphs.parity import SLACK, relative_error
from rtserve.graphs.rounding import answers_alone, expected_error
from rtserve.graphs.witness import hear
from tests.fusion.networks import N_CHANS, N_TIMES, head, network


class Cancelling(nn.Module):
    """Adds a large number and takes it away: the larger, the worse float32 is."""

    def __init__(self, size):
        super().__init__()
        self.size = size

    def forward(self, x):
        return ((x + self.size) - self.size).mean(dim=(1, 2))[:, None]


class Stack(nn.Module):
    def __init__(self, depth, activation):
        super().__init__()
        parts = [part for _ in range(depth) for part in (nn.Linear(24, 24), activation())]
        self.body, self.head = nn.Sequential(*parts), nn.Linear(24 * 3, 1)

    def forward(self, x):
        return self.head(self.body(x).flatten(1))


def costs(module, x):
    """What float32 is expected to cost, and what it does cost."""
    double = module.double()(x.double()).detach().numpy()
    expected = expected_error(module.double(), x.double(), double)
    return expected, relative_error(module.float()(x).detach().numpy(), double)


@pytest.mark.parametrize("depth", [1, 4, 16])
@pytest.mark.parametrize("activation", [nn.ELU, nn.Tanh, nn.GELU, nn.ReLU])
def test_the_expectation_bounds_what_float32_does_and_is_not_far_above(depth, activation):
    torch.manual_seed(depth)
    with torch.no_grad():
        expected, found = costs(Stack(depth, activation), torch.randn(5, 3, 24))
    assert found <= SLACK * expected
    assert expected < 1e-5


@pytest.mark.parametrize("size", [1.0, 1e2, 1e4])
def test_it_grows_with_what_is_cancelled(size):
    expected, found = costs(Cancelling(size), torch.randn(4, 3, 24))
    assert found <= SLACK * expected
    assert size * 1e-8 < expected < size * 1e-5


def alternating(*shape):
    """Numbers of size 3 by turns negative and positive, made outside of what errs."""
    values = torch.full(shape, 3.0, dtype=torch.float64)
    values[..., ::2] = -3
    return values


X, ONES = alternating(2, 4, 24), torch.ones(24, 24, dtype=torch.float64)
SUMS = {
    "conv1d": lambda x: F.conv1d(x, ONES[:4, :6].reshape(1, 4, 6)),
    "conv2d": lambda x: F.conv2d(x.unsqueeze(1), ONES[:4, :6].reshape(1, 1, 4, 6)),
    "conv3d": lambda x: F.conv3d(x[:, None, None], ONES[:4, :6].reshape(1, 1, 1, 4, 6)),
    "conv_transpose1d": lambda x: F.conv_transpose1d(x, ONES[:4, :2].reshape(4, 1, 2))[..., 1:-1],
    "matmul": lambda x: x @ ONES,
    "linear": lambda x: F.linear(x, ONES),
    "einsum": lambda x: torch.einsum("bct,ts->bcs", x, ONES),
    "avg_pool1d": lambda x: F.avg_pool1d(x, 4),
    "adaptive_avg_pool1d": lambda x: F.adaptive_avg_pool1d(x, 3),
    "mean": lambda x: x.mean(-1),
    "sum": lambda x: x.sum(-1),
    "scatter_add": lambda x: x.new_zeros(len(x), 4, 1).scatter_add(2, torch.zeros(len(x), 4, 24).long(), x),
}  # fmt: skip


@pytest.mark.parametrize("name", SUMS)
def test_what_is_added_up_is_rounded_term_by_term(name):
    """Where the terms cancel, the error is one of their size, 3, not one of the sum's, which is 0."""
    with torch.inference_mode():
        truth = SUMS[name](X).flatten(1)
        expected = expected_error(lambda x: SUMS[name](x).flatten(1), X, truth.numpy())
    assert not truth.any()
    assert 1e-8 < expected * 1e-3 < 1e-5


def test_the_rounding_of_partial_sums_is_in_all_that_follow():
    class Running(nn.Module):
        def forward(self, x):
            return (x + 1).cumsum(-1)[..., -1]

    x = torch.rand(4, 3, 3000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        truth = Running()(x.double()).numpy()
        expected = expected_error(Running(), x.double(), truth)
    one_by_one = np.zeros((4, 3), np.float32)
    for k in range(x.shape[-1]):
        one_by_one = one_by_one + (x[..., k] + 1).numpy()
    found = relative_error(one_by_one, truth)
    assert found <= SLACK * expected
    assert expected < 1e-4


def test_a_window_alone_is_drawn_for_as_often_as_several():
    torch.manual_seed(0)
    stack, x = Stack(4, nn.Tanh).double(), torch.randn(1, 3, 24).double()
    with torch.no_grad():
        truth = stack(x).numpy()
        once, together, apart = (
            expected_error(stack, x, truth, windows=n, alone=alone) for n, alone in ((1, None), (4, True), (4, False))
        )
    assert together >= once / 4
    assert together / 4 < apart < together * 4


def test_a_network_that_looks_at_its_batch_is_not_given_a_larger_one():
    class Spread(nn.Module):
        def forward(self, x):
            return x.mean((1, 2), keepdim=True)[:, :, 0] + x.std(0, correction=1).mean()

    x = torch.randn(2, 3, 24).double()
    truth = Spread()(x).numpy()
    assert not answers_alone(Spread(), x, truth)
    assert expected_error(Spread(), x, truth, windows=4) < 1e-5


def test_what_pads_with_minus_infinity_costs_nothing():
    x = torch.randn(3, 2, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def pool(x):
        return nn.functional.max_pool1d(nn.functional.pad(x, (4, 1), value=-torch.inf), 5).flatten(1)

    assert 0.0 < expected_error(pool, x, pool(x).numpy()) < 1e-6


def test_an_elu_in_place_errs_too():
    torch.manual_seed(0)
    x = 1e-3 * torch.randn(4, 3, 24)
    expected = [costs(nn.Sequential(nn.ELU(inplace=i), nn.Flatten(), nn.LazyLinear(1)), x)[0] for i in (False, True)]
    assert min(expected) > 1e-8


CEIL = """
<ir_version: 9, opset_import: ["" : 20]>
net (float[batch, 2, 11] x) => (float[batch, 1] y)
<int64[1] axes = {2}, float[2, 1] w = {1.0, -0.5}>
{
   p = AveragePool <kernel_shape = [3], strides = [2], pads = [1, 1], ceil_mode = 1, count_include_pad = 1> (x)
   m = ReduceMean <keepdims = 0> (p, axes)
   y = MatMul (m, w)
}
"""


@pytest.fixture
def graph():
    return Graph.from_bytes(onnx.parser.parse_model(CEIL).SerializeToString())


@pytest.fixture
def inputs():
    return [("noise", np.random.default_rng(0).standard_normal((2, 2, 11)).astype("f4"))]


def lying(kind, factor, monkeypatch):
    """Make one witness answer something else."""
    honest = kind.infer
    monkeypatch.setattr(kind, "infer", lambda self, x: honest(self, x) * factor)
    monkeypatch.setattr(runners.PlanRunner, "rounding", lambda self, x, truth, windows: 1e-7)


def test_executor_and_onnxruntime_agree_and_the_evaluator_is_not_asked(graph, inputs):
    assert hear(graph, inputs).notes == ()


def test_an_executor_that_errs_is_named_and_not_obeyed(graph, inputs, monkeypatch):
    truth = runners.ReferenceRunner(graph).infer(inputs[0][1])
    monkeypatch.setattr(runners.OnnxruntimeRunner, "infer", lambda self, x: truth[: len(x)].astype("f4"))
    lying(runners.PlanRunner, 1.5, monkeypatch)
    heard = hear(graph, inputs)
    assert heard.notes == ("the executor in float64 contradicts the other two witnesses and is not obeyed",)
    assert np.array_equal(heard.answers[0].truth, truth)


def test_an_evaluator_that_errs_is_named_and_not_obeyed(graph, inputs, monkeypatch):
    truth = runners.PlanRunner(graph, double=True).infer(inputs[0][1])
    monkeypatch.setattr(runners.OnnxruntimeRunner, "infer", lambda self, x: (truth[: len(x)] * (1 + 3e-5)).astype("f4"))
    lying(runners.ReferenceRunner, 2.0, monkeypatch)
    heard = hear(graph, inputs)
    assert heard.notes == ("onnx's own evaluator contradicts the other two witnesses and is not obeyed",)
    assert np.array_equal(heard.answers[0].truth, truth)


def test_three_opinions_are_no_truth(graph, inputs, monkeypatch):
    lying(runners.PlanRunner, 1.5, monkeypatch)
    lying(runners.ReferenceRunner, 2.5, monkeypatch)
    with pytest.raises(ParityError, match="no two witnesses agree"):
        hear(graph, inputs)


def test_windows_of_all_inputs_together_are_answered_as_by_themselves():
    def body(emit, x, weights):
        return head(emit, emit("Elu", emit("Conv", x, weights(8, N_CHANS, 3), weights(8))), weights, 8, axes=(2,))

    graph, rng = network(body), np.random.default_rng(0)
    inputs = [(str(n), rng.standard_normal((n, N_CHANS, N_TIMES)).astype("f4")) for n in (1, 3, 2)]
    inputs[1][1][1, 2, 3] = np.nan
    together, apart = hear(graph, inputs, alone=True).answers, hear(graph, inputs).answers
    for one, other in zip(together, apart, strict=True):
        assert np.allclose(one.truth, other.truth, rtol=1e-12, equal_nan=True)
        assert one.compare(one.single).passed
    assert np.isnan(together[1].truth).any(axis=1).tolist() == [False, True, False]


def test_what_is_said_to_be_alone_and_is_not_is_asked_again():
    def body(emit, x, weights):
        centred = emit("Sub", x, emit("ReduceMean", x, [0], keepdims=1))
        return head(emit, emit("Relu", emit("Conv", centred, weights(8, N_CHANS, 3))), weights, 8, axes=(2,))

    inputs = [("two", np.random.default_rng(0).standard_normal((2, N_CHANS, N_TIMES)).astype("f4"))]
    inputs += [("another", 3 + inputs[0][1])]
    together, apart = (hear(network(body), inputs, alone=alone).answers for alone in (True, False))
    assert all(np.array_equal(one.truth, other.truth) for one, other in zip(together, apart, strict=True))


def test_an_ill_conditioned_network_is_told_from_an_equal_one_by_a_glance():
    def body(emit, x, weights):
        far = emit("Sub", emit("Add", x, np.float32(3e4)), np.float32(3e4))
        return emit("ReduceMean", emit("ReduceMean", far, [2], keepdims=0), [1], keepdims=1)

    inputs = [("noise", np.random.default_rng(0).standard_normal((1, N_CHANS, N_TIMES)).astype("f4"))]
    (answer,) = hear(network(body), inputs, alone=True).answers
    assert answer.compare(answer.truth).verdict == "ill-conditioned"


def test_the_engine_is_asked_about_several_windows_but_no_more_than_are_held_at_once(monkeypatch):
    asked = []
    infer = runners.OnnxruntimeRunner.infer
    monkeypatch.setattr(runners.OnnxruntimeRunner, "infer", lambda self, x: asked.append(len(x)) or infer(self, x))
    monkeypatch.setattr(runners, "CACHED", 2 * N_CHANS * N_TIMES)
    graph = network(lambda emit, x, weights: head(emit, emit("Relu", x), weights, N_CHANS, axes=(2,)))
    x = np.random.default_rng(0).standard_normal((7, N_CHANS, N_TIMES)).astype("f4")
    (answer,) = hear(graph, [("seven", x)], alone=True).answers
    assert asked == [2, 2, 2, 1]
    assert relative_error(answer.single, answer.truth) < 1e-6
