"""What goes into a network, what comes out, and where a graph came from.

These three ride inside the ONNX file, so a graph found years later still says its channels, rate, unit and ancestry.
"""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rtserve.errors import InputError, SpecMismatchError
from rtserve.files import canonical_json

__all__ = [
    "InputSpec",
    "OutputSpec",
    "Provenance",
    "channel_difference",
    "electrode",
    "require_same_input",
    "require_same_output",
]

UNITS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "1": 1.0}
"""Known units and their size in volts; ``"1"`` is a number without a unit."""


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The input of a network: windows of shape (batch, n_chans, n_times).

    Parameters
    ----------
    n_chans, n_times : int
        Channels and samples of one window.
    sfreq : float
        Sampling rate in Hz; 0 where it is not known (a graph made elsewhere), and then it fits any.
    ch_names : tuple of str
        Channel names in order, or empty where they are not known.
    unit : str
        Unit of the samples: ``"V"``, ``"mV"``, ``"uV"``, or ``"1"``.

    Raises
    ------
    InputError
        Where a value is impossible or `ch_names` has another length than `n_chans`.
    """

    n_chans: int
    n_times: int
    sfreq: float
    ch_names: tuple[str, ...] = ()
    unit: str = "V"

    def __post_init__(self) -> None:
        if self.n_chans < 1 or self.n_times < 1:
            raise InputError(
                f"a window of {self.n_chans} channels x {self.n_times} samples is empty", hint="give both, at least 1"
            )
        if not (math.isfinite(self.sfreq) and self.sfreq >= 0):
            raise InputError(f"sampling rate {self.sfreq} Hz is impossible", hint="give sfreq in Hz")
        if self.ch_names and len(self.ch_names) != self.n_chans:
            raise InputError(
                f"{len(self.ch_names)} channel names for {self.n_chans} channels", hint="name every channel, or none"
            )
        if self.unit not in UNITS:
            raise InputError(f"unknown unit {self.unit!r}", hint=f"use one of {', '.join(UNITS)}")

    def __str__(self) -> str:
        rate = f"{self.sfreq:g} Hz" if self.sfreq else "a rate not known"
        return f"{self.n_chans} channels x {self.n_times} samples at {rate} in {self.unit}"

    def to_json(self) -> str:
        """Return the spec as canonical JSON; `from_json` reads it back."""
        return canonical_json(dataclasses.asdict(self) | {"ch_names": list(self.ch_names)})

    @classmethod
    def from_json(cls, text: str) -> InputSpec:
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            Where it is not that.
        """
        values = _object(text, "input spec")
        names = values.get("ch_names", [])
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise InputError(f"the input spec's ch_names {names!r:.40} are no list of names", hint=_EDITED)
        return _built(cls, values | {"ch_names": tuple(names)}, "input spec")


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """The output of a network: (batch, n_outputs).

    Parameters
    ----------
    n_outputs : int
        Numbers per window.
    target : str
        What they are: ``"response_time"`` (s), ``"externalizing"`` (score), ``"class"``, or ``""`` where not known.
    """

    n_outputs: int = 1
    target: str = ""

    def __post_init__(self) -> None:
        if self.n_outputs < 1:
            raise InputError(f"{self.n_outputs} outputs", hint="a network gives at least 1 number per window")

    def __str__(self) -> str:
        return f"{self.n_outputs} output{'s' * (self.n_outputs > 1)}" + (f" ({self.target})" if self.target else "")

    def to_json(self) -> str:
        """Return the spec as canonical JSON; `from_json` reads it back."""
        return canonical_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> OutputSpec:
        """Read what `to_json` wrote; `InputError` where it is not that."""
        return _built(cls, _object(text, "output spec"), "output spec")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a graph came from; no times and no paths, so that the same inputs give the same bytes.

    Parameters
    ----------
    kind : str
        ``"export"`` (of a checkpoint), ``"fuse"`` (of graphs) or ``"foreign"`` (made elsewhere).
    details : dict
        JSON values: for an export the checkpoint's digest, exporter, settings, quirks, parameter count and
        architecture digest; for a fusion the plan, the member digests and the passes.
    """

    kind: str
    details: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the provenance as canonical JSON; `from_json` reads it back."""
        return canonical_json({"kind": self.kind, "details": self.details})

    @classmethod
    def from_json(cls, text: str) -> Provenance:
        """Read what `to_json` wrote; `InputError` where it is not that."""
        found = _built(cls, _object(text, "provenance"), "provenance")
        if not (isinstance(found.kind, str) and isinstance(found.details, dict)):
            raise InputError("the provenance in the file is not {kind, details}", hint=_EDITED)
        return found


_EDITED = "the file was edited or cut short; make it again"
_Spec = TypeVar("_Spec", InputSpec, OutputSpec, Provenance)


def _object(text: str, what: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"the {what} in the file is not JSON ({error})", hint=_EDITED) from None
    if not isinstance(values, dict):
        raise InputError(f"the {what} in the file is a {type(values).__name__}, not an object", hint=_EDITED)
    return values


def _built(cls: type[_Spec], values: dict[str, Any], what: str) -> _Spec:
    try:
        return cls(**values)
    except TypeError as error:
        reason = str(error).partition("()")[2].strip() or str(error)
        raise InputError(f"the {what} in the file does not fit: {reason}", hint=_EDITED) from None


def electrode(name: str) -> str:
    """Return the name an electrode is compared by: E129 of the 129-channel net is its reference at the vertex, Cz."""
    return "Cz" if name == "E129" else name


def channel_difference(first: tuple[str, ...], second: tuple[str, ...]) -> str:
    """Return the first channel in which two lists of equal length differ, or ``""``; unknown names differ from none."""
    for index, (one, two) in enumerate(zip(first, second, strict=False)):
        if electrode(one) != electrode(two):
            return f"channel {index} is {one} against {two}"
    return ""


def require_same_input(first: InputSpec, second: InputSpec, *, names: tuple[str, str]) -> None:
    """Raise `SpecMismatchError` naming both values of everything in which two input specs differ.

    Channel names and rates are compared where both know them.
    """
    differences = [
        f"{key} {getattr(first, key)} against {getattr(second, key)}"
        for key in ("n_chans", "n_times", "sfreq", "unit")
        if getattr(first, key) != getattr(second, key) and not (key == "sfreq" and 0 in (first.sfreq, second.sfreq))
    ]
    names_differ = channel_difference(first.ch_names, second.ch_names)
    if names_differ:
        differences.append(names_differ)
    if differences:
        raise SpecMismatchError(
            f"{names[0]} and {names[1]} take different input: {'; '.join(differences)}",
            hint="only networks for the same windows can be used together",
        )


def require_same_output(first: OutputSpec, second: OutputSpec, *, names: tuple[str, str]) -> None:
    """Raise `SpecMismatchError` where two output specs differ in size, or in a target that both name."""
    if first.n_outputs != second.n_outputs:
        raise SpecMismatchError(
            f"{names[0]} gives {first.n_outputs} numbers per window, {names[1]} gives {second.n_outputs}",
            hint="only networks with the same output can be merged",
        )
    if first.target and second.target and first.target != second.target:
        raise SpecMismatchError(
            f"{names[0]} predicts {first.target}, {names[1]} predicts {second.target}",
            hint="merge networks of one target; a submission takes one graph per challenge",
        )
