"""What graphs were trained on, asked before they are scored: a score on training windows is given to nobody unasked.

The one rule, for every command that scores (`part_to_score`): where nobody names a split and a part of the windows
trained a graph or chose its epoch, the file's test windows are scored; without any, or where the named windows hold
training windows, the score is refused. Who says ``train`` gets it, and its signature says "training windows"; in a file
without marks, these are the windows that the graphs know, and ``test`` are those that are new to them. Of several
graphs that are scored side by side, a window that trained any of them is a training window for all: else the one that
knows it would be compared with those that do not.

What fits on windows, and is not asked to score, leaves training windows out and says so (`part_to_fit`): a weight or a
scale fitted on answers that a member was trained to give is fitted on answers that no new person gets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.graphs.graph import Graph
from rtserve.measure.predict import as_windows
from rtserve.signals.membership import Membership, find_records, membership
from rtserve.signals.windows import WindowSet

__all__ = [
    "TRAINING_WINDOWS",
    "Part",
    "marks_of",
    "part_to_fit",
    "part_to_score",
    "records_of",
    "require_asked",
    "untold",
]

TRAINING_WINDOWS = "training windows"
"""What a signature has for a split where windows were trained on."""
SPLIT_HINT = (
    "--split test scores those that the file marks so, in a file without marks those that are new to it;"
    ' --split train gives the score on training windows, and its signature says "training windows"'
)
_SILENT = "does not say what it was trained on"
Record = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Part:
    """The windows that are scored, or fitted on.

    Parameters
    ----------
    windows : WindowSet
        These.
    split : str
        As the signature has it.
    notes : tuple of str
        What part of them the graph was trained on, where any or where the file marks training windows and the graph
        does not say.
    marked : str
        What the windows' own marks call them; ``"all"`` where they are not looked at.
    chosen : ndarray of bool, (n_windows,)
        Of these, the windows that chose an epoch or a calibration; empty where nothing is known.
    trained : dict
        Counts of the same as JSON values, for results.
    """

    windows: WindowSet
    split: str
    notes: tuple[str, ...] = ()
    marked: str = "all"
    chosen: np.ndarray = field(default_factory=lambda: np.empty(0, bool))
    trained: dict[str, Any] = field(default_factory=dict)


def records_of(*graphs: Graph) -> list[dict[str, Any]]:
    """Return what the graphs, and the members that they were fused from, were trained on, each record once."""
    return find_records([graph.provenance.details for graph in graphs])


def untold(part: Part, graphs: Mapping[str, Graph]) -> tuple[str, ...]:
    """Return which of the graphs, by name, do not say what they were trained on, or have members that do not.

    Nothing where the notes of the part say it already.
    """
    if any(_SILENT in note for note in part.notes):
        return ()
    notes = []
    for name, graph in graphs.items():
        members = _members(graph.provenance.details)
        silent = sum(not find_records(member) for member in members)
        if silent == len(members):
            notes.append(f"{name} {_SILENT}")
        elif silent:
            notes.append(f"{silent} of {len(members)} members of {name} do not say what they were trained on")
    return tuple(f"{note}: whether these windows are new to it is not known" for note in notes)


def _members(details: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the provenance of each network in a fused graph, or the graph's own."""
    inner = [member.get("provenance", {}).get("details", {}) for member in details.get("members", ())]
    return [leaf for each in inner for leaf in _members(each)] or [details]


def part_to_score(records: Sequence[Record], windows: WindowSet, split: str | None, *, name: str) -> Part:
    """Return the windows of a whole set that `split` names; None is the rule at the head of this module.

    Parameters
    ----------
    records : sequence of mapping
        Of everything that is scored on them (`records_of`).
    windows : WindowSet
        The whole file.
    split : str or None
        What the user said.
    name : str
        What errors call what is scored.

    Raises
    ------
    InputError
        Where the file marks no such split, or windows that were trained on would be scored unasked.
    """
    if not records:
        asked = as_windows(windows, split=split or "all")
        return Part(windows=asked, split=split or "all", notes=_marked(asked, split, name), trained={"known": False})
    if split == "train" and not marks_of(windows).size:
        known = membership(records, windows).trained
        if known.any():
            return _judged(records, windows.take(known), TRAINING_WINDOWS, said="train", name=name)
    if split == "test" and not marks_of(windows).size:
        found = membership(records, windows)
        new = ~(found.trained | found.chosen | found.maybe)
        if new.any():
            before = f"the file marks no windows: {int(new.sum())} of {len(windows)} are new to {name} and are scored"
            return _judged(records, windows.take(new), "test", said=split, name=name, before=(before,))
    if split is None and "test" in marks_of(windows):
        found = membership(records, windows)
        if found.n_trained or found.chosen.any():
            before = f"in the whole file {found.text}; its test windows are scored"
            return _judged(records, as_windows(windows, split="test"), "test", said=None, name=name, before=(before,))
    return _judged(records, as_windows(windows, split=split or "all"), split or "all", said=split, name=name)


