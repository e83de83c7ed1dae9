"""From the arrays of a file to the fields of a window set: what they say, what they do not, and what the user adds.

A field that the file does not state is unknown: unit None, rate 0, target "". Nothing is filled in for it. `Stated` is
what the caller says instead; a statement that contradicts the file is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.spec import UNITS

__all__ = [
    "Stated",
    "Target",
    "class_names",
    "file_unit",
    "labels",
    "names_of",
    "number",
    "read_targets",
    "steps",
    "text",
]

_SPELLINGS = {"µV": "uV", "μV": "uV", "microvolt": "uV", "millivolt": "mV", "volt": "V", "volts": "V", "": None}
TARGET_PREFIX, CLASSES = "y.", "classes"


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What the user says of windows whose file does not say it.

    Parameters
    ----------
    unit : str or None
        ``"V"``, ``"mV"``, ``"uV"``, or ``"1"`` for standardised samples.
    sfreq : float
        Hz; 0 for nothing said.
    target : str
        What y is, or which of several targets is meant; empty for nothing said.
    classes : tuple of str
        Names of the classes 0, 1, ... in this order.
    """

    unit: str | None = None
    sfreq: float = 0.0
    target: str = ""
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.unit is not None and self.unit not in UNITS:
            raise InputError(f"unknown unit {self.unit!r}", hint=f"use one of {', '.join(UNITS)}")
        if not (np.isfinite(self.sfreq) and self.sfreq >= 0):
            raise InputError(f"sampling rate {self.sfreq} Hz is impossible", hint="give --sfreq in Hz")

    def agree(self, key: str, mine: Any, name: str) -> Any:
        """Return the file's value of `key`, or the stated one where the file says nothing; they may not differ."""
        said = getattr(self, key)
        if said and mine and said != mine:
            raise InputError(
                f"{name} says its {key} is {_shown(mine)}, not {_shown(said)}",
                hint=f"leave --{key} out; where the file is wrong: rtserve annotate {name} --{key} ... --force",
            )
        return mine or said


def class_names(text: str | None) -> tuple[str, ...]:
    """Return the names in ``A,B,C``; ``left=1,right=2`` in the order of the numbers.

    Raises
    ------
    InputError
        Where a name stands twice, or numbers do not go up by one from 0 or 1.
    """
    parts = [part.strip() for part in (text or "").split(",") if part.strip()]
    pairs = [part.partition("=") for part in parts]
    if any(equals for _, equals, _ in pairs):
        numbers = sorted((number.strip(), label.strip()) for label, _, number in pairs)
        digits = [number for number, _ in numbers]
        if digits not in ([str(k) for k in range(len(pairs))], [str(k + 1) for k in range(len(pairs))]):
            raise InputError(
                f"classes {text!r} are not numbered 0, 1, ...", hint="for example --classes left=0,right=1"
            )
        parts = [label for _, label in numbers]
    if len(set(parts)) < len(parts):
        raise InputError(f"classes {text!r} name one twice", hint="for example --classes left,right")
    return tuple(parts)


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else f"{value:g} Hz" if isinstance(value, float) else str(value)


@dataclass(frozen=True, kw_only=True)
class Target:
    """One of several targets in a window set.

    Parameters
    ----------
    values : ndarray, float32, (n_windows,)
        Numbers, or class numbers.
    classes : tuple of str
        Names of the classes 0, 1, ...; empty where the values are no classes.
    """

    values: np.ndarray
    classes: tuple[str, ...] = ()


def scalar(arrays: dict[str, Any], key: str, name: str) -> Any:
    """Take a single value out of the arrays, whatever its shape; None where it is absent."""
    if key not in arrays:
        return None
    value = np.asarray(arrays.pop(key))
    distinct = np.unique(value) if value.size else value
    if distinct.size != 1:
        raise InputError(f"{key} in {name} has {distinct.size} values ({value.shape})", hint=f"give one {key}")
    item = distinct.ravel()[0]
    return item.decode(errors="replace") if isinstance(item, bytes) else item.item()


def text(arrays: dict[str, Any], key: str, name: str) -> str:
    """Take a text out of the arrays; empty where it is absent."""
    value = scalar(arrays, key, name)
    return "" if value is None else str(value)


def number(arrays: dict[str, Any], key: str, name: str) -> float:
    """Take a number out of the arrays; 0 where it is absent."""
    value = scalar(arrays, key, name)
    try:
        return 0.0 if value is None else float(value)
    except (TypeError, ValueError):
        raise InputError(f"{key} in {name} is {str(value)!r:.40}, no number", hint=f"give {key} as a number") from None


