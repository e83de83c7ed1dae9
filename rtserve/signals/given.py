"""Windows as a person has them in Python, as the one `WindowSet` that everything else takes.

A window set, the path of one, ``(X, y)``, an array or a tensor, MNE's `Epochs`, a braindecode (or any torch) data set.
What they do not say is asked for and never made up: an array has no unit, and a graph that states one is not handed
numbers of an unknown size. MNE says that its epochs are in volts; which number each kind of event is, the graph says by
name where it names its classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError, SpecMismatchError
from rtserve.signals.given_arrays import numbered, read_any
from rtserve.signals.stored import StoredArray, in_memory
from rtserve.signals.windows import Stated, WindowSet, check_arrays, load_windows
from rtserve.spec import InputSpec, OutputSpec, spelled_unit

__all__ = ["AS_THE_GRAPH", "Given", "as_stated", "given_windows"]

AS_THE_GRAPH = "graph"
"""The unit of windows that are as the graph takes them, whatever that is."""
CALLED = "what was given as windows"
_UNKNOWN = OutputSpec()


@dataclass(frozen=True, kw_only=True)
class Given:
    """Windows, and their samples as they were given: to a graph in the same unit these go without a rounding.

    Parameters
    ----------
    windows : WindowSet
        In volts, standardised, or in an unknown unit; y is 0 where none was asked for.
    X : ndarray or StoredArray, (n_windows, n_chans, n_times)
        The samples in `unit`.
    unit : str or None
        As in `rtserve.spec.UNITS`; None where not known.
    """

    windows: WindowSet
    X: np.ndarray | StoredArray
    unit: str | None


def given_windows(
    windows: Any,
    *,
    unit: str | None = None,
    sfreq: float = 0.0,
    target: str = "",
    classes: Sequence[str] = (),
    spec: InputSpec | None = None,
    output: OutputSpec = _UNKNOWN,
    name: str = "the graph",
    need_y: bool = True,
) -> Given:
    """Return windows as a window set.

    Parameters
    ----------
    windows : WindowSet, path, (X, y), array, mne.Epochs or data set
        X (n_windows, n_chans, n_times), y (n_windows,) numbers or names of classes.
    unit : str, optional
        Of the samples: one of `rtserve.spec.UNITS`, or ``"graph"``: as the graph takes it.
    sfreq, target, classes : float, str, sequence of str
        Rate in Hz, what y is, and the names of the classes 0, 1, ..., where the windows do not say it.
    spec, output, name : InputSpec, OutputSpec, str
        Of the graph that they are for, and what messages call it.
    need_y : bool
        Whether targets are needed; without, ``(X, y)`` is refused: y would be ignored.

    Raises
    ------
    InputError
        Where they are something else, hold no usable numbers, or do not state a unit that the graph is particular about.
    SpecMismatchError
        Where they do not fit the graph.
    """
    stated = _stated(unit, sfreq, target, classes, spec)
    if isinstance(windows, WindowSet):
        found = Given(windows=_agreeing(windows, stated), X=windows.X, unit=windows.unit or stated.unit)
    elif isinstance(windows, str | Path):
        loaded = load_windows(windows, stated=stated)
        found = Given(windows=loaded, X=loaded.X, unit=loaded.unit)
    else:
        found = _read(windows, stated, output, need_y=need_y, as_the_graph=unit == AS_THE_GRAPH)
    if spec is not None:
        _require_fit(found, windows, spec, name)
    return found


def as_stated(
    windows: Any, stated: Stated, *, spec: InputSpec | None = None, output: OutputSpec = _UNKNOWN
) -> WindowSet:
    """Return windows with targets as a window set, with what the caller states of them; raises as `given_windows`."""
    return given_windows(
        windows,
        unit=stated.unit,
        sfreq=stated.sfreq,
        target=stated.target,
        classes=stated.classes,
        spec=spec,
        output=output,
    ).windows


def _stated(unit: str | None, sfreq: float, target: str, classes: Sequence[str], spec: InputSpec | None) -> Stated:
    """Return what the caller says, spelled as rtserve does."""
    if unit == AS_THE_GRAPH:
        unit = spec.unit if spec is not None else None
    if unit is not None and not isinstance(unit, str):
        raise InputError(f"unit {unit!r:.40} is no text", hint='for example unit="uV"; unit="1" where standardised')
    try:
        rate = float(sfreq or 0.0)
    except (TypeError, ValueError):
        raise InputError(f"sfreq {sfreq!r:.40} is no number", hint="give the rate in Hz: sfreq=250") from None
    names = classes.split(",") if isinstance(classes, str) else classes
    if not isinstance(names, Iterable):
        raise InputError(f"classes {classes!r:.40} are no names", hint='for example classes=("left", "right")')
    unit = spelled_unit(unit or "") or unit
    return Stated(unit=unit, sfreq=rate, target=target, classes=tuple(str(name).strip() for name in names))


def _agreeing(windows: WindowSet, stated: Stated) -> WindowSet:
    """Return a window set with what it leaves open as stated; what it says itself stands."""
    if stated == Stated():
        return windows
    said = {key: (getattr(windows, key), getattr(stated, key)) for key in ("sfreq", "classes", "unit")}
    for key, (mine, other) in said.items():
        if mine and other and mine != other:
            raise InputError(
                f"the window set says its {key} is {mine}, not {other}",
                hint=f"leave {key}= out" + (": in memory its samples are volts" if mine == "V" else ""),
            )
    windows = windows.with_target(stated.target) if stated.target in windows.targets else windows
    X, unit = in_memory(windows.X, windows.unit or stated.unit) if windows.unit is None else (windows.X, windows.unit)
    return replace(
        windows,
        X=X,
        unit=unit,
        sfreq=windows.sfreq or stated.sfreq,
        classes=windows.classes or stated.classes,
        target=windows.target or stated.target,
    )


def _read(windows: Any, stated: Stated, output: OutputSpec, *, need_y: bool, as_the_graph: bool) -> Given:
    """Return what is neither a window set nor the path of one, read and checked as a file is."""
    arrays = read_any(windows, need_y=need_y)
    claimed = arrays.get("unit")
    if claimed is not None and stated.unit not in (None, str(claimed)):
        raise InputError(
            f"{arrays['called']} is in {claimed}, not {stated.unit}",
            hint="leave unit= out; where their samples were scaled: (epochs.get_data(), y) with unit=",
        )
    if arrays.pop("must_state", False) and stated.unit is None and not as_the_graph:
        raise InputError(
            f"{arrays['called']} does not say the unit of its samples",
            hint='state it: unit="V" as MNE reads recordings, unit="uV" where a step scaled them, unit="1" where'
            ' standardised, unit="graph" where they are as the graph takes them',
        )
    called = str(arrays.pop("called"))
    said = replace(stated, unit=str(claimed) if claimed is not None else stated.unit)
    if need_y:
        numbered(arrays, said.classes or output.classes, called)
    else:
        arrays["y"] = np.zeros(len(arrays["X"]), np.float32)
        said = replace(said, classes=())
        arrays.pop("classes", None)
    X = arrays["X"]
    checked = check_arrays(arrays, Path(called), stated=said)
    return Given(windows=replace(checked, source="", checked=(checked.X, checked.unit)), X=X, unit=said.unit)


def _require_fit(found: Given, given: Any, spec: InputSpec, name: str) -> None:
    """Raise where windows do not fit a graph, or leave out the unit that it states, with the cure as Python says it."""
    windows = found.windows
    if spec.unit and not windows.unit and not (isinstance(given, WindowSet) and windows.source):
        raise InputError(
            f"{windows.source or CALLED} does not say its unit; {name} takes unit {spec.unit}",
            hint=f'state it: unit="{spec.unit}", or whichever of V, mV, uV it is, or unit="1" where standardised;'
            ' unit="graph" says that the samples are as the graph takes them',
        )
    if spec.sfreq and not windows.sfreq and windows.source and not isinstance(given, WindowSet):
        raise InputError(
            f"{windows.source} does not say its sfreq; {name} takes {spec.sfreq:g} Hz",
            hint=f"state it: sfreq={spec.sfreq:g}, or once and for all: rtserve annotate {windows.source} --sfreq ...",
        )
    try:
        windows.require_spec(spec, name=name)
    except SpecMismatchError as error:
        raise SpecMismatchError(error.message, hint=_cure(windows, spec) or error.hint) from None


def _cure(windows: WindowSet, spec: InputSpec) -> str:
    """Return how the channels become the graph's, where both sides name theirs."""
    if not (windows.ch_names and spec.ch_names):
        return ""
    missing = [channel for channel in spec.ch_names if channel not in windows.ch_names]
    if missing:
        return f"of the graph's channels they lack {', '.join(missing[:8])}: keep them, or interpolate them with MNE"
    if windows.ch_names == spec.ch_names:
        return ""
    return "with MNE: epochs.copy().pick(graph.input_spec.ch_names).reorder_channels(graph.input_spec.ch_names)"
