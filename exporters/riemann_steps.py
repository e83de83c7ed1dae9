"""The steps of pyRiemann, and CSP of MNE, as modules: fitted tensors in, standard operators out, all in float64.

Each takes what the library's step takes, (batch, n_chans, n_times) or (batch, n, n), and gives the same numbers; the
export compares them with the library's own. Matrix logarithms are those of `spd`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from spd import identity, log_matrix  # type: ignore[import-not-found]
from torch import Tensor, nn

from rtserve.errors import InputError

__all__ = ["STEPS", "Distances", "TangentSpace", "metric_of", "refuse", "tensor"]

REFUSED = "what is not in the table of exporters/README.md is refused rather than approximated"


def tensor(values: Any) -> Tensor:
    """Return fitted values as a tensor in float64 of its own."""
    return torch.tensor(np.asarray(values, dtype=np.float64))


def refuse(estimator: Any, why: str, cure: str = REFUSED) -> InputError:
    """Return the error for an estimator, or a setting of one, that has no graph."""
    return InputError(f"{type(estimator).__module__}.{type(estimator).__name__} {why}", hint=cure)


def _scm(x: Tensor, divisor: int, centred: bool) -> tuple[Tensor, Tensor]:
    """Return centred samples and their covariance; with `centred` the samples are taken as they are."""
    x = x if centred else x - x.mean(-1, keepdim=True)
    return x, torch.matmul(x, x.transpose(-1, -2)) / divisor


def _shrunk(cov: Tensor, amount: Tensor | float) -> Tensor:
    """Return (1 - amount) cov + amount * mean(diagonal) * identity, as sklearn's shrunk_covariance."""
    one = identity(cov.shape[-1], cov)
    mu = (cov * one).sum((-2, -1), keepdim=True) / cov.shape[-1]
    return (1.0 - amount) * cov + (amount * mu) * one


def _oas(x: Tensor, centred: bool) -> Tensor:
    """Chen et al., 2010, as sklearn.covariance.oas computes it."""
    n, n_times = x.shape[-2], x.shape[-1]
    _, cov = _scm(x, n_times, centred)
    if n == 1:
        return cov
    alpha = (cov * cov).mean((-2, -1), keepdim=True)
    mu2 = ((cov * identity(n, cov)).sum((-2, -1), keepdim=True) / n) ** 2
    den = (n_times + 1) * (alpha - mu2 / n)
    zero = den == 0
    amount = ((alpha + mu2) / torch.where(zero, torch.ones_like(den), den)).clamp(max=1.0)
    return _shrunk(cov, torch.where(zero, torch.ones_like(den), amount))


def _lwf(x: Tensor, centred: bool) -> Tensor:
    """Ledoit and Wolf, 2004, as sklearn.covariance.ledoit_wolf computes it."""
    n, n_times = x.shape[-2], x.shape[-1]
    x, cov = _scm(x, n_times, centred)
    if n == 1:
        return cov
    power = x * x
    trace = (cov * identity(n, cov)).sum((-2, -1), keepdim=True)
    mu = trace / n
    beta_sum = (power.sum(-2, keepdim=True) ** 2).sum((-2, -1), keepdim=True)
    delta_sum = (cov * cov).sum((-2, -1), keepdim=True)
    beta = (beta_sum / n_times - delta_sum) / (n * n_times)
    delta = (delta_sum - 2.0 * mu * trace + n * mu * mu) / n
    beta = torch.minimum(beta, delta)
    zero = beta == 0
    amount = beta / torch.where(zero, torch.ones_like(delta), delta)
    return _shrunk(cov, torch.where(zero, torch.zeros_like(amount), amount))


