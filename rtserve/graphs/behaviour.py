"""Whether a network answers a window by that window alone: asked of the network itself, before it is exported.

The same windows are given twice, after other windows, under another seed, alone, among others and in another order. A
network that answers the same windows differently (functional dropout, noise, state) has no answer that a graph could
give. One whose answer depends on who else is in the batch (batch statistics) has one for each batch: it is **coupled**.
Everything is asked in float64, where rounding is nine digits below what is looked for.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rtserve.errors import ExportError
from rtserve.graphs.dice import Extreme, others_randomness
from rtserve.graphs.parity import relative_error
from rtserve.spec import UNITS, InputSpec

__all__ = ["coupling", "require_steady"]

APART = {torch.float64: 1e-9, torch.float32: 1e-5}
"""Relative difference from which two answers are two: rounding in float64 is far below, and noise below is harmless."""
WINDOWS = 5
THROWS = 50
REDUCTIONS = (
    "mean", "sum", "var", "std", "var_mean", "std_mean", "amax", "amin", "max", "min", "median", "norm", "prod",
    "linalg_vector_norm", "_softmax", "_log_softmax", "softmax", "cumsum", "cumprod", "logsumexp", "sort", "argsort",
    "roll", "flip",
)  # fmt: skip
"""Operations that mix the entries along an axis; along the first one they mix windows."""
Call = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """One operation that could explain what was seen: what it does, in which part of the network, on which line."""

    what: str
    where: str

    def __str__(self) -> str:
        return f"{self.what} in {self.where}"


class _Listener(TorchDispatchMode):  # type: ignore[misc]
    """Notes which operations draw at random, and which mix windows, with the part of the network they run in."""

    def __init__(self, module: nn.Module, batch: int) -> None:
        super().__init__()
        self.batch, self.stack, self.hooks = batch, [""], []
        self.draws: list[_Heard] = []
        self.mixes: list[_Heard] = []
        for name, part in module.named_modules():
            label = f"{name or 'forward'} ({type(part).__name__})"
            self.hooks.append(part.register_forward_pre_hook(partial(self._enter, label)))
            self.hooks.append(part.register_forward_hook(lambda *_: self.stack.pop() and None, always_call=True))

    def _enter(self, label: str, part: nn.Module, args: tuple[Any, ...]) -> None:
        """Note the part, and where it reads along the first axis of what has windows there."""
        self.stack.append(label)
        first = args[0] if args else None
        if not isinstance(first, torch.Tensor) or first.dim() != 3 or len(first) != self.batch:
            return
        if getattr(part, "batch_first", True) is False:
            self.mixes.append(_Heard(what="the first axis taken as time (batch_first=False)", where=label))

    def __exit__(self, *exception: Any) -> None:
        for hook in self.hooks:
            hook.remove()
        super().__exit__(*exception)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if torch.Tag.nondeterministic_seeded in func.tags:
            self.draws.append(_Heard(what=name, where=self.stack[-1]))
        elif "batch_norm" in name and _trains(func, args):
            self.mixes.append(_Heard(what="batch normalisation by the batch's own statistics", where=self.stack[-1]))
        elif name in REDUCTIONS and self._over_batch(args):
            self.mixes.append(_Heard(what=f"{name} over the batch axis", where=self.stack[-1]))
        return func(*args, **(kwargs or {}))

    def _over_batch(self, args: tuple[Any, ...]) -> bool:
        """Whether an operation that mixes along axes is given the first axis, of as many entries as there are windows."""
        first = args[0] if args else None
        if not isinstance(first, torch.Tensor) or not first.dim() or first.shape[0] != self.batch:
            return False
        axes = next(
            (arg for arg in args[1:] if isinstance(arg, int | list | tuple) and not isinstance(arg, bool)), None
        )
        if axes is None:
            return True
        return any(int(axis) % first.dim() == 0 for axis in ([axes] if isinstance(axes, int) else axes))


def _trains(func: Any, args: tuple[Any, ...]) -> bool:
    """Whether a batch normalisation was called in training mode."""
    names = [argument.name for argument in func._schema.arguments]
    return "training" in names and bool(args[names.index("training")])


def probe_windows(spec: InputSpec) -> torch.Tensor:
    """Return (5, n_chans, n_times) noise, by turns of the size EEG has in the spec's unit and of size 1, in float64."""
    rng = np.random.default_rng(7)
    x = rng.standard_normal((WINDOWS, spec.n_chans, spec.n_times))
    x[::2] *= 0.1 if spec.unit == "1" else 1e-5 / UNITS[spec.unit or "V"]
    return torch.from_numpy(x)


