"""Forms of operators that are others: padding by rule, softmax over several axes, products of vectors, computed bounds."""

from __future__ import annotations

from math import prod

import numpy as np

from rtserve.native.draft import Draft, rewrite
from rtserve.native.flow import Operation

__all__ = ["standing"]


@rewrite("Conv", "ConvTranspose", "MaxPool", "AveragePool")
def padding(draft: Draft, operation: Operation) -> bool:
    """SAME_UPPER and SAME_LOWER as the samples that they are for a window of this size."""
    rule = operation.text("auto_pad", "NOTSET")
    if not rule.startswith("SAME"):
        return False
    if operation.op == "ConvTranspose":
        raise operation.refuse(f"with auto_pad {rule}")
    attrs, sides = dict(operation.attrs), draft.shape(operation.inputs[0])[2:]
    kernel = attrs.get("kernel_shape") or draft.shape(operation.inputs[1])[2:]
    ones = [1] * len(sides)
    before, behind = [], []
    for n, k, s, d in zip(sides, kernel, attrs.get("strides") or ones, attrs.get("dilations") or ones, strict=True):
        total = max(0, (-(-n // s) - 1) * s + d * (k - 1) + 1 - n)
        before.append(total // 2 if rule == "SAME_UPPER" else total - total // 2)
        behind.append(total - before[-1])
    attrs |= {"auto_pad": "NOTSET", "pads": before + behind}
    draft.operations.append(Operation(op=operation.op, inputs=operation.inputs, outputs=operation.outputs, attrs=attrs))
    return True


@rewrite("Softmax", "LogSoftmax", "Hardmax")
def softmax(draft: Draft, operation: Operation) -> bool:
    """Before opset 13 over all axes from one on."""
    if draft.flow.opset >= 13:
        return False
    shape, (name,) = draft.shape(operation.inputs[0]), operation.inputs
    axis = operation.attrs.get("axis", 1) % len(shape)
    rows = draft.reshape(name, (prod(shape[:axis]), prod(shape[axis:])))
    answer = draft.put(operation.op, [rows], draft.shape(rows), axis=-1)
    draft.reshape(answer, shape, out=operation.outputs[0])
    return True


@rewrite("MatMul")
def matmul(draft: Draft, operation: Operation) -> bool:
    """Products with a vector as products with a matrix of one row or column."""
    left, right = operation.inputs
    if min(len(draft.shape(left)), len(draft.shape(right))) > 1:
        return False
    left = standing(draft, left, front=True)
    right = standing(draft, right, front=False)
    a, b = draft.shape(left), draft.shape(right)
    product = draft.put("MatMul", [left, right], (*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1]))
    draft.reshape(product, draft.flow.shapes[operation.outputs[0]], out=operation.outputs[0])
    return True


def standing(draft: Draft, name: str, *, front: bool) -> str:
    """Return a vector as a matrix of one row, `front`, or of one column; anything else as it is."""
    shape = draft.shape(name)
    if len(shape) != 1:
        return name
    return draft.reshape(name, (1, *shape) if front else (*shape, 1))


@rewrite("Gemm")
def gemm(draft: Draft, operation: Operation) -> bool:
    """Products of two values of the window, and offsets that are no row of weights."""
    known = [draft.constant(operation, index) for index in (1, 2)]
    n_out = draft.flow.shapes[operation.outputs[0]][1]
    row = known[1] is not None and known[1].size in (1, n_out) and (known[1].ndim < 2 or known[1].shape[0] == 1)
    if known[0] is not None and (row or not operation.has(2)):
        return False
    attrs, (left, right) = operation.attrs, operation.inputs[:2]
    left = draft.transpose(left, [1, 0]) if attrs.get("transA", 0) else left
    right = draft.transpose(right, [1, 0]) if attrs.get("transB", 0) else right
    parts = [("MatMul", [left, right])]
    if (alpha := attrs.get("alpha", 1.0)) != 1.0:
        parts.append(("Mul", [draft.keep(alpha)]))
    if operation.has(2):
        offset, beta = operation.inputs[2], attrs.get("beta", 1.0)
        parts.append(("Add", [offset if beta == 1.0 else draft.pointwise("Mul", offset, draft.keep(beta))]))
    shape, name = draft.flow.shapes[operation.outputs[0]], ""
    for k, (op, names) in enumerate(parts):
        given = [name, *names] if name else names
        name = draft.put(op, given, shape, out=operation.outputs[0] if k == len(parts) - 1 else "")
    return True


@rewrite("Clip")
def clip(draft: Draft, operation: Operation) -> bool:
    """Bounds that are computed from the window."""
    given = [(index, op) for index, op in ((1, "Max"), (2, "Min")) if operation.has(index)]
    if all(operation.inputs[index] in draft.constants for index, _ in given):
        return False
    name = operation.inputs[0]
    for k, (index, op) in enumerate(given):
        name = draft.pointwise(op, name, operation.inputs[index],
                               out=operation.outputs[0] if k == len(given) - 1 else "")  # fmt: skip
    return True


@rewrite("CastLike")
def cast_like(draft: Draft, operation: Operation) -> bool:
    """To float32, the only type that numbers of a window have here, or to a truth."""
    like = operation.inputs[1]
    kind = draft.constants[like].dtype.kind if like in draft.constants else "f"
    if like not in draft.constants or kind not in "fb":
        raise operation.refuse("to the type of a value of the window")
    name, out = operation.inputs[0], operation.outputs[0]
    draft.put("Cast", [name], draft.shape(name), out=out, to=9 if kind == "b" else 1)
    return True
