"""A module that the caller holds becomes a graph by all the checks of any export, and stays as it was."""

from __future__ import annotations

import copy
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import mne
import numpy as np
import pytest
import torch
from torch import nn

from rtserve.errors import CheckpointError, ExportError, InputError
from rtserve.graphs.export import export
from rtserve.graphs.module import prepared
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.signals.windows import WindowSet
from rtserve.spec import InputSpec

CHANS, TIMES = 3, 16
EXAMPLE = torch.zeros(2, CHANS, TIMES)
X = np.random.default_rng(0).standard_normal((4, CHANS, TIMES)).astype(np.float32)


class Net(nn.Module):
    """A small network with a norm, whose mode matters, and dropout, which evaluation switches off."""

    def __init__(self, n_outputs=2):
        super().__init__()
        self.conv, self.norm = nn.Conv1d(CHANS, 4, 5), nn.BatchNorm1d(4)
        self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, n_outputs)

    def forward(self, x):
        return self.head(self.drop(self.norm(self.conv(x)).relu().mean(-1)))


def trained(n_outputs=2):
    torch.manual_seed(0)
    net = Net(n_outputs).train()
    for _ in range(3):
        net(torch.randn(8, CHANS, TIMES))
    return net


def own(net, x=X):
    mode = net.training
    with torch.no_grad():
        y = net.eval()(torch.from_numpy(x)).numpy()
    net.train(mode)
    return y


def state_of(net):
    parts = [
        (name, part.training, list(part._forward_hooks), list(part._forward_pre_hooks))
        for name, part in net.named_modules()
    ]
    tensors = {
        key: (value.dtype, value.clone(), value.requires_grad) for key, value in net.state_dict(keep_vars=True).items()
    }
    return parts, tensors


@pytest.fixture(scope="module")
def exported():
    """The module, what it was like before, and its graph; made with what a user may have set in torch left in place."""
    net, seen = trained(), []
    net.conv.register_forward_hook(lambda part, given, y: seen.append(y))
    before, state = state_of(net), (torch.get_rng_state(), random.getstate(), torch.get_num_threads())
    torch.set_default_dtype(torch.float64)
    try:
        graph = export(net, EXAMPLE.float(), unit="uV", sfreq=100, classes=("left", "right"), form="logits")
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(torch.get_rng_state(), state[0])
    assert (random.getstate(), torch.get_num_threads()) == state[1:]
    return net, before, graph, list(seen)


def test_the_graph_answers_as_the_module_in_evaluation(exported):
    net, _, graph, _ = exported
    np.testing.assert_allclose(OnnxruntimeRunner(graph).infer(X), own(net), rtol=1e-5, atol=1e-6)
    assert str(graph.input_spec) == "3 channels x 16 samples at 100 Hz in uV"
    assert (graph.output_spec.classes, graph.output_spec.form) == (("left", "right"), "logits")
    assert graph.fixed_batch == 0
    assert graph.answers is not None


def test_the_module_stays_as_it_was(exported):
    net, before, _, seen = exported
    parts, tensors = state_of(net)
    assert parts == before[0]
    assert net.training
    for key, (dtype, value, grad) in before[1].items():
        assert (tensors[key][0], tensors[key][2]) == (dtype, grad)
        assert torch.equal(tensors[key][1], value)
    assert len(seen) == 1  # asked whether it changes an answer: once, on the copy
    assert type(seen[0]) is torch.Tensor


def test_the_graph_says_of_what_weights_it_is(exported):
    details = exported[2].provenance.details
    assert details["module"]["name"] == details["network"] == "Net"
    other = trained()
    with torch.no_grad():
        other.head.bias[0] += 1
    again = prepared(trained(), EXAMPLE, {}).digest
    assert again == details["module"]["sha256"]
    assert prepared(other, EXAMPLE, {}).digest != again


def test_one_number_per_window_half_precision_and_old_weight_norms_are_taken_as_they_are():
    torch.manual_seed(0)
    with pytest.warns(FutureWarning, match="weight_norm"):
        body = nn.utils.weight_norm(nn.Linear(CHANS * TIMES, 1))
    net = nn.Sequential(nn.Flatten(), body, nn.Flatten(0))  # (batch,)
    net(EXAMPLE)  # its weight knows how it was computed, and could not be copied as it is
    graph = export(net, EXAMPLE)
    assert body.weight.grad_fn is not None
    np.testing.assert_allclose(OnnxruntimeRunner(graph).infer(X), own(net)[:, None], rtol=1e-5, atol=1e-6)
    assert [quirk["name"] for quirk in graph.provenance.details["quirks"]] == ["column"]
    half = nn.Sequential(nn.Flatten(), nn.Linear(CHANS * TIMES, 2)).bfloat16()
    graph = export(half, EXAMPLE)
    np.testing.assert_allclose(
        OnnxruntimeRunner(graph).infer(X), own(copy.deepcopy(half).float()), rtol=1e-5, atol=1e-6
    )
    assert [quirk["name"] for quirk in graph.provenance.details["quirks"]] == ["float32"]
    assert half[1].weight.dtype == torch.bfloat16


