"""What is asked of a network after the scorer's own calls: repeats, batches, scales, bad channels, dead branches.

Each probe returns plain numbers; the checker decides what they mean. A probe that costs more than its share of the
time budget is left out and says so.
"""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from .describe import as_array, describe_output, differs, flat, numbers_of, stray_modules

__all__ = ["Probes"]

LARGEST = 2**26
"""Numbers of a sub-network above which it is not disturbed: a copy of them has to be kept."""
SATURATED = 2e4
"""Of the contest's scale: an amplifier at its end, 0.2 V where windows have ten microvolts."""
MOVED = 1e-7
"""Relative change of the output below which a branch has not moved it."""
FACTORS = (1e-6, 1e-5, 1e-3, 1e-1, 1.0, 10.0, 100.0, 1e3, 1e4, 1e5, 1e6)
"""Of the contest's scale: from volts to microvolts and to unit variance, both ways."""


def rows_of(y: Any, n: int) -> list[torch.Tensor]:
    """Return the numbers of each of the `n` windows of an answer; all of them for each where it has no such rows."""
    numbers = numbers_of(y)
    return [numbers] * n if len(numbers) % n else list(numbers.reshape(n, -1))


def _ends(rows: list[torch.Tensor]) -> tuple[float | None, float | None]:
    """Return the smallest and the largest finite number."""
    numbers = torch.cat(rows)
    numbers = numbers[torch.isfinite(numbers)]
    return (float(numbers.min()), float(numbers.max())) if len(numbers) else (None, None)


def _packed(rows: list[torch.Tensor]) -> str:
    """Return rows of one length as base64 of float32; nothing where they are not of one."""
    if len({len(row) for row in rows}) != 1:
        return ""
    return base64.b64encode(torch.stack(rows).numpy().astype("<f4").tobytes()).decode("ascii")


def _firsts(rows: list[torch.Tensor]) -> list[float]:
    return [float(numbers[0]) if len(numbers) else float("nan") for numbers in rows]


