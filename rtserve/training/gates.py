"""Gates: rules on a signed metric that let a run go on, mark it marginal, or stop it and say what to do instead.

A gate names its metric with everything that changes the number: half a squared error is no squared error, and a
threshold made for the one cannot judge the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rtserve.errors import InputError, NotComparableError
from rtserve.measure.signature import Signature
from rtserve.training.watched import watched

__all__ = ["Gate", "Verdict", "judge", "parse_gate"]

_EXAMPLE = "smooth_l1:marginal=0.085,stop=0.095,after=1,fallback=submissions/single"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """A rule on a metric of the valid windows.

    Parameters
    ----------
    metric : str
        Its name, or a whole signature such as ``smooth_l1|beta:1|split:valid``; every field given must match.
    marginal, stop : float
        Worse than `marginal` is marked, worse than `stop` ends the run. Worse is larger, or smaller where the metric is
        better when higher.
    after : int
        The epoch after which the gate looks.
    fallback : str
        What to submit or do where the gate stops the run.
    """

    metric: str
    marginal: float
    stop: float
    after: int = 1
    fallback: str = "the best earlier submission"

    def __post_init__(self) -> None:
        metric = watched(self.metric.partition("|")[0])
        ordered = self.stop <= self.marginal if metric.higher_is_better else self.marginal <= self.stop
        if not ordered or self.after < 1:
            raise InputError(
                f"gate on {self.metric}: marginal {self.marginal:g}, stop {self.stop:g}, after {self.after}",
                hint="stop is worse than marginal, and after is 1 or more",
            )


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What a gate says: ``"continue"``, ``"marginal"`` or ``"stop"``, and why."""

    outcome: str
    gate: Gate
    value: float
    signature: str
    epoch: int

    def __str__(self) -> str:
        figure = f"{self.signature} = {self.value:.5g} after epoch {self.epoch}"
        if self.outcome == "stop":
            return f"stop: {figure} is worse than {self.gate.stop:g}; use {self.gate.fallback} instead"
        if self.outcome == "marginal":
            return f"marginal: {figure} is between {self.gate.marginal:g} and {self.gate.stop:g}; going on, marked"
        return f"continue: {figure} is better than {self.gate.marginal:g}"

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return {"outcome": self.outcome, "value": self.value, "signature": self.signature, "epoch": self.epoch} | {
            "marginal": self.gate.marginal,
            "stop": self.gate.stop,
            "fallback": self.gate.fallback,
            "text": str(self),
        }


def parse_gate(text: str) -> Gate:
    """Read ``METRIC:marginal=A,stop=B[,after=N][,fallback=TEXT]``.

    Raises
    ------
    InputError
        Where the text is no gate.
    """
    head, fallback_key, fallback = text.partition(",fallback=")
    metric, _, settings = head.rpartition(":")
    pairs = dict(part.split("=", 1) for part in settings.split(",") if "=" in part)
    unknown = set(pairs) - {"marginal", "stop", "after"}
    if not metric or unknown or not {"marginal", "stop"} <= set(pairs):
        raise InputError(f"{text!r} is no gate", hint=f"for example {_EXAMPLE}")
    try:
        numbers = {
            "marginal": float(pairs["marginal"]),
            "stop": float(pairs["stop"]),
            "after": int(pairs.get("after", 1)),
        }
    except ValueError:
        raise InputError(f"{text!r} has a threshold that is no number", hint=f"for example {_EXAMPLE}") from None
    more = {"fallback": fallback} if fallback_key else {}
    return Gate(metric=metric, **numbers, **more)  # type: ignore[arg-type]


def judge(gate: Gate, row: Mapping[str, Any]) -> Verdict | None:
    """Judge one row of a run's log, or return None where the gate looks at another epoch.

    Parameters
    ----------
    gate : Gate
        The rule.
    row : mapping
        ``epoch`` and ``valid``, a mapping from signature to value.

    Raises
    ------
    NotComparableError
        Where the run does not log the metric with the gate's signature.
    """
    if row["epoch"] != gate.after:
        return None
    metric = watched(gate.metric.partition("|")[0])
    for text, value in row["valid"].items():
        if _matches(gate.metric, Signature.parse(text)):
            return _verdict(gate, metric.higher_is_better, float(value), text, int(row["epoch"]))
    raise NotComparableError(
        f"the gate is on {gate.metric}, the run logs {'; '.join(row['valid'])}",
        hint="a threshold judges only the metric it was made for: change the gate's metric and its thresholds together",
    )


def _matches(wanted: str, signature: Signature) -> bool:
    name, *fields = wanted.split("|")
    have = signature.fields()
    pairs = [field.split(":", 1) for field in fields]
    return have["metric"] == name and all(len(pair) == 2 and have.get(pair[0]) == pair[1] for pair in pairs)


def _verdict(gate: Gate, higher: bool, value: float, signature: str, epoch: int) -> Verdict:
    def worse(threshold: float) -> bool:
        # A value that is no number is worse than any threshold.
        return not (value >= threshold if higher else value <= threshold)

    outcome = "stop" if worse(gate.stop) else "marginal" if worse(gate.marginal) else "continue"
    return Verdict(outcome=outcome, gate=gate, value=value, signature=signature, epoch=epoch)
