"""What y shall be, as the user says it: response times, classes, a column, a number in an event's name; several at once.

``--target`` names targets with commas, the first is y: ``response_time`` (of trials), ``class`` (the event's name),
``events:COLUMN`` (of events.tsv), ``number`` or ``number:TEMPLATE`` (in the event's name), or a column of
participants.tsv. ``--classes left=1,right=2`` says which values are which class.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rtserve.errors import InputError
from rtserve.signals.patterns import NUMBER, Pattern, fits, listed, parse_pattern
from rtserve.signals.tables import is_empty, plain_name, plain_number

__all__ = ["Classes", "Wanted", "natural", "parse_classes", "parse_wanted"]

_NUMBER = re.compile(r"(?<![\w.])" + NUMBER)
_ANY = "[^/]*?\\d[^/]*?"


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Which values are which class.

    Parameters
    ----------
    keys : tuple of str
        Values, with ``*`` for anything; empty for every value its own class.
    places : tuple of int
        Class of each key, from 0.
    codes : tuple of str
        What the user called the classes 0, 1, ...; empty where they were not numbered.
    """

    keys: tuple[str, ...] = ()
    places: tuple[int, ...] = ()
    codes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes 0, 1, ...: their keys, joined by ``+`` where there are several."""
        n = max(self.places, default=-1) + 1
        return tuple(
            "+".join(key for key, at in zip(self.keys, self.places, strict=True) if at == place) for place in range(n)
        )

    def name_of(self, value: str) -> str | None:
        """Return the class of a value by its name, or None where it has none; 1.0 is 1.

        What stands for no value (``none``) is one where a key says so whole.
        """
        value = plain_name(value)
        if not self.keys:
            return value
        exact = [at for key, at in zip(self.keys, self.places, strict=True) if plain_name(key) == value]
        alike = [at for key, at in zip(self.keys, self.places, strict=True) if fits(value, key)]
        found = exact or ([] if is_empty(value) else alike)
        return self.names[found[0]] if found else None

    def means(self, value: str) -> bool:
        """Whether a key is this value whole, so that it is one whatever else it could be."""
        return plain_name(value) in map(plain_name, self.keys)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A target.

    Parameters
    ----------
    name : str
        What it is called in the window set.
    kind : str
        ``"response_time"``, ``"class"``, ``"column"``, ``"number"`` (all of an event) or ``"participant"``.
    detail : str
        The column, or the template of the number.
    classes : Classes or None
        Where values are to be classes.
    """

    name: str
    kind: str
    detail: str = ""
    classes: Classes | None = None

    @property
    def of_event(self) -> bool:
        """Whether it belongs to an event, not to a person."""
        return self.kind != "participant"

    def number_in(self, name: str) -> float | None:
        """Return the number that an event's name carries: where the template says, or the only one in it."""
        if self.detail:
            found = _template(self.detail).match(name)
            texts = [found["value"]] if found else []
        else:
            texts = _NUMBER.findall(name)
        return plain_number(texts[0]) if len(texts) == 1 else None

    def has_number(self, name: str) -> bool:
        """Whether an event's name carries one."""
        return self.number_in(name) is not None

    def may_have_number(self, name: str) -> bool:
        """Whether an event's name has digits where the number is looked for; what they are not is then counted."""
        if self.detail:
            return _template(self.detail, _ANY).match(name) is not None
        return any(letter.isdecimal() for letter in name)


def _template(text: str, what: str = NUMBER) -> Pattern:
    return parse_pattern(text, ("value",), option="--target number:", what=what)


def parse_wanted(text: str, *, classes: str | None = None) -> tuple[Wanted, ...]:
    """Read ``--target`` and ``--classes``.

    Raises
    ------
    InputError
        Where a target is named twice, or it is not said which of several the classes are of.
    """
    wanted = [_one(part) for part in listed(text)]
    if not wanted:
        raise InputError(f"--target {text!r} names nothing", hint="for example --target response_time,age")
    names = [one.name for one in wanted]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"--target {text!r} names {twice} twice", hint="name every target once")
    chosen = parse_classes(classes) if classes is not None else None
    whose = [one for one in wanted if one.kind == "class"] or [
        one for one in wanted if one.kind in ("column", "participant")
    ]
    if chosen and len(whose) != 1:
        what = ", ".join(one.name for one in whose) or f"{text}, which is a number"
        raise InputError(
            f"--classes {classes} is of one target, not {what}", hint="--target class --classes left,right"
        )
    both = {one.name: replace(one, classes=chosen if one in whose else None) for one in wanted}
    return tuple(
        replace(one, classes=one.classes or Classes()) if one.kind == "class" else one for one in both.values()
    )


def _one(text: str) -> Wanted:
    prefix, _, rest = text.partition(":")
    if text in ("response_time", "class"):
        return Wanted(name=text, kind=text)
    if prefix == "number":
        if rest:
            _template(rest)
        return Wanted(name="number", kind="number", detail=rest)
    if prefix in ("events", "participants") and rest:
        return Wanted(name=rest, kind="column" if prefix == "events" else "participant", detail=rest)
    return Wanted(name=text, kind="participant", detail=text)


def parse_classes(text: str) -> Classes:
    """Read ``left=1,right=2`` (numbers as they are counted), ``left,right`` (in this order), or ``all``.

    Raises
    ------
    InputError
        Where a value is named twice, or some are numbered and some not.
    """
    parts = listed(text)
    if parts == ["all"]:
        return Classes()
    pairs = [part.rpartition("=") for part in parts]
    numbered = [sign == "=" and re.fullmatch(r"-?\d+", code.strip()) is not None for _, sign, code in pairs]
    if not parts or any(numbered) != all(numbered):
        raise InputError(
            f"--classes {text!r} numbers {sum(numbered)} of {len(parts)} values", hint="left=1,right=2 or left,right"
        )
    keys = [key.strip() if numbered[0] else part for (key, _, _), part in zip(pairs, parts, strict=True)]
    twice = next((key for key in keys if keys.count(key) > 1), None)
    if twice is not None or not all(keys):
        raise InputError(f"--classes {text!r} names {twice or 'nothing'!r} twice", hint="name every value once")
    codes = [int(code) for _, _, code in pairs] if numbered[0] else list(range(len(keys)))
    order = sorted(set(codes))
    return Classes(
        keys=tuple(keys),
        places=tuple(order.index(code) for code in codes),
        codes=tuple(map(str, order)) if numbered[0] else (),
    )


def natural(labels: Sequence[str]) -> list[str]:
    """Return labels in the order in which people count: 8 Hz before 15 Hz."""

    def key(label: str) -> list[tuple[int, float, str]]:
        parts = re.split(r"(\d+(?:\.\d+)?)", label)
        return [(0, float(part), "") if index % 2 else (1, 0.0, part) for index, part in enumerate(parts) if part]

    return sorted(labels, key=key)
