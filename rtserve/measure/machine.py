"""What else the machine did while something was timed: load, stolen time, other processes."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Machine", "watched"]

MAX_LOAD = 0.8
"""One-minute load average per core, before the run, from which a machine is called loaded."""
MAX_STEAL = 0.01
MAX_OTHERS = 0.25
"""Cores that other processes may keep busy during the run."""


@dataclass(kw_only=True)
class Machine:
    """Readings before and after a run; None where the system gives none.

    Parameters
    ----------
    cores : int
        That this process may use.
    load_before, load_after : float or None
        One-minute load averages.
    steal : float or None
        Share of the run's processor time that the hypervisor gave to other guests (``/proc/stat``).
    others : float or None
        Cores that other processes kept busy on average.
    """

    cores: int = 1
    load_before: float | None = None
    load_after: float | None = None
    steal: float | None = None
    others: float | None = None
    _start: tuple[Mapping[str, float], float, float] | None = field(default=None, repr=False)

    @property
    def loaded(self) -> tuple[str, ...]:
        """Why times taken here are not to be quoted at their tail; empty is good."""
        out = []
        if self.load_before is not None and self.load_before > MAX_LOAD * self.cores:
            out.append(f"a load average of {self.load_before:.1f} on {self.cores} cores when it began")
        if self.steal is not None and self.steal > MAX_STEAL:
            out.append(f"{self.steal:.1%} of the processor's time was stolen by other guests")
        if self.others is not None and self.others > MAX_OTHERS:
            out.append(f"other processes kept {self.others:.1f} cores busy")
        return tuple(out)

    def to_dict(self) -> dict[str, Any]:
        """Return the readings as JSON values."""
        values = {key: value for key, value in vars(self).items() if not key.startswith("_")}
        return values | {"loaded": list(self.loaded)}


@contextmanager
def watched() -> Iterator[Machine]:
    """Read the machine before and after the block; the `Machine` is complete when the block ends."""
    machine = Machine(cores=_cores(), load_before=_load())
    before, used, clock = _ticks(), _own_seconds(), time.perf_counter()
    try:
        yield machine
    finally:
        machine.load_after = _load()
        after, spent = _ticks(), time.perf_counter() - clock
        if before and after and spent > 0:
            _compare(machine, before, after, _own_seconds() - used, spent)


def _compare(
    machine: Machine, before: Mapping[str, float], after: Mapping[str, float], own: float, spent: float
) -> None:
    moved = {key: after[key] - before[key] for key in after}
    total = sum(moved.values())
    if total <= 0:
        return
    busy = moved["user"] + moved["nice"] + moved["system"] + moved["irq"] + moved["softirq"]
    machine.steal = moved["steal"] / total
    machine.others = max(0.0, (busy - own) / spent)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _ticks() -> dict[str, float] | None:
    """Return seconds of all cores by kind since the system started, or None where it does not say."""
    try:
        first = Path("/proc/stat").read_text("utf-8").partition("\n")[0].split()
        second = float(os.sysconf("SC_CLK_TCK"))
    except (OSError, ValueError, AttributeError):
        return None
    names = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    if len(first) <= len(names):
        return None
    return {name: float(value) / second for name, value in zip(names, first[1:], strict=False)}