class _Subject:
    """A network in the precision in which it runs, asked under given seeds."""

    def __init__(self, module: nn.Module, spec: InputSpec) -> None:
        self.module, self.x = copy.deepcopy(module).double(), probe_windows(spec)
        self.dtype, self.fresh = torch.float64, copy.deepcopy(self.module)
        try:
            self.ask(self.x, 0)
        except Exception:  # somebody's network may insist on float32
            self.module, self.fresh, self.dtype = copy.deepcopy(module), copy.deepcopy(module), torch.float32
            self.x = self.x.float()

    def ask(self, x: torch.Tensor, seed: int = 0, module: nn.Module | None = None) -> np.ndarray:
        """Return the answer (batch, n_outputs) to windows of its own, which it may write over.

        Python's and numpy's own randomness run on.
        """
        torch.manual_seed(seed)
        with torch.inference_mode():
            answer: np.ndarray = (module or self.module)(x.clone()).double().numpy().copy()
        return answer

    def other(self) -> torch.Tensor:
        """Return other windows than those it is asked about."""
        return self.x.flip(0) * 3 + 1

    def apart(self, one: np.ndarray, two: np.ndarray) -> float:
        """Return how far two answers are apart relative to the larger output; 0 where they count as one."""
        if one.shape != two.shape:
            return float("inf")
        same = np.isfinite(one) == np.isfinite(two)
        error = relative_error(one, two) if same.all() else float("inf")
        return error if error > APART[self.dtype] else 0.0

    def listen(self, x: torch.Tensor) -> _Listener:
        """Run once and return what was heard."""
        listener = _Listener(self.module, len(x))
        with listener:
            self.ask(x)
        return listener


def require_steady(module: nn.Module, spec: InputSpec) -> None:
    """Raise `ExportError` where a network answers the same windows differently, naming the cause and the cure."""
    with _kept_randomness():
        subject = _Subject(module, spec)
        before = _state(subject.fresh)
        first, again, reseeded = subject.ask(subject.x), subject.ask(subject.x), subject.ask(subject.x, 1)
        subject.ask(subject.other())
        later = subject.ask(subject.x)
        subject.ask(subject.other(), module=subject.fresh)  # what its first windows ever leave behind
        after_other = subject.ask(subject.x, module=subject.fresh)
        changed = max(subject.apart(first, y) for y in (again, later, after_other))
        drawn = subject.apart(again, reseeded) or _at_extremes(subject, later)
        if not drawn and not changed:
            return
        cause, cure = _of_state(subject, before) if changed else _of_draws(subject)
    raise ExportError(f"the network answers the same windows differently, {max(drawn, changed):.1e} apart: {cause}",
                      hint=cure)  # fmt: skip


def _at_extremes(subject: _Subject, usual: np.ndarray) -> float:
    """Return how far an answer moves where every draw is as low, or as high, as it can be: dice may seldom show.

    Those of Python and numpy cannot be held: where they were thrown, they are thrown some more.
    """
    apart, others = 0.0, others_randomness()
    start, end = (_generator_after(subject, seed, asked) for seed, asked in ((0, False), (0, True)))
    if others != others_randomness():
        apart = max(subject.apart(subject.ask(subject.x), usual) for _ in range(THROWS))
    if torch.equal(start, end) or torch.equal(end, _generator_after(subject, 1, asked=True)):
        return apart  # it draws nothing, or seeds the generator itself
    for high in (False, True):
        with Extreme(high):
            apart = max(apart, subject.apart(subject.ask(subject.x), usual))
    return apart


