"""What float32 costs a computation: its rounding errors, drawn at random and carried through in float64.

The error analysis is that of `rtserve.graphs.parity`. Each elementary operation is run in float64 and its result is
perturbed by what float32 may make of it (Monte Carlo arithmetic: Parker, 1997, "Monte Carlo Arithmetic: exploiting
randomness in floating-point arithmetic"): the depth of the network, the size of what it adds up and how it amplifies
are in the result, and none of the engines that are on trial is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from rtserve.graphs.convolving import LeanConvolutions, one_thread

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["UNIT", "RoundingErrors", "answers_alone", "drawn", "error_of", "expected_error"]

UNIT = 2.0**-24
"""Unit roundoff of float32: the largest relative error of one rounding to nearest."""
COARSE = {torch.float16: 2.0**-11, torch.bfloat16: 2.0**-8}
"""Unit roundoff of what a network computes in half precision on purpose."""
ULPS = 2.0
"""Roundings that one operation is charged: its own, and that of a stored operand or of a polynomial's last step."""
CONTRACTIONS = (
    "convolution", "conv1d", "conv2d", "conv3d", "conv_transpose", "mm", "matmul", "dot", "mv", "einsum", "linear", "fft",
    "stft", "sum", "mean", "avg_pool", "norm", "var", "std", "scaled_dot", "rnn", "lstm", "gru", "linalg", "cdist",
    "cosine_similarity", "trapezoid", "index_add", "scatter_add", "scatter_reduce", "col2im",
)  # fmt: skip
"""Parts of the names of operations that add up products: their terms are perturbed, which is what rounding them does.
In inference mode torch calls them by the names that users do (conv1d, matmul), not by those they are made of."""
BY_DIFFERENCE = {
    "elu": 1.0,
    "celu": 1.0,
    "selu": 1.76,
    "expm1": 1.0,
    "softplus": 1.0,
    "log1p": 1.0,
    "sigmoid": 0.5,
    "silu": 0.5,
    "mish": 1.0,
    "_log_softmax": 1.0,
    "erfc": 1.0,
}
"""Functions that engines compute by a difference of numbers of this size, exp(x) - 1 for instance: their absolute
error is a rounding of that size, however small the result."""
BY_ARGUMENT = ("gelu", "hardswish", "sin", "cos")
"""Functions whose absolute error is a rounding of their argument: x (1 + erf x) / 2 for a large negative x."""


