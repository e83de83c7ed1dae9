"""Operations on one number at a time, written as loops that the compiler vectorises.

A chain of them is one loop: where the only reader of a result is another such operation of the same shape, its expression
goes into that of its reader.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtserve.native.flow import Operation
from rtserve.native.view import View
from rtserve.native.writer import Pending, Writer, operator

__all__ = ["EXPRESSIONS", "number", "write_pending"]

Expression = Callable[[Operation, list[str]], str]
EXPRESSIONS: dict[str, Expression] = {}
"""ONNX operator to the C expression of its arguments."""


def number(value: float) -> str:
    """Return a float32 as C."""
    value = float(np.float32(value))
    if np.isnan(value):
        return "NAN"
    if np.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    return f"{value!r}f" if "e" in repr(value) or "." in repr(value) else f"{value!r}.0f"


def _simple(pattern: str, **attrs: float) -> Expression:
    """Return an expression with ``{0}``, ``{1}`` for arguments and names for attributes and their defaults."""
    return lambda operation, args: pattern.format(
        *args, **{name: number(operation.attrs.get(name, default)) for name, default in attrs.items()}
    )


def _folded(pattern: str, last: str = "{0}") -> Expression:
    """Return an expression that takes any number of arguments two by two."""

    def write(operation: Operation, args: list[str]) -> str:
        text = args[0]
        for other in args[1:]:
            text = pattern.format(text, other)
        return last.format(text, number(len(args)))

    return write


def _gelu(operation: Operation, args: list[str]) -> str:
    if operation.attrs.get("approximate", "none") in ("tanh", b"tanh"):
        return f"rt_gelu_tanh({args[0]})"
    return f"rt_gelu({args[0]})"


def _pow(operation: Operation, args: list[str]) -> str:
    known = {"2.0f": "rt_square({0})", "0.5f": "sqrtf({0})", "1.0f": "({0})", "-1.0f": "(1.f / {0})"}
    return known.get(args[1].removesuffix("f") + "f", "powf({0}, {1})").format(*args)


def _infinite(operation: Operation, args: list[str]) -> str:
    signs = [f"{args[0]} == {sign}INFINITY" for key, sign in (("detect_positive", ""), ("detect_negative", "-"))
             if operation.attrs.get(key, 1)]  # fmt: skip
    return f"({' || '.join(signs) or '0'} ? 1.f : 0.f)"


def _modulo(operation: Operation, args: list[str]) -> str:
    if not operation.attrs.get("fmod", 0):
        raise operation.refuse("of numbers that are not whole")
    return f"fmodf({args[0]}, {args[1]})"


def _truth(pattern: str) -> Expression:
    """Return what is true or false as one or zero."""
    return _simple(f"({pattern} ? 1.f : 0.f)")


EXPRESSIONS |= {
    "And": _truth("{0} != 0.f && {1} != 0.f"),
    "Equal": _truth("{0} == {1}"),
    "Greater": _truth("{0} > {1}"),
    "GreaterOrEqual": _truth("{0} >= {1}"),
    "IsInf": _infinite,
    "IsNaN": _truth("({0}) != ({0})"),
    "Less": _truth("{0} < {1}"),
    "LessOrEqual": _truth("{0} <= {1}"),
    "Not": _truth("{0} == 0.f"),
    "Or": _truth("{0} != 0.f || {1} != 0.f"),
    "Xor": _truth("({0} != 0.f) != ({1} != 0.f)"),
    "Abs": _simple("fabsf({0})"),
    "Acos": _simple("acosf({0})"),
    "Acosh": _simple("acoshf({0})"),
    "Add": _simple("({0} + {1})"),
    "Asin": _simple("asinf({0})"),
    "Asinh": _simple("asinhf({0})"),
    "Atan": _simple("atanf({0})"),
    "Atanh": _simple("atanhf({0})"),
    "Ceil": _simple("ceilf({0})"),
    "Celu": _simple("rt_celu({0}, {alpha})", alpha=1.0),
    "Cos": _simple("cosf({0})"),
    "Cosh": _simple("coshf({0})"),
    "Div": _simple("({0} / {1})"),
    "Elu": _simple("rt_elu({0}, {alpha})", alpha=1.0),
    "Erf": _simple("rt_erf({0})"),
    "Exp": _simple("rt_exp({0})"),
    "Floor": _simple("floorf({0})"),
    "Gelu": _gelu,
    "HardSigmoid": _simple("rt_hard_sigmoid({0}, {alpha}, {beta})", alpha=0.2, beta=0.5),
    "HardSwish": _simple("rt_hard_swish({0})"),
    "Identity": _simple("{0}"),
    "LeakyRelu": _simple("rt_leaky({0}, {alpha})", alpha=0.01),
    "Log": _simple("rt_log({0})"),
    "Max": _folded("rt_max({0}, {1})"),
    "Mean": _folded("({0} + {1})", "({0} / {1})"),
    "Min": _folded("rt_min({0}, {1})"),
    "Mish": _simple("rt_mish({0})"),
    "Mod": _modulo,
    "Mul": _simple("({0} * {1})"),
    "Neg": _simple("(-{0})"),
    "PRelu": _simple("rt_leaky({0}, {1})"),
    "Pow": _pow,
    "Reciprocal": _simple("(1.f / {0})"),
    "Relu": _simple("rt_relu({0})"),
    "Round": _simple("rintf({0})"),
    "Selu": _simple(
        "({gamma} * rt_elu({0}, {alpha}))", alpha=1.67326319217681884765625, gamma=1.05070102214813232421875
    ),
    "Sigmoid": _simple("rt_sigmoid({0})"),
    "Shrink": _simple("({0} > {lambd} ? {0} - {bias} : {0} < -{lambd} ? {0} + {bias} : 0.f)", lambd=0.5, bias=0.0),
    "Sign": _simple("(({0} > 0.f) - ({0} < 0.f))"),
    "Sin": _simple("sinf({0})"),
    "Sinh": _simple("sinhf({0})"),
    "Softplus": _simple("rt_softplus({0})"),
    "Softsign": _simple("rt_softsign({0})"),
    "Sqrt": _simple("sqrtf({0})"),
    "Sub": _simple("({0} - {1})"),
    "Sum": _folded("({0} + {1})"),
    "Tan": _simple("tanf({0})"),
    "Tanh": _simple("rt_tanh({0})"),
    "ThresholdedRelu": _simple("rt_thresholded({0}, {alpha})", alpha=1.0),
}


BOOL, DOUBLE = 9, 11
"""ONNX element types of truths and of float64."""
WIDE_NAMES = (("fabsf(", "fabs("), ("powf(", "pow("), ("rt_exp(", "exp("), ("rt_log(", "log("), ("sqrtf(", "sqrt("))
"""Functions of float32 and of float64."""
POINTWISE = frozenset(EXPRESSIONS) | {"BatchNormalization", "Cast", "Clip", "Dropout", "Where"}


@operator(*POINTWISE)
def pointwise(writer: Writer, operation: Operation) -> None:
    """Write an operation on single numbers, or leave it to its reader."""
    out = operation.outputs[0]
    pending = _pending(writer, operation)
    reader = writer.only_reader(out)
    if reader is not None and (
        (reader.op in POINTWISE and writer.shape(reader.outputs[0]) == writer.shape(out))
        or (reader.op == "Concat" and out not in writer.flow.wide)
    ):
        writer.pending[out] = pending
        return
    write_pending(writer, out, pending)


def write_pending(writer: Writer, out: str, pending: Pending) -> None:
    """Write the loops of an expression into memory of its value's own."""
    shape = writer.shape(out)
    views = [view.spread(shape) for view in pending.views]
    model = next((v for v, given in zip(views, pending.views, strict=True) if given.shape == shape), None)
    order = sorted(range(len(shape)), key=lambda a: -(model.steps[a] if model is not None and shape[a] > 1 else 0))
    if model is None or any(step < 0 for step in model.steps):
        order = list(range(len(shape)))
    if out in writer.flow.wide:
        target = writer.fresh(shape, order, wide=True)
    else:
        target = writer.padded(shape, order, writer.wanted_zeros(out, len(shape)))
    writer.nest([target, *views], lambda e: f"{e[0]} = {pending.text.format(*e[1:])}")
    writer.views[out] = target


