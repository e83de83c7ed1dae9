"""What goes into a network, what comes out, and where a graph came from.

These three ride inside the ONNX file, so a graph found years later still says its channels, rate, unit and ancestry.
What nobody stated is *unknown*: a unit of None, a rate of 0, an empty target. Nothing is filled in for it. Two things
are compared where both say something; who needs an unknown asks for it (`require_known`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rtserve.errors import InputError, SpecMismatchError
from rtserve.files import canonical_json

__all__ = [
    "FORMS",
    "UNITS",
    "InputSpec",
    "OutputSpec",
    "Provenance",
    "channel_difference",
    "electrode",
    "order_difference",
    "require_known",
    "require_same_input",
    "require_same_output",
    "require_same_target",
    "spelled_unit",
    "steps_differ",
    "unit_factor",
]

TRAINED_ON = "trained_on"
"""Under which a record of the windows that trained it stands in a checkpoint and in a provenance."""
UNITS = {"V": 1.0, "mV": 1e-3, "uV": 1e-6, "1": 1.0}
"""Known units and their size in volts; ``"1"`` is standardised data, which no factor turns into volts."""
_SPELLINGS = {
    "v": "V", "volt": "V", "volts": "V", "mv": "mV", "millivolt": "mV", "millivolts": "mV",
    "uv": "uV", "µv": "uV", "μv": "uV", "microvolt": "uV", "microvolts": "uV",
}  # fmt: skip
FORMS = ("logits", "probabilities", "log-probabilities")
"""What the numbers of a classifier can be: before the softmax (or sigmoid), after it, or its logarithm."""


@dataclass(frozen=True, kw_only=True)
class InputSpec:
    """The input of a network: windows of shape (batch, n_chans, n_times).

    Parameters
    ----------
    n_chans, n_times : int
        Channels and samples of one window.
    sfreq : float
        Sampling rate in Hz; 0 where it is not known.
    ch_names : tuple of str
        Channel names in order, or empty where they are not known.
    unit : str or None
        Unit of the samples: ``"V"``, ``"mV"``, ``"uV"``, ``"1"`` (standardised, no unit); None where not known.
    preprocessing : tuple of (str, str)
        What was done to the samples, by key, as far as it is known: ``(("highpass_hz", "0.5"), ...)``, sorted.

    Raises
    ------
    InputError
        Where a value is impossible or `ch_names` has another length than `n_chans`.
    """

    n_chans: int
    n_times: int
    sfreq: float = 0.0
    ch_names: tuple[str, ...] = ()
    unit: str | None = None
    preprocessing: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.n_chans < 1 or self.n_times < 1:
            raise InputError(
                f"a window of {self.n_chans} channels x {self.n_times} samples is empty", hint="give both, at least 1"
            )
        if not (math.isfinite(self.sfreq) and self.sfreq >= 0):
            raise InputError(f"sampling rate {self.sfreq} Hz is impossible", hint="give sfreq in Hz")
        object.__setattr__(self, "ch_names", tuple(self.ch_names))  # an exporter may give a list, and equals are equal
        if self.ch_names and len(self.ch_names) != self.n_chans:
            raise InputError(
                f"{len(self.ch_names)} channel names for {self.n_chans} channels", hint="name every channel, or none"
            )
        if self.unit is not None and self.unit not in UNITS:
            raise InputError(f"unknown unit {self.unit!r}", hint=f"use one of {', '.join(UNITS)}")

    def __str__(self) -> str:
        rate = f"{self.sfreq:g} Hz" if self.sfreq else "an unknown rate"
        unit = {None: "an unknown unit", "1": "standardised units"}.get(self.unit, self.unit)
        return f"{self.n_chans} channels x {self.n_times} samples at {rate} in {unit}"

    @property
    def unknown(self) -> tuple[str, ...]:
        """Names of what is not known of ``unit`` and ``sfreq``."""
        return tuple(key for key in ("unit", "sfreq") if not getattr(self, key))

    def completed_by(self, other: InputSpec) -> InputSpec:
        """Return the spec with what it leaves unknown as `other` states it."""
        steps = dict(other.preprocessing) | dict(self.preprocessing)
        return dataclasses.replace(
            self,
            sfreq=self.sfreq or other.sfreq,
            ch_names=self.ch_names or (other.ch_names if other.n_chans == self.n_chans else ()),
            unit=self.unit or other.unit,
            preprocessing=tuple(sorted(steps.items())),
        )

    def to_json(self) -> str:
        """Return the spec as canonical JSON; `from_json` reads it back."""
        values = dataclasses.asdict(self) | {"ch_names": list(self.ch_names)}
        return canonical_json(_said(values, {"preprocessing": dict(self.preprocessing)}))

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
        steps = values.get("preprocessing", {})
        if not (isinstance(steps, dict) and all(isinstance(value, str) for value in steps.values())):
            raise InputError(f"the input spec's preprocessing {steps!r:.40} is no table of texts", hint=_EDITED)
        read = {"ch_names": tuple(names), "preprocessing": tuple(sorted(steps.items()))}
        return _built(cls, values | read, "input spec")


@dataclass(frozen=True, kw_only=True)
class OutputSpec:
    """The output of a network: (batch, n_outputs).

    Parameters
    ----------
    n_outputs : int
        Numbers per window.
    target : str
        What they are: ``"response_time"`` (s), ``"externalizing"`` (score), ``"class"``, or ``""`` where not known.
    classes : tuple of str
        Names of the classes in order: one per output, or two for one output; empty where not known.
    form : str
        Of a classifier: one of `FORMS`, or ``""`` where not known.
    coupled : bool
        Whether the answer to a window depends on the others in its batch: its score is one of that batch size.
    """

    n_outputs: int = 1
    target: str = ""
    classes: tuple[str, ...] = ()
    form: str = ""
    coupled: bool = False

    def __post_init__(self) -> None:
        if self.n_outputs < 1:
            raise InputError(f"{self.n_outputs} outputs", hint="a network gives at least 1 number per window")
        if self.classes and len(self.classes) != max(2, self.n_outputs):
            raise InputError(
                f"{len(self.classes)} classes ({', '.join(self.classes)}) for {self.n_outputs} outputs",
                hint="name one class per output; two where one output decides between them",
            )
        if self.classes and self.target not in ("", "class"):
            raise InputError(
                f"classes {', '.join(self.classes)} of a target {self.target}",
                hint="name classes for the target 'class' alone",
            )
        if self.form and self.form not in FORMS:
            raise InputError(f"unknown form {self.form!r} of a classifier's output", hint=f"use {', '.join(FORMS)}")

    def __str__(self) -> str:
        coupled = "coupled: depends on the batch" if self.coupled else ""
        said = [part for part in (self.target, self.form, "/".join(self.classes), coupled) if part]
        return f"{self.n_outputs} output{'s' * (self.n_outputs > 1)}" + (f" ({', '.join(said)})" if said else "")

    @property
    def classifies(self) -> bool:
        """Whether the numbers are said to stand for classes."""
        return self.target == "class" or bool(self.classes)

    @property
    def threshold(self) -> float:
        """Above which one output of a binary classifier means the second class: logit 0, probability 1/2."""
        return {"probabilities": 0.5, "log-probabilities": math.log(0.5)}.get(self.form, 0.0)

    def completed_by(self, other: OutputSpec) -> OutputSpec:
        """Return the spec with what it leaves unknown as `other` states it."""
        return dataclasses.replace(
            self,
            target=self.target or other.target,
            classes=self.classes or other.classes,
            form=self.form or other.form,
            coupled=self.coupled or other.coupled,
        )

    def to_json(self) -> str:
        """Return the spec as canonical JSON; `from_json` reads it back."""
        values = {"n_outputs": self.n_outputs, "target": self.target}
        return canonical_json(
            _said(values, {"classes": list(self.classes), "form": self.form, "coupled": self.coupled})
        )

    @classmethod
    def from_json(cls, text: str) -> OutputSpec:
        """Read what `to_json` wrote; `InputError` where it is not that."""
        values = _object(text, "output spec")
        names = values.get("classes", [])
        if not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
            raise InputError(f"the output spec's classes {names!r:.40} are no list of names", hint=_EDITED)
        return _built(cls, values | {"classes": tuple(names)}, "output spec")


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


def _said(values: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Return the values with those of `later` that say something: a graph of 0.1 keeps its bytes, and so its digest."""
    kept = {key: value for key, value in values.items() if key not in later}
    return kept | {key: value for key, value in later.items() if value}


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


