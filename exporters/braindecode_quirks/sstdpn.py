"""SSTDPN: it writes its prototypes in every call, and its variances lose a small signal beside a large bias."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .rewrite import Quirk, Rewrite

__all__ = ["REWRITES"]


def compare_without_assignment(self: Any, x: Tensor) -> Tensor:
    """Compare the features with every prototype, none longer than allowed, and write nothing.

    A prototype that was shortened once is short enough ever after, so that every call gives the same.
    """
    prototypes = torch.renorm(self.proto_sep, p=2, dim=0, maxnorm=self.proto_sep_maxnorm)
    return self.final_layer(self.encoder(x) @ prototypes.T)


def variance_about_the_mean(self: Any, x: Tensor) -> Tensor:
    """Return the variance in each window of x (batch, channels, n_times), about the mean of the whole first.

    ``mean(x^2) - mean(x)^2`` is the same whatever constant is taken off x; where that constant is most of x, what is
    left of float32 after the subtraction is little.
    """
    x = x - x.mean(-1, keepdim=True)
    squares, means = (F.avg_pool1d(v, self.kernel_size, self.stride, self.padding) for v in (x * x, x))
    return squares - means * means


REWRITES = {
    "SSTDPN": Rewrite(
        quirk=Quirk(
            name="frozen-prototypes",
            reason="it shortens its own prototypes in every call, on which the exporter crashed; the shortened ones are"
            " used and nothing is written",
        ),
        stand_in=compare_without_assignment,
    ),
    "_VariancePool1D": Rewrite(
        quirk=Quirk(
            name="centred-variance",
            reason="it takes the variance of a signal in volts as a difference of squares beside a bias; the mean is"
            " taken off first",
        ),
        stand_in=variance_about_the_mean,
    ),
}
