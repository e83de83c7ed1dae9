"""Dice at their extremes: a network that seldom throws a six (a dropout of 0.001, stochastic depth) throws one here."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Extreme", "others_randomness"]

OTHERS = (
    "exponential", "geometric", "log_normal", "cauchy", "multinomial", "poisson", "randint", "randint_like", "random",
    "randperm",
)  # fmt: skip
"""Operations that draw from what the network says; lstm and attention can drop, and are no draws of their own."""


class Extreme(TorchDispatchMode):  # type: ignore[misc]
    """Makes every operation that draws at random give its lowest, or its highest, numbers.

    What draws from a generator of its own is left alone: it may be seeded anew at every call.
    """

    def __init__(self, high: bool) -> None:
        super().__init__()
        self.high = high

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__.removesuffix("_")
        if torch.Tag.nondeterministic_seeded not in func.tags or (kwargs or {}).get("generator") is not None:
            return result
        told = [float(arg) for arg in args[1:3] if isinstance(arg, int | float)]
        if name.endswith("dropout"):
            drops = told[:1] != [0.0] and (len(args) < 3 or bool(args[2]))
            for part in result if isinstance(result, tuple | list) else (result,):
                part.mul_(self.high or not drops)
        elif isinstance(result, torch.Tensor) and result.numel():
            self._draw(name, result, told)
        return result

    def _draw(self, name: str, drawn: torch.Tensor, told: list[float]) -> None:
        """Fill what was drawn: the ends of a uniform one, 4 standard deviations of a normal one, its own ends of others."""
        if name.startswith("bernoulli"):
            drawn.fill_(self.high)
        elif name in ("rand", "rand_like", "uniform"):
            low, high = told if name == "uniform" and len(told) == 2 else (0.0, 1.0)
            drawn.fill_(low + (high - low) * (1 - 2.0**-24) if self.high else low)
        elif name in ("randn", "randn_like", "normal"):
            mean, std = told if name == "normal" and len(told) == 2 else (0.0, 1.0)
            drawn.fill_(mean + 4 * std if self.high else mean - 4 * std)
        elif name in OTHERS:
            drawn.fill_(drawn.max() if self.high else drawn.min())


def others_randomness() -> tuple[Any, ...]:
    """Return where the generators of Python and numpy that everybody shares have come to."""
    shared: Any = np.random.get_state()  # noqa: NPY002  (read, to see whether somebody drew from it)
    return random.getstate(), shared[1].tobytes(), shared[2]
