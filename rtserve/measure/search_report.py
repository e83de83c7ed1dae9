"""`SearchReport`: what a search found, what it really gained, and the recipe that builds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtserve.measure.results import environment, save_result
from rtserve.measure.signature import Interval, Signature
from rtserve.measure.standing import Standing
from rtserve.measure.statistics import Difference
from rtserve.tables import fitting

__all__ = ["Option", "SearchReport"]


@dataclass(frozen=True, kw_only=True)
class Option:
    """A candidate on the front: what it is, its metric on the windows it was chosen on, its measured cost.

    Parameters
    ----------
    label : str
        For people.
    members, views : tuple of str
        Names; empty for a graph taken as it is.
    weights : tuple of float
        One per branch, member-major; empty for the mean.
    scale, offset : float
        Calibration.
    whole : str
        Name of a graph taken as it is, or empty.
    average : str
        Of classifiers: what the merge is of.
    value : float
        The metric on all windows: optimistic, because it was chosen on them.
    interval : Interval or None
        Of that.
    cost_us : (float, float, float)
        Measured microseconds per window with an interval; onnxruntime, batch 1, one thread.
    predicted_us : float
        What the cost model said before.
    chosen, single : bool
        Whether it is the search's choice, and whether it is the best single member.
    """

    label: str
    members: tuple[str, ...]
    views: tuple[str, ...]
    weights: tuple[float, ...] = ()
    scale: float = 1.0
    offset: float = 0.0
    whole: str = ""
    average: str = ""
    value: float
    interval: Interval | None
    cost_us: tuple[float, float, float]
    predicted_us: float
    chosen: bool = False
    single: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Return the option as JSON values."""
        values: dict[str, Any] = dict(vars(self))
        cost = dict(zip(("value", "low", "high"), self.cost_us, strict=True))
        return values | {
            "members": list(self.members),
            "views": list(self.views),
            "weights": list(self.weights),
            "interval": self.interval.to_dict() if self.interval else None,
            "cost_us": cost,
        }


@dataclass(frozen=True, kw_only=True)
class SearchReport:
    """The front, the choice, and its worth on subjects that had no say in it.

    Parameters
    ----------
    signature, told : Signature
        Of the metric on the windows chosen on, and on those that the gain is told on.
    higher_is_better : bool
        Its direction.
    budget_us : float
        The limit; infinite for none.
    options : tuple of Option
        The Pareto front by predicted cost, the best single member, graphs taken as they are, the choice.
    gain : Difference
        Choice against best single member, on people who had no say in either.
    nested : float
        The choice's metric, on the same.
    nested_interval : Interval or None
        Of that.
    candidates : int
        How many combinations there were.
    exact : bool
        Whether all were tried.
    folds, over : int, str
        0 and who was untouched; or, of a nested cross-validation, how many folds, over subjects or windows.
    notes : tuple of str
        What a reader must know before believing the gain.
    trained_on : dict
        How many of the windows that were brought the members were trained on; those are neither chosen nor told on.
    standing : Standing or None
        Of the choice against the constant on people who had no say.
    """

    signature: Signature
    told: Signature
    higher_is_better: bool
    budget_us: float
    options: tuple[Option, ...]
    gain: Difference
    nested: float
    nested_interval: Interval | None
    candidates: int
    exact: bool
    folds: int
    over: str
    notes: tuple[str, ...] = ()
    trained_on: dict[str, Any] = field(default_factory=dict)
    standing: Standing | None = None

    @property
    def choice(self) -> Option:
        """What the search proposes."""
        return next(option for option in self.options if option.chosen)

    @property
    def within_budget(self) -> bool:
        """Whether the choice measures within the budget."""
        return self.choice.cost_us[0] <= self.budget_us

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "signature": str(self.signature),
            "higher_is_better": self.higher_is_better,
            "budget_us": self.budget_us if self.budget_us != float("inf") else None,
            "within_budget": self.within_budget,
            "candidates": self.candidates,
            "exact": self.exact,
            "trained_on": self.trained_on,
            "options": [option.to_dict() for option in self.options],
            "nested": {
                "value": self.nested,
                "signature": str(self.told),
                "interval": self.nested_interval.to_dict() if self.nested_interval else None,
                "folds": self.folds,
                "over": self.over,
                "gain": self.gain.to_dict(),
                "against_constant": self.standing.to_dict() if self.standing else None,
                "notes": list(self.notes),
            },
            "environment": environment(threads=1),
        }

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the report as JSON."""
        return save_result(path, "search", self.to_dict(), force=force)

    def lines(self, width: int | None = None) -> list[str]:
        """Return what a person reads; `width` are a terminal's columns."""
        how = "all tried" if self.exact else "searched greedily"
        limit = f" under {self.budget_us:g} us" if self.budget_us != float("inf") else ""
        out = [f"{self.candidates:,} combinations, {how}{limit}; {self.signature}"]
        lines, records = [], []
        for o in sorted(self.options, key=lambda o: o.cost_us[0]):
            mark = ">" if o.chosen else "*" if o.single else " "
            value = f"{o.value:.5f}" + (f" {o.interval.text('.4f')}" if o.interval else "")
            lines.append(f"{mark} {o.cost_us[0]:8.1f} us  {value}  {o.label}")
            records.append((f"{mark} {o.label}", [("cost", f"{o.cost_us[0]:.1f} us"), (self.signature.metric, value)]))
        out += fitting(lines, records, width)
        out.append("> chosen, * best single member; these values are of the windows they were chosen on: optimistic")
        ends = f" {self.nested_interval.text('.4f')}" if self.nested_interval else ""
        constant = "" if self.gain.constant is None else f"   constant: {self.gain.constant:.5g}"
        how = f" ({self.folds} folds)" if self.folds else ""
        out.append(f"on {self.over} without a say{how}: {self.nested:.5f}{ends}{constant}")
        out.append(f"  told by {self.told}")
        if self.standing:
            better = f"{self.standing.metric} is {self.standing.verdict}"
            out.append(f"  against the constant: {better if self.standing.side > 0 else self.standing.sentence()}")
        out.append(f"  against the best single member, so chosen too: {self.gain.sentence()}")
        out += [f"  note: {note}" for note in self.notes]
        if self.choice.scale == 0.0:
            out.append(
                "  warning: the fitted scale is 0: no candidate predicts better than a constant on these windows"
            )
        if not self.within_budget:
            out.append(f"  warning: the choice measures {self.choice.cost_us[0]:.0f} us, over the budget")
        return out
