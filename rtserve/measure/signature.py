"""A number that says how it was made: signature, interval, score.

Two scores may be subtracted only when their signatures are equal; `Signature.differences` names what stands between
them otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rtserve.errors import InputError

__all__ = ["FEW", "FROM", "VERSION", "Interval", "Score", "Signature"]

FROM = "from"
"""Option that says what a classifier's decision was read from ("logit > 0", "argmax of mean probabilities"). It is about
the model and not about the measure: two scores that differ in it alone may be subtracted."""
VERSION = 1
"""Raised whenever a definition below changes, so that old and new numbers are not comparable by accident."""
FEW = 6
"""With fewer subjects no paired test can reach p 0.05: the smallest possible is ``2 / 2 ** n``."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Everything that can change a metric's number.

    Parameters
    ----------
    metric : str
        Name of the metric.
    options : tuple of (str, str)
        Its own settings, e.g. ``(("norm", "std"), ("ddof", "0"))``.
    agg : str
        What is averaged: ``"windows"``.
    n : int
        How many windows.
    data : str
        First 12 digits of the digest of exactly the windows that were scored.
    split : str
        Which part of the file; ``"all"`` for the whole.
    version : int
        Version of the definitions.
    """

    metric: str
    options: tuple[tuple[str, str], ...] = ()
    agg: str = "windows"
    n: int = 0
    data: str = ""
    split: str = "all"
    version: int = VERSION

    def fields(self) -> dict[str, str]:
        """Return the signature as ordered key and value."""
        head = {"metric": self.metric} | dict(self.options)
        return head | {
            "agg": self.agg,
            "n": str(self.n),
            "data": self.data,
            "split": self.split,
            "v": str(self.version),
        }

    def __str__(self) -> str:
        fields = self.fields()
        return "|".join([fields.pop("metric"), *(f"{key}:{value}" for key, value in fields.items())])

    @classmethod
    def parse(cls, text: str) -> Signature:
        """Read what ``str`` wrote.

        Raises
        ------
        InputError
            Where the text is no signature.
        """
        head, *rest = text.split("|")
        pairs = [part.split(":", 1) for part in rest]
        if not head or not all(len(pair) == 2 for pair in pairs):
            raise InputError(f"{text!r} is no metric signature", hint="it looks like nrmse|norm:std|ddof:0|...|v:1")
        values = {key: value for key, value in pairs}
        known = {key: values.pop(key) for key in ("agg", "n", "data", "split", "v") if key in values}
        try:
            n, version = int(known.get("n", "0")), int(known.get("v", str(VERSION)))
        except ValueError:
            raise InputError(f"{text!r} has a count that is no number", hint="n: and v: are integers") from None
        return cls(
            metric=head,
            options=tuple(values.items()),
            agg=known.get("agg", ""),
            n=n,
            data=known.get("data", ""),
            split=known.get("split", ""),
            version=version,
        )

    def differences(self, other: Signature) -> tuple[str, ...]:
        """Return what differs, as ``key: mine against theirs``; empty means the two numbers are comparable."""
        mine, theirs = self.fields(), other.fields()
        keys = [*mine, *(key for key in theirs if key not in mine)]
        return tuple(
            f"{key}: {mine.get(key, 'absent')} against {theirs.get(key, 'absent')}"
            for key in keys
            if key != FROM and mine.get(key) != theirs.get(key)
        )


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A bootstrap interval and how it was made.

    Parameters
    ----------
    low, high : float
        Its ends.
    level : float
        Nominal coverage.
    over : str
        What was resampled: ``"subjects"``, or ``"windows"`` where subjects are not known.
    units : int
        How many of those.
    mark : str
        What makes it shorter than it says ("heavy tails: too short"); no verdict rests on a marked interval.
    """

    low: float
    high: float
    level: float = 0.95
    over: str = "windows"
    units: int = 0
    mark: str = ""

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def text(self, form: str = ".4g") -> str:
        """Return the ends in brackets, followed by what they do not say by themselves."""
        said = [self.mark] if self.mark else []
        if self.over == "windows" and self.units:
            said.append("over windows, not people")
        elif 0 < self.units < FEW:
            said.append(f"{self.units} people")
        return f"[{self.low:{form}}, {self.high:{form}}]" + (f" ({'; '.join(said)})" if said else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the interval as JSON values."""
        values = {"low": self.low, "high": self.high, "level": self.level, "over": self.over, "units": self.units}
        return values | ({"mark": self.mark} if self.mark else {})

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Interval:
        """Read what `to_dict` wrote."""
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One number that says how it was made.

    Parameters
    ----------
    value : float
        The number.
    signature : Signature
        What can change it.
    interval : Interval or None
        None where there are too few units to resample.
    """

    value: float
    signature: Signature
    interval: Interval | None = None

    def __str__(self) -> str:
        ends = f" {self.interval.text()}" if self.interval else ""
        return f"{self.signature} = {self.value:.5g}{ends}"

    def to_dict(self) -> dict[str, Any]:
        """Return the score as JSON values."""
        return {
            "metric": self.signature.metric,
            "value": self.value,
            "interval": self.interval.to_dict() if self.interval else None,
            "signature": str(self.signature),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Score:
        """Read what `to_dict` wrote."""
        interval = values.get("interval")
        return cls(
            value=float(values["value"]),
            signature=Signature.parse(values["signature"]),
            interval=Interval.from_dict(interval) if interval else None,
        )
