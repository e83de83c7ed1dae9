"""``rtserve demo --live``: the demo's network on made-up EEG in a terminal, an answer every hop, as a running trace."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.demo.settings import VIEWED, Folder
from rtserve.errors import InputError
from rtserve.graphs.graph import Graph
from rtserve.streaming.build import stream
from rtserve.streaming.live.fitting import fitting_for
from rtserve.streaming.live.loop import Lap, run_loop
from rtserve.streaming.live.synthetic import SyntheticSource
from rtserve.streaming.runner import StepRunner
from rtserve.streaming.step_graph import StepGraph

if TYPE_CHECKING:
    from rtserve.streaming.live.source import Chunk

__all__ = ["BLOCKS", "PLAIN", "spark", "watch_live"]

HOP = 8
"""Samples from one answer to the next: 80 ms."""
BLOCKS, PLAIN = "▁▂▃▄▅▆▇█", "_.-~=+*#"
SHOWN_S, DRAWN_S = 4.0, 0.1
"""Seconds of a trace, and in which one drawing is made."""


class _Seen(SyntheticSource):
    """A source whose last samples of the middle channel are kept to be drawn."""

    def __init__(self, step: StepGraph, *, seconds: float | None, paced: bool = True) -> None:
        super().__init__(step, seconds=seconds, paced=paced)
        self.last: deque[float] = deque(np.zeros(round(SHOWN_S * self.about.sfreq)), round(SHOWN_S * self.about.sfreq))
        self.row = self.about.n_chans // 2

    def chunks(self) -> Iterator[Chunk]:
        """Give what is made, and keep a channel of it."""
        for chunk in super().chunks():
            self.last.extend(chunk.x[self.row].tolist())
            yield chunk


def watch_live(
    output: str | Path,
    *,
    show: Callable[[list[str]], None],
    width: int = 72,
    levels: str = BLOCKS,
    seconds: float | None = None,
    paced: bool = True,
    every_s: float = DRAWN_S,
) -> dict[str, Any]:
    """Run the demo's graph on made-up EEG until the seconds are over, or Ctrl-C; return what the loop did.

    Parameters
    ----------
    output : path
        Folder of a demo.
    show : callable
        Called with the lines of the picture: at the first answer in every `every_s` seconds, and at the last one.
    width : int
        Columns of a trace.
    levels : str
        Signs of a trace, from low to high.
    seconds : float, optional
        How long; for ever by default.
    paced : bool
        Whether samples come when they are due.
    every_s : float
        Seconds of samples in which one picture is shown.

    Raises
    ------
    InputError
        Where no demo was run in the folder.
    """
    folder = Folder(root=Path(output))
    path = folder.fused(VIEWED)
    if not path.exists():
        raise InputError(f"{output} holds no demo yet", hint="rtserve demo, or rtserve demo --quick; then --live")
    step = _step_of_demo(folder, path)
    source, answers = _Seen(step, seconds=seconds, paced=paced), deque([float("nan")] * width, width)
    runner, period, last, drawn = StepRunner(step), -1.0, 0.0, 0.0
    about = f"{path.name} on {source.about.name} EEG at {source.about.sfreq:g} Hz, an answer every {HOP} samples"

    def told(end: float, y: np.ndarray) -> None:
        nonlocal period, last
        answers.append(float(y[0]))
        last = end
        if end // every_s > period:
            period = end // every_s
            draw()

    def draw() -> None:
        nonlocal drawn
        drawn = last
        show(_lines(about, source, answers, last, width, levels))

    lap = run_loop(runner, source, fitting_for(step, source.about), told=[told])
    if last > drawn:
        draw()
    return {"answers": lap.answers, "steps": lap.steps, "late": lap.misses, "latency_us": lap.step_us.to_dict(),
            "answer_us": lap.answer_us.to_dict(), "lines": [about, *_times(lap)]}  # fmt: skip


def _step_of_demo(folder: Folder, path: Path) -> StepGraph:
    """Return the step of the demo's graph, made once."""
    graph, kept = Graph.load(path), folder.fused(f"{VIEWED}_step{HOP}")
    if kept.exists():
        step = StepGraph.load(kept)
        if step.provenance.details.get("window") == graph.digest:
            return step
    step, _ = stream(graph, hop=HOP)
    step.save(kept, force=True)
    return step


def _lines(about: str, source: _Seen, answers: Sequence[float], end: float, width: int, levels: str) -> list[str]:
    """Return the picture: a channel's last seconds, the last answers, and the last one as a number."""
    samples = np.array(source.last)
    wave = samples[np.linspace(0, len(samples) - 1, width).astype(int)]
    return [
        about,
        f"{source.about.ch_names[source.row]:>6} {spark(wave, levels, low=-40, high=40)}  {SHOWN_S:g} s",
        f"answer {spark(np.array(answers), levels)}  {answers[-1]:.3f}",
        f"{end:9.2f} s",
    ]


def _times(lap: Lap) -> list[str]:
    us = lap.step_us.to_dict()
    if not us:
        return []
    return [f"{lap.answers} answers; a step p50 {us['p50']:.0f} us, p99 {us['p99']:.0f} us; {lap.misses} late"]


def spark(values: np.ndarray, levels: str, *, low: float | None = None, high: float | None = None) -> str:
    """Return values (n,) as signs of a height each; a space for what is no number.

    Parameters
    ----------
    values : ndarray, (n,)
        What is drawn.
    levels : str
        Signs from low to high.
    low, high : float, optional
        Ends of the scale; by default the values' own.
    """
    whole = values[np.isfinite(values)]
    if not len(whole):
        return " " * len(values)
    bottom, top = whole.min() if low is None else low, whole.max() if high is None else high
    place = (values - bottom) / max(top - bottom, 1e-12) * (len(levels) - 1)
    at = np.clip(np.rint(np.nan_to_num(place)), 0, len(levels) - 1).astype(int)
    return "".join(np.where(np.isfinite(place), np.array(list(levels))[at], " ").tolist())