class Probes:
    """The probes of one network.

    Parameters
    ----------
    call : callable
        x (batch, n_chans, n_times) to output, as the scorer calls it.
    model : object
        The network itself.
    windows : Tensor, (n_windows, n_chans, n_times)
        Plausible windows in the contest's unit.
    scale : float
        Their standard deviation.
    budget_s : float
        Seconds all probes together may take.
    size : int
        Windows that are given at once.
    """

    def __init__(
        self,
        call: Callable[[torch.Tensor], Any],
        model: Any,
        windows: torch.Tensor,
        scale: float,
        budget_s: float,
        size: int = 1,
    ) -> None:
        self.call, self.model, self.windows, self.scale, self.size = call, model, windows, scale, size
        self.start(budget_s)
        self.cost = 0.0
        self.steady = True

    def start(self, budget_s: float) -> None:
        """Give the probes `budget_s` seconds from now."""
        self.until = time.perf_counter() + budget_s

    def one(self, index: int) -> torch.Tensor:
        """Return window `index`, with those that follow it where several are given at once, as a fresh batch."""
        return self.windows[[(index + place) % len(self.windows) for place in range(self.size)]]

    def plain(self) -> list[tuple[str, Callable[[], dict[str, Any]], int]]:
        """Return name, probe and forward passes of what ordinary windows can ask."""
        return [
            ("repeat", self.repeat, 4),
            ("called", self.called, 2),
            ("modes", self.modes, 0),
        ]

    def odd(self) -> list[tuple[str, Callable[[], dict[str, Any]], int]]:
        """Return the probes that could spoil a network with state: they go to a copy that nothing else will use."""
        return [
            ("batches", self.batches, 6),
            ("scales", self.scales, 4 * len(FACTORS)),
            ("channels", self.channels, 4),
            ("branches", self.branches, 12),
        ]

    def affordable(self, passes: int) -> bool:
        """Whether `passes` forward passes fit into what is left of the budget."""
        return time.perf_counter() + passes * self.cost < self.until

    def time_windows(self, n: int, *, whole: bool = False) -> dict[str, Any]:
        """Score about `n` windows in batches of the contest's kind; the first number of each, and seconds a window.

        ``moved`` is the largest difference of a window's whole answer from the first window's; ``low`` and ``high`` are
        the smallest and the largest finite number of all answers. Where `whole` answers are asked for they are added:
        the first `n`, float32 in base64, with the shape of one.
        """
        values: list[float] = []
        seconds: list[float] = []
        ends: list[float] = []
        bad, moved, first = None, 0.0, None
        answers: list[torch.Tensor] = []
        for index in range(0, max(n, 2 * self.size), self.size):
            x = self.one(index % len(self.windows))
            start = time.perf_counter()
            y = self.call(x)
            seconds += [(time.perf_counter() - start) / self.size] * self.size
            for place, numbers in enumerate(rows_of(y, self.size)):
                values.append(float(numbers[0]) if len(numbers) else float("nan"))
                if bad is None and (not len(numbers) or not bool(torch.isfinite(numbers).all())):
                    bad = index + place
                ends += [end for end in _ends([numbers]) if end is not None]
                first = numbers if first is None else first
                moved = max(moved, differs(first, numbers))
                answers += [numbers.to(torch.float32)] if whole else []
        self.cost = self.size * sorted(seconds)[len(seconds) // 2]
        low, high = (min(ends), max(ends)) if ends else (None, None)
        shape = as_array(y)[0] or []
        return {
            "values": values, "seconds": seconds, "non_finite_at": bad, "moved": moved, "low": low, "high": high,
            **({"answers": _packed(answers[:n]), "shape": shape[1:]} if whole else {}),
        }  # fmt: skip

    def repeat(self) -> dict[str, Any]:
        """Run one window again: plain, and twice from the same seed; noise and state show as differences."""
        first, second = self.call(self.one(0)), self.call(self.one(0))
        _seed(7)
        third = self.call(self.one(0))
        _seed(7)
        fourth = self.call(self.one(0))
        plain, seeded = differs(first, second), differs(third, fourth)
        self.steady = plain < 1e-6
        return {"plain": plain, "seeded": seeded, "values": [flat(y, 4) for y in (first, second)]}

    def called(self) -> dict[str, Any]:
        """Compare ``model(X)`` with the method the scorer calls."""
        if not callable(self.model):
            return {"callable": False}
        scored = self.call(self.one(1))
        try:
            with torch.inference_mode():
                other = self.model(self.one(1))
        except Exception as error:  # calling the object is not in the contract
            return {"callable": True, "error": f"{type(error).__name__}: {error}"[:300]}
        return {
            "callable": True,
            "difference": differs(scored, other),
            "scored": flat(scored, 4),
            "called": flat(other, 4),
            "shapes": [describe_output(scored)["shape"], describe_output(other)["shape"]],
        }

    def modes(self) -> dict[str, Any]:
        """Return what is in training mode after eval(), inside the module tree and in plain lists beside it."""
        if not isinstance(self.model, torch.nn.Module):
            return {"training": [], "stray": []}
        inside = [f"{name} ({type(m).__name__})" for name, m in self.model.named_modules() if m.training and _random(m)]
        stray = [
            f"{where} ({type(m).__name__})"
            for where, m in stray_modules(self.model)
            if any(_moody(c) for c in m.modules())
        ]
        return {"training": inside[:50], "stray": stray[:50]}

    def batches(self) -> dict[str, Any]:
        """Run batches of 2 and 5 and compare each row with the same window as the contest gives it."""
        alone = [numbers_of(self.call(self.one(index))) for index in range(5)] if self.size == 1 else []
        alone = alone or rows_of(self.call(self.one(0)), self.size)
        rows = []
        for size in (2, 5):
            entry: dict[str, Any] = {"size": size}
            try:
                y = self.call(self.windows[:size].clone())
                entry["shape"] = describe_output(y)["shape"]
                numbers, single = numbers_of(y), torch.cat(alone[:size])
                entry["difference"] = differs(numbers, single)
                entry["rows"], entry["alone"] = _firsts(rows_of(y, size)), _firsts(alone[:size])
            except Exception as error:  # a batch the scorer never sends
                entry["error"] = f"{type(error).__name__}: {error}"[:300]
            rows.append(entry)
        return {"rows": rows}

    def scales(self) -> dict[str, Any]:
        """Run four windows at multiples of the contest's scale: what each gives, and how far the answers differ."""
        found = []
        for factor in FACTORS:
            answers = [rows_of(self.call(self.one(index) * factor), self.size)[0] for index in range(4)]
            low, high = _ends(answers)
            found.append(
                {
                    "scale": self.scale * factor,
                    "low": low,
                    "high": high,
                    "values": _firsts(answers),
                    "moved": max(differs(answers[0], other) for other in answers[1:]),
                }
            )
        return {"scales": found}

    def channels(self) -> dict[str, Any]:
        """Run windows with a NaN, a flat, a saturated channel, and an empty one."""
        channel = min(3, self.windows.shape[1] - 1)
        kinds: dict[str, Callable[[torch.Tensor], Any]] = {
            "flat channel": lambda x: x[:, channel].zero_(),
            "saturated channel": lambda x: x[:, channel].fill_(SATURATED * self.scale),
            "all zero": lambda x: x.zero_(),
            "nan channel": lambda x: x[:, channel].fill_(float("nan")),  # last: a network with state remembers it
        }
        found = {}
        for kind, spoil in kinds.items():
            x = self.one(0)
            spoil(x)
            try:
                numbers = numbers_of(self.call(x))
                found[kind] = {"finite": bool(torch.isfinite(numbers).all()), "values": numbers[:2].tolist()}
            except Exception as error:  # reported with the input that caused it
                found[kind] = {"finite": False, "error": f"{type(error).__name__}: {error}"[:300]}
        return {"kinds": found}

    def branches(self) -> dict[str, Any]:
        """Disturb the numbers of every sub-network in turn: one that never moves the output is inert.

        Works wherever the network keeps its numbers as torch tensors; a network without any, a noisy or a stateful
        one is left out.
        """
        if not isinstance(self.model, torch.nn.Module) or not self.steady:
            return {"judged": 0, "inert": [], "why": "no torch module" if self.steady else "output is not repeatable"}
        before = [self.call(self.one(index)) for index in (0, 1)]
        inert, judged = [], 0
        for name, module in _candidates(self.model):
            if not self.affordable(6):
                break
            judged += 1
            moved = self._moved(module, before)
            if not moved:
                spent = self._seconds_in(module)
                inert.append({"name": name, "type": type(module).__name__, "seconds": spent, "numbers": _size(module)})
        return {"judged": judged, "inert": inert, "total_seconds": self.cost}

    def _moved(self, module: torch.nn.Module, before: list[Any]) -> float:
        tensors = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
        kept = [tensor.detach().clone() for tensor in tensors]
        generator = torch.Generator().manual_seed(3)
        worst = 0.0
        try:
            for size in (0.3, 30.0):
                with torch.no_grad():
                    for tensor, old in zip(tensors, kept):  # noqa: B905
                        noise = torch.randn(old.shape, generator=generator, dtype=torch.float32).to(old)
                        tensor.data.copy_(old + size * noise * (old.abs().mean() + 1e-3))
                try:
                    after = [self.call(self.one(index)) for index in (0, 1)]
                    worst = max(worst, *(differs(a, b) for a, b in zip(before, after)))  # noqa: B905
                except Exception:  # disturbed numbers broke it: they are read
                    return float("inf")
                if worst > MOVED:
                    return worst
        finally:
            with torch.no_grad():
                for tensor, old in zip(tensors, kept):  # noqa: B905
                    tensor.data.copy_(old)
        return 0.0 if worst <= MOVED else worst

    def _seconds_in(self, module: torch.nn.Module) -> float:
        spent = 0.0
        original = module.forward

        def timed(*args: Any, **kwargs: Any) -> Any:
            nonlocal spent
            start = time.perf_counter()
            try:
                return original(*args, **kwargs)
            finally:
                spent += time.perf_counter() - start

        try:
            module.forward = timed
            self.call(self.one(0))
        except Exception:  # a compiled module takes no other forward
            return 0.0
        finally:
            vars(module).pop("forward", None)
        return spent


def _candidates(model: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield sub-networks worth judging: direct children and members of lists, at most 64, each with numbers."""
    count = 0
    for name, module in model.named_modules():
        if not name or isinstance(module, (torch.nn.ModuleList, torch.nn.ModuleDict)):
            continue
        if not 0 < _size(module) < LARGEST:
            continue
        parent = name.rpartition(".")[0]
        in_list = isinstance(
            model.get_submodule(parent) if parent else model, (torch.nn.ModuleList, torch.nn.ModuleDict)
        )
        if (in_list or name.count(".") == 0) and count < 64:
            count += 1
            yield name, module


def _size(module: torch.nn.Module) -> int:
    return sum(t.numel() for t in (*module.parameters(), *module.buffers()) if t.is_floating_point())


def _random(module: torch.nn.Module) -> bool:
    kinds = (torch.nn.modules.dropout._DropoutNd, torch.nn.modules.batchnorm._BatchNorm, torch.nn.AlphaDropout)
    return isinstance(module, kinds)


def _moody(module: torch.nn.Module) -> bool:
    return module.training and _random(module)


def _seed(value: int) -> None:
    import sys

    torch.manual_seed(value)
    random.seed(value)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(value)
