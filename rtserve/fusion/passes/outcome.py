"""What a pass did, as values: applied with its effect, refused with nodes and reasons, undone by the check, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rtserve.fusion.ir.refused import Refused

if TYPE_CHECKING:
    import onnx_ir as ir

    from rtserve.graphs.parity import ParityReport

__all__ = ["OptimizationReport", "Outcome", "PassResult", "each"]


@dataclass(kw_only=True)
class PassResult:
    """What a pass did, gathered as it goes.

    Parameters
    ----------
    changed : int
        Places rewritten.
    did : str
        What was done there.
    refused : list of Refused
        Places that it was meant for and left as they are.
    """

    changed: int = 0
    did: str = ""
    refused: list[Refused] = field(default_factory=list)

    def done(self, did: str, times: int = 1) -> None:
        """Note what was done, at so many places."""
        self.changed += times
        self.did += ("; " if self.did else "") + did

    @contextmanager
    def at(self, node: ir.Node) -> Iterator[None]:
        """Note a refusal raised while a node is looked at."""
        try:
            yield
        except Refused as refusal:
            self.refused.append(refusal.at(node))


def each(model: ir.Model, rewrite: Callable[[ir.Model, ir.Node], int], did: str) -> PassResult:
    """Rewrite the nodes of a model one by one, in place.

    `rewrite` returns how many places a node was, 0 where it is of another kind, or raises `Refused`. ``{}`` in `did`
    stands for the number of all.
    """
    result = PassResult()
    for node in list(model.graph):
        with result.at(node):
            result.changed += rewrite(model, node) if node.graph is not None else 0
    result.did = did.format(result.changed)
    return result


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
        Which graph: ``"member 1"``, ``"join"``.
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

    def line(self) -> str:
        """Return the outcome as one line."""
        macs = f"  {self.macs_before / 1e6:.2f} M -> {self.macs_after / 1e6:.2f} M multiply-adds" * (
            self.status == "applied" and self.macs_before != self.macs_after
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

    def with_names(self, names: Sequence[str]) -> OptimizationReport:
        """Return the report with members called by `names`, in the order of the plan."""
        numbers = {f"member {k}": name for k, name in enumerate(names, start=1)}
        renamed = tuple(replace(one, subject=numbers.get(one.subject, one.subject)) for one in self.outcomes)
        return replace(self, outcomes=renamed, members=tuple(names))

    def explain(self) -> str:
        """Return the report as lines for a person."""
        lines = [outcome.line() for outcome in self.outcomes]
        total = (
            f"multiply-adds per window {self.macs_before / 1e6:.2f} M -> {self.macs_after / 1e6:.2f} M,"
            f" nodes {self.nodes_before} -> {self.nodes_after}"
        )
        return "\n".join([*lines, total])
