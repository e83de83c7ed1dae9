"""Sizes of a plan: integers that a graph computes from its shapes, written as numbers or as ``a * batch + c``.

They are read by running the plan at a few batch sizes. A line through a few points proves nothing about other batches, so
it is taken only where the operators on the way keep lines straight (`straight`): what goes through ``Min(batch, 8)`` or
``batch // 8`` is computed in each call, as the graph does, and so is every shape that follows from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

    from rtserve.graphs.graph import Graph
    from rtserve.runtime.executor import Program

__all__ = ["batches_of", "drop_unread", "resolve_sizes", "store_sizes", "to_tensor"]

Plan = dict[str, Any]
Bind = Callable[[Plan, Mapping[str, "Tensor"]], "Program"]
Values = list[dict[str, np.ndarray]]
"""What each name holds, at each of the batch sizes."""

MAX_SIZES = 64
"""Integer vectors up to this length are kept as numbers in the plan (shapes, axes); longer ones are tensors."""
PROBES = (2, 3, 5, 7)
"""Batch sizes at which batch-dependent integers are read; four, so that a line through two is put to the test."""
STRAIGHT = frozenset(
    {"Flatten", "Gather", "Identity", "Neg", "Reshape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"}
)
"""Operators that make lines of the lines in their first input, the others being constant."""


def store_sizes(sizes: dict[str, Any], name: str, array: np.ndarray) -> bool:
    """Enter a small int64 array of rank 0 or 1 into the plan's integers; say whether it is one."""
    if array.dtype != np.int64 or array.ndim > 1 or array.size > MAX_SIZES:
        return False
    sizes[name] = {"scalar": array.ndim == 0, "values": [int(v) for v in array.reshape(-1)]}
    return True


def to_tensor(array: np.ndarray) -> Tensor:
    """Return a contiguous tensor that owns its memory; numpy has bfloat16 by a package that torch does not know."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.array(array, order="C", copy=True).view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(np.array(array, order="C", copy=True))


def drop_unread(plan: Plan, tensors: dict[str, Tensor]) -> None:
    """Remove nodes and constants from which no path leads to the output."""
    wanted, kept = {plan["output"]}, []
    for node in reversed(plan["nodes"]):
        if wanted.intersection(node["outputs"]):
            wanted.update(node["inputs"])
            kept.append(node)
    plan["nodes"] = kept[::-1]
    for table in (plan["sizes"], tensors):
        for name in [name for name in table if name not in wanted]:
            del table[name]


def resolve_sizes(plan: Plan, tensors: dict[str, Tensor], graph: Graph, bind: Bind) -> None:
    """Replace nodes that only compute shapes by the numbers they compute."""
    static = _static_values(plan, tensors)
    if not static:
        return
    batches = batches_of(graph)
    seen = [_probe(plan, tensors, graph, batch, static, bind) for batch in batches]
    static -= _bent(plan, static, seen, batches)
    frontier = _read_elsewhere(plan, static)
    for name in sorted(frontier):
        _settle(plan, tensors, name, [values[name] for values in seen], batches)
    done = {name for name in frontier if name in plan["sizes"] or name in tensors}
    plan["nodes"] = [node for node in plan["nodes"] if not done.issuperset(node["outputs"])]
    _infer_reshapes(plan)
    drop_unread(plan, tensors)


def batches_of(graph: Graph) -> tuple[int, ...]:
    """Return the batch sizes to probe: the graph's own where it is fixed."""
    value = next(v for v in graph.model.graph.inputs if v.name not in graph.model.graph.initializers)
    first = value.shape[0] if value.shape is not None else None
    return (first,) if isinstance(first, int) else PROBES


def _static_values(plan: Plan, tensors: Mapping[str, Tensor]) -> set[str]:
    """Return the values that follow from constants and shapes alone."""
    constants = {"", *plan["sizes"], *tensors}
    integers = set(plan["sizes"])
    static: set[str] = set()
    for node in plan["nodes"]:
        known = all(name in constants or name in static for name in node["inputs"])
        shaped = node["op"] in ("Shape", "Size")
        # A float that follows from float constants alone is left: it is computed at load, in the module's own type.
        about_shapes = shaped or any(name in static or name in integers for name in node["inputs"])
        if shaped or (known and about_shapes and not _reads_floats(node, tensors)):
            static.update(node["outputs"])
    static.discard("")
    return static


def _read_elsewhere(plan: Plan, static: set[str]) -> set[str]:
    """Return those of the values that another node, or the caller, reads."""
    readers = [n for n in plan["nodes"] if not static.issuperset(filter(None, n["outputs"]))]
    read = {name for node in readers for name in node["inputs"]} | {plan["output"]}
    return static & read