def spelled_unit(text: str) -> str:
    """Return a stream's unit of volts as it is called here; empty for what is none."""
    return _SPELLINGS.get(text.strip().lower(), "")


def electrode(name: str) -> str:
    """Return the name an electrode is compared by: E129 of the 129-channel net is its reference at the vertex, Cz."""
    return "Cz" if name == "E129" else name


def channel_difference(first: tuple[str, ...], second: tuple[str, ...]) -> str:
    """Return the first channel in which two lists of equal length differ, or ``""``; unknown names differ from none."""
    for index, (one, two) in enumerate(zip(first, second, strict=False)):
        if electrode(one) != electrode(two):
            return f"channel {index} is {one} against {two}"
    return ""


def order_difference(first: tuple[str, ...], second: tuple[str, ...]) -> str:
    """Return where two lists of the same channels are in another order, or ``""``: other names may be other spellings."""
    reordered = sorted(map(electrode, first)) == sorted(map(electrode, second))
    differ = channel_difference(first, second) if reordered else ""
    return f"{differ}, the same names in another order" if differ else ""


def unit_factor(of: str | None, into: str | None, *, names: tuple[str, str]) -> float:
    """Return what samples in unit `of` are multiplied with to be in unit `into`.

    Where either unit is unknown the factor is 1: the samples go in as they are, and the caller says so.

    Raises
    ------
    SpecMismatchError
        Where one is standardised and the other is not: no factor leads from one to the other.
    """
    if of is None or into is None or of == into:
        return 1.0
    if "1" in (of, into):
        raise SpecMismatchError(
            f"{names[0]} {'is standardised (unit 1)' if of == '1' else f'is in {of}'}, {names[1]} takes"
            f" {'standardised windows (unit 1)' if into == '1' else into}",
            hint="no factor turns one into the other: use windows prepared as those the network was trained on",
        )
    return UNITS[of] / UNITS[into]


