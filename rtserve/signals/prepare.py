"""Prepare: recordings to one window set, part by part, so that memory is bounded and an interrupted run goes on.

Each recording becomes a part beside the output (``OUTPUT.parts/``); when all are there they are joined and removed.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError, RtserveError
from rtserve.files import check_writable, replacing, write_bytes
from rtserve.processes import in_processes
from rtserve.signals.bids import Recording
from rtserve.signals.cutting import Cut, Cutting, cut_windows
from rtserve.signals.fields import CLASSES, TARGET_PREFIX
from rtserve.signals.notes import Notes
from rtserve.signals.numbering import Numbered, notes_on, number_target
from rtserve.signals.options import require_window_name
from rtserve.signals.parts import claimed, clear, facts_of, settle, sources_of
from rtserve.signals.recordings import Cleaning, Signal, open_recording
from rtserve.signals.streams import Part, join_parts
from rtserve.signals.subjects import GUESSED
from rtserve.signals.wanted import Wanted

__all__ = ["Prepared", "prepare"]

Progress = Callable[[int, int], None]
_VALUE = "value."


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What became of the recordings.

    Parameters
    ----------
    path : Path
        The window set.
    n_windows, n_recordings, n_subjects : int
        In it.
    dropped : Counter
        Trials left out, by reason, over all recordings.
    failed : dict of str to str
        Recording to why nothing came of it; only with ``keep_going``.
    notes : tuple of str
        What was assumed and done, and what MNE warned of: each kind once with how often.
    reused : int
        Parts that an earlier run had made.
    targets : tuple of dict
        Of each target its name and how its values lie: mean and standard deviation, or how many windows of each class.
    """

    path: Path
    n_windows: int
    n_recordings: int
    n_subjects: int
    dropped: Counter[str] = field(default_factory=Counter)
    failed: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    reused: int = 0
    targets: tuple[dict[str, Any], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return dataclasses.asdict(self) | {"path": str(self.path), "dropped": dict(self.dropped)}

    def lines(self) -> list[str]:
        """Return what a person reads."""
        out = [
            f"{self.n_windows} windows from {self.n_recordings} recordings of {self.n_subjects} subjects,"
            f" {_said_of(self.targets[0])}"
        ]
        out += [f"  and {_said_of(target)}" for target in self.targets[1:]]
        out += [f"  dropped: {n} {reason}" for reason, n in sorted(self.dropped.items())]
        out += [f"  failed: {name}: {reason}" for name, reason in self.failed.items()]
        out += [f"  note: {note}" for note in self.notes]
        return out + ([f"  reused {self.reused} recordings of an earlier run"] if self.reused else [])


def _said_of(target: dict[str, Any]) -> str:
    """Return a target's distribution in words."""
    if "classes" not in target:
        return f"{target['name'] or 'target'} {target['mean']:.4g} +- {target['sd']:.4g}"
    total = sum(target["classes"].values())
    return f"{target['name']}: " + ", ".join(f"{n} {name} ({n / total:.0%})" for name, n in target["classes"].items())


@dataclass(frozen=True, kw_only=True)
class _Job:
    recording: Recording
    cleaning: Cleaning
    cutting: Cutting
    part: Path

    @property
    def about(self) -> Path:
        """What is in the part; written last, so that a part with it is whole."""
        return self.part.with_suffix(".json")

    def facts(self) -> dict[str, Any]:
        """Read `about`."""
        facts: dict[str, Any] = json.loads(self.about.read_text("utf-8"))
        return facts

    def drop_if_stale(self) -> None:
        """Forget a part that is not whole, or that was made from a recording or a table that is another by now."""
        facts = facts_of(self.about, self.part)
        if facts is None or facts["sources"] != sources_of(self.recording.path):
            self.about.unlink(missing_ok=True)


def prepare(
    recordings: Sequence[Recording],
    output: str | Path,
    *,
    cleaning: Cleaning,
    cutting: Cutting,
    wanted: Sequence[Wanted],
    people: Mapping[str, Mapping[str, float | str]] | None = None,
    notes: Sequence[str] = (),
    n_jobs: int = 1,
    keep_going: bool = False,
    resume: bool = False,
    force: bool = False,
    progress: Progress | None = None,
    counted: Counter[str] | None = None,
) -> Prepared:
    """Cut windows from recordings into one window set.

    Parameters
    ----------
    recordings : sequence of Recording
        From `rtserve.signals.bids.find_recordings`.
    output : path
        .npz or .h5.
    cleaning, cutting : Cleaning, Cutting
        What is done to each.
    wanted : sequence of Wanted
        Targets; the first is y.
    people : mapping, optional
        Of each target of a person: subject to value; subjects without one are counted and left out.
    notes : sequence of str
        What is worth saying of the recordings.
    n_jobs : int
        Recordings at a time.
    keep_going : bool
        Go on past a recording that fails, and report it.
    resume : bool
        Use the parts of an interrupted run with the same settings.
    force : bool
        Replace an existing output.
    progress : callable, optional
        Called with (recordings done, recordings in all).
    counted : Counter, optional
        What was left out before, by reason; it is reported with the rest.

    Raises
    ------
    InputError
        Where a recording is wrong (unless `keep_going`), none gives a window, or an interrupted run is in the way.
    """
    require_window_name(Path(output))
    output = check_writable(output, force=force)
    folder = output.with_name(output.name + ".parts")
    people = people or {}
    jobs, without = _jobs(recordings, cleaning, cutting, people, folder)
    settings = [dataclasses.asdict(cleaning), dataclasses.asdict(cutting)]
    with claimed(folder, settings, resume=resume, force=force):
        for job in jobs:
            job.drop_if_stale()
        reused = sum(job.about.exists() for job in jobs)
        try:
            counts, failed, said = _run_all(jobs, n_jobs, keep_going, progress)
        except BaseException:
            if not any(job.about.exists() for job in jobs):
                clear(folder)
            raise
        done = [job for job in jobs if job.about.exists()]
        if not done:
            reasons = "; ".join(list(failed.values())[:3]) or "no subject has a target"
            clear(folder)
            raise InputError(
                f"none of {len(recordings)} recordings gave a window: {reasons}", hint="see the first reason"
            )
        done = _different(done, keep_going, failed)
        _require_same_channels(done)
        known = [key for key in ("dataset", "session") if any(getattr(job.recording, key) for job in done)]
        targets = [number_target(one, [_given(job, one, people) for job in done], counts) for one in wanted]
        parts = [_part(job, ("subject", "run_id", *known), i, targets) for i, job in enumerate(done)]
        total = join_parts(parts, output, _constants(done, cutting, targets), force=force)
        subjects, overlaps = [job.recording.subject for job in done], [job.facts()["overlap"] for job in done]
        more = notes_on(targets, subjects, overlaps)
        counts += (counted or Counter()) + without
        clear(folder)
        return Prepared(
            path=output,
            n_windows=total,
            n_recordings=len(done),
            n_subjects=len(set(subjects)),
            dropped=counts,
            failed=failed,
            reused=reused,
            notes=(*notes, *said.lines(), *more),
            targets=tuple(target.to_dict() for target in targets),
        )


def _jobs(
    recordings: Sequence[Recording],
    cleaning: Cleaning,
    cutting: Cutting,
    people: Mapping[str, Mapping[str, float | str]],
    folder: Path,
) -> tuple[list[_Job], Counter[str]]:
    if not recordings:
        raise InputError("there is no recording", hint="name recordings or a BIDS folder")
    lacks = [next((name for name, values in people.items() if r.subject not in values), None) for r in recordings]
    kept = [r for r, lack in zip(recordings, lacks, strict=True) if lack is None]
    jobs = [
        _Job(
            recording=r,
            cleaning=cleaning,
            cutting=cutting,
            part=folder / f"{hashlib.sha256(os.fsencode(r.path)).hexdigest()[:24]}.npz",
        )
        for r in kept
    ]
    return jobs, Counter(f"recordings of subjects without {name}" for name in lacks if name is not None)


def _run_all(
    jobs: list[_Job], n_jobs: int, keep_going: bool, progress: Progress | None
) -> tuple[Counter[str], dict[str, str], Notes]:
    counts, failed, notes = Counter[str](), dict[str, str](), Notes()
    for done, (job, error) in enumerate(_outcomes(jobs, n_jobs), start=1):
        if error and not keep_going:
            raise InputError(error[0], hint=error[1])
        if error:
            failed[str(job.recording.path)] = error[0]
        else:
            counts += Counter(job.facts()["dropped"])
            notes.merge(Notes(job.facts()["notes"]))
        if progress:
            progress(done, len(jobs))
    return counts, failed, notes


_Outcome = tuple[_Job, tuple[str, str] | None]


def _outcomes(jobs: list[_Job], n_jobs: int) -> Iterator[_Outcome]:
    if n_jobs == 1:
        yield from (_one(job) for job in jobs)
        return
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    try:
        yield from in_processes(_one, [(job,) for job in jobs], n_jobs=n_jobs)
    except TerminatedWorkerError:
        raise RtserveError(
            f"a process that prepared one of {len(jobs)} recordings was ended from outside, perhaps for want of memory",
            hint="--resume goes on with what is done; fewer --jobs take less memory, one says which recording it is",
        ) from None


def _one(job: _Job) -> _Outcome:
    """Make one part; return why there is none where there is none."""
    if job.about.exists():
        return job, None
    try:
        sources = sources_of(job.recording.path)
        signal = open_recording(job.recording.path, job.cleaning)
        cut = cut_windows(signal, job.cutting)
    except RtserveError as error:
        return job, (error.message, error.hint)
    except Exception as error:
        # Readers of formats raise what they like; one strange file must not end a run over many.
        said = " ".join(str(error).split())[:300]
        return job, (
            f"{job.recording.path} cannot be prepared: {type(error).__name__}: {said}",
            "is the file whole, and does mne.io.read_raw read it?",
        )
    _write_part(job, signal, cut, sources)
    return job, None


def _write_part(job: _Job, signal: Signal, cut: Cut, sources: dict[str, list[int]]) -> None:
    arrays: dict[str, Any] = {"X": cut.X, "onset_s": cut.onset_s}
    if job.cutting.around_events:
        arrays["event"] = cut.event
    values: dict[str, Any] = {f"{_VALUE}{name}": given for name, given in cut.values.items()}
    with replacing(job.part, force=True) as temporary, open(temporary, "wb") as handle:
        np.savez(handle, **arrays, **values)
        settle(handle)
    facts = {
        "bytes": job.part.stat().st_size,
        "sources": sources,
        "arrays": {name: (array.shape, array.dtype.str) for name, array in arrays.items()},
        "dropped": dict(cut.dropped),
        "notes": signal.notes.to_dict(),
        "ch_names": signal.ch_names,
        "sfreq": signal.clock.rate,
        "overlap": cut.overlap,
        "samples": _digest(signal.data),
    }
    write_bytes(job.about, json.dumps(facts).encode(), force=True)


def _digest(data: np.ndarray) -> str:
    """Return what tells a recording's samples from others'; nothing where they are all alike."""
    if data.min() == data.max():
        return ""
    return hashlib.blake2b(np.ascontiguousarray(data).data.cast("B"), digest_size=16).hexdigest()


def _different(jobs: list[_Job], keep_going: bool, failed: dict[str, str]) -> list[_Job]:
    """Return the recordings that are no other's copy; a copy is an error, or reported with `keep_going`."""
    seen: dict[str, _Job] = {}
    kept = []
    for job in jobs:
        samples = job.facts()["samples"]
        first = seen.setdefault(samples, job) if samples else job
        if first is not job:
            why = (
                f"{job.recording.path} and {first.recording.path} hold the same samples: one recording under two names"
            )
            if not keep_going:
                raise InputError(why, hint="leave one of them out; a copied .vhdr still names the samples of the first")
            failed[str(job.recording.path)] = why
        else:
            kept.append(job)
    return kept


def _given(job: _Job, one: Wanted, people: Mapping[str, Mapping[str, float | str]]) -> np.ndarray:
    """Return what a part's windows have of a target (n_windows,): of their events, or of their person."""
    if one.of_event:
        with np.load(job.part, allow_pickle=False) as archive:
            return np.asarray(archive[_VALUE + one.name])
    return np.full(job.facts()["arrays"]["X"][0][0], people[one.name][job.recording.subject])


def _part(job: _Job, names: Sequence[str], place: int, targets: Sequence[Numbered]) -> Part:
    """Return the part with the names that windows get now: what a resumed run calls them may differ."""
    arrays = {name: (tuple(shape), dtype) for name, (shape, dtype) in job.facts()["arrays"].items()}
    n = arrays["X"][0][0]
    added = {name: np.full(n, getattr(job.recording, name)) for name in names}
    added |= {"y" if t is targets[0] else TARGET_PREFIX + t.name: t.values[place] for t in targets}
    return Part(path=job.part, arrays=arrays, added=added)


def _require_same_channels(jobs: list[_Job]) -> None:
    """Refuse to mix recordings whose channels or rates differ."""
    first, rate = jobs[0].facts()["ch_names"], jobs[0].facts()["sfreq"]
    for job in jobs[1:]:
        names, own = job.facts()["ch_names"], job.facts()["sfreq"]
        if own != rate or names != first:
            odd = sorted(set(first) ^ set(names))
            what = (
                f"{own:g} Hz against {rate:g}"
                if own != rate
                else f"channels differ in {', '.join(odd[:8]) or 'their order'}"
            )
            raise InputError(
                f"{job.recording.path} and {jobs[0].recording.path} do not go together: {what}",
                hint="name the channels to have with --channels, and the rate with --sfreq",
            )


def _constants(jobs: list[_Job], cutting: Cutting, targets: Sequence[Numbered]) -> dict[str, Any]:
    facts, sources = jobs[0].facts(), {job.recording.source for job in jobs}
    rate = float(facts["sfreq"])
    return {
        "ch_names": np.array(facts["ch_names"], "U"),
        "sfreq": np.float64(rate),
        # One guess makes all of them one: a split by subject is as good as its worst label.
        "subject_source": np.array(GUESSED if GUESSED in sources else "+".join(sorted(sources))),
        "t0": np.float64(round(cutting.start * rate) / rate if cutting.around_events else 0.0),
        "unit": np.array("V"),
        "target": np.array(targets[0].name),
        **{f"{CLASSES}.{t.name}": np.array(t.classes) for t in targets[1:] if t.classes},
        **({CLASSES: np.array(targets[0].classes)} if targets[0].classes else {}),
        **{f"codes.{t.name}": np.array(t.codes) for t in targets if t.codes},
    }
