"""Trained on it? What a network was trained on, small enough to travel in its graph, and what part of windows that is.

A record holds, of the windows that trained and of those that chose (``valid``): how many; whose, and of which runs, as
salted hashes; and a sample of the windows' own fingerprints. Asked about a window set, two kinds of evidence answer:

- *content*: a fingerprint is made of which samples rise, so a window is known again in any unit and under any name. A
  record keeps the smallest `SAMPLED` of them (bottom-k sampling), so the share it finds is exact up to that many
  windows and an unbiased estimate beyond.
- *names*: a window of a person (or, where the split went by run, of a run) that trained counts as trained on, also
  where it was cut or filtered anew. A name is believed where both sides say the same data set, or where content shows
  that it is one set; else two people called ``01`` may well be two, and the answer is *maybe*.

Use: ``record = training_record(windows, split.marks)`` goes into a checkpoint and a graph's provenance under
``"trained_on"``; ``membership(find_records(graph.provenance.details), windows)`` says the rest. A model that was fitted
otherwise (a calibration on valid windows) is recorded the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.fingerprints import BITS, among, hashed, pack, rise_hashes, unpack
from rtserve.signals.labels import in_two
from rtserve.signals.subjects import people
from rtserve.signals.windows import WindowSet
from rtserve.spec import TRAINED_ON

__all__ = ["Membership", "find_records", "membership", "training_record"]

SCHEMA = "rtserve.training_record/1"
USED = ("train", "valid")
SAMPLED = 2048


@dataclass(frozen=True, kw_only=True)
class Membership:
    """What part of a window set a model was made on.

    Parameters
    ----------
    n : int
        Windows asked about.
    trained, chosen : ndarray of bool, (n,)
        Windows that trained the model, or are of people (runs) who did; and those that chose its epoch or calibration
        and did not train.
    maybe : ndarray of bool, (n,)
        Windows of people called as one who trained, where nothing shows that it is the same data set.
    familiar : ndarray of bool, (n,)
        Windows of people who trained, in runs that did not: held out, but not new people.
    copies : float
        Share of the windows looked at that are, sample for sample, windows that trained.
    looked : int
        How many were looked at: all that are not flat, or a sample.
    known : bool
        Whether there was a record to ask; where not, nothing is known.
    level : str
        What tells the parts apart: ``"subject"``, ``"run"`` or ``"window"``.
    """

    n: int
    trained: np.ndarray
    chosen: np.ndarray
    maybe: np.ndarray
    familiar: np.ndarray
    copies: float = 0.0
    looked: int = 0
    known: bool = True
    level: str = "subject"

    @property
    def n_trained(self) -> int:
        """Windows trained on; where only a sample could be looked at and says clearly more, what it makes of all."""
        named, found = int(self.trained.sum()), round(self.copies * self.n) if self.looked else 0
        error = np.sqrt(max(self.copies * (1 - self.copies), 1 / self.looked) / self.looked) if self.looked else 0.0
        return found if found > named + 4 * error * self.n else named

    @property
    def share(self) -> float:
        """Share of the windows that were trained on, 0 to 1."""
        return self.n_trained / self.n if self.n else 0.0

    @property
    def text(self) -> str:
        """What to tell a reader of a score on these windows; empty where it is on windows that are new to the model."""
        return self.told("it", "its")

    def told(self, who: str, whose: str) -> str:
        """Return `text` of a model that is called `who`."""
        if not self.known:
            return f"not known what {who} was trained on: {whose} file does not say"
        what = {"subject": f"of people that {who} was trained on", "run": f"of runs that {who} was trained on"}
        parts = []
        if self.n_trained:
            about = "about " if self.n_trained > self.trained.sum() else ""
            sort = what.get(self.level, f"windows that {who} was trained on")
            parts.append(f"{about}{self.n_trained} of {self.n} windows are {sort}")
        if self.chosen.any():
            parts.append(f"{int(self.chosen.sum())} of {self.n} chose {whose} epoch or calibration")
        if self.maybe.any():
            parts.append(
                f"{int(self.maybe.sum())} of {self.n} are of people called like people {who} was trained on; their data"
                " set is not said"
            )
        if self.familiar.any() and not self.n_trained:
            parts.append(f"{int(self.familiar.sum())} of {self.n} are other runs of people {who} was trained on")
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return counts as JSON values."""
        return {
            "known": self.known,
            "n": self.n,
            "trained": self.n_trained,
            "chosen": int(self.chosen.sum()),
            "maybe": int(self.maybe.sum()),
            "familiar": int(self.familiar.sum()),
            "level": self.level,
        }


def training_record(windows: WindowSet, marks: np.ndarray) -> dict[str, Any]:
    """Return what travels with a model, as JSON values; equal windows and marks give equal records.

    Parameters
    ----------
    windows : WindowSet
        All windows.
    marks : ndarray of str, (n_windows,)
        ``"train"`` for those that train, ``"valid"`` for those that choose; others had no part.

    Raises
    ------
    InputError
        Where there is not one mark per window.
    """
    if marks.shape != (len(windows),):
        raise InputError(f"{marks.shape} marks for {len(windows)} windows", hint="one mark per window")
    who, ids, runs = people(windows), people(windows, bare=True), _runs(windows)
    level = next((name for name, labels in (("subject", who), ("run", runs)) if _apart(labels, marks)), "window")
    salt, prints = windows.digest[:16], rise_hashes(windows)
    record: dict[str, Any] = {"schema": SCHEMA, "data": windows.digest, "salt": salt, "level": level}
    record["datasets"] = bool(_datasets(windows).size)
    for part in USED:
        here = marks == part
        own = np.unique(prints[here & (prints > 0)])[:SAMPLED]
        record[part] = {
            "n": int(here.sum()),
            "ids": _names(ids, here, salt),
            "people": _names(who, here, salt) if record["datasets"] else "",
            "runs": _names(runs, here, salt) if level == "run" else "",
            "windows": pack(own),
            "sampled": len(own) == SAMPLED,
        }
    return record


