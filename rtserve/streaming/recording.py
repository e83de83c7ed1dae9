"""A recording for a step graph: its channels, unit and rate are the graph's, or it is refused with the reason.

Nothing is made up: where the rate differs, a channel lacks, a unit is not known, or the graph's windows were filtered and
the recording was not, nothing is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rtserve.errors import InputError, SpecMismatchError
from rtserve.signals.recordings import Cleaning, Signal, open_recording
from rtserve.spec import UNITS, InputSpec

if TYPE_CHECKING:
    from rtserve.streaming.step_graph import StepGraph

__all__ = ["open_for", "require_rate", "signal_for", "volts_to"]


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
    unit : str
        Unit of the graph's windows where it does not say it.
    filtered : bool
        Whether the recording had what the graph says was done to its windows.
    step, path, band, resampled
        As `signal_for`.

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
    return signal_for(step, path, band=band, resampled=resampled), factor


def signal_for(
    step: StepGraph, path: Path, *, band: tuple[float, float] | None = None, resampled: bool = False
) -> Signal:
    """Return a recording in volts with the step's channels, whatever was done to the graph's windows.

    Parameters
    ----------
    step : StepGraph
        What will read it.
    path : Path
        Any recording that MNE reads.
    band : tuple of float, optional
        Filter it to this band in Hz, 0 for an open end, as a whole and without delay: as `rtserve prepare` does.
    resampled : bool
        Whether it is brought to the graph's rate where it has another; else it is refused.

    Raises
    ------
    InputError
        Where it cannot be read.
    SpecMismatchError
        Where its channels or its rate are not the graph's.
    """
    spec = step.input_spec
    low, high = (end or None for end in band) if band else (None, None)
    rate = spec.sfreq if resampled and spec.sfreq else None
    signal = open_recording(path, Cleaning(channels=spec.ch_names, low=low, high=high, sfreq=rate))
    if len(signal.ch_names) != spec.n_chans:
        raise SpecMismatchError(
            f"{path.name} has {len(signal.ch_names)} EEG channels, the graph takes {spec.n_chans} and names none of them",
            hint="write their names into the graph: rtserve export with ch_names",
        )
    require_rate(signal.clock.rate, step, path.name, hint="resample the recording first, as the graph's windows were")
    return signal


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
