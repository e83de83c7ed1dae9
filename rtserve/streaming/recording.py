"""A recording through a step graph: channels, unit and rate brought to the graph's, each stretch a stream of its own.

Nothing is made up: where the rate differs, a channel lacks, a unit is not known, or the graph's windows were filtered and
the recording was not, the run is refused with the reason. A gap ends a stream: the next answer is about samples behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import InputError, SpecMismatchError
from rtserve.signals.recordings import Cleaning, Signal, open_recording
from rtserve.spec import UNITS, InputSpec

if TYPE_CHECKING:
    from rtserve.streaming.runner import StepRunner
    from rtserve.streaming.step_graph import StepGraph
    from rtserve.streaming.verify import VerifiedRunner

__all__ = ["Run", "open_for", "require_rate", "run_through", "volts_to"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """The answers to a recording.

    Parameters
    ----------
    end_s : ndarray, (n,)
        Where the window of each answer ends, in s from the recording's first sample.
    answers : ndarray, (n, n_outputs)
        In order.
    latency_us : ndarray, (steps,)
        What each step took, those without an answer too.
    streams, left : int
        Stretches without a gap, and samples at their ends that make no whole hop.
    """

    end_s: np.ndarray
    answers: np.ndarray
    latency_us: np.ndarray
    streams: int
    left: int


def open_for(
    step: StepGraph,
    path: Path,
    *,
    unit: str = "",
    filtered: bool = False,
    band: tuple[float, float] | None = None,
    resampled: bool = False,
) -> tuple[Signal, float]:
    """Return a recording with the step's channels, and the factor that brings its volts to the step's unit.

    Parameters
    ----------
    step : StepGraph
        What will read it.
    path : Path
        Any recording that MNE reads.
    unit : str
        Unit of the graph's windows where it does not say it.
    filtered : bool
        Whether the recording had what the graph says was done to its windows.
    band : tuple of float, optional
        Filter it to this band in Hz, 0 for an open end, as a whole and without delay: as `rtserve prepare` does.
    resampled : bool
        Whether it is brought to the graph's rate where it has another; else it is refused.

    Raises
    ------
    InputError
        Where it cannot be read, or the graph does not say what its windows are.
    SpecMismatchError
        Where it does not fit the graph.
    """
    spec = step.input_spec
    factor = volts_to(spec, unit, path.name)
    if spec.preprocessing and not filtered and band is None:
        steps = ", ".join(f"{key} {value}" for key, value in spec.preprocessing)
        raise SpecMismatchError(
            f"the graph's windows had {steps}, and nothing is filtered here: {path.name} as it is would be something else",
            hint="give a recording that had the same (from its start on, not window by window), and say --filtered",
        )
    low, high = (end or None for end in band) if band else (None, None)
    rate = spec.sfreq if resampled and spec.sfreq else None
    signal = open_recording(path, Cleaning(channels=spec.ch_names, low=low, high=high, sfreq=rate))
    if len(signal.ch_names) != spec.n_chans:
        raise SpecMismatchError(
            f"{path.name} has {len(signal.ch_names)} EEG channels, the graph takes {spec.n_chans} and names none of them",
            hint="write their names into the graph: rtserve export with ch_names",
        )
    require_rate(signal.clock.rate, step, path.name, hint="resample the recording first, as the graph's windows were")
    return signal, factor


def volts_to(spec: InputSpec, unit: str, name: str) -> float:
    """Return what volts are multiplied with to be in a graph's unit.

    Raises
    ------
    InputError
        Where the unit is not known, or none that volts can be brought to.
    """
    said = spec.unit or unit
    if not said or said == "1":
        what = "standardised by factors that it does not hold" if said else "in a unit that it does not say"
        raise InputError(
            f"the graph's windows are {what}: volts of {name} cannot be brought to it",
            hint="say the unit with --unit V, mV or uV; for standardised windows push your own samples in Python",
        )
    return 1.0 / UNITS[said]


def require_rate(rate: float, step: StepGraph, name: str, *, hint: str) -> None:
    """Raise `SpecMismatchError` where a source has another rate than a step's graph."""
    sfreq = step.input_spec.sfreq
    if sfreq and abs(rate - sfreq) > 1e-6 * sfreq:
        raise SpecMismatchError(
            f"{name} has {rate:g} Hz, the graph's windows {sfreq:g} Hz: a step is {step.hop} samples of the graph's",
            hint=hint,
        )


def run_through(
    runner: StepRunner | VerifiedRunner,
    signal: Signal,
    factor: float,
    *,
    told: Callable[[float, np.ndarray], None] | None = None,
) -> Run:
    """Push a recording through a runner, hop after hop; a gap resets it.

    Parameters
    ----------
    runner : StepRunner or VerifiedRunner
        Of one stream.
    signal : Signal
        From `open_for`.
    factor : float
        By which its volts are multiplied.
    told : callable, optional
        Called with the end of the window in s, and each answer.
    """
    hop, clock = runner.step.hop, signal.clock
    ends, answers, latencies, left = [], [], [], 0
    for stretch, (first, length) in enumerate(zip(clock.first, clock.lengths, strict=False)):
        runner.reset()
        start_s = float(clock.stretches[stretch].time)
        for k in range(length // hop):
            at = int(first) + k * hop
            x = np.ascontiguousarray((factor * signal.data[:, at : at + hop])[None], np.float32)
            begun = time.perf_counter_ns()
            y = runner.push(x)
            latencies.append((time.perf_counter_ns() - begun) / 1e3)
            if y is not None:
                ends.append(start_s + (k + 1) * hop / (clock.sfreq * clock.stretches[stretch].pace))
                answers.append(y[0])
                if told is not None:
                    told(ends[-1], y[0])
        left += int(length) % hop
    shape = (0, runner.step.output_spec.n_outputs)
    return Run(
        end_s=np.array(ends), answers=np.array(answers) if answers else np.zeros(shape, np.float32),
        latency_us=np.array(latencies), streams=len(clock.lengths), left=left,
    )  # fmt: skip
