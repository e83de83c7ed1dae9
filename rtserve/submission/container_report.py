"""`container_notes`: what a reader has to know of a container's run besides the rules: events, odd recordings, time."""

from __future__ import annotations

from collections.abc import Iterator

from rtserve.submission.container_parts import Container, Table
from rtserve.submission.container_run import Answered, ContainerRun
from rtserve.submission.container_table import faults, read_rows

__all__ = ["container_notes"]

HOUR_S = 3600.0


def container_notes(run: ContainerRun, container: Container) -> Iterator[str]:
    """Yield how the planted bursts were answered, what was said of recordings, and how long one of hours will take."""
    for answer in run.answered:
        if answer.code == 0 and answer.table:
            yield from _found(answer, container.table)
    if len(run.answered) > 1:
        yield from _time(run, container)


def _found(answer: Answered, table: Table) -> Iterator[str]:
    drill = answer.drill
    if faults(answer.table, table, seconds=drill.seconds):
        return
    rows = [row for row in read_rows(answer.table, table) if row.kind != table.background]
    hit = sum(any(row.onset < end and row.end > begin for row in rows) for begin, end in drill.bursts)
    planted = f"{hit} of {len(drill.bursts)} planted bursts touched" if drill.bursts else "nothing planted"
    said = f"; it says: {answer.last}" if not rows else ""
    yield f"{drill.name}.edf ({drill.what}): {len(rows)} events, {planted}{said}"


def _time(run: ContainerRun, container: Container) -> Iterator[str]:
    """Yield a forecast from what the longest recording took more than the quickest of the short ones.

    What a start takes differs from one to the next, the first has to read everything from disk: the quickest is the one
    beside which the forecast is not too low.
    """
    *short, last = run.answered
    first = min(short, key=lambda answer: answer.seconds)
    more = last.drill.seconds - first.drill.seconds
    if more < HOUR_S / 10 or last.code:
        return
    each, hours = max(0.0, last.seconds - first.seconds) / more, container.recordings.hours
    yield (
        f"time: {last.seconds:.1f} s for {last.drill.seconds:g} s of recording, {first.seconds:.1f} s for"
        f" {first.drill.seconds:g} s; by that {hours:g} hours take about {first.seconds + each * HOUR_S * hours:.0f} s here"
    )