def test_a_hook_that_changes_the_answer_is_part_of_it():
    net = nn.Sequential(nn.Flatten(), nn.Linear(CHANS * TIMES, 2)).eval()
    net.register_forward_hook(lambda part, given, y: 2 * y)
    graph = export(torch.nn.DataParallel(net), EXAMPLE)
    np.testing.assert_allclose(OnnxruntimeRunner(graph).infer(X), own(net), rtol=1e-5, atol=1e-6)


class Odd(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.flat, self.answer = nn.Flatten(), forward

    def forward(self, x):
        return self.answer(self.flat(x))


def meta():
    with torch.device("meta"):
        return Net()


def broken():
    net = trained()
    with torch.no_grad():
        net.head.weight[0, 0] = float("nan")
    return net


REFUSED = {
    "a state_dict": (lambda: Net().state_dict(), EXAMPLE, InputError, "load_state_dict"),
    "a class": (lambda: Net, EXAMPLE, InputError, "instance"),
    "a number": (lambda: 3, EXAMPLE, InputError, "rtserve.export(module, example)"),
    "a list": (lambda: [Net()], EXAMPLE, InputError, "rtserve.export(module, example)"),
    "a path alone": (lambda: "seed42.pth", None, InputError, "exporter="),
    "nothing": (lambda: None, None, InputError, "exporter="),
    "no example": (Net, None, InputError, "InputSpec"),
    "one window": (Net, EXAMPLE[0], InputError, "example[None]"),
    "four axes": (Net, EXAMPLE[:, None], InputError, "unsqueeze(1)"),
    "a list of windows": (Net, [[0.0]], InputError, "InputSpec"),
    "texts": (Net, np.full((2, 3, 16), "a"), InputError, "InputSpec"),
    "the meta device": (meta, EXAMPLE, InputError, "load_state_dict"),
    "lazy layers": (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(2)), EXAMPLE, InputError, "module(example)"),
    "other channels": (Net, torch.zeros(2, 5, TIMES), ExportError, "(batch, n_chans, n_times)"),
    "a pair of answers": (lambda: Odd(lambda x: (x, x)), EXAMPLE, ExportError, "the one tensor"),
    "one answer for all": (lambda: Odd(lambda x: x.mean()), EXAMPLE, ExportError, "per window"),
    "a branch on the batch": (
        lambda: Odd(lambda x: x[:, :1] if len(x) > 1 else x[:, :1] * 2),
        EXAMPLE,
        ExportError,
        "size of the batch",
    ),
    "a rate that is none": (Net, EXAMPLE, InputError, "Hz"),
    "dice": (lambda: Odd(torch.nn.functional.dropout), EXAMPLE, ExportError, "training=self.training"),
    "NaN for weights": (broken, EXAMPLE, CheckpointError, "diverged"),
    "TorchScript": (lambda: torch.jit.trace(nn.Flatten(), EXAMPLE), EXAMPLE, InputError, "made of"),
    "a lock": (lambda: Odd(__import__("threading").Lock()), EXAMPLE, ExportError, "__deepcopy__"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_what_cannot_be_exported_is_refused_with_what_to_do(case):
    make, example, kind, cure = REFUSED[case]
    with pytest.raises(kind) as caught:
        export(make(), example, sfreq="fast" if case == "a rate that is none" else 0)
    assert cure in caught.value.hint


def test_an_answer_that_depends_on_the_batch_is_said():
    graph = export(Odd(lambda x: x - x.mean(0)), EXAMPLE)
    assert "over the batch axis" in graph.coupling


def test_state_that_is_no_tensor_and_threads_side_by_side_are_no_trouble(capsys):
    class Noted(Net):
        def get_extra_state(self):
            return {"epoch": 3}

        def set_extra_state(self, state):
            """Keep nothing."""

    with ThreadPoolExecutor(2) as pool:
        graphs = list(pool.map(lambda _: export(Noted(), EXAMPLE, classes="left, right"), range(2)))
    assert [graph.output_spec.classes for graph in graphs] == [("left", "right")] * 2
    print("printed")
    assert capsys.readouterr().out == "printed\n"


def test_an_example_says_its_size_and_what_else_it_knows():
    from rtserve.graphs.example import example_spec

    spec = InputSpec(n_chans=3, n_times=16, sfreq=50.0, ch_names=("a", "b", "c"), unit="uV")
    info = mne.create_info(["a", "b", "c", "eog"], 50.0, ["eeg"] * 3 + ["eog"])
    epochs = mne.EpochsArray(np.zeros((2, 4, 16)), info, verbose="error")
    windows = WindowSet(X=np.zeros((2, 3, 16)), y=np.zeros(2), sfreq=50.0, ch_names=("a", "b", "c"))
    assert example_spec(spec) == spec
    assert (
        example_spec(epochs) == example_spec(windows) == replace(spec, unit=None)
    )  # volts in memory say nothing of it
    assert example_spec(X) == example_spec(EXAMPLE) == InputSpec(n_chans=3, n_times=16)
    with pytest.raises(InputError, match="the example says that its sfreq is 50"):
        export(Net(), windows, sfreq=100)