class RoundingErrors(LeanConvolutions):
    """While active, every floating-point operation of torch errs as float32 might.

    Parameters
    ----------
    seed : int
        Of the errors: uniform in plus or minus `ULPS` roundings, independent of each other.
    double : bool
        What is computed in float64 stands for float32. Otherwise it is computed in float64 on purpose, and errs as
        float64 does.
    """

    def __init__(self, seed: int, *, double: bool = True) -> None:
        super().__init__()
        self.generator = np.random.Generator(np.random.SFC64(seed))
        self.units = COARSE if double else {**COARSE, torch.float64: 2.0**-53}

    def _factor(self, like: Tensor) -> Tensor:
        """Return 1 + errors in [-1, 1] x `ULPS` x unit roundoff, of the shape of `like`, in float64."""
        most = ULPS * self.units.get(like.dtype, UNIT)
        drawn = torch.from_numpy(np.asarray(self.generator.random(tuple(like.shape))))
        return drawn.mul_(2 * most).add_(1 - most)

    def _err(self, value: Any, size: Tensor | float = 0.0) -> Any:
        """Return a tensor with relative errors, and absolute ones of numbers of `size`; anything else as it is.

        A result of exactly 0 stays so: it is one of cancelling equals, of a flat channel, or of a Relu; and so does an
        infinite one: what pads a MaxPool, what masks an attention.
        """
        if not isinstance(value, torch.Tensor) or not (value.is_floating_point() or value.is_complex()):
            return value
        factor = self._factor(value)
        if isinstance(size, float) and not size:
            return factor.mul_(value) if value.dtype == torch.float64 else (value * factor).to(value.dtype)
        erring = value * factor + size * (factor - 1) * (value != 0)
        return torch.where(torch.isfinite(value), erring.to(value.dtype), value)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Run one operation and let it err; views pass: they round nothing."""
        name = func.overloadpacket.__name__.removesuffix("_")
        if any(part in name for part in CONTRACTIONS):
            args = tuple([self._err(part) for part in arg] if isinstance(arg, list) else self._err(arg) for arg in args)
        size = args[0].abs() if name in BY_ARGUMENT else BY_DIFFERENCE.get(name, 0.0)
        result = self.compute(func, args, kwargs or {})
        if name == "cumsum":  # what rounds one partial sum is in all that follow it
            axis = int(kwargs["dim"] if kwargs and "dim" in kwargs else args[1])
            return result + func(self._err(result) - result, axis)
        if func._schema.is_mutable:
            return result.copy_(self._err(result, size)) if isinstance(result, torch.Tensor) else result
        if any(returned.alias_info for returned in func._schema.returns):
            return result
        if isinstance(result, torch.Tensor):
            return self._err(result, size)
        if isinstance(result, tuple | list):
            return type(result)(self._err(part) for part in result)
        return result


def expected_error(
    call: Callable[[Tensor], Tensor],
    x: Tensor,
    truth: np.ndarray,
    *,
    windows: int = 4,
    alone: bool | None = None,
    double: bool = True,
) -> float:
    """Return the relative error that float32 arithmetic is expected to make on an input.

    Parameters
    ----------
    call : callable
        The computation, in float64 (in its own types without `double`): x (batch, n_chans, n_times) to (batch, n_outputs).
    x : Tensor
        Its input.
    truth : ndarray
        What it answers without errors.
    windows : int
        The errors are drawn until so many windows have been seen: a single draw can be small by luck.
    alone : bool, optional
        Whether an answer depends on no other window of its batch, as `answers_alone` finds: all windows are then seen
        in one run. Asked here where it is not known.
    double : bool
        See `RoundingErrors`.

    Returns
    -------
    float
        The largest of the draws, as `rtserve.graphs.parity.relative_error` counts; infinite where an error makes a
        finite answer no number.
    """
    draws = max(1, -(-windows // max(1, len(x))))
    if draws > 1 and (answers_alone(call, x, truth, draws) if alone is None else alone):
        x, truth, draws = torch.cat([x] * draws), np.concatenate([truth] * draws), 1
    worst = 0.0
    for seed in range(draws):
        worst = max(worst, error_of(drawn(call, x, seed, double=double), truth))
    return worst


def drawn(call: Callable[[Tensor], Tensor], x: Tensor, seed: int, *, double: bool = True) -> np.ndarray:
    """Return what a computation answers where every operation errs once; see `expected_error`."""
    with torch.inference_mode(), one_thread(), RoundingErrors(seed, double=double):
        answers: np.ndarray = call(x).double().numpy()
    return answers


def error_of(answers: np.ndarray, truth: np.ndarray) -> float:
    """Return by how much drawn answers are off; infinite where an error makes a finite one no number."""
    from rtserve.graphs.parity import relative_error

    if answers.shape != truth.shape or not np.array_equal(np.isfinite(answers), np.isfinite(truth)):
        return float("inf")
    return relative_error(answers, truth)


def answers_alone(call: Callable[[Tensor], Tensor], x: Tensor, truth: np.ndarray, times: int = 2) -> bool:
    """Whether the same windows several times in one batch get the same answers."""
    with torch.inference_mode(), one_thread(), LeanConvolutions():
        answers = call(torch.cat([x] * times)).double().numpy()
    expected = np.concatenate([truth] * times)
    return answers.shape == expected.shape and np.allclose(answers, expected, rtol=1e-9, atol=1e-12, equal_nan=True)
