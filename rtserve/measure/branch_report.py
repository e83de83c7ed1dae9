"""`BranchReport`: the verdicts on the views and members of a fused graph."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtserve.measure.evaluation import Evaluation
from rtserve.measure.results import save_result
from rtserve.measure.statistics import Difference

__all__ = ["BranchReport", "Judged", "Trial"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """The verdict on one view or one member.

    Parameters
    ----------
    kind, name : str
        ``"view"`` or ``"member"``, and which.
    status : str
        ``"active"``, ``"inert on this data"``, or ``"structurally inert (why)"``.
    alone : float
        The metric of its branches alone.
    change : Difference or None
        With it against without it; None where nothing would remain.
    correlation : float or None
        Of its merged output with that of the rest.
    cost : (float, float, float) or None
        Microseconds per window that it adds, with an interval, batch 1, one thread, by turns with the rest.
    """

    kind: str
    name: str
    status: str
    alone: float
    change: Difference | None = None
    correlation: float | None = None
    cost: tuple[float, float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the trial as JSON values."""
        values = {key: getattr(self, key) for key in ("kind", "name", "status", "alone", "correlation")}
        cost = dict(zip(("us", "low", "high"), self.cost, strict=True)) if self.cost else None
        return values | {"change": self.change.to_dict() if self.change else None, "cost": cost}

    def line(self) -> str:
        """Return the trial as a line for people."""
        beside = f", r {self.correlation:.3f} with the rest" if self.correlation is not None else ""
        moved = f"; corrects {self.change.corrected:.0%}, corrupts {self.change.corrupted:.0%}" if self.change else ""
        cost = f"; costs {self.cost[0]:+.1f} us [{self.cost[1]:+.1f}, {self.cost[2]:+.1f}]" if self.cost else ""
        active = self.status == "active"
        moved = moved if active else ""
        verdict = self.change.sentence() if self.change and active else self.status
        return f"  {self.kind} {self.name}: {verdict}{moved}; alone {self.alone:.5g}{beside}{cost}"


@dataclass(frozen=True, kw_only=True)
class BranchReport:
    """All trials of one fused graph on one window set, and the questions about the whole."""

    metric: str
    trials: tuple[Trial, ...]
    whole: tuple[tuple[str, Difference], ...]
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "metric": self.metric,
            "trials": [trial.to_dict() for trial in self.trials],
            "whole": [{"question": question} | d.to_dict() for question, d in self.whole],
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return what a person reads."""
        out = [f"branches, judged by {self.metric} with them against without them:"]
        out += [trial.line() for trial in self.trials]
        out += [f"  {question}: {d.first:.5g} -> {d.second:.5g}, {d.sentence()}" for question, d in self.whole]
        return out + [f"  note: {note}" for note in self.notes]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """An evaluation of a fused graph together with the verdicts on its branches."""

    evaluation: Evaluation
    branches: BranchReport

    def to_dict(self, *, raw: bool = True) -> dict[str, Any]:
        """Return the evaluation as JSON values, the verdicts under ``branches``."""
        return self.evaluation.to_dict(raw=raw) | {"branches": self.branches.to_dict()}

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write both with the raw predictions as JSON."""
        return save_result(path, "evaluation", self.to_dict(), force=force)

    def table_lines(self, width: int | None = None) -> list[str]:
        """Return the tables of the evaluation."""
        return self.evaluation.table_lines(width)

    def lines(self) -> list[str]:
        """Return what a person reads."""
        return [*self.evaluation.lines(), *self.branches.lines()]
