"""What ``rtserve prepare`` does between reading its arguments and printing."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rtserve.errors import InputError
from rtserve.signals import options
from rtserve.signals.bids import Recording, find_recordings, without_left_out
from rtserve.signals.cached import CacheAsked, prepare_cache, require_recordings
from rtserve.signals.caches import is_cache
from rtserve.signals.chosen import EventChoice
from rtserve.signals.cutting import Cutting
from rtserve.signals.electrodes import CHANNELS
from rtserve.signals.events import HBN_EVENTS, EventRule
from rtserve.signals.participants import Values, read_participants
from rtserve.signals.patterns import listed
from rtserve.signals.prepare import Prepared, Progress, prepare
from rtserve.signals.recordings import Cleaning
from rtserve.signals.wanted import Wanted, natural, parse_wanted

__all__ = ["run_prepare"]


def run_prepare(
    sources: Sequence[str],
    output: Path,
    *,
    target: str,
    classes: str | None,
    stimulus: str | None,
    response: str | None,
    trial_start: str | None,
    trial_end: str | None,
    event_column: str,
    stim_channel: str,
    trigger_mask: int | None,
    window: str,
    fixed: str | None,
    crop: float | None,
    sfreq: float,
    band: str | None,
    drop: str | None,
    channels: str,
    missing: str,
    bads: str,
    bad_segments: str,
    left_out: str,
    reference: str,
    unit: str | None,
    max_uv: float,
    task: str,
    subject: str,
    jobs: int,
    keep_going: bool,
    resume: bool,
    force: bool,
    progress: Progress | None = None,
    given: Sequence[str] | None = None,
) -> Prepared:
    """Prepare windows as the command line says; see `rtserve.signals.prepare.prepare` for what can go wrong.

    `given` are the names of the options that the user chose; None for all.
    """
    options.require_rate(sfreq)
    options.require_size(max_uv, "max-uv", example="500")
    start, stop = options.window(window, sfreq)
    low, high = options.band(band or "0.5,50")
    names, without = options.channel_names(channels, drop, contest=CHANNELS)
    options.require_window_name(output)
    options.require_names(stimulus=stimulus, response=response, **{"trial-start": trial_start, "trial-end": trial_end})
    if trigger_mask is not None and trigger_mask <= 0:
        raise InputError(f"--trigger-mask {trigger_mask} lets no bit count", hint="for example --trigger-mask 0xFF")
    if len(sources) == 1 and is_cache(Path(sources[0])):
        about = CacheAsked(unit=unit, sfreq=sfreq, window=(start, stop), target=target, given=given)
        return prepare_cache(Path(sources[0]), output, about, force=force)
    require_recordings(sources, unit)
    if task and not any(Path(source).is_dir() or source.startswith("eegdash:") for source in sources):
        raise InputError(f"--task {task} is for BIDS folders, and every source is a file", hint="leave it out")
    recordings = find_recordings(sources, task=task, subject=subject)
    wanted = parse_wanted(target, classes=classes)
    said = {one.name: _people(recordings.items, one) for one in wanted if not one.of_event}
    items, counted = (recordings.items, Counter[str]()) if left_out == "keep" else without_left_out(recordings.items)
    cutting = _cutting(wanted, start, stop, fixed, crop, (stimulus, response, trial_start, trial_end))
    return prepare(
        items,
        output,
        cleaning=Cleaning(
            drop=without,
            channels=names,
            interpolate=missing == "interpolate",
            bads=bads,
            unit=unit or "",
            low=low or None,
            high=high or None,
            filter_again=band is not None,
            sfreq=sfreq or None,
            reference="" if reference == "none" else reference,
            column=event_column,
            stim_channel=stim_channel,
            mask=trigger_mask,
            contest=stimulus is None and cutting.choice is None,
        ),
        cutting=dataclasses.replace(cutting, max_uv=max_uv, keep_bad=bad_segments == "keep"),
        counted=counted,
        wanted=wanted,
        people={name: values.by_subject for name, values in said.items()},
        notes=list(dict.fromkeys([*recordings.notes, *(note for values in said.values() for note in values.notes)])),
        n_jobs=jobs,
        keep_going=keep_going,
        resume=resume,
        force=force,
        progress=progress,
    )


def _rule(stimulus: str | None, response: str | None, trial_start: str | None, trial_end: str | None) -> EventRule:
    if stimulus is None and response is None and trial_start is None:
        if trial_end is None:
            return HBN_EVENTS
        return dataclasses.replace(HBN_EVENTS, trial_end=tuple(listed("" if trial_end == "none" else trial_end)))
    if not stimulus or not response:
        raise InputError(
            f"stimulus {stimulus!r} and response {response!r} go together", hint="--stimulus square --response rt"
        )
    return EventRule(
        stimulus=tuple(listed(stimulus)),
        response=tuple(listed(response)),
        trial_start=tuple(listed(trial_start)),
        trial_end=tuple(listed("" if trial_end == "none" else trial_end)),
    )


def _cutting(
    wanted: Sequence[Wanted],
    start: float,
    stop: float,
    fixed: str | None,
    crop: float | None,
    events: tuple[str | None, str | None, str | None, str | None],
) -> Cutting:
    """Return where windows lie: around answered stimuli for response times, around events for what is an event's.

    A person's target alone has fixed windows, 4 s every 2 s, of which 2 s are kept, or those around ``--stimulus``.
    """
    of_events = tuple(one for one in wanted if one.of_event)
    timed = any(one.kind == "response_time" for one in wanted)
    if (timed or of_events or events[0]) and (fixed is not None or crop is not None):
        raise InputError("windows are around events, not at fixed steps", hint="leave --fixed and --crop out")
    if timed:
        return Cutting(rule=_rule(*events), wanted=of_events, start=start, stop=stop)
    if any(events[1:]):
        given = next(name for name in events[1:] if name)
        raise InputError(
            f"event {given} ends or begins a trial, and {', '.join(one.name for one in wanted)} needs none",
            hint="--stimulus names the events; --target response_time,... takes trials",
        )
    if of_events or events[0]:
        return Cutting(
            rule=None, choice=EventChoice(names=tuple(listed(events[0]))), wanted=of_events, start=start, stop=stop
        )
    length, every = options.pair(fixed or "4,2", "fixed", "4,2")
    piece = 2.0 if crop is None else crop
    if not every > 0 or not 0 <= piece <= length:
        raise InputError(
            f"--fixed {length:g},{every:g} --crop {piece:g}: windows of {length:g} s every {every:g} s cut to {piece:g} s",
            hint="--fixed 4,2 --crop 2",
        )
    return Cutting(rule=None, start=0.0, stop=length, every=every, crop=piece)


def _people(recordings: Sequence[Recording], one: Wanted) -> Values:
    """Return a target of every subject that has one, from its own data set's participants.tsv; classes by name."""
    lost = [r.path for r in recordings if r.root is None]
    if lost:
        raise InputError(
            f"target {one.name!r} is a subject's, and comes from a BIDS folder's participants.tsv; {lost[0]} is in none",
            hint="name the folder; of events there are response_time, class, events:COLUMN and number",
        )
    asked = [(r.subject, r.root, r.bare) for r in recordings if r.root is not None]
    meant = one.classes.means if one.classes is not None else None
    read = read_participants(asked, one.detail, categorical=one.classes is not None, meant=meant)
    found = read.by_subject
    if not found:
        raise InputError(f"no subject has a value of {one.detail}", hint="see participants.tsv; n/a is no value")
    if one.classes is None:
        return read
    named = {subject: one.classes.name_of(str(value)) for subject, value in found.items()}
    if not any(named.values()):
        there = ", ".join(natural(sorted({str(value) for value in found.values()}))[:10])
        raise InputError(
            f"no subject's {one.detail} is of the classes {', '.join(one.classes.keys)}",
            hint=f"participants.tsv has {there}; name those with --classes",
        )
    return dataclasses.replace(read, by_subject={s: name for s, name in named.items() if name is not None})