def require_known(spec: InputSpec, keys: Iterable[str], *, name: str, hint: str) -> None:
    """Raise `InputError` naming which of `keys` (``"unit"``, ``"sfreq"``) the spec of `name` does not state."""
    missing = [key for key in keys if key in spec.unknown]
    if missing:
        raise InputError(f"{name} does not state its {' and its '.join(missing)}", hint=hint)


def _apart(first: object, second: object) -> bool:
    """Whether both say something, and not the same."""
    return bool(first) and bool(second) and first != second


def require_same_input(first: InputSpec, second: InputSpec, *, names: tuple[str, str]) -> None:
    """Raise `SpecMismatchError` naming both values of everything in which two input specs differ.

    Rates, units, channel names and preprocessing are compared where both know them.
    """
    sizes = ("n_chans", "n_times")
    differences = [
        f"{key} {getattr(first, key)} against {getattr(second, key)}"
        for key in (*sizes, "sfreq", "unit")
        if (getattr(first, key) != getattr(second, key) if key in sizes else _apart(*_both(first, second, key)))
    ]
    names_differ = channel_difference(first.ch_names, second.ch_names)
    if names_differ:
        differences.append(names_differ)
    differences += steps_differ(dict(first.preprocessing), dict(second.preprocessing))
    if differences:
        raise SpecMismatchError(
            f"{names[0]} and {names[1]} take different input: {'; '.join(differences)}",
            hint="only networks for the same windows can be used together",
        )


def _both(first: InputSpec, second: InputSpec, key: str) -> tuple[object, object]:
    return getattr(first, key), getattr(second, key)


def steps_differ(first: Mapping[str, str], second: Mapping[str, str]) -> list[str]:
    """Return every step of preprocessing that both know and did differently."""
    return [
        f"{key} {first[key]} against {second[key]}" for key in sorted(first.keys() & second.keys())
        if first[key] != second[key]
    ]  # fmt: skip


def require_same_target(first: str, second: str, *, names: tuple[str, str], hint: str) -> None:
    """Raise `SpecMismatchError` where two targets are both known and differ."""
    if _apart(first, second):
        raise SpecMismatchError(f"{names[0]} predicts {first}, {names[1]} {second}", hint=hint)


def require_same_output(first: OutputSpec, second: OutputSpec, *, names: tuple[str, str]) -> None:
    """Raise `SpecMismatchError` where two output specs differ in size, or in a target or classes that both name."""
    if first.n_outputs != second.n_outputs:
        raise SpecMismatchError(
            f"{names[0]} gives {first.n_outputs} numbers per window, {names[1]} gives {second.n_outputs}",
            hint="only networks with the same output can be merged",
        )
    if _apart(first.target, second.target):
        raise SpecMismatchError(
            f"{names[0]} predicts {first.target}, {names[1]} predicts {second.target}",
            hint="merge networks of one target; a submission takes one graph per challenge",
        )
    if _apart(first.classes, second.classes):
        raise SpecMismatchError(
            f"{names[0]} knows the classes {', '.join(first.classes)}, {names[1]} {', '.join(second.classes)}",
            hint="only networks whose outputs stand for the same classes in the same order can be merged",
        )
