"""`detector_settings`: what a network's specs and a contest's profile say, as the detector in the container reads it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rtserve.errors import InputError, SpecMismatchError
from rtserve.submission.container_parts import Container, Events
from rtserve.submission.detector.montage import AVERAGE, difference
from rtserve.submission.tables import from_table

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph
    from rtserve.spec import InputSpec

__all__ = ["detector_settings", "events_for", "hop_of"]

_BAND = ("highpass_hz", "lowpass_hz")


def events_for(container: Container, given: Mapping[str, Any], where: str) -> Events:
    """Return how answers become events: as the profile says, but for what a recipe gives.

    Raises
    ------
    ProfileError
        Where a key is unknown, or a value cannot be meant.
    """
    known = {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(container.events).items()}
    events = from_table(Events, {**known, **given}, where)
    events.require_sensible(where)
    return events


def hop_of(events: Events, spec: InputSpec) -> int:
    """Return the samples from one window to the next.

    Raises
    ------
    InputError
        Where they are no whole number, or more than a window has.
    """
    hop = round(events.hop_s * spec.sfreq)
    if hop < 1 or abs(hop - events.hop_s * spec.sfreq) > 1e-6 * hop or hop > spec.n_times:
        raise InputError(
            f"hop_s = {events.hop_s:g} s is {events.hop_s * spec.sfreq:g} samples at {spec.sfreq:g} Hz, a window has"
            f" {spec.n_times}",
            hint="give a hop of whole samples, no longer than a window",
        )
    return hop


def detector_settings(graph: Graph, container: Container, events: Events, *, network: str) -> dict[str, Any]:
    """Return what ``model/detector.json`` holds.

    Parameters
    ----------
    graph : Graph
        Of a window; unit and rate stated.
    container, events : Container, Events
        The contest's, and what becomes of answers.
    network : str
        Name of the file with the network.

    Raises
    ------
    InputError, SpecMismatchError
        Where the graph's channels, unit, filter or outputs cannot be had from a recording of this contest.
    """
    spec, recordings = graph.input_spec, container.recordings
    names = {
        "electrodes": list(recordings.electrodes),
        "aliases": {name: list(others) for name, others in recordings.aliases.items()},
        "prefixes": list(recordings.prefixes),
        "averages": list(recordings.averages),
    }
    table = container.table
    return {
        "network": network,
        "n_times": spec.n_times,
        "hop": hop_of(events, spec),
        "samples": {
            "channels": _channels(spec, container, names),
            "unit": _unit(spec),
            "sfreq": spec.sfreq,
            "taps": _taps(spec),
            "names": names,
            "fill": recordings.fill,
            "file_unit": recordings.unit,
        },
        "score": _score(graph, events),
        "events": {"threshold": events.threshold, "merge_s": events.merge_s, "min_s": events.min_s},
        "table": {
            "columns": dict(table.columns),
            "separator": table.separator,
            "event": table.event,
            "background": table.background,
            "no_date": table.no_date,
        },
    }


def _channels(spec: InputSpec, container: Container, names: Mapping[str, Any]) -> list[str]:
    """Return the network's channels by name; the contest's own where it names none and has as many."""
    recordings = container.recordings
    if not spec.ch_names:
        if spec.n_chans != len(recordings.electrodes):
            raise SpecMismatchError(
                f"the graph takes {spec.n_chans} channels and names none of them, the contest has"
                f" {len(recordings.electrodes)}",
                hint="write their names into the graph: rtserve annotate, or rtserve export with ch_names",
            )
        return [f"{name}-{recordings.reference}" if recordings.reference else name for name in recordings.electrodes]
    strange = [name for name in spec.ch_names if difference(name, names, reference=AVERAGE) is None]
    if strange:
        raise SpecMismatchError(
            f"the graph takes {', '.join(strange[:5])}, which {'are' if len(strange) > 1 else 'is'} no electrode of this"
            " contest",
            hint=f"its recordings have {', '.join(recordings.electrodes)}",
        )
    return list(spec.ch_names)


def _unit(spec: InputSpec) -> str:
    if spec.unit in (None, "1"):
        what = "standardised (unit 1) by factors that it does not hold" if spec.unit else "in a unit it does not state"
        raise InputError(
            f"the graph's windows are {what}: samples of a recording cannot be brought to it",
            hint="put the factors into the graph, and state the unit with --unit V, mV or uV",
        )
    return str(spec.unit)


def _taps(spec: InputSpec) -> list[float]:
    """Return the filter that the graph's windows had, symmetric, at its rate; as `rtserve prepare` filters."""
    steps = dict(spec.preprocessing)
    if steps.pop("reference", "average") != "average" or set(steps) - set(_BAND):
        said = ", ".join(f"{key} {value}" for key, value in spec.preprocessing)
        raise SpecMismatchError(
            f"the graph's windows had {said}; the detector filters to a band and refers to the average, no more",
            hint="use a network of windows that had no more than that",
        )
    low, high = (float(steps[key]) if steps.get(key) else None for key in _BAND)
    if low is None and high is None:
        return []
    import mne

    taps = mne.filter.create_filter(None, spec.sfreq, low, high, verbose="error")
    return [float(tap) for tap in taps]


def _score(graph: Graph, events: Events) -> dict[str, Any]:
    """Return which number of an answer is an event's, and what numbers they are."""
    from rtserve.graphs.heads import form_of

    said = graph.output_spec
    form = said.form or form_of(graph) or "logits"
    if not said.classes:
        if said.n_outputs > 1:
            raise InputError(
                f"the graph gives {said.n_outputs} numbers a window and names no classes: which is an event's?",
                hint="name them in their order: rtserve annotate GRAPH --classes bckg,sz",
            )
        return {"output": 0, "form": form, "other": False}
    place = _place(said.classes, events.classes)
    lone = said.n_outputs == 1
    return {"output": 0 if lone else place, "form": form, "other": lone and place == 0}


def _place(classes: Sequence[str], wanted: Sequence[str]) -> int:
    folded = [name.casefold() for name in classes]
    for name in wanted:
        if name.casefold() in folded:
            return folded.index(name.casefold())
    raise InputError(
        f"the graph has the classes {', '.join(classes)}, an event is one of {', '.join(wanted) or 'none'}",
        hint='say which it is in the recipe: events = { classes = ["NAME"] }',
    )
