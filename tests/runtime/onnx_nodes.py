"""ONNX's own node tests on the executor: a test passes, or is refused by name before anything runs.

Which tests: every one that `onnx.backend.test` calls a node test, at the opset it was written for (the plan carries the
opset, and the operators follow it from 7 to 26), so that no converter stands between the test and its numbers. A test
of several nodes is an operator written out in others.

How each is run: once with every input but the first as a constant, as exported networks have them, and once with every
input computed. A test *passes* where its numbers, shapes and types come out in at least one form and come out wrong in
none; it is *refused* where each form is refused by name. Anything else is wrong, or a crash.

    python tests/runtime/onnx_nodes.py            # the table, and what is wrong
    python tests/runtime/onnx_nodes.py --write    # writes it into docs/executor.md
"""

from __future__ import annotations

import re
import sys
import warnings
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper

import rtserve.runtime.executor as executor
from rtserve.errors import ExportError
from rtserve.graphs.plan import read_model
from rtserve.runtime.node import OPERATORS, UnsupportedOperatorError

PAGE = Path(__file__).parents[2] / "docs" / "executor.md"
BEGIN, END = "<!-- node tests: written by tests/runtime/onnx_nodes.py --write -->", "<!-- end of node tests -->"
WRITTEN_OUT = "(written out in several)"
ELSEWHERE = "(an operator outside the table)"


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one test: `kind` is passed, refused, wrong or crash."""

    name: str
    row: str
    kind: str
    why: str = ""


@cache
def node_cases():
    """All node tests of the installed onnx, by name."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = load_model_tests(kind="node")
    return sorted(map(in_memory, cases), key=lambda case: case.name)


def in_memory(case):
    """Return a test with its model and its data, which onnx before 1.23 leaves in its folder."""
    if case.model is not None:
        return case
    model = onnx.load(Path(case.model_dir) / "model.onnx")
    sets = []
    for folder in sorted(Path(case.model_dir).glob("test_data_set_*")):
        sides = ((model.graph.input, "input"), (model.graph.output, "output"))
        sets.append(tuple([read_value(v, folder / f"{side}_{k}.pb") for k, v in enumerate(of)] for of, side in sides))
    return replace(case, model=model, data_sets=sets)


def read_value(value, path):
    """Return what a file of a test holds, by the type that the model gives it."""
    if value.type.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(path.read_bytes()))
    if value.type.HasField("optional_type"):
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(path.read_bytes()))
    return onnx.TensorProto.FromString(path.read_bytes())


def row_of(case):
    """Return the row of the table that a test belongs to."""
    ops = {(node.domain, node.op_type) for node in case.model.graph.node}
    if any(domain or op not in {*OPERATORS, "Constant"} for domain, op in ops):
        return ELSEWHERE
    return next(iter(ops))[1] if len(case.model.graph.node) == 1 else WRITTEN_OUT


def arrays_of(case):
    """Yield (inputs, expected outputs) of each data set; what is no tensor stays what it is."""

    def array(value):
        return numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value

    for inputs, outputs in case.data_sets:
        yield [array(value) for value in inputs], [array(value) for value in outputs]


def with_constants(model, arrays, first):
    """Turn every input from `first` on that is a tensor into an initializer."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    for value, array in zip(list(model.graph.input)[first:], arrays[first:], strict=True):
        if value.type.HasField("tensor_type") and isinstance(array, np.ndarray | np.generic):
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), value.name))
            model.graph.input.remove(value)
    return model


def torch_of(array):
    """Return an array as a tensor; numpy has no bfloat16 of its own."""
    from rtserve.graphs.plan import to_tensor

    return to_tensor(np.asarray(array))


def plan_of(model):
    """Return a model's plan and tensors, and the names of its inputs and outputs in the plan."""
    import onnx_ir as ir

    reader, plan = read_model(ir.serde.deserialize_model(model))
    outputs = [reader.names.get(value, "") for value in reader.outputs]
    read = [f"{name}_read" for name in outputs]
    for name, alias in zip(outputs, read, strict=True):
        plan["nodes"].append({"op": "Identity", "inputs": [name], "outputs": [alias], "attrs": {}})
    plan = {**plan, "output": read[0], "tensors": sorted(reader.tensors)}
    return plan, reader.tensors, [reader.names[value] for value in reader.inputs], read


def program_of(model):
    """Return a model's program, and the names of its inputs and outputs in it."""
    plan, tensors, inputs, outputs = plan_of(model)
    return executor.Program(plan, tensors, torch.zeros(())), inputs, outputs


def run(program, inputs, outputs, arrays):
    """Return a program's outputs as tensors."""
    values = [torch_of(array) for array in arrays]
    for name, value in zip(inputs, values, strict=True):
        program.template[program._slot(name)] = value
    with torch.inference_mode():
        first = values[0] if values else torch.zeros(1)
        seen = program.trace(first)
    return [seen[name] for name in outputs]