def _pending(writer: Writer, operation: Operation) -> Pending:
    """Return the expression of an operation, with those of its inputs that are not written yet."""
    if operation.op in ("Dropout", "Cast"):
        kind = "double" if operation.outputs[0] in writer.flow.wide else "float"
        same = operation.inputs[0] not in writer.flow.wide and kind == "float"
        whole = (
            _truth("{0} != 0.f") if operation.attrs.get("to") == BOOL else _simple("{0}" if same else f"({kind}){{0}}")
        )
        return _joined(writer, operation, [operation.inputs[0]], whole)
    if operation.op == "BatchNormalization":
        return _normalisation(writer, operation)
    if operation.op == "Clip":
        return _clip(writer, operation)
    if operation.op == "Where":
        return _joined(writer, operation, list(operation.inputs), _where)
    return _joined(writer, operation, [name for name in operation.inputs if name], EXPRESSIONS[operation.op])


def _joined(writer: Writer, operation: Operation, names: list[str], write: Expression) -> Pending:
    views: list[View] = []
    texts = []
    for name in names:
        text, more = _argument(writer, name)
        texts.append(text.format(*[f"{{{len(views) + k}}}" for k in range(len(more))]))
        views += more
    text = write(operation, texts)
    if operation.outputs[0] in writer.flow.wide and operation.op != "Cast":
        text = _in_float64(operation, texts, write)
    return Pending(text=text, views=tuple(views))