def _generator_after(subject: _Subject, seed: int, asked: bool) -> torch.Tensor:
    """Return where torch's generator has come to from a seed, with or without an answer in between."""
    torch.manual_seed(seed)
    if asked:
        subject.ask(subject.x, seed)
    return torch.get_rng_state()


def _of_draws(subject: _Subject) -> tuple[str, str]:
    heard = list(dict.fromkeys(map(str, subject.listen(subject.x).draws)))
    cause = f"it draws at random ({'; '.join(heard[:3]) or 'by the generator of torch'})"
    dropout = any("dropout" in text or "bernoulli" in text for text in heard)
    if dropout:
        return cause, "pass training=self.training to F.dropout, or use nn.Dropout, which eval() switches off"
    return cause, "leave the noise out in evaluation: `if self.training:` around it"


def _of_state(subject: _Subject, before: dict[str, Any]) -> tuple[str, str]:
    """Tell state across calls from randomness that torch knows nothing of."""
    fresh = [subject.ask(subject.x, module=copy.deepcopy(subject.module)) for _ in range(2)]
    if subject.apart(*fresh):
        return (
            "two fresh copies of it differ under one seed: it asks numpy, random or the clock",
            "leave the randomness out in evaluation: `if self.training:` around it",
        )
    after = _state(subject.module)
    changed = [key for key, value in after.items() if key not in before or not _same(before[key], value)]
    named = f" ({', '.join(changed[:3])} changed)" if changed else ""
    return f"it keeps state from call to call{named}", "reset the state at the start of forward, or pass it as input"


def coupling(module: nn.Module, spec: InputSpec) -> str:
    """Return how the answer to a window depends on the others in its batch, with the cause, or an empty text."""
    with _kept_randomness():
        subject = _Subject(module, spec)
        x, order = subject.x, [3, 0, 4, 1, 2]
        together = subject.ask(x)
        found = {
            "alone": _alone(subject, together),
            "among others": subject.apart(subject.ask(torch.cat([x[:2], 5 * x[2:] + 1]))[:2], together[:2]),
            "in another order": subject.apart(subject.ask(x[order]), together[order]),
        }
        seen = {how: error for how, error in found.items() if error}
        if not seen:
            return ""
        heard = list(dict.fromkeys(map(str, subject.listen(x).mixes)))
    cause = "; ".join(heard[:3]) or "something that mixes the batch axis with another"
    return f"{' and '.join(seen)} it answers {max(seen.values()):.1e} differently: {cause}"


def _alone(subject: _Subject, together: np.ndarray) -> float:
    """Return how far windows given one by one are from the same together; infinite where one alone fails."""
    try:
        single = np.concatenate([subject.ask(subject.x[i : i + 1]) for i in range(len(subject.x))])
    except Exception:  # a batch of 1 may be refused by the network itself: statistics of one value
        return float("inf")
    return subject.apart(single, together)


def _state(module: nn.Module) -> dict[str, Any]:
    """Return tensors and plain attributes of every part, copied."""
    state: dict[str, Any] = {
        key: value.clone() for key, value in module.state_dict().items() if isinstance(value, torch.Tensor)
    }
    for name, part in module.named_modules():
        for key, value in vars(part).items():
            if not key.startswith("_") and isinstance(value, int | float | torch.Tensor | list):
                state[f"{name}.{key}".lstrip(".")] = copy.deepcopy(value)
    return state


def _same(one: Any, two: Any) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return one.shape == two.shape and bool(torch.equal(one, two))
    return type(one) is type(two) and not isinstance(one, torch.Tensor) and bool(one == two)


@contextmanager
def _kept_randomness() -> Iterator[None]:
    """Leave the random state of torch and Python as it was found."""
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