def compare(case, got, expected):
    """Return what is wrong with a test's outputs, or an empty text."""
    for number, (one, other) in enumerate(zip(got, expected, strict=True)):
        other = torch_of(other)
        if one.dtype != other.dtype:
            return f"output {number} is {one.dtype}, not {other.dtype}"
        if one.shape != other.shape:
            return f"output {number} has shape {tuple(one.shape)}, not {tuple(other.shape)}"
        rtol = case.rtol if not one.is_floating_point() else max(case.rtol, 2 * torch.finfo(one.dtype).eps)
        wide = torch.complex128 if one.is_complex() else torch.float64
        pair = [value.to(wide).numpy() for value in (one, other)]
        if not np.allclose(*pair, rtol=rtol, atol=max(case.atol, 1e-6), equal_nan=True):
            return f"output {number} is off by {np.nanmax(np.abs(pair[0] - pair[1]))}"
    return ""


def judge_form(case, inputs, expected, first):
    """Return (kind, why) of one form of a test."""
    try:
        model = with_constants(case.model, inputs, first)
        program, names, outputs = program_of(model)
    except (UnsupportedOperatorError, ExportError) as error:
        return "refused", str(error)
    except Exception as error:
        return "crash", f"while bound: {type(error).__name__}: {error}"
    try:
        # What only a size tells is refused when a plan is tried once: `graph_to_plan` does, before anything is built.
        why = compare(case, run(program, names, outputs, inputs[: len(names)]), expected)
    except UnsupportedOperatorError as error:
        return "refused", str(error)
    except Exception as error:
        return "crash", f"{type(error).__name__}: {error}"
    return ("wrong", why) if why else ("passed", "")


def judge(case):
    """Return the outcome of one test over its forms and data sets."""
    row, forms = row_of(case), []
    for inputs, expected in arrays_of(case):
        for first in dict.fromkeys((min(1, len(inputs)), 0, len(inputs))):
            forms.append(judge_form(case, inputs, expected, first))
    for kind in ("crash", "wrong", "passed", "refused"):
        for found, why in forms:
            if found == kind:
                return Outcome(name=case.name, row=row, kind=kind, why=why)
    raise AssertionError(f"{case.name} has no data")


@cache
def outcomes():
    """What became of every test."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return tuple(judge(case) for case in node_cases())


def reason_of(result):
    """Return a refusal in few words: the form alone, types by their names."""
    text = result.why.removeprefix(f"{result.row} ").removeprefix("to ONNX element ")
    found = re.search(r"is (of type (\w+)|no plain tensor)", text)
    if found:
        return found[2] or "no tensor"
    number = re.fullmatch(r"type (\d+)", text)
    return (
        onnx.TensorProto.DataType.Name(int(number[1]))
        if number
        else re.sub(r" \d+ samples times [\d.]+", " scales", text)
    )


def told(reasons):
    """Return refusals as one text: types first."""
    types = sorted({reason for reason in reasons if reason.isupper() or reason == "no tensor"})
    forms = sorted(set(reasons) - set(types))
    return "; ".join([*forms, *([f"types {', '.join(types)}"] if types else [])])


def table(results):
    """Return the table as Markdown: one row for each operator that has a test."""
    counts = Counter((result.row, result.kind) for result in results)
    why = {}
    for result in results:
        if result.kind == "refused" and result.row not in (ELSEWHERE, WRITTEN_OUT):
            why.setdefault(result.row, []).append(reason_of(result))
    lines = ["| operator | tests | passed | refused | the refusals |", "|---|--:|--:|--:|---|"]
    rows = sorted({result.row for result in results}, key=lambda row: (row.startswith("("), row))
    for row in rows:
        passed, refused = counts[row, "passed"], counts[row, "refused"]
        lines.append(f"| {row} | {passed + refused} | {passed} | {refused} | {told(why.get(row, ()))} |")
    total = Counter(result.kind for result in results)
    lines.append(f"| all | {sum(total.values())} | {total['passed']} | {total['refused']} | |")
    return "\n".join(lines)


def section(results):
    """Return what stands between the marks of the page."""
    return f"onnx {onnx.__version__}, {len(results)} tests:\n\n{table(results)}\n"


def main(arguments):
    """Print the table, or write it; say what is wrong."""
    results = outcomes()
    bad = [result for result in results if result.kind in ("wrong", "crash")]
    for result in bad:
        print(f"{result.kind:7} {result.row}: {result.name}: {result.why[:300]}")
    print(dict(Counter(result.kind for result in results)))
    if bad:
        return 1
    if "--write" in arguments:
        before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        PAGE.write_text(f"{before}{BEGIN}\n{section(results)}{END}{after}", "utf-8")
    else:
        print(section(results))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
