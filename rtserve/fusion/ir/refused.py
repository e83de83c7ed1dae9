"""A rewrite's "no": which node, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["Refused"]


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
