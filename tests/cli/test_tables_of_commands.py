"""The tables that commands print, at every width: in columns where they fit, else every value with its column's name."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from rtserve.cli.inspecting import inspect_text
from rtserve.cli.output import fitted
from rtserve.measure.class_tables import class_tables, table_lines
from rtserve.measure.comparison import Comparison, Row
from rtserve.measure.search_report import Option, SearchReport
from rtserve.measure.sides import Side
from rtserve.measure.signature import Interval, Signature
from rtserve.measure.tuned import Tuned
from rtserve.streaming.report import stream_text
from tests.cli.test_widths import WIDTHS, on_a_terminal
from tests.measure.test_bench import made_up


def evaluated(width):
    y = np.arange(60) % 5
    tables = class_tables(
        y, np.where(np.arange(60) % 7, y, 0), ("rest", "left_hand", "right_hand", "both_feet", "tongue")
    )
    subjects = [{"subject": "NDARAA075AMK", "n": 12, "balanced_accuracy": 0.61803, "cohen_kappa": None}]
    return table_lines(tables | {"per_subject": subjects}, width)


def benched(width):
    return made_up(0.51, engine="native", loop=3).lines(width)


def tuned(width):
    return Tuned(
        graph="0" * 64, machine={"cpu": "a processor"}, batch=1, threads=1, best="native", left_out={"openvino": "absent"},
        median_us={"onnxruntime": 1234.5, "native": 617.25},
        ratio={"onnxruntime": (1.0, 1.0, 1.0), "native": (0.5, 0.4987, 0.5013)}, loaded=("others ran",),
    ).lines(width)  # fmt: skip


def compared(width):
    one, two = (Side(name=name, kind="run", path=Path(name), digest="") for name in ("A", "B"))
    rows = (
        Row(key="recipe.optimizer.weight_decay", first="0.0001", second="0.01"),
        Row(key="recipe.seed", first=None, second="of the folder of the run that this was begun from"),
    )
    return Comparison(first=one, second=two, rows=rows, refusals=("no two numbers of the same kind",)).lines(width)


def searched(width):
    options = [
        Option(
            label=f"{k} members x {k} views (identity, roll:+3), weighted", members=(), views=(), value=0.9 + k / 100,
            interval=Interval(low=0.8, high=0.95, over="subjects", units=9), cost_us=(12.5 * k, 12.0, 13.0),
            predicted_us=12.0, chosen=k == 2, single=k == 1,
        )
        for k in (1, 2, 3)
    ]  # fmt: skip
    signature, gain = Signature(metric="nrmse"), SimpleNamespace(constant=None, sentence=lambda: "not told apart")
    return SearchReport(
        signature=signature, told=signature, higher_is_better=False, budget_us=99.0, options=tuple(options), gain=gain,
        nested=0.9, nested_interval=None, candidates=7, exact=True, folds=0, over="subjects",
    ).lines(width)  # fmt: skip


def streamed(width):
    layer = {
        "computed": 8,
        "columns": 200,
        "kept": 192,
        "macs_step": 8e5,
        "macs_window": 2e7,
        "elsewhere": 0,
        "why": "",
    }
    last = {"computed": 0, "columns": 0, "kept": 0, "macs_step": 64, "macs_window": 64, "elsewhere": 5}
    report = {
        "output": "S.onnx", "hop": 8, "sfreq": 100.0, "bytes": 12345, "input": "6 channels", "output_spec": "1 output",
        "first_answer": 25, "states": [], "state_numbers": 960, "nodes": {"window": 12, "step": 30},
        "macs": {"window": 2e7, "form": 2e7, "step": 8e5}, "parity": {"summary": "equal"}, "sha256": "0" * 64,
        "layers": [
            layer | {"op": "Conv", "name": "node_conv1d"},
            last | {"op": "ReduceMean", "name": "node_mean", "why": "time ends here: it takes all of a window together"},
        ],
    }  # fmt: skip
    return stream_text(report, explain=True, width=width).split("\n")


def inspected(width):
    rows = [{"key": f"feature.{k}.depthwise.weight", "shape": [64, 1, 25], "dtype": "float32"} for k in (1, 2)]
    return inspect_text({"file": "a.pth", "kind": "checkpoint", "bytes": 9, "tensors": rows}, width=width).split("\n")


TABLES = [evaluated, benched, tuned, compared, searched, streamed, inspected]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self):
        return True


def signs(lines):
    """Return the words that say something, each as often as it is there."""
    return sorted(word.strip(":,") for line in lines for word in line.split() if any(map(str.isalnum, word)))


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_a_pipe_and_a_wide_terminal_get_the_same_columns(table):
    assert table(None) == table(400)


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.__name__)
def test_no_value_is_lost_and_none_stands_without_its_name(table, width, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    lines = table(width)
    shown = fitted("\n".join(lines), Terminal()).split("\n")
    assert all(len(line) <= width or len(line.split()) == 1 for line in shown)
    assert set(signs(table(None))) <= set(signs(shown))
    if lines != table(None):
        assert len(lines) > len(table(None))


def test_a_narrow_terminal_names_every_value():
    assert evaluated(40)[6:12] == [
        "  there left_hand, decided", "    rest: 2", "    left_hand: 10", "    right_hand: 0", "    both_feet: 0",
        "    tongue: 0",
    ]  # fmt: skip
    assert [line.split(":")[0] for line in benched(60)[1:6]] == [
        "f [native] x 3",
        "  p50",
        "  p90",
        "  p99",
        "  windows/s",
    ]
    assert tuned(40)[1:4] == ["  native", "    a call: 617.2 us", "    of onnxruntime: 0.500 [0.499, 0.501]"]
    assert compared(40)[3:6] == ["! recipe.optimizer.weight_decay", "  A: 0.0001", "  B: 0.01"]
    assert "  nrmse: 0.91000 [0.8000, 0.9500]" in searched(40)
    assert "    computed: 8 of 200" in streamed(60)
    assert inspected(40)[2:5] == ["    feature.1.depthwise.weight", "      shape: 64 x 1 x 25", "      dtype: float32"]


@pytest.mark.parametrize("columns", [40, 200])
def test_a_command_asks_its_terminal(columns, small_members):
    """The other stream is a pipe, or COLUMNS says otherwise: each is laid out for where it goes."""
    code, shown = on_a_terminal(("inspect", str(small_members[0])), columns)
    assert code == 0
    assert all(len(line) <= columns or len(line.split()) == 1 for line in shown.splitlines())
    code = "import sys; from rtserve.cli.output import width_of; print(width_of(sys.stderr))"
    assert on_a_terminal([code], columns)[1].split() == [str(columns)]
    assert on_a_terminal([code], columns, COLUMNS="77")[1].split() == ["77"]
    piped = (
        f"import subprocess, sys; print(subprocess.run([sys.executable, '-c', {code.replace('print(', 'sys.exit(')!r}],"
        " stdout=subprocess.DEVNULL).returncode)"
    )
    assert on_a_terminal([piped], columns)[1].split() == [str(columns)]
