"""What goes along an axis number by number: sums so far, the largest numbers, the largest one."""

from __future__ import annotations

from rtserve.native.flow import Operation
from rtserve.native.view import View
from rtserve.native.writer import Writer, operator

__all__: list[str] = []

LARGER = "(v > w || (v != v && w == w))"
SMALLER = "(v < w || (w != w && v == v))"
"""Whether v stands in front of w; what is no number counts as larger than all."""
TOP = (
    "(const float *x, ptrdiff_t step, int n, int k, float *o) {{\n  for (int i = 0; i < n; i++) {{\n"
    "    const float v = x[i * step];\n    int j = i < k ? i : k;\n    for (; j > 0; j--) {{\n"
    "      const float w = o[j - 1];\n      if (!{before}) break;\n      if (j < k) o[j] = w;\n    }}\n"
    "    if (j < k) o[j] = v;\n  }}\n}}"
)
"""The first k in order: each number moves those behind it on."""
HARD = (
    "(const float *x, ptrdiff_t step, int n, float *o) {\n  int best = 0;\n  for (int i = 0; i < n; i++) {\n"
    f"    const float v = x[i * step], w = x[best * step];\n    o[i] = 0.f;\n    if {LARGER} best = i;\n  }}\n"
    "  o[best] = 1.f;\n}"
)


@operator("CumSum")
def cumsum(writer: Writer, operation: Operation) -> None:
    """Sums so far, also without the number itself and from the end."""
    x, known = writer.view(operation.inputs[0]), writer.constant(operation.inputs[1])
    if known is None:
        raise operation.refuse("with an axis computed from the window")
    axis = int(known.reshape(-1)[0]) % len(x.shape)
    target, n = writer.fresh(x.shape, x.order), x.shape[axis]
    into = target
    if operation.attrs.get("reverse", 0):
        x, into = x.cut(axis, n - 1, n, -1), target.cut(axis, n - 1, n, -1)
    shift = int(bool(operation.attrs.get("exclusive", 0)))
    if shift:
        writer.fill(into.cut(axis, 0, 1))
    else:
        writer.copy(x.cut(axis, 0, 1), into.cut(axis, 0, 1))
    if n > 1:
        parts = [into.cut(axis, 1, n - 1), into.cut(axis, 0, n - 1), x.cut(axis, 1 - shift, n - 1)]
        writer.nest(parts, lambda e: f"{e[0]} = {e[1]} + {e[2]}", chained=True)
    writer.views[operation.outputs[0]] = target


@operator("TopK")
def top_k(writer: Writer, operation: Operation) -> None:
    """The first so many of an axis in order of size; their places are not given."""
    x, out = writer.view(operation.inputs[0]), operation.outputs[0]
    axis = operation.attrs.get("axis", -1) % len(x.shape)
    k = writer.shape(out)[axis]
    largest = bool(operation.attrs.get("largest", 1))
    name = writer.function(f"TopK {largest}", TOP.format(before=LARGER if largest else SMALLER))
    writer.views[out] = _rows(writer, x, axis, k, lambda step: f"{name}({{0}}, {step}, {x.shape[axis]}, {k}, {{1}});")


@operator("Hardmax")
def hardmax(writer: Writer, operation: Operation) -> None:
    """One at the first of the largest numbers of an axis, else zero."""
    x, out = writer.view(operation.inputs[0]), operation.outputs[0]
    axis = operation.attrs.get("axis", -1) % len(x.shape)
    name, n = writer.function("Hardmax", HARD), x.shape[axis]
    writer.views[out] = _rows(writer, x, axis, n, lambda step: f"{name}({{0}}, {step}, {n}, {{1}});")


def _rows(writer: Writer, x: View, axis: int, n: int, call: object) -> View:
    """Write a call for every row along an axis, which gives `n` numbers; return the result with its axes as before."""
    rank = len(x.shape)
    rows = x.moved([*(a for a in range(rank) if a != axis), axis])
    target = writer.fresh((*rows.shape[:-1], n))
    text = call(rows.steps[-1])  # type: ignore[operator]
    writer.product(rows.shape[:-1], lambda at: text.format(*at), rows, target)
    return target.moved([*range(axis), rank - 1, *range(axis, rank - 1)])