def file_unit(arrays: dict[str, Any], name: str) -> str | None:
    """Take the unit out of the arrays; None where the file states none.

    Raises
    ------
    InputError
        Where it is none of `rtserve.spec.UNITS`.
    """
    said = text(arrays, "unit", name).strip()
    unit = _SPELLINGS.get(said, said)
    if unit is not None and unit not in UNITS:
        raise InputError(
            f"{name} has unknown unit {said!r:.40}", hint=f"use {', '.join(UNITS)} ('1' for standardised samples)"
        )
    return unit


def names_of(arrays: dict[str, Any], key: str) -> tuple[str, ...]:
    """Take a list of names out of the arrays; empty where it is absent."""
    return tuple(_texts(arrays.pop(key, np.empty(0, "U1"))).ravel().tolist())


def _texts(value: Any) -> np.ndarray:
    array = np.atleast_1d(np.asarray(value))
    return np.char.decode(array, "utf-8", "replace") if array.dtype.kind == "S" else array.astype("U")


def steps(arrays: dict[str, Any], name: str) -> tuple[tuple[str, str], ...]:
    """Take what was done to the samples out of the arrays: texts ``key=value``, sorted."""
    found = [entry.partition("=") for entry in names_of(arrays, "preprocessing")]
    if not all(equals for _, equals, _ in found):
        raise InputError(f"preprocessing in {name} is no list of key=value", hint="for example highpass_hz=0.5")
    return tuple(sorted((key, value) for key, _, value in found))


def labels(arrays: dict[str, Any], key: str, n: int, name: str) -> np.ndarray:
    """Take a label per window out of the arrays; an empty array where it is absent."""
    found = _texts(arrays.pop(key, np.empty(0, "U1")))
    if found.shape not in ((0,), (n,), (n, 1), (1, n)):
        raise InputError(f"{name} has {found.size} entries in {key} for {n} windows", hint="one per window, or none")
    return found.ravel()


def read_targets(arrays: dict[str, Any], n: int, name: str) -> dict[str, Target]:
    """Take the targets beside y out of the arrays: ``y.NAME``, and ``classes.NAME`` where it holds classes."""
    found = {}
    for key in [key for key in arrays if key.startswith(TARGET_PREFIX)]:
        label = key.removeprefix(TARGET_PREFIX)
        classes = names_of(arrays, f"{CLASSES}.{label}")
        found[label] = Target(values=target_values(arrays.pop(key), classes, n, key, name), classes=classes)
    return found


def target_values(value: Any, classes: Sequence[str], n: int, key: str, name: str) -> np.ndarray:
    """Return a target as float32 (n_windows,), class names turned into their numbers.

    Raises
    ------
    InputError
        Where its length is wrong, or it holds names whose order nobody stated.
    """
    y = np.asarray(value)
    if y.shape[:1] != (n,) or y.ndim > 2 or y.dtype.kind not in "fiubSU":
        raise InputError(f"{key} in {name} is {y.dtype} {y.shape} for {n} windows", hint="one target per window")
    if y.dtype.kind in "SU":
        y = _numbered(_texts(y).ravel(), tuple(classes), key, name)
    if classes:
        _require_classes(y, classes, key, name)
    y = y.astype(np.float32)
    return y.reshape(n) if y.size == n else y


def _numbered(values: np.ndarray, classes: tuple[str, ...], key: str, name: str) -> np.ndarray:
    found = sorted(set(values.tolist()))
    unknown = [label for label in found if label not in classes]
    if not classes:
        raise InputError(
            f"{key} in {name} holds names ({', '.join(found[:6])}{', ...' if len(found) > 6 else ''}), and nothing says"
            " which class number each has",
            hint=f"state it: --classes {','.join(found[:6])} (class 0 first), as the network was trained",
        )
    if unknown:
        raise InputError(
            f"{key} in {name} holds {unknown[0]!r:.40}, which is none of the classes {', '.join(classes)}",
            hint="name every class",
        )
    place = {label: number for number, label in enumerate(classes)}
    return np.array([place[label] for label in values.tolist()], np.float32)


def _require_classes(y: np.ndarray, classes: Sequence[str], key: str, name: str) -> None:
    bad = (y != np.round(y)) | (y < 0) | (y >= len(classes))
    if bad.any():
        first = int(np.argmax(bad))
        raise InputError(
            f"{key} in {name} has {y.ravel()[first]:g} at window {first}, no number of the {len(classes)} classes"
            f" {', '.join(classes)}",
            hint=f"class numbers go from 0 to {len(classes) - 1}",
        )


def columns(targets: Mapping[str, Target]) -> dict[str, Any]:
    """Return targets as a file holds them; `read_targets` reads them back."""
    arrays: dict[str, Any] = {}
    for label, target in targets.items():
        arrays[TARGET_PREFIX + label] = target.values.astype(np.float32)
        if target.classes:
            arrays[f"{CLASSES}.{label}"] = np.array(target.classes, "U")
    return arrays
