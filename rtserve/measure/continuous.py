"""What a step graph is worth on a whole recording: a window ends at every hop, and its class is its segment's.

The numbers are those of the window's graph on the same windows, which nobody has to cut: 24 hours at a hop of 100 ms are
70 GB of windows.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from rtserve.errors import InputError
from rtserve.files import check_writable
from rtserve.graphs.heads import output_form
from rtserve.measure.decisions import CLASSIFICATION, decide, require_same_scores, to_cases, to_predictions
from rtserve.measure.evaluation import Evaluation, score_cases
from rtserve.measure.predict import require_finite
from rtserve.measure.results import save_result
from rtserve.measure.trained import part_to_score, records_of, untold
from rtserve.signals.bids import Recording, find_recordings
from rtserve.signals.cutting import OPEN, marked_bad
from rtserve.signals.fields import Stated
from rtserve.signals.recordings import Signal
from rtserve.signals.segments import Segments, read_segments
from rtserve.signals.stored import StoredArray
from rtserve.signals.wanted import parse_wanted
from rtserve.signals.windows import WindowSet
from rtserve.spec import Provenance
from rtserve.streaming.recording import open_for
from rtserve.streaming.running import step_of
from rtserve.streaming.step_graph import StepGraph
from rtserve.streaming.whole import answer_starts, stream_answers

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph

__all__ = ["Continuous", "evaluate_continuous"]

ASKED = 2000
"""Windows, evenly over the recording, that are looked up among those that trained the graph."""
_NOTHING = Stated()


@dataclass(frozen=True, kw_only=True)
class Continuous:
    """An evaluation of a whole recording.

    Parameters
    ----------
    evaluation : Evaluation
        Scores of the windows that have a class.
    hop : int
        Samples between two of them.
    answers, steps : int
        Answers in all, those without a class too, and calls of the graph that they took.
    seconds : dict of str to float
        To ``read``, to ``clean`` and for the ``network``.
    length_s : float
        Of the recording's samples.
    dropped : Counter
        Windows without a class, by reason.
    source : str
        Where the classes are from.
    """

    evaluation: Evaluation
    hop: int
    answers: int
    steps: int
    seconds: dict[str, float]
    length_s: float
    dropped: Counter[str]
    source: str

    def lines(self) -> list[str]:
        """Return what a person reads."""
        s, left = self.seconds, ", ".join(f"{n} {why}" for why, n in sorted(self.dropped.items()))
        return [
            *self.evaluation.lines(),
            f"  {self.length_s:.0f} s of samples, {self.answers} answers, one every {self.hop} samples; classes from"
            f" {self.source}" + (f"; not scored: {left}" if left else ""),
            f"  read {s['read']:.1f} s, filtered and resampled {s['clean']:.1f} s, network {s['network']:.1f} s"
            f" ({1e6 * s['network'] / max(self.answers, 1):.1f} us an answer)",
        ]

    def table_lines(self, width: int | None = None) -> list[str]:
        """Return the evaluation's tables."""
        return self.evaluation.table_lines(width)

    def to_dict(self, *, raw: bool = True) -> dict[str, Any]:
        """Return the evaluation as JSON values, with how the recording went under ``continuous``."""
        about = {
            "hop": self.hop, "answers": self.answers, "steps": self.steps, "seconds": self.seconds,
            "length_s": self.length_s, "dropped": dict(self.dropped), "source": self.source,
        }  # fmt: skip
        return self.evaluation.to_dict(raw=raw) | {"continuous": about}

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the evaluation with its raw values as JSON."""
        return save_result(path, "evaluation", self.to_dict(), force=force)


@dataclass(frozen=True, kw_only=True)
class _Recorded(WindowSet):
    """Windows that lie in a recording: known by its samples, by where they begin, and by their classes."""

    samples: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of what tells these windows from others."""
        told = repr((self.samples, self.X.shape, self.subject[:1].tolist())).encode()
        columns = [np.ascontiguousarray(column, "<f8").tobytes() for column in (self.extra["onset_s"], self.y)]
        return hashlib.sha256(told + b"".join(columns)).hexdigest()


class _Overlapping:
    """Rows of a `StoredArray`: windows that are cut from a recording when somebody asks for them."""

    random_access = True

    def __init__(self, data: np.ndarray, starts: np.ndarray, n_times: int) -> None:
        self._data, self._starts = data, starts
        self.shape: tuple[int, ...] = (len(starts), len(data), n_times)

    def read_into(self, start: int, out: np.ndarray) -> None:
        """Fill `out` with the windows from the `start`-th on."""
        for window, first in zip(out, self._starts[start : start + len(out)].tolist(), strict=True):
            window[:] = self._data[:, first : first + self.shape[2]]


