"""Exporters of networks that must not get through, and of one that does; named on the command line by this file."""

import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from rtserve.graphs.exporter import Built, Quirk
from rtserve.spec import InputSpec, OutputSpec

SPEC = InputSpec(n_chans=3, n_times=16, sfreq=100.0, unit="1")


def built(network, **more):
    return Built(network=network, input_spec=SPEC, output_spec=OutputSpec(), **more)


class Plain(nn.Module):
    """A convolution, BatchNorm, a mean over time and a dense layer, with or without its last axis."""

    def __init__(self, squeeze=False):
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv1d(3, 4, 5), nn.BatchNorm1d(4), nn.Linear(4, 1)
        self.squeeze = squeeze

    def forward(self, x):
        y = self.head(torch.relu(self.norm(self.conv(x))).mean(-1))
        return y.squeeze(-1) if self.squeeze else y


class Keep(nn.Module):
    """Gives the squeezed axis back."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).unsqueeze(-1)


class Stubborn(Plain):
    """Stays in training mode whatever it is told."""

    def train(self, mode=True):
        return super().train(True)


class OneByOne(Plain):
    """Loops over its batch, which the torch exporter unrolls and reports as a success."""

    def forward(self, x):
        return torch.stack([self.head(self.conv(x[i]).mean(-1)) for i in range(x.shape[0])])


class Spectral(nn.Module):
    """A dense layer on a window's last bins, where onnxruntime's transform is off most."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 100, 1)

    def forward(self, x):
        return self.head(torch.fft.rfft(x, dim=-1).real[..., -100:].flatten(1))


class Root(Plain):
    """Takes a root of a negative number: NaN for every input."""

    def forward(self, x):
        return super().forward(x) * torch.sqrt(-1 - x.square().mean(dim=(1, 2)))[:, None]


class Unsteady(Plain):
    """Answers by more than the window: by dice, by state, or by who else is in the batch."""

    def __init__(self, kind):
        super().__init__()
        self.kind, self.calls = kind, 0
        self.own = nn.BatchNorm1d(4, track_running_stats=False)

    def forward(self, x):
        return self.head(getattr(self, self.kind)(torch.relu(self.conv(x))).mean(-1))

    def dropout(self, y):
        return functional.dropout(y, 0.5)

    def noise(self, y):
        return y + 1e-3 * torch.randn_like(y)

    def numpy(self, y):
        return y * (1 + 0.01 * float(np.random.default_rng().random()))

    def state(self, y):
        self.calls += 1
        return y * (1 + 0.1 * self.calls)

    def seldom_dropout(self, y):
        return functional.dropout(y, 1e-4)

    def stochastic_depth(self, y):
        return y + torch.tanh(y) * (torch.rand(len(y), 1, 1) > 1e-3)

    def first_windows(self, y):
        if not self.calls:
            self.shift, self.calls = y.mean(0, keepdim=True), 1
        return y - self.shift

    def no_dropout(self, y):
        return functional.dropout(y, 0.0)

    def own_seed(self, y):
        torch.manual_seed(3)
        return y + torch.rand(1, 4, 1)

    def batch_statistics(self, y):
        return self.own(y)

    def functional_batch_statistics(self, y):
        return functional.batch_norm(y, self.norm.running_mean, self.norm.running_var, training=True)

    def centred(self, y):
        return y - y.mean(0, keepdim=True)


class Recurrent(Plain):
    """Reads windows as time, where batch_first was forgotten."""

    def __init__(self, batch_first):
        super().__init__()
        self.rnn = nn.LSTM(3, 4, batch_first=batch_first)

    def forward(self, x):
        return self.head(self.rnn(x.transpose(1, 2))[0][:, -1])


class Overwriting(Plain):
    """Scales its windows where they lie."""

    def forward(self, x):
        x *= 3
        return super().forward(x)


class Huge(Plain):
    """Overflows in float32 on unscaled data, by itself; in float64 it has an answer."""

    def forward(self, x):
        return self.head(self.conv(torch.exp(x)).mean(-1)) * 1e-30


class IllConditioned(Plain):
    """Adds a large number and takes it away."""

    def forward(self, x):
        return self.head(((self.conv(x) + 3e3) - 3e3).mean(-1))


def unsteady(shapes, settings):
    return built(Unsteady(settings["kind"]))


def orthogonal(shapes, settings):
    network = Plain()
    nn.utils.parametrizations.orthogonal(network.head)
    return built(network)


def overwriting(shapes, settings):
    return built(Overwriting())


def huge(shapes, settings):
    return built(Huge())


def ill(shapes, settings):
    return built(IllConditioned())


def exporter(shapes, settings):
    return built(Plain())


def spectral(shapes, settings):
    spec = InputSpec(n_chans=3, n_times=1000, sfreq=100.0, unit="1")
    return Built(network=Spectral(), input_spec=spec, output_spec=OutputSpec())


def wrapped(shapes, settings):
    quirk = Quirk(name="squeeze", reason="its forward ends in squeeze(-1)")
    return built(Plain(squeeze=True), wrap=Keep, quirks=(quirk,))


def squeezed(shapes, settings):
    return built(Plain(squeeze=True))


def stubborn(shapes, settings):
    return built(Stubborn())


def one_by_one(shapes, settings):
    return built(OneByOne())


def root(shapes, settings):
    return built(Root())


def sleeping(shapes, settings):
    if told := os.environ.get("RTSERVE_TOLD"):
        Path(f"{told}.new").write_text(str(os.getpid()))
        Path(f"{told}.new").rename(told)
    time.sleep(600)


def dying(shapes, settings):
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def broken(shapes, settings):
    return built(Plain(nonsense=settings["nonsense"]))


def wordless(shapes, settings):
    return Plain()


not_callable = 3


def remembering(shapes, settings):
    """A number that grows where an earlier export of the same process is remembered, and says where it runs."""
    torch.remembered = getattr(torch, "remembered", 0) + 1
    raise ValueError(f"export {torch.remembered} in {os.getcwd()} with {os.environ.get('RTSERVE_TOLD')}")
