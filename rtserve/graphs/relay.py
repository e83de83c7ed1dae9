"""The same plan for torch: what was laid out for another engine is put back where torch is faster without it.

Each rule takes a plan and its tensors and changes them in place; the numbers stay the same up to rounding. The graph
that a digest names is not touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["relay"]

Node = dict[str, Any]


def relay(plan: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Apply every rule to a plan."""
    join_split_convolutions(plan, tensors)
    restore_elu(plan, tensors)


class _Uses:
    """Who makes and who reads each value of a plan."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self.maker: dict[str, Node] = {name: node for node in plan["nodes"] for name in node["outputs"] if name}
        self.readers: dict[str, list[Node]] = {}
        self.output = plan["output"]
        for node in plan["nodes"]:
            for name in node["inputs"]:
                self.readers.setdefault(name, []).append(node)

    def made_by(self, name: str, op: str) -> Node | None:
        """Return the node of kind `op` that makes `name` for one reader alone, or None."""
        node = self.maker.get(name)
        alone = name != self.output and len(self.readers.get(name, ())) == 1
        return node if node is not None and node["op"] == op and alone else None


def join_split_convolutions(plan: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Undo ``Split(x) -> Conv + Conv -> Add`` over channels: one convolution with the weights side by side.

    The split keeps channels a multiple of four for another engine's layout; torch has no such wish.
    """
    uses = _Uses(plan)
    for add in [node for node in plan["nodes"] if node["op"] == "Add"]:
        parts = [uses.made_by(name, "Conv") for name in add["inputs"]]
        if len(parts) != 2 or parts[0] is None or parts[1] is None:
            continue
        first, second = sorted((parts[0], parts[1]), key=lambda conv: -len([n for n in conv["inputs"] if n]))
        split = _common_split(first, second, uses)
        if split is None or not _joinable(first, second, tensors):
            continue
        order = [first, second] if first["inputs"][0] == split["outputs"][0] else [second, first]
        _join(plan, tensors, add, split, first, second, order)


def _common_split(first: Node, second: Node, uses: _Uses) -> Node | None:
    """Return the Split over channels whose two outputs the convolutions read, or None."""
    splits = [uses.made_by(conv["inputs"][0], "Split") for conv in (first, second)]
    split = splits[0]
    same = split is not None and split is splits[1] and split["attrs"].get("axis") == 1 and len(split["outputs"]) == 2
    return split if same else None


def _joinable(first: Node, second: Node, tensors: dict[str, Tensor]) -> bool:
    """Whether two convolutions are one over more channels: same attributes, no groups, known weights, one bias."""
    known = first["inputs"][1] in tensors and second["inputs"][1] in tensors
    plain = first["attrs"].get("group", 1) == 1 and first["attrs"] == second["attrs"]
    return known and plain and len([name for name in second["inputs"] if name]) == 2


def _join(
    plan: dict[str, Any],
    tensors: dict[str, Tensor],
    add: Node,
    split: Node,
    first: Node,
    second: Node,
    order: list[Node],
) -> None:
    import torch

    name = f"{order[0]['inputs'][1]}__joined"
    tensors[name] = torch.cat([tensors[conv["inputs"][1]] for conv in order], 1)
    joined = {**first, "inputs": [split["inputs"][0], name, *first["inputs"][2:]], "outputs": add["outputs"]}
    plan["nodes"][:] = [joined if n is add else n for n in plan["nodes"] if n is not first and n is not second]


def restore_elu(plan: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Undo ``Relu(x) + Exp(Clip(x, max=0)) - 1``: it is Elu(x), for which torch has a function."""
    uses = _Uses(plan)
    for total in [node for node in plan["nodes"] if node["op"] == "Add"]:
        for left, right in (total["inputs"], total["inputs"][::-1]):
            x = _elu_argument(left, right, uses, tensors)
            if x is not None:
                total.update(op="Elu", inputs=[x], attrs={"alpha": 1.0})
                break


def _elu_argument(left: str, right: str, uses: _Uses, tensors: dict[str, Tensor]) -> str | None:
    """Return x where ``left`` is Relu(x) - 1 and ``right`` is Exp(min(x, 0)), or None."""
    minus, exp = uses.made_by(left, "Add"), uses.made_by(right, "Exp")
    clip = uses.made_by(exp["inputs"][0], "Clip") if exp is not None else None
    if minus is None or clip is None or not _is_min_zero(clip, tensors):
        return None
    for value, constant in (minus["inputs"], minus["inputs"][::-1]):
        relu = uses.made_by(value, "Relu")
        if relu is not None and _number(constant, tensors) == -1.0 and relu["inputs"][0] == clip["inputs"][0]:
            return str(clip["inputs"][0])
    return None


def _is_min_zero(clip: Node, tensors: dict[str, Tensor]) -> bool:
    inputs = [*clip["inputs"], "", ""]
    return inputs[1] == "" and _number(inputs[2], tensors) == 0.0


def _number(name: str, tensors: dict[str, Tensor]) -> float | None:
    """Return the value of a constant of one element, or None."""
    tensor = tensors.get(name)
    return float(tensor) if tensor is not None and tensor.numel() == 1 else None
