"""Exporters of networks that must not get through, and of one that does; named on the command line by this file."""

import time

import torch
from torch import nn

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


class Root(Plain):
    """Takes a root of a negative number: NaN for every input."""

    def forward(self, x):
        return super().forward(x) * torch.sqrt(-1 - x.square().mean(dim=(1, 2)))[:, None]


def exporter(shapes, settings):
    return built(Plain())


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
    time.sleep(600)


def dying(shapes, settings):
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def broken(shapes, settings):
    return built(Plain(nonsense=settings["nonsense"]))


def wordless(shapes, settings):
    return Plain()


not_callable = 3
