"""The loop: chunks in, a step for every hop, answers out, each counted from the time of its last sample.

Whatever breaks the order of samples is named, the state is forgotten, and the next answer is about samples behind it.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from rtserve.streaming.live.tally import Tally
from rtserve.streaming.live.watch import Watch

if TYPE_CHECKING:
    from rtserve.streaming.live.fitting import Fitting, Hop
    from rtserve.streaming.live.source import Chunk, Source
    from rtserve.streaming.runner import StepRunner
    from rtserve.streaming.verify import VerifiedRunner

__all__ = ["Lap", "run_loop"]

Told = Callable[[float, np.ndarray], None]


@dataclass(kw_only=True)
class Lap:
    """What a run of the loop did; its size does not grow with it.

    Parameters
    ----------
    step_us : Tally
        What each step took, those without an answer too.
    answer_us : Tally
        From the time of a window's last sample to its answer; empty where samples were not taken now.
    answers, misses, left : int
        Answers; steps that ended later than the next hop is due, or, where samples were not taken now, took longer than a
        hop; samples that made no whole hop.
    breaks : Counter
        What broke the order of samples, by kind: what is said of it, up to a colon.
    """

    step_us: Tally = field(default_factory=Tally)
    answer_us: Tally = field(default_factory=Tally)
    answers: int = 0
    misses: int = 0
    left: int = 0
    breaks: Counter[str] = field(default_factory=Counter)

    @property
    def steps(self) -> int:
        """How many steps were made."""
        return self.step_us.n

    @property
    def streams(self) -> int:
        """How many stretches were begun: one, and one more behind each break."""
        return 1 + self.breaks.total()


def run_loop(
    runner: StepRunner | VerifiedRunner,
    source: Source,
    fitting: Fitting,
    *,
    told: Sequence[Told] = (),
    broken: Callable[[float, str], None] | None = None,
    until_s: float | None = None,
) -> Lap:
    """Run a source through a step until it ends, or nobody wants it any more (Ctrl-C).

    Parameters
    ----------
    runner : StepRunner or VerifiedRunner
        Of one stream.
    source : Source
        What gives samples.
    fitting : Fitting
        What makes hops of them.
    told : sequence of callable
        Each called with the end of a window in s, on the source's clock, and its answer.
    broken : callable, optional
        Called with a time and what broke the order of samples.
    until_s : float, optional
        How many seconds of samples to take.
    """
    loop = _Loop(runner, source, fitting, told, broken)
    try:
        for chunk in source.chunks():
            if not loop.take(chunk, until_s):
                break
    except KeyboardInterrupt:
        pass
    loop.lap.left += fitting.left
    return loop.lap


class _Loop:
    def __init__(
        self, runner: StepRunner | VerifiedRunner, source: Source, fitting: Fitting, told: Sequence[Told],
        broken: Callable[[float, str], None] | None,
    ) -> None:  # fmt: skip
        self.runner, self.source, self.fitting, self.told, self.broken = runner, source, fitting, told, broken
        self.lap, self.hop_s = Lap(), fitting.hop / source.about.sfreq
        self.watch = Watch(source.about.sfreq) if source.watched else None
        self.first: float | None = None
        self.runner.reset()
        self.fitting.reset()

    def take(self, chunk: Chunk, until_s: float | None) -> bool:
        """Go on with a chunk; return whether more is wanted."""
        if self.first is None and len(chunk.times):
            self.first = float(chunk.times[0])
        if chunk.lost:
            self.begin_anew(float(chunk.times[0]), chunk.lost)
        start = 0
        for place, said in self.trouble(chunk):
            self.pushed(chunk, start, place)
            self.begin_anew(float(chunk.times[min(place, len(chunk.times) - 1)]), said)
            start = place
        self.pushed(chunk, start, len(chunk.times))
        if until_s is None or self.first is None:
            return True
        rounded = 1.5 / self.source.about.sfreq  # a last sample lasts one, and half a one is rounded
        return float(chunk.times[-1]) - self.first + rounded < until_s

    def trouble(self, chunk: Chunk) -> list[tuple[int, str]]:
        """Return in front of which samples of a chunk the order is broken, and how."""
        found = self.watch.see(chunk.times - chunk.shift) if self.watch is not None else []
        if self.fitting.causal.spreads:
            odd = ~np.isfinite(chunk.x[self.fitting.rows]).all(axis=0)
            behind = np.flatnonzero(odd & ~np.append(odd[1:], False)) + 1
            found += [(int(at), "samples were no numbers, which the filter would never forget") for at in behind]
        return sorted(found)

    def begin_anew(self, at: float, said: str) -> None:
        """Forget everything and say why."""
        self.lap.left += self.fitting.left
        self.runner.reset()
        self.fitting.reset()
        self.lap.breaks[said.partition(":")[0]] += 1
        if self.broken is not None:
            self.broken(at, said)

    def pushed(self, chunk: Chunk, start: int, end: int) -> None:
        """Make the steps of samples [start, end) of a chunk."""
        if start < end:
            for hop in self.fitting.add(chunk.x[:, start:end], chunk.times[start:end]):
                self.step(hop)

    def step(self, hop: Hop) -> None:
        begun = time.perf_counter_ns()
        y = self.runner.push(hop.x)
        took = (time.perf_counter_ns() - begun) / 1e3
        lap, now = self.lap, self.source.now()
        lap.step_us.add(took)
        late = took
        if now is not None:
            late = 1e6 * (now - hop.last)
        if y is not None and hop.settled:
            lap.answers += 1
            if now is not None:
                lap.answer_us.add(late)
            for tell in self.told:
                tell(hop.last + 1 / self.source.about.sfreq, y[0])
        lap.misses += late > 1e6 * self.hop_s
