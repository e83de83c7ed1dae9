"""Timing on a machine that is not ours alone: interleaved bursts, paired ratios, raw values kept.

Two things are timed by turns within one run (A B, B A, ...), each turn a burst of calls long enough to time. Whatever
slows the machine for a while slows a whole round, so the ratio within a round is far steadier than either time; the
median over rounds ignores the rounds in which something interfered. The first call of a burst finds the other's data
in the caches and is not recorded.

Where an engine put its weights in memory makes two sessions of one graph differ by some tenths of a percent, every
round alike. `repeat` therefore builds everything anew several times, and its ratios have an interval over restarts.
"""

from __future__ import annotations

import gc
import importlib.util
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtserve.errors import InputError

__all__ = ["Timings", "collector_paused", "interleave", "repeat", "set_threads"]

P99_MIN = 1000
"""A 99th percentile of fewer calls rests on under ten of them: refused."""
RESTARTS = 9
"""The second smallest and second largest of nine hold their median in 96 of 100 cases, whatever the distribution."""
MIN_RESTARTS = 6
UNSTABLE_SPREAD = 0.10
UNSTABLE_DRIFT = 0.05

Call = Callable[[], Any]
Factory = Callable[[], Call]


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Raw times of interleaved calls; every summary is computed on reading.

    Parameters
    ----------
    rounds : tuple of dict
        Per round and name the nanoseconds of each recorded call, in the order taken: int64 (n_calls,).
    threads : int or None
        Threads the callables were given, as stated by the caller.
    seed : int
        Of the order within rounds and of the bootstrap.
    restarts : tuple of int
        For each round which restart it belongs to; empty where nothing was built anew.
    """

    rounds: tuple[dict[str, np.ndarray], ...]
    threads: int | None = None
    seed: int = 0
    restarts: tuple[int, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What was timed, in the caller's order."""
        return tuple(self.rounds[0])

    def calls_us(self, name: str) -> np.ndarray:
        """Return every recorded call in microseconds, in the order taken."""
        values: np.ndarray = np.concatenate([r[name] for r in self.rounds]) / 1e3
        return values

    def blocks_us(self, name: str) -> np.ndarray:
        """Return (n_rounds,): the median call of each round in microseconds."""
        return np.array([float(np.median(r[name])) for r in self.rounds]) / 1e3

    def median_us(self, name: str) -> float:
        """Return the median over rounds of the median call, in microseconds."""
        return float(np.median(self.blocks_us(name)))

    def percentile_us(self, name: str, q: float) -> float | None:
        """Return a percentile of all calls in microseconds; None for one above 95 with under `P99_MIN` calls."""
        calls = self.calls_us(name)
        return None if q > 95 and len(calls) < P99_MIN else float(np.percentile(calls, q))

    def ratio(self, a: str, b: str, *, level: float = 0.95, resamples: int = 2000) -> tuple[float, float, float]:
        """Return how long `a` takes in units of `b`, with its interval.

        With at least six restarts the interval is that of the median over restarts by order statistics: its coverage
        is at least about `level` whatever the distribution, and it holds for graphs that are built anew. Otherwise it
        is a bootstrap over rounds and holds for these two sessions.

        Parameters
        ----------
        a, b : str
            Names of two things timed; the ratio is time of a over time of b.
        level : float
            Coverage of the interval.
        resamples : int
            Bootstrap samples of rounds; both keep their round, so the pairs stay pairs.

        Returns
        -------
        (float, float, float)
            Median of the ratio within a round, low end, high end.
        """
        logs = np.log(self.blocks_us(a) / self.blocks_us(b))
        if len(set(self.restarts)) >= MIN_RESTARTS:
            which = np.array(self.restarts)
            logs = np.sort([float(np.median(logs[which == k])) for k in sorted(set(self.restarts))])
            cut = _order_cut(len(logs), level)
            low, high = logs[cut], logs[-1 - cut]
        else:
            draws = np.random.default_rng(self.seed).integers(0, len(logs), size=(resamples, len(logs)))
            low, high = np.quantile(np.median(logs[draws], axis=1), [(1 - level) / 2, (1 + level) / 2])
        return float(np.exp(np.median(logs))), float(np.exp(low)), float(np.exp(high))

    def unstable(self, name: str) -> tuple[str, ...]:
        """Return the reasons why the times of `name` are not to be trusted as absolute numbers; empty is good."""
        blocks = self.blocks_us(name)
        reasons = []
        middle = float(np.median(blocks))
        spread = float(np.subtract(*np.percentile(blocks, [75, 25]))) / middle
        if spread > UNSTABLE_SPREAD:
            reasons.append(f"half of the rounds differ by {spread:.0%} or more: something else used the machine")
        half = len(blocks) // 2
        drift = float(np.median(blocks[half:]) / np.median(blocks[:half])) - 1 if half >= 3 else 0.0
        if abs(drift) > UNSTABLE_DRIFT:
            reasons.append(f"the second half is {drift:+.0%} against the first: clock or temperature")
        if len(blocks) < 10:
            reasons.append(f"{len(blocks)} rounds are few")
        return tuple(reasons)

    def to_dict(self) -> dict[str, Any]:
        """Return the raw values as JSON values; `from_dict` reads them."""
        rounds = [{name: values.tolist() for name, values in r.items()} for r in self.rounds]
        about = {"unit": "ns", "threads": self.threads, "seed": self.seed, "restarts": list(self.restarts)}
        return about | {"rounds": rounds}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Timings:
        """Read what `to_dict` wrote."""
        rounds = tuple({name: np.array(v, np.int64) for name, v in r.items()} for r in values["rounds"])
        restarts = tuple(values.get("restarts", ()))
        return cls(rounds=rounds, threads=values.get("threads"), seed=int(values.get("seed", 0)), restarts=restarts)