def find_records(details: Any) -> list[dict[str, Any]]:
    """Return every record in a provenance, of the members of a fused graph and a soup's checkpoints too, each once."""
    found: dict[str, dict[str, Any]] = {}
    for record in _walk(details):
        found.setdefault(repr(sorted(record.items())), record)
    return list(found.values())


def _walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            records = item if key == TRAINED_ON and isinstance(item, list) else [item]
            if key == TRAINED_ON and all(isinstance(r, dict) and r.get("schema") == SCHEMA for r in records):
                yield from records
            else:
                yield from _walk(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _walk(item)


def membership(records: Sequence[Mapping[str, Any]], windows: WindowSet) -> Membership:
    """Say what part of the windows any of the records' models was trained on.

    Parameters
    ----------
    records : sequence of mapping
        From `find_records`; of a fused graph, one per set of training windows.
    windows : WindowSet
        What is to be scored.

    Raises
    ------
    InputError
        Where a record is damaged.
    """
    nothing = np.zeros(len(windows), bool)
    if not records:
        return Membership(n=len(windows), trained=nothing, chosen=nothing, maybe=nothing, familiar=nothing, known=False)
    prints = rise_hashes(windows)
    try:
        each = [_one(record, windows, prints) for record in records]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the record of what it was trained on is damaged ({error!r})", hint="export the graph again"
        ) from None
    worst = max(each, key=lambda one: one.n_trained)
    trained = np.any([one.trained for one in each], axis=0)
    return Membership(
        n=len(windows),
        trained=trained,
        chosen=np.any([one.chosen for one in each], axis=0) & ~trained,
        maybe=np.any([one.maybe for one in each], axis=0) & ~trained,
        familiar=np.any([one.familiar for one in each], axis=0) & ~trained,
        copies=worst.copies,
        looked=worst.looked,
        level=worst.level,
    )


def _one(record: Mapping[str, Any], windows: WindowSet, prints: np.ndarray) -> Membership:
    seen, looked = _copies(record["train"], prints)
    chose, _ = _copies(record["valid"], prints)
    level, sure = str(record["level"]), bool(seen.any() or chose.any() or record["data"] == windows.digest)
    both = bool(record["datasets"]) and bool(_datasets(windows).size)
    key, who = ("people", people(windows)) if both else ("ids", people(windows, bare=True))
    known = {part: _known(record[part][key], who, record, len(windows)) for part in USED}
    named = known if level == "subject" else dict.fromkeys(USED, np.zeros(len(windows), bool))
    if level == "run":
        named = {part: _known(record[part]["runs"], _runs(windows), record, len(windows)) for part in USED}
    # Ids alone are believed where both sides say their data set, or content shows that it is one.
    believed = sure or both
    trained = (named["train"] & believed) | seen
    return Membership(
        n=len(windows),
        trained=trained,
        chosen=((named["valid"] & believed) | chose) & ~trained,
        maybe=(named["train"] | known["train"]) & ~trained & (not believed),
        familiar=known["train"] & ~trained & believed,
        copies=float(seen.sum() / looked) if looked else 0.0,
        looked=looked,
        level=level if (named["train"] & believed).any() else "window",
    )


def _copies(part: Mapping[str, Any], prints: np.ndarray) -> tuple[np.ndarray, int]:
    """Return which windows are known by content, and how many were looked at."""
    own = unpack(part["windows"])
    bound = int(own[-1]) if part["sampled"] and len(own) else (1 << BITS)
    looked = (prints > 0) & (prints <= bound)
    return looked & np.isin(prints, own), int(looked.sum())


def _names(labels: np.ndarray, here: np.ndarray, salt: str) -> str:
    return pack(hashed(labels[here], salt)) if labels.size else ""


def _known(packed: str, labels: np.ndarray, record: Mapping[str, Any], n: int) -> np.ndarray:
    """Return which of n windows a record's part names."""
    return among(packed, labels, str(record["salt"])) if labels.size else np.zeros(n, bool)


def _runs(windows: WindowSet) -> np.ndarray:
    who, run = people(windows), windows.run_id.astype("U")
    dataset = _datasets(windows)
    if run.size and dataset.size:
        # A run, like a person, is called the same whatever it was prepared with.
        pairs = zip(run.tolist(), dataset.tolist(), strict=True)
        run = np.array([name.removeprefix(f"{home}/") if home else name for name, home in pairs], "U")
    return np.char.add(np.char.add(who, "/"), run) if run.size and who.size else run


def _datasets(windows: WindowSet) -> np.ndarray:
    """Return each window's data set where every one is said, else nothing."""
    names = np.asarray(windows.extra.get("dataset", np.empty(0, "U1"))).astype("U")
    return names if names.shape == (len(windows),) and (names != "").all() else np.empty(0, "U1")


def _apart(labels: np.ndarray, marks: np.ndarray) -> bool:
    """Whether no label is in two parts."""
    return bool(labels.size) and not len(in_two(labels, marks))