def _sch(x: Tensor, centred: bool) -> Tensor:
    """Schaefer and Strimmer, 2005, as pyriemann's covariance_sch computes it."""
    n, t = x.shape[-2], x.shape[-1]
    x, cov = _scm(x, t, False)
    one = identity(n, cov)
    variance = (cov * one).sum(-1)
    outer = variance.unsqueeze(-1) * variance.unsqueeze(-2)
    power = x * x
    correlation = (t / (t - 1.0)) * cov / torch.sqrt(outer) * (1.0 - one)
    spread = torch.matmul(power, power.transpose(-1, -2)) - t * cov * cov
    spread = spread * (t / ((t - 1.0) ** 3 * outer)) * (1.0 - one)
    total = (correlation * correlation).sum((-2, -1), keepdim=True)
    zero = total == 0
    amount = spread.sum((-2, -1), keepdim=True) / torch.where(zero, torch.ones_like(total), total)
    amount = torch.where(zero, torch.zeros_like(amount), amount).clamp(0.0, 1.0)
    return (t / (t - 1.0)) * ((1.0 - amount) * cov + amount * (cov * one))


ESTIMATORS: dict[str, Callable[[Tensor, bool], Tensor]] = {
    "scm": lambda x, centred: _scm(x, x.shape[-1], centred)[1],
    "cov": lambda x, centred: _scm(x, x.shape[-1] - 1, False)[1],
    "oas": _oas,
    "lwf": _lwf,
    "sch": _sch,
}


class Covariances(nn.Module):  # type: ignore[misc]
    """(batch, n_chans, n_times) to (batch, n, n).

    Parameters
    ----------
    estimator : str
        A key of `ESTIMATORS`.
    centred : bool
        The samples are taken as centred.
    prototypes : ndarray, optional
        Signals (m, n_times) put before the channels (ERPCovariances).
    filters : ndarray, optional
        Spatial filters applied first (XdawnCovariances).
    delays : tuple of int
        By which copies of the channels are rolled and put behind them.
    """

    prototypes: Tensor | None
    filters: Tensor | None

    def __init__(
        self, estimator: str, centred: bool = False, *, prototypes: Any = None, filters: Any = None, delays: Any = ()
    ) -> None:
        super().__init__()
        self.estimator, self.centred, self.delays = estimator, centred, tuple(delays)
        self.register_buffer("prototypes", None if prototypes is None else tensor(prototypes)[None])
        self.register_buffer("filters", None if filters is None else tensor(filters))

    def forward(self, x: Tensor) -> Tensor:
        """Return the covariances."""
        if self.filters is not None:
            x = torch.matmul(self.filters, x)
        if self.prototypes is not None:
            x = torch.cat([self.prototypes.expand(x.shape[0], -1, -1), x], dim=-2)
        if self.delays:
            x = torch.cat([x, *(torch.cat([x[..., -d:], x[..., :-d]], dim=-1) for d in self.delays)], dim=-2)
        return ESTIMATORS[self.estimator](x, self.centred)


class Shrinkage(nn.Module):  # type: ignore[misc]
    """(batch, n, n) to the same, shrunk to a multiple of the identity."""

    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = amount

    def forward(self, x: Tensor) -> Tensor:
        """Return the shrunk matrices."""
        return _shrunk(x, self.amount)


class Filtered(nn.Module):  # type: ignore[misc]
    """Spatial filters: F x of signals, F C F' of matrices, and the logarithm of the latter's diagonal.

    Parameters
    ----------
    filters : ndarray
        (m, n).
    form : str
        ``"signals"``, ``"matrices"``, or ``"log-diagonal"``.
    """

    filters: Tensor

    def __init__(self, filters: Any, form: str) -> None:
        super().__init__()
        self.form = form
        self.register_buffer("filters", tensor(filters))

    def forward(self, x: Tensor) -> Tensor:
        """Return the filtered signals or matrices, or (batch, m)."""
        y = torch.matmul(self.filters, x)
        if self.form == "signals":
            return y
        if self.form == "matrices":
            return torch.matmul(y, self.filters.transpose(0, 1))
        return torch.log((y * self.filters).sum(-1))


class Power(nn.Module):  # type: ignore[misc]
    """Mean power of filtered signals, (batch, n_chans, n_times) to (batch, m): logarithm, or standardised."""

    filters: Tensor

    def __init__(self, filters: Any, scaling: tuple[Any, Any] | None) -> None:
        super().__init__()
        self.register_buffer("filters", tensor(filters))
        self.register_buffer("mean", None if scaling is None else tensor(scaling[0]))
        self.register_buffer("std", None if scaling is None else tensor(scaling[1]))

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        y = torch.matmul(self.filters, x)
        power = (y * y).mean(-1)
        return torch.log(power) if self.mean is None else (power - self.mean) / self.std