def _judged(
    records: Sequence[Record],
    windows: WindowSet,
    split: str,
    *,
    said: str | None,
    name: str,
    before: tuple[str, ...] = (),
) -> Part:
    """Return the part with what is to be told of it; refuse training windows that nobody asked for."""
    found = membership(records, windows)
    if found.n_trained and said != "train":
        raise InputError(f"{name} would be scored on what it was trained on: {found.text}", hint=SPLIT_HINT)
    return Part(
        windows=windows,
        split=TRAINING_WINDOWS if found.n_trained else split,
        notes=(*before, found.text) if found.text else before,
        chosen=found.chosen,
        trained=found.to_dict(),
    )


def require_asked(document: Mapping[str, Any], records: Sequence[Record], *, name: str) -> None:
    """Raise where a stored evaluation is of training windows and its signature does not say so.

    Parameters
    ----------
    document : mapping
        As `rtserve.measure.evaluation.Evaluation` writes it; older ones know nothing of training.
    records : sequence of mapping
        Of its graph, where that is at hand: windows that are, all of them, the file it was trained on are known by
        their digest.
    name : str
        What the error calls the result.

    Raises
    ------
    InputError
    """
    scores = document.get("scores") or ()
    if any(f"|split:{TRAINING_WINDOWS}|" in f"{score.get('signature', '')}|" for score in scores):
        return
    count = int((document.get("trained_on") or {}).get("trained") or 0)
    same = [record for record in records if record["data"] == document.get("data_sha256")]
    count = max([count, *(int(record["train"]["n"]) for record in same)])
    if count:
        raise InputError(
            f"{name} is a score on {count} windows that its graph was trained on, and its signature does not say so",
            hint=f"score it again: {SPLIT_HINT}",
        )


def part_to_fit(records: Sequence[Record], windows: WindowSet, split: str, *, name: str) -> Part:
    """Return the windows of a set without those that trained what is fitted on them, and say how many were left out.

    Parameters
    ----------
    records : sequence of mapping
        Of everything that is fitted, or chosen from (`records_of`).
    windows : WindowSet
        What would be fitted on.
    split : str
        What the user named; ``"train"`` alone keeps training windows.
    name : str
        What messages call what is fitted.

    Raises
    ------
    InputError
        Where nothing is left, or it is known that windows were trained on but not which.
    """
    if not records:
        notes = _marked(windows, split, name)
        return Part(windows=windows, split=split, marked=split, notes=notes, trained={"known": False})
    found = membership(records, windows)
    if split == "train":
        known = bool(found.trained.any()) and not marks_of(windows).size
        part = _kept(windows, found, found.trained if known else np.ones(len(windows), bool), split, name)
        return replace(part, split=TRAINING_WINDOWS if found.n_trained else split, marked="all" if known else split)
    if found.n_trained == len(windows) or found.n_trained > int(found.trained.sum()):
        raise InputError(
            f"{name} would be fitted on what it was trained on: {found.told(name, _whose(name))}",
            hint="give windows of people that are new to it; `rtserve train` keeps valid and test windows apart",
        )
    return _kept(windows, found, ~found.trained, split, name)


def _kept(windows: WindowSet, found: Membership, kept: np.ndarray, split: str, name: str) -> Part:
    out, text = int((~kept).sum()), found.told(name, _whose(name))
    left = f"; {out} are left out" if out else ""
    return Part(
        windows=windows if kept.all() else windows.take(kept),
        split=split,
        marked=split,
        notes=(text + left,) if text else (),
        chosen=found.chosen[kept],
        trained=found.to_dict(),
    )


def _whose(name: str) -> str:
    return f"{name}'s"


def _marked(windows: WindowSet, split: str | None, name: str) -> tuple[str, ...]:
    """Say that the file marks training windows where the graph does not say what it was trained on."""
    count = int((marks_of(windows) == "train").sum())
    if not count or split == "train":
        return ()
    return (
        f"{count} of these {len(windows)} windows are marked train in this file, and {name} {_SILENT}: --split test"
        " scores those left out",
    )


def marks_of(windows: WindowSet) -> np.ndarray:
    """Return the file's own mark of each window, or nothing where it marks none."""
    marks = np.asarray(windows.extra.get("split", np.empty(0, "U1"))).astype("U")
    return marks if marks.shape == (len(windows),) else np.empty(0, "U1")
