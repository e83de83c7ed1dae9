"""What a graph was trained on, asked before it is scored: a score on training windows is given to nobody unasked.

The rule of `part_to_score`: where nobody names a split and a part of the windows trained the graph or chose its epoch,
the file's test windows are scored; without any, or where the named windows hold training windows, the score is refused.
Who says ``train`` gets it, and its signature says "training windows"; in a file without marks, these are the windows
that the graph knows, and ``test`` are those that are new to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rtserve.errors import InputError
from rtserve.graphs.graph import Graph
from rtserve.measure.predict import as_windows
from rtserve.signals.membership import find_records, membership
from rtserve.signals.windows import WindowSet

__all__ = ["TRAINING_WINDOWS", "Part", "part_to_score"]

TRAINING_WINDOWS = "training windows"
"""What a signature has for a split where windows were trained on."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """The windows that are scored.

    Parameters
    ----------
    windows : WindowSet
        These.
    split : str
        As the signature has it.
    notes : tuple of str
        What part of them the graph was trained on, where any or where the file marks training windows and the graph
        does not say.
    """

    windows: WindowSet
    split: str
    notes: tuple[str, ...] = ()


def part_to_score(graph: Graph, windows: WindowSet, split: str | None, *, name: str) -> Part:
    """Return the windows of a whole set that `split` names; None is the rule at the head of this module.

    Parameters
    ----------
    graph : Graph
        With what it was trained on in its provenance, its members' where it was fused.
    windows : WindowSet
        The whole file.
    split : str or None
        What the user said.
    name : str
        What errors call the graph.

    Raises
    ------
    InputError
        Where the file marks no such split, or windows that the graph was trained on would be scored unasked.
    """
    records = find_records(graph.provenance.details)
    if not records:
        asked = as_windows(windows, split=split or "all")
        return Part(windows=asked, split=split or "all", notes=_marked(asked, split, name))
    if split == "train" and not _marks(windows).size:
        known = membership(records, windows).trained
        if known.any():
            return _judged(graph, windows.take(known), TRAINING_WINDOWS, said="train", name=name)
    if split == "test" and not _marks(windows).size:
        found = membership(records, windows)
        new = ~(found.trained | found.chosen | found.maybe)
        if new.any():
            before = f"the file marks no windows: {int(new.sum())} of {len(windows)} are new to {name} and are scored"
            return _judged(graph, windows.take(new), "test", said=split, name=name, before=(before,))
    if split is None and "test" in _marks(windows):
        found = membership(records, windows)
        if found.n_trained or found.chosen.any():
            before = f"in the whole file {found.text}; its test windows are scored"
            return _judged(graph, as_windows(windows, split="test"), "test", said=None, name=name, before=(before,))
    return _judged(graph, as_windows(windows, split=split or "all"), split or "all", said=split, name=name)


def _judged(
    graph: Graph, windows: WindowSet, split: str, *, said: str | None, name: str, before: tuple[str, ...] = ()
) -> Part:
    """Return the part with what is to be told of it; refuse training windows that nobody asked for."""
    found = membership(find_records(graph.provenance.details), windows)
    notes = (*before, found.text) if found.text else before
    if not found.n_trained:
        return Part(windows=windows, split=split, notes=notes)
    if said == "train":
        return Part(windows=windows, split=TRAINING_WINDOWS, notes=notes)
    raise InputError(
        f"{name} would be scored on what it was trained on: {found.text}",
        hint="--split test scores those that the file marks so, in a file without marks those that are new to it;"
        ' --split train gives the score on training windows, and its signature says "training windows"',
    )


def _marked(windows: WindowSet, split: str | None, name: str) -> tuple[str, ...]:
    """Say that the file marks training windows where the graph does not say what it was trained on."""
    count = int((_marks(windows) == "train").sum())
    if not count or split == "train":
        return ()
    return (
        f"{count} of these {len(windows)} windows are marked train in this file, and {name} does not say what it was"
        " trained on: --split test scores those left out",
    )


def _marks(windows: WindowSet) -> np.ndarray:
    marks = np.asarray(windows.extra.get("split", np.empty(0, "U1"))).astype("U")
    return marks if marks.shape == (len(windows),) else np.empty(0, "U1")
