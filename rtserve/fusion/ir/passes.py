"""What a rewrite is, and what it did: a `Pass`, its `PassResult`, and its "no", which node and why."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rtserve.fusion.engines import ENGINES

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Pass", "PassResult", "Refused", "each"]


@dataclass(eq=False)
class Refused(Exception):  # noqa: N818 -- raised where it is found out, a value in what a pass did
    """A node that is not rewritten: the reason, and which node, as its operator and what it computes."""

    reason: str
    node: str = ""

    def __str__(self) -> str:
        return f"{self.node}: {self.reason}" if self.node else self.reason

    def at(self, node: ir.Node) -> Refused:
        """Return it with the node named, where it names none itself; it is a value then, and holds no frames."""
        self.__traceback__ = None
        self.node = self.node or f"{node.op_type} {node.outputs[0].name}"
        return self


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


Rewrite = Callable[["ir.Model"], PassResult]


@dataclass(frozen=True, kw_only=True)
class Pass:
    """One rewrite, and when it is run.

    Parameters
    ----------
    name : str
        What a person reads and `--passes` takes.
    run : callable
        Changes a model in place and returns a `PassResult`.
    scope : str
        ``"member"`` (one network, whatever runs it) or ``"whole"`` (the assembled graph).
    engines : tuple of str
        For which engines it is run.
    after : tuple of str
        Passes that must be over where it begins.
    why : str
        What it saves.
    blocked : bool
        Whether only onnxruntime's blocked layout has a use for it.
    """

    name: str
    run: Rewrite
    scope: str = "whole"
    engines: tuple[str, ...] = tuple(ENGINES)
    after: tuple[str, ...] = ()
    why: str
    blocked: bool = False
