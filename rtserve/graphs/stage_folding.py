"""Stages of a large graph brought to few enough for a picture: repeats are one, and neighbours that cost little are one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rtserve.graphs.stages import Stage

__all__ = ["MOST", "few"]

MOST = 24
"""Stages that a picture holds."""
NAMED = 3
"""Stages that are named where several are one."""


def few(stages: Sequence[Stage], most: int = MOST) -> list[Stage]:
    """Return stages as they are, or so few that stand for all of them: their costs and nodes still add up.

    A block that is repeated (the layers of a transformer) is drawn once, each stage with how often it is there. What is
    still too much is put together from its cheapest neighbours of one network.
    """
    found = list(stages)
    while len(found) > most and (block := _repeated(found)) is not None:
        low, length, times = block
        rows = [found[low + k : low + length * times : length] for k in range(length)]
        found[low : low + length * times] = [_together(row, f"{times} x {row[0].what}") for row in rows]
    while len(found) > most:
        pairs = [k for k in range(len(found) - 1) if found[k].network == found[k + 1].network] or range(len(found) - 1)
        k = min(pairs, key=lambda k: (_weight(found[k]) + _weight(found[k + 1]), k))
        found[k : k + 2] = [_together(found[k : k + 2], "")]
    return [replace(one, what=_named(one.what)) for one in found]


def _repeated(stages: Sequence[Stage]) -> tuple[int, int, int] | None:
    """Return the block whose repeats are most stages, as (first, stages in it, how often it is there); None without one."""
    kinds = [(one.what, one.network, one.members, one.views) for one in stages]
    best: tuple[int, int, int] | None = None
    most = 0
    for length in range(1, len(kinds) // 2 + 1):
        run = 0
        for k in range(len(kinds) - length):
            run = run + 1 if kinds[k] == kinds[k + length] else 0
            times = run // length + 1
            if times > 1 and (times - 1) * length > most:
                best, most = (k + length - run - length + 1, length, times), (times - 1) * length
    return best


def _weight(stage: Stage) -> int:
    return max(stage.macs, stage.loop or 0)


SEPARATOR = "\n"


def _together(stages: Sequence[Stage], what: str) -> Stage:
    """Return stages as one; what is known of one of them alone is not known of all."""
    first = stages[0]
    loops = [one.loop for one in stages if one.loop is not None]
    works = {(one.members, one.views, one.work) for one in stages if one.branches}
    members, views, work = works.pop() if len(works) == 1 else _of_all(stages)
    return Stage(
        what=what or SEPARATOR.join(one.what for one in stages),
        network=first.network,
        members=members,
        views=views,
        work=work,
        macs=sum(one.macs for one in stages),
        loop=sum(loops) if loops else None,
        nodes=sum(one.nodes for one in stages),
        counted=all(one.counted for one in stages),
    )


def _of_all(stages: Sequence[Stage]) -> tuple[int, int, float | None]:
    """Return the branches of stages that differ in them, and the work: the mean by what they cost in a loop."""
    known = [one for one in stages if one.branches and one.work is not None]
    weight = sum(one.loop or 0 for one in known)
    work = sum((one.work or 0.0) * (one.loop or 0) for one in known) / weight if weight else None
    return max(one.members for one in stages), max(one.views for one in stages), work


def _named(what: str) -> str:
    """Return the name of what was put together: its first parts, and how many more there are."""
    parts = what.split(SEPARATOR)
    if len(parts) == 1:
        return what
    named = list(dict.fromkeys(parts))
    return f"{len(parts)} stages: {'; '.join(named[:NAMED])}" + (", ..." if len(named) > NAMED else "")