def _bent(plan: Plan, static: set[str], seen: Values, batches: Sequence[int]) -> set[str]:
    """Return the values, static or not, that follow from one whose line may bend at another batch size."""
    bent: set[str] = set()
    for node in plan["nodes"]:
        ours = static.issuperset(filter(None, node["outputs"]))
        if bent.intersection(node["inputs"]) or (ours and not _straight(node, seen, batches)):
            bent.update(filter(None, node["outputs"]))
    return bent


def _straight(node: Mapping[str, Any], seen: Values, batches: Sequence[int]) -> bool:
    """Whether a node makes a line of the lines it reads: then few batch sizes speak for all.

    Products of lines may pass: they are polynomials of a low degree, which four points tell from a line.
    """
    varying = [i for i, name in enumerate(node["inputs"]) if _varies(name, seen)]
    op = node["op"]
    if not varying or op in ("Add", "Concat", "Mul", "ReduceProd", "Sub"):
        return True
    if op == "Cast":
        return bool(node["attrs"].get("to") != 9)
    if op == "Where":
        return 0 not in varying
    if op in ("Div", "Mod", "Equal"):
        return varying == [0] and _meets_no_edge(op, *node["inputs"], seen=seen, batches=batches)
    return op in STRAIGHT and varying == [0]


def _varies(name: str, seen: Values) -> bool:
    values = [at[name] for at in seen if name in at]
    return any(v.shape != values[0].shape or not np.array_equal(v, values[0]) for v in values)


def _meets_no_edge(op: str, left: str, right: str, *, seen: Values, batches: Sequence[int]) -> bool:
    """Whether `left`, which varies, is divided without a rest at every batch, or never equals a negative number."""
    first, second = seen[0][left], seen[1][left]
    other = seen[0].get(right)
    if other is None or first.shape != second.shape or not np.issubdtype(first.dtype, np.integer):
        return False
    if op == "Equal":
        return bool((other < 0).all() and (second >= first).all() and (first >= 0).all())
    slope = (second - first) // (batches[1] - batches[0])
    return bool((other > 0).all() and (slope % np.maximum(other, 1) == 0).all())


def _reads_floats(node: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    return any(name in tensors and tensors[name].is_floating_point() for name in node["inputs"])


def _probe(
    plan: Plan, tensors: Mapping[str, Tensor], graph: Graph, batch: int, wanted: Collection[str], bind: Bind
) -> dict[str, np.ndarray]:
    """Run the plan on zeros and return the wanted values, and the plan's own integers."""
    import torch

    program = bind({**plan, "tensors": sorted(tensors)}, tensors)
    spec = graph.input_spec
    with torch.inference_mode():
        values = program.trace(torch.zeros(batch, spec.n_chans, spec.n_times), wanted)
    known = {name: np.asarray(entry["values"]) for name, entry in plan["sizes"].items()}
    return known | {name: np.asarray(values[name]) for name in wanted}


def _settle(
    plan: Plan, tensors: dict[str, Tensor], name: str, seen: list[np.ndarray], batches: tuple[int, ...]
) -> None:
    """Write one value as a constant or as ``a * batch + c``; leave it to run time where it is neither."""
    first = seen[0]
    if all(value.shape == first.shape and np.array_equal(value, first) for value in seen):
        if not store_sizes(plan["sizes"], name, first):
            tensors[name] = to_tensor(first)
        return
    if first.dtype != np.int64 or first.ndim > 1 or any(value.shape != first.shape for value in seen):
        return
    slope = (seen[1] - first) // (batches[1] - batches[0])
    offset = first - slope * batches[0]
    if all(np.array_equal(slope * b + offset, value) for b, value in zip(batches, seen, strict=True)):
        pairs = zip(slope.reshape(-1).tolist(), offset.reshape(-1).tolist(), strict=True)
        plan["sizes"][name] = {"scalar": first.ndim == 0, "values": [[a, c] if a else c for a, c in pairs]}


def _infer_reshapes(plan: Plan) -> None:
    """Let torch infer the one size of a Reshape that follows the batch: nothing is computed for it at run time."""
    for node in plan["nodes"]:
        entry = plan["sizes"].get(node["inputs"][1]) if node["op"] == "Reshape" else None
        if entry is None:
            continue
        varying = [i for i, value in enumerate(entry["values"]) if not isinstance(value, int)]
        if len(varying) == 1 and all(isinstance(v, list) or v > 0 for v in entry["values"]):
            name = f"{node['inputs'][1]}__inferred"
            values = [-1 if isinstance(value, list) else value for value in entry["values"]]
            plan["sizes"][name] = {"scalar": False, "values": values}
            node["inputs"] = [node["inputs"][0], name]