def interleave(
    calls: Mapping[str, Call],
    *,
    rounds: int = 30,
    min_burst_us: float = 2000.0,
    min_calls: int = 3,
    max_calls: int = 1000,
    warmup_us: float = 50_000.0,
    threads: int | None = None,
    seed: int = 0,
    clock: Callable[[], int] = time.perf_counter_ns,
    progress: Callable[[int, int], None] | None = None,
) -> Timings:
    """Time several callables by turns: each round a burst of each, the order drawn per round and mirrored in the next.

    Parameters
    ----------
    calls : mapping of str to callable
        What to time; each is called without arguments.
    rounds : int
        How many rounds; made even, so that each order is followed by its mirror.
    min_burst_us : float
        A burst holds as many calls as take about this long, at least `min_calls` and at most `max_calls`.
    min_calls, max_calls : int
        Bounds of the recorded calls per burst.
    warmup_us : float
        Each callable is called for this long first, at least three times.
    threads : int, optional
        Stated in the result; set them with `set_threads` and in the engines' own options.
    seed : int
        Of the order.
    clock : callable
        Nanoseconds; ``time.process_time_ns`` counts the processor's time of this process alone: a call that is
        interrupted by other work is then not longer for it, which wall time on a loaded machine holds against long
        calls only.
    progress : callable, optional
        Called with (rounds done, rounds in all) after each round.

    Returns
    -------
    Timings
        Nanoseconds of every recorded call.

    Raises
    ------
    InputError
        Where there is nothing to time.
    """
    if not calls or rounds < 1:
        raise InputError(f"{len(calls)} things to time in {rounds} rounds", hint="give at least one of each")
    total = rounds + rounds % 2
    burst = {
        name: min(max_calls, max(min_calls, math.ceil(min_burst_us / _warm(call, warmup_us))))
        for name, call in calls.items()
    }
    taken = []
    with collector_paused():
        for done, order in enumerate(_orders(list(calls), total, seed), start=1):
            times = {name: _burst(calls[name], burst[name], clock) for name in order}
            taken.append({name: times[name] for name in calls})
            if progress:
                progress(done, total)
    return Timings(rounds=tuple(taken), threads=threads, seed=seed)


def repeat(
    factories: Mapping[str, Factory],
    *,
    restarts: int = RESTARTS,
    rounds: int = 6,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Timings:
    """Build everything anew and time it by turns, several times.

    Parameters
    ----------
    factories : mapping of str to callable
        What to time: each call of a factory gives a fresh callable (a new session with its own input).
    restarts : int
        How often; each in another order of building and with other holes in memory.
    rounds : int
        Of each restart.
    seed : int
        Of the orders.
    progress : callable, optional
        Called with (restarts done, restarts in all).
    **options
        As `interleave` takes them.

    Returns
    -------
    Timings
        All rounds, each marked with its restart.
    """
    rng = np.random.default_rng(seed)
    taken: list[dict[str, np.ndarray]] = []
    marks: list[int] = []
    names = list(factories)
    for k in range(max(1, restarts)):
        holes: list[np.ndarray] = []
        calls: dict[str, Call] = {}
        for i in rng.permutation(len(names)):
            holes.append(np.empty(int(rng.integers(1, 1 << 18)), np.uint8))
            calls[names[i]] = factories[names[i]]()
        ordered = {name: calls[name] for name in names}
        part = interleave(ordered, rounds=rounds, seed=int(rng.integers(1 << 31)), **options)
        taken += part.rounds
        marks += [k] * len(part.rounds)
        if progress:
            progress(k + 1, max(1, restarts))
    return Timings(rounds=tuple(taken), threads=options.get("threads"), seed=seed, restarts=tuple(marks))


def _order_cut(n: int, level: float) -> int:
    """Return how many order statistics may be cut from each end of n with at least about `level` coverage."""
    below, total = 0.0, 2.0**n
    for cut in range(n // 2):
        below += math.comb(n, cut)
        if 1 - 2 * below / total < level - 0.005:
            return max(0, cut - 1)
    return max(0, n // 2 - 1)


def _orders(names: list[str], rounds: int, seed: int) -> Iterator[list[str]]:
    """Yield the order of each round: drawn at random, then the same mirrored, so that no position is anybody's."""
    rng = np.random.default_rng(seed)
    for _ in range(rounds // 2):
        order = [names[i] for i in rng.permutation(len(names))]
        yield order
        yield order[::-1]


def _warm(call: Call, budget_us: float) -> float:
    """Call until the budget is spent, at least three times; return the fastest call in microseconds."""
    fastest, start, n = math.inf, time.perf_counter_ns(), 0
    while n < 3 or time.perf_counter_ns() - start < budget_us * 1e3:
        before = time.perf_counter_ns()
        call()
        fastest = min(fastest, time.perf_counter_ns() - before)
        n += 1
    return max(fastest / 1e3, 0.05)


def _burst(call: Call, n: int, clock: Callable[[], int] = time.perf_counter_ns) -> np.ndarray:
    """Return nanoseconds of n calls after one that is not counted."""
    call()
    out = np.empty(n, np.int64)
    for i in range(n):
        before = clock()
        call()
        out[i] = clock() - before
    return np.maximum(out, 1)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python's garbage collector out of the measured calls.

    What is young is collected before; all of what torch has made would take longer than many a measurement.
    """
    was_on = gc.isenabled()
    gc.collect(1)
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def set_threads(threads: int) -> None:
    """Pin torch (where it is loaded already) and every BLAS and OpenMP pool of this process to `threads`."""
    torch: Any = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
    if importlib.util.find_spec("threadpoolctl") is not None:
        importlib.import_module("threadpoolctl").threadpool_limits(threads)