def _in_float64(operation: Operation, texts: list[str], write: Expression) -> str:
    """Return the expression of an operation on doubles: its function's name is another."""
    marks = [f"\0{k}\0" for k in range(len(texts))]  # what stands in its arguments stays as it is
    text = write(operation, marks)
    for narrow, wide in WIDE_NAMES:
        text = text.replace(narrow, wide)
    for mark, argument in zip(marks, texts, strict=True):
        text = text.replace(mark, argument)
    return text


def _argument(writer: Writer, name: str) -> tuple[str, tuple[View, ...]]:
    """Return an argument as text and the views in it: a number, an expression or an element."""
    value = writer.constant(name)
    if value is not None and value.dtype == np.float64:
        return _wide_constant(writer, value)
    if value is not None and value.size == 1:
        return number(float(value.reshape(-1)[0])), ()
    if name in writer.pending:
        pending = writer.pending.pop(name)
        return f"({pending.text})", pending.views
    return "{0}", (writer.view(name),)


def _wide_constant(writer: Writer, value: np.ndarray) -> tuple[str, tuple[View, ...]]:
    """Return float64 numbers as text: one as it is, several as the sum of two float32 (off by 2^-48 at most)."""
    if value.size == 1:
        one = float(value.reshape(-1)[0])
        return (repr(one) if np.isfinite(one) else number(one)), ()
    most = value.astype(np.float32)
    rest = np.where(np.isfinite(most), value - most, 0.0)
    return "((double){0} + {1})", (writer.weight(most), writer.weight(rest))


def _normalisation(writer: Writer, operation: Operation) -> Pending:
    """Return a normalisation by stored statistics as a factor and an offset, made in float64."""
    known = [writer.constant(name) for name in operation.inputs[1:5]]
    if any(value is None for value in known) or operation.attrs.get("training_mode", 0):
        raise operation.refuse("by statistics of the window")
    scale, offset, mean, variance = (np.asarray(value, dtype=np.float64) for value in known)
    factor = scale / np.sqrt(variance + operation.attrs.get("epsilon", 1e-5))
    rank = len(writer.shape(operation.inputs[0]))
    column = (-1, *(1,) * (rank - 2))
    views = [writer.weight(value.reshape(column)) for value in (factor, offset - factor * mean)]
    text, more = _argument(writer, operation.inputs[0])
    return Pending(text=f"({text} * {{{len(more)}}} + {{{len(more) + 1}}})", views=(*more, *views))


def _clip(writer: Writer, operation: Operation) -> Pending:
    text, views = _argument(writer, operation.inputs[0])
    for index, name, function in ((1, "min", "rt_max"), (2, "max", "rt_min")):
        given = operation.inputs[index] if index < len(operation.inputs) else ""
        if given:
            bound = writer.constant(given)
            if bound is None:
                raise operation.refuse("with a bound computed from the window")
            text = f"{function}({text}, {number(float(bound.reshape(-1)[0]))})"
        elif name in operation.attrs:
            text = f"{function}({text}, {number(operation.attrs[name])})"
    return Pending(text=text, views=views)


def _where(operation: Operation, args: list[str]) -> str:
    return f"({args[0]} != 0.f ? {args[1]} : {args[2]})"