def _spectral(matrix: Any, function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Return a function of a fitted symmetric matrix, as pyriemann computes it."""
    values, vectors = np.linalg.eigh(np.asarray(matrix, dtype=np.float64))
    result: np.ndarray = (vectors * function(values)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return result


class TangentSpace(nn.Module):  # type: ignore[misc]
    """(batch, n, n) to (batch, n (n + 1) / 2); of m reference points to (batch, m, n (n + 1) / 2).

    Parameters
    ----------
    reference : ndarray
        (n, n), or (m, n, n).
    metric : str
        ``"riemann"``, ``"logeuclid"`` or ``"euclid"``.
    """

    whitening: Tensor | None
    coefficients: Tensor
    index: Tensor

    def __init__(self, reference: Any, metric: str) -> None:
        super().__init__()
        self.metric, self.point = metric, np.asarray(reference, dtype=np.float64)
        reference = self.point
        n = reference.shape[-1]
        rows, columns = np.triu_indices(n)
        self.several = reference.ndim == 3
        self.register_buffer("index", torch.tensor(rows * n + columns))
        self.register_buffer("coefficients", tensor(np.where(rows == columns, 1.0, math.sqrt(2.0))))
        self.register_buffer("whitening", None)
        self.register_buffer("reference", None)
        if metric == "riemann":
            self.whitening = tensor(_spectral(reference, lambda v: 1.0 / np.sqrt(v)))
            return
        self.reference = tensor(reference if metric == "euclid" else _spectral(reference, np.log))
        if metric == "logeuclid":
            values, vectors = np.linalg.eigh(self.reference.numpy())
            self.register_buffer("vectors", tensor(vectors))
            self.register_buffer("differences", tensor(_divided_differences(values)))

    @classmethod
    def beside(cls, members: Sequence[TangentSpace]) -> TangentSpace:
        """Return tangent spaces at several reference points as one."""
        return cls(np.stack([member.point for member in members]), members[0].metric)

    def forward(self, x: Tensor) -> Tensor:
        """Return the tangent vectors."""
        if self.several:
            x = x.unsqueeze(1)
        if self.whitening is not None:
            y = log_matrix(torch.matmul(torch.matmul(self.whitening, x), self.whitening))
        elif self.metric == "euclid":
            y = x - self.reference
        else:
            turned = torch.matmul(self.vectors.transpose(-1, -2), log_matrix(x) - self.reference)
            turned = self.differences * torch.matmul(turned, self.vectors)
            y = torch.matmul(torch.matmul(self.vectors, turned), self.vectors.transpose(-1, -2))
        flat = y.flatten(-2)
        return torch.index_select(flat, -1, self.index) * self.coefficients


def _divided_differences(values: np.ndarray) -> np.ndarray:
    """Return (exp a - exp b) / (a - b) of all pairs, exp a where they are equal: the derivative of exp (Daleckii-Krein)."""
    a, b = values[..., :, None], values[..., None, :]
    half = (a - b) / 2
    ratio = np.where(half == 0, 1.0, np.sinh(half) / np.where(half == 0, 1.0, half))
    result: np.ndarray = np.exp((a + b) / 2) * ratio
    return result


class Distances(nn.Module):  # type: ignore[misc]
    """Distances of (batch, n, n) to the mean of each class, (batch, n_classes), as MDM measures them."""

    def __init__(self, means: Any, metric: str, *, probabilities: bool) -> None:
        super().__init__()
        self.metric, self.link = metric, "softmax" if probabilities else "root"
        means = np.asarray(means, dtype=np.float64)
        if metric != "euclid":
            means = _spectral(means, np.log if metric == "logeuclid" else lambda v: 1.0 / np.sqrt(v))
        self.register_buffer("means", tensor(means))

    def forward(self, x: Tensor) -> Tensor:
        """Return the distances, or the softmax of their negative squares."""
        if self.metric == "riemann":
            apart = log_matrix(torch.matmul(torch.matmul(self.means, x.unsqueeze(1)), self.means))
        else:
            apart = (log_matrix(x) if self.metric == "logeuclid" else x).unsqueeze(1) - self.means
        squares = (apart * apart).sum((-2, -1))
        if self.link == "root":
            return torch.sqrt(squares)
        return torch.softmax(-squares, -1) if self.link == "softmax" else -squares


def _estimator_of(step: Any, kwds: Mapping[str, Any]) -> tuple[str, bool]:
    """Return an estimator's key and whether samples are centred; raise where it has no graph."""
    if not isinstance(step.estimator, str) or step.estimator not in ESTIMATORS:
        raise refuse(step, f"estimates covariances by {step.estimator!r}; there are {', '.join(ESTIMATORS)}")
    takes = {"assume_centered"} if step.estimator in ("scm", "oas", "lwf") else set()
    if set(kwds) - takes:
        raise refuse(step, f"passes {', '.join(sorted(set(kwds) - takes))} to its estimator of covariances")
    return step.estimator, bool(kwds.get("assume_centered", False))


def metric_of(step: Any, metric: Any) -> str:
    """Return a metric that has a graph."""
    if isinstance(metric, Mapping):
        known = [metric.get(key) for key in ("map", "distance", "dist") if key in metric]
        metric = known[0] if len(known) == 1 else metric
    if metric not in ("riemann", "logeuclid", "euclid"):
        raise refuse(step, f"has metric {metric!r}; there are riemann, logeuclid and euclid")
    return str(metric)


def _covariances(step: Any) -> nn.Module:
    return Covariances(*_estimator_of(step, step.kwds))


def _erp(step: Any) -> nn.Module:
    return Covariances(*_estimator_of(step, step.kwds), prototypes=step.P_)


def _xdawn_covariances(step: Any) -> nn.Module:
    filters = step.Xd_.filters_ if step.applyfilters else None
    return Covariances(*_estimator_of(step, step.kwds), prototypes=step.P_, filters=filters)


def _delays(step: Any) -> nn.Module:
    delays = range(1, step.delays) if isinstance(step.delays, int) else step.delays
    if any(int(d) < 1 for d in delays):
        raise refuse(step, f"rolls by {list(delays)}; delays from 1 up have a graph")
    return Covariances(*_estimator_of(step, step.kwds), delays=[int(d) for d in delays])


def _bilinear(step: Any) -> nn.Module:
    return Filtered(step.filters_, "log-diagonal" if step.log else "matrices")


def _tangent(step: Any) -> nn.Module:
    if step.tsupdate:
        raise refuse(step, "has tsupdate=True: its answer to a window depends on the others in the batch")
    return TangentSpace(step.reference_, metric_of(step, step.metric))


def _distances(step: Any) -> nn.Module:
    return Distances(step.covmeans_, metric_of(step, step.metric), probabilities=False)


def _mne_csp(step: Any) -> nn.Module:
    filters = step.filters_[: step.n_components]
    if step.transform_into == "csp_space":
        return Filtered(filters, "signals")
    log = True if step.log is None else step.log
    return Power(filters, None if log else (step.mean_, step.std_))


STEPS: dict[str, Callable[[Any], nn.Module]] = {
    "pyriemann.Covariances": _covariances,
    "pyriemann.ERPCovariances": _erp,
    "pyriemann.XdawnCovariances": _xdawn_covariances,
    "pyriemann.TimeDelayCovariances": _delays,
    "pyriemann.Shrinkage": lambda step: Shrinkage(float(step.shrinkage)),
    "pyriemann.Xdawn": lambda step: Filtered(step.filters_, "signals"),
    "pyriemann.BilinearFilter": _bilinear,
    "pyriemann.CSP": _bilinear,
    "pyriemann.SPoC": _bilinear,
    "pyriemann.Whitening": lambda step: Filtered(np.asarray(step.filters_).T, "matrices"),
    "pyriemann.TangentSpace": _tangent,
    "pyriemann.MDM": _distances,
    "mne.CSP": _mne_csp,
}
"""Library and class of a step that transforms to what makes its module."""