def evaluate_continuous(
    graph: str | Path,
    recording: str | Path,
    *,
    hop: int | None = None,
    metrics: Sequence[str] | None = None,
    stated: Stated = _NOTHING,
    elsewhere: str = "",
    band: tuple[float, float] | None = None,
    filtered: bool = False,
    split: str | None = None,
    engine: str = "onnxruntime",
    output: str | None = None,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Continuous:
    """Score a graph on every window of a recording, hop after hop.

    Parameters
    ----------
    graph : path
        A step graph, or a window's graph with `hop`.
    recording : path
        Any that MNE reads, with segments: annotations, or rows of events.tsv, that have a duration.
    hop : int, optional
        New samples of a step; of a step graph it is the graph's.
    metrics : sequence of str, optional
        Of classes, as `rtserve.measure.metrics.parse_metric` reads them; balanced accuracy by default.
    stated : Stated
        Unit of a graph that does not say it; classes in order, by default the graph's, else every name of a segment;
        the target ``class``, or ``events:COLUMN`` for a column of events.tsv.
    elsewhere : str
        Class of windows that touch no segment; by default they are not scored.
    band, filtered
        As `rtserve.streaming.recording.open_for`.
    split : str, optional
        ``"train"`` where the recording trained the graph and that is what is asked for.
    engine : str
        One of `rtserve.graphs.engines.ENGINES`.
    output, force
        Write the evaluation there.
    progress : callable, optional
        Called with (samples answered, samples in all).

    Raises
    ------
    RtserveError
        Where recording and graph do not fit, no window has a class, or the recording trained the graph.
    """
    if output:
        check_writable(output, force=force)
    path, name = Path(recording), Path(graph).name
    step, _ = step_of(Path(graph), hop, None)
    who = find_recordings([path]).items
    if len(who) != 1:
        raise InputError(f"{path} holds {len(who)} recordings", hint="name one of them")
    signal, factor = open_for(step, who[0].path, unit=stated.unit or "", filtered=filtered, band=band, resampled=True)
    segments = read_segments(
        signal, names=stated.classes or step.output_spec.classes, column=_column(stated.target), elsewhere=elsewhere
    )
    starts, dropped = _starts(step, signal), Counter[str]()
    kept, windows = _labelled(step, signal, starts, segments, dropped, who[0])
    require_same_scores(step.output_spec, windows, name=name)
    window = _as_window(step)
    decision = decide(window, windows, metrics or (), name=name)
    notes, said, trained = _fitting(window, windows, split, name)
    begun = time.perf_counter()
    outputs, steps = _answered(step, signal, factor, engine, progress)
    seconds = dict(signal.seconds) | {"network": time.perf_counter() - begun}
    require_finite(outputs[kept], name)
    cases = to_cases(outputs[kept], windows, name=name, decision=decision)
    # Nothing is resampled: windows a hop apart are one person's, and hardly two.
    found = score_cases(
        cases, windows, metrics=metrics or CLASSIFICATION, split=said, resamples=0, name=name, graph_digest=step.digest,
        engine=engine, decided=str(decision),
    )  # fmt: skip
    result = Continuous(
        evaluation=replace(found, notes=(*found.notes, *signal.notes.lines(), *notes), trained_on=trained), hop=step.hop,
        answers=len(starts), steps=steps, seconds=seconds, length_s=sum(signal.clock.lengths) / signal.clock.rate,
        dropped=+dropped, source=segments.source,
    )  # fmt: skip
    if output:
        result.save(output, force=force)
    return result


def _starts(step: StepGraph, signal: Signal) -> np.ndarray:
    """Return the first sample of every window that a step answers, (n_windows,)."""
    clock = signal.clock
    starts = [first + answer_starts(step, length) for first, length in zip(clock.first, clock.lengths, strict=False)]
    found = np.concatenate(starts).astype(np.int64)
    if not len(found):
        raise InputError(
            f"{signal.path} gives no window of {step.input_spec.n_times} samples: its longest stretch has"
            f" {max(clock.lengths)}",
            hint="a longer recording, or one with fewer gaps",
        )
    return found


def _labelled(
    step: StepGraph, signal: Signal, starts: np.ndarray, segments: Segments, dropped: Counter[str], who: Recording
) -> tuple[np.ndarray, WindowSet]:
    """Return which windows have a class (n_kept,), and these; count the others."""
    classes = _classes_of(signal, starts, step.input_spec.n_times, segments, dropped)
    kept = np.flatnonzero(classes >= 0)
    if not len(kept):
        said = ", ".join(f"{n} {why}" for why, n in (+dropped).items())
        raise InputError(f"no window of {signal.path} is scored: {said}", hint="longer segments, or --elsewhere CLASS")
    return kept, _windows(step, signal, starts[kept], classes[kept], segments, who)


def _column(target: str) -> str:
    """Return the column that a target names; nothing for the segments' own names."""
    wanted = parse_wanted(target or "class")
    if len(wanted) > 1 or wanted[0].kind not in ("class", "column"):
        raise InputError(
            f"a recording's segments have classes, and no {target}", hint="use --target class or --target events:COLUMN"
        )
    return wanted[0].detail


def _classes_of(
    signal: Signal, starts: np.ndarray, n_times: int, segments: Segments, dropped: Counter[str]
) -> np.ndarray:
    """Return the class of every window (n,), -1 for those that have none or lie in a segment marked as bad."""
    rate = signal.clock.rate
    begin = signal.clock.time_of(starts)
    end = begin + n_times / rate
    found = segments.of_windows(begin, end, rate=rate, dropped=dropped)
    bad = marked_bad(starts, n_times, signal, found >= 0, dropped)
    holes = np.concatenate([[0], np.cumsum(~np.isfinite(signal.data).all(axis=0))])
    open_ = holes[starts + n_times] > holes[starts]
    dropped[OPEN] += int((open_ & ~bad & (found >= 0)).sum())
    return np.where(bad | open_, -1, found)


def _answered(
    step: StepGraph, signal: Signal, factor: float, engine: str, progress: Callable[[int, int], None] | None
) -> tuple[np.ndarray, int]:
    """Return the answers to all windows of all stretches, in order, and the steps that they took."""
    total, done, steps = sum(signal.clock.lengths), 0, 0
    parts = []
    for first, length in zip(signal.clock.first.tolist(), signal.clock.lengths, strict=False):
        before = done

        def told(samples: int, before: int = before, length: int = length) -> None:
            nonlocal done
            done = min(done + samples, before + length)
            if progress is not None:
                progress(done, total)

        part = signal.data[:, first : first + length]
        y, n = stream_answers(step, part, factor=factor, engine=engine, told=told)
        parts.append(y)
        steps, done = steps + n, before + length
    return np.concatenate(parts), steps


def _windows(
    step: StepGraph, signal: Signal, starts: np.ndarray, classes: np.ndarray, segments: Segments, who: Recording
) -> WindowSet:
    """Return the windows that are scored, none of them cut yet."""
    spec = step.input_spec
    X = StoredArray(_Overlapping(signal.data, starts, spec.n_times))
    return _Recorded(
        X=X, y=classes.astype(np.float32), subject=np.full(len(starts), who.subject), target="class",
        run_id=np.full(len(starts), who.run_id), ch_names=signal.ch_names, sfreq=signal.clock.rate,
        classes=segments.classes, extra={"onset_s": signal.clock.time_of(starts)}, source=str(signal.path),
        checked=(X, "V"), samples=hashlib.sha256(np.ascontiguousarray(signal.data).data.cast("B")).hexdigest(),
    )  # fmt: skip


def _fitting(
    graph: Graph, windows: WindowSet, split: str | None, name: str
) -> tuple[tuple[str, ...], str, dict[str, Any]]:
    """Refuse, before anything is computed, classes that are not the graph's and windows that trained it.

    Return what is to be said of the windows that did, the split, and counts.
    """
    to_predictions(np.zeros((len(windows), graph.output_spec.n_outputs), np.float32), windows, name=name)
    records = records_of(graph)
    asked = windows.take(np.unique(np.linspace(0, len(windows) - 1, ASKED).astype(int)))
    part = part_to_score(records, asked, split, name=name)
    if len(part.windows) < len(asked) and split != "train":
        raise InputError(
            f"{name} was trained on a part of {windows.source}", hint="--split train scores it all the same"
        )
    notes = [*part.notes, *untold(part, {name: graph})]
    if records:
        notes.append(
            f"{len(asked)} of the windows were looked up among those that trained {name}; one cut elsewhere is not known"
        )
    return tuple(notes), part.split, part.trained


def _as_window(step: StepGraph) -> Graph:
    """Return a step as what it says of the window's graph: its classes, and where that came from."""
    spec, made = step.output_spec, step.provenance.details.get("provenance", {})
    form = spec.form or output_form(step.model) or "logits"
    told = replace(
        step, output_spec=replace(spec, target="class", form=form),
        provenance=Provenance(kind=made.get("kind", ""), details=made.get("details", {})),
    )  # fmt: skip
    return cast("Graph", told)
