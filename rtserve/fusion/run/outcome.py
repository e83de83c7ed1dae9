"""What became of a pass: applied with its effect, refused with nodes and reasons, undone by the check, or nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rtserve.fusion.ir.passes import Refused
from rtserve.graphs.parity import ParityReport

__all__ = ["OptimizationReport", "Outcome"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one pass on one graph.

    Parameters
    ----------
    name : str
        The pass.
    status : str
        ``"applied"``, ``"refused"`` (its conditions hold nowhere), ``"nothing"`` (there is nothing it is for) or
        ``"undone"`` (the check failed, or it was slower).
    reason : str
        What it did, or why not, with the nodes.
    subject : str
        Which graph: what a member is called, ``"plan"`` or ``"whole"``.
    macs_before, macs_after : int
        Multiply-adds of the graph per window around the pass.
    refused : tuple of Refused
        The nodes that it left as they are, with the reasons.
    """

    name: str
    status: str
    reason: str
    subject: str = ""
    macs_before: int = 0
    macs_after: int = 0
    refused: tuple[Refused, ...] = ()

    def line(self, *, counted: bool = True) -> str:
        """Return the outcome as one line, without multiply-adds where they are not `counted`."""
        macs = f"  {self.macs_before / 1e6:.2f} M -> {self.macs_after / 1e6:.2f} M multiply-adds" * (
            counted and self.status == "applied" and self.macs_before != self.macs_after
        )
        return f"{self.status:<8} {self.name:<18} {self.subject}: {self.reason}{macs}"


@dataclass(frozen=True, kw_only=True)
class OptimizationReport:
    """Everything the pipeline did to one fusion.

    Parameters
    ----------
    outcomes : tuple of Outcome
        In the order they happened.
    macs_before, macs_after : int
        Multiply-adds per window of the plain join and of the result.
    nodes_before, nodes_after : int
        Nodes of both.
    uncounted : str
        The nodes whose shapes do not tell their multiply-adds, which are left out then; empty where all are counted.
    parity : ParityReport or None
        The result against the join in float64.
    laid_out : ParityReport or str
        The same in the engine that the result is laid out for, where that is another; or why it was not compared.
    timings : dict
        With ``tune``: medians in us of the candidates; empty otherwise.
    members : tuple of str
        What the members are called, in the order of the plan.
    """

    outcomes: tuple[Outcome, ...]
    macs_before: int
    macs_after: int
    nodes_before: int
    nodes_after: int
    parity: ParityReport | None = None
    laid_out: ParityReport | str = ""
    timings: dict[str, Any] | None = None
    members: tuple[str, ...] = ()
    uncounted: str = ""

    def explain(self) -> str:
        """Return the report as lines for a person."""
        lines = [outcome.line(counted=not self.uncounted) for outcome in self.outcomes]
        macs = f"{self.macs_before / 1e6:.2f} M -> {self.macs_after / 1e6:.2f} M"
        macs = f"not counted (the shapes at {self.uncounted} are not known)" if self.uncounted else macs
        total = f"multiply-adds per window {macs}, nodes {self.nodes_before} -> {self.nodes_after}"
        return "\n".join([*lines, total])
