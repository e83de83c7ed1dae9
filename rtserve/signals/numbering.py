"""From what each recording gave to what y holds: numbers as they are, classes numbered from 0 over all recordings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.decimals import has_comma
from rtserve.signals.tables import plain_number
from rtserve.signals.wanted import Wanted, natural

__all__ = ["Numbered", "notes_on", "number_target"]


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """A target of all windows.

    Parameters
    ----------
    name : str
        What it is.
    values : tuple of ndarray, float32, (n_windows of a recording,)
        One array per recording.
    classes : tuple of str
        Names of the classes 0, 1, ...; empty for numbers.
    codes : tuple of str
        What the user numbered them.
    """

    name: str
    values: tuple[np.ndarray, ...]
    classes: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return its distribution as JSON values."""
        every = np.concatenate(self.values).astype(np.float64)
        if self.classes:
            count = Counter(every.astype(int).tolist())
            return {"name": self.name, "classes": {name: count[i] for i, name in enumerate(self.classes)}}
        return {"name": self.name, "mean": float(every.mean()), "sd": float(every.std())}


def number_target(one: Wanted, given: Sequence[np.ndarray], dropped: Mapping[str, int] | None = None) -> Numbered:
    """Number a target.

    Parameters
    ----------
    one : Wanted
        The target.
    given : sequence of ndarray, (n_windows of a recording,)
        Numbers or texts of each recording.
    dropped : mapping of str to int, optional
        What was left out, by reason, for what an error says.

    Raises
    ------
    InputError
        Where some values are numbers and some are words, or a class that was asked for has no window.
    """
    texts = [array for array in given if array.dtype.kind == "U"]
    if one.classes is None and not texts:
        return Numbered(name=one.name, values=tuple(array.astype(np.float32) for array in given))
    if one.classes is None:
        _require_words(one, texts, given)
    words = [array if array.dtype.kind == "U" else _texts(array) for array in given]
    have = {text for array in words for text in array.tolist()}
    asked = one.classes.names if one.classes is not None else ()
    lost = [name for name in asked if name not in have]
    if lost:
        counted = ", ".join(f"{n} {reason}" for reason, n in (dropped or {}).items() if n)
        raise InputError(
            f"no window is of class {', '.join(lost)} of {one.name}" + (f"; dropped: {counted}" if counted else ""),
            hint=f"there are {', '.join(natural(sorted(have))[:10])}; name the classes there are",
        )
    names = asked or tuple(natural(sorted(have)))
    place = {name: i for i, name in enumerate(names)}
    values = tuple(np.array([place[text] for text in array.tolist()], np.float32) for array in words)
    return Numbered(
        name=one.name, values=values, classes=names, codes=one.classes.codes if one.classes is not None else ()
    )


def _require_words(one: Wanted, texts: Sequence[np.ndarray], given: Sequence[np.ndarray]) -> None:
    """Refuse a target of which some values are numbers: they would be taken for classes."""
    words = sorted({text for array in texts for text in array.tolist()})
    numbers = [f"{array.tolist()[0]:g}" for array in given if array.dtype.kind != "U"]
    numbers += [text for text in words if plain_number(text) is not None or has_comma(text)]
    odd = next((text for text in words if plain_number(text) is None and not has_comma(text)), "")
    if numbers:
        raise InputError(
            f"{one.name} {odd!r} is no number, and other values are, such as {numbers[0]}",
            hint="--classes all takes every value for a class; n/a is no value",
        )


def _texts(array: np.ndarray) -> np.ndarray:
    return np.array([f"{value:g}" for value in array.tolist()], "U")


def notes_on(
    targets: Sequence[Numbered], subjects: Sequence[str], overlaps: Sequence[tuple[int, float]]
) -> tuple[str, ...]:
    """Return what is worth saying of targets and windows.

    Parameters
    ----------
    targets : sequence of Numbered
        All of them.
    subjects : sequence of str
        Of each recording.
    overlaps : sequence of (int, float)
        Of each recording, how many windows share samples with another, and for how many s at most with the next.
    """
    out = []
    for target in targets:
        if target.codes and target.codes != tuple(map(str, range(len(target.codes)))):
            pairs = zip(target.classes, target.codes, strict=True)
            numbers = ", ".join(f"{name} ({code}) is {place}" for place, (name, code) in enumerate(pairs))
            out.append(f"classes of {target.name} are numbered from 0: {numbers}")
        elif target.classes:
            numbers = ", ".join(f"{name} is {place}" for place, name in enumerate(target.classes))
            out.append(f"classes of {target.name}: {numbers}")
        out += _lopsided(target, subjects)
    shared, most = sum(n for n, _ in overlaps), max((s for _, s in overlaps), default=0.0)
    if shared:
        out.append(
            f"{shared} windows share samples with another of their recording, at most {most:.3g} s with the next"
        )
    return tuple(out)


def _lopsided(target: Numbered, subjects: Sequence[str]) -> list[str]:
    """Say how many subjects have windows of one class only: who it is tells the answer then."""
    if len(target.classes) < 2:
        return [f"{target.name} has one class only: nothing can be learned of it"] if target.classes else []
    seen: dict[str, set[float]] = {}
    for subject, values in zip(subjects, target.values, strict=True):
        seen.setdefault(subject, set()).update(values.tolist())
    single = sum(len(classes) == 1 for classes in seen.values())
    return [f"{single} of {len(seen)} subjects have windows of one class of {target.name} only"] if single else []
