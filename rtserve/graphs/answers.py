"""Reference answers that travel in a graph: what it must give to a few windows that every machine can make.

They are computed in float64 when the graph is made. Whoever runs the graph later, in whatever engine, can ask it the
same and compare before believing a number (`require_engine`).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import InputError, ParityError, RtserveError
from rtserve.files import canonical_json
from rtserve.graphs.engines import ENGINE_NAMES
from rtserve.graphs.parity import ParityCase, compare_outputs
from rtserve.spec import InputSpec

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph

__all__ = ["Answers", "answer_windows", "require_engine"]

WINDOWS = 3
MOST_OUTPUTS = 64
"""Numbers kept of a window's answer: a network with more has as many of them, evenly spread, kept."""
SIZES = {"V": 2.0**-16, "mV": 2.0**-6, "uV": 2.0**4, "1": 1.0, None: 1.0}
"""About the size that EEG has in each unit; powers of two, so that the windows are the same bits everywhere."""
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a graph answers to `answer_windows`.

    Parameters
    ----------
    values : tuple of tuple of float
        One per window: the answers at `outputs`, to nine digits.
    outputs : tuple of int
        Which outputs are kept.
    size : float
        Of the windows: that of EEG in the unit that the graph was made for.
    rounding : float
        Relative error that float32 is expected to make on them.
    """

    values: tuple[tuple[float, ...], ...]
    outputs: tuple[int, ...]
    size: float
    rounding: float

    @classmethod
    def of(cls, truth: np.ndarray, rounding: float, spec: InputSpec) -> Answers | None:
        """Return what is kept of answers (3, n_outputs) in float64; None where one is no number."""
        if not (np.isfinite(truth).all() and np.isfinite(rounding)):
            return None
        chosen = np.unique(np.linspace(0, truth.shape[1] - 1, min(MOST_OUTPUTS, truth.shape[1])).astype(int))
        rows = tuple(tuple(float(f"{value:.9g}") for value in row[chosen]) for row in truth)
        kept = tuple(int(index) for index in chosen)
        return cls(values=rows, outputs=kept, size=_size(spec), rounding=float(f"{rounding:.2g}"))

    def compare(self, got: np.ndarray, name: str) -> ParityCase:
        """Compare what an engine answers to `answer_windows`, (3, n_outputs), with the stored answers."""
        kept = got[:, list(self.outputs)] if got.ndim == 2 and got.shape[1] > self.outputs[-1] else got
        return compare_outputs(name, kept, np.array(self.values), rounding=self.rounding)

    def to_json(self) -> str:
        """Return the answers as canonical JSON; `from_json` reads it back."""
        values = {"schema": SCHEMA, "values": self.values, "outputs": self.outputs}
        values |= {"size": self.size, "rounding": self.rounding}
        return canonical_json(values)

    @classmethod
    def from_json(cls, text: str) -> Answers | None:
        """Read what `to_json` wrote; None where a later version wrote it; `InputError` where it is neither."""
        try:
            told = json.loads(text)
            if told["schema"] != SCHEMA:
                return None
            rows = tuple(tuple(float(value) for value in row) for row in told["values"])
            outputs = tuple(int(index) for index in told["outputs"])
            if len(rows) != WINDOWS or not outputs or any(len(row) != len(outputs) for row in rows):
                raise ValueError("rows and outputs do not fit")
            return cls(values=rows, outputs=outputs, size=float(told["size"]), rounding=float(told["rounding"]))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"the reference answers in the file cannot be read ({error})",
                hint="the file was edited or cut short; make it again",
            ) from None


def _size(spec: InputSpec) -> float:
    return SIZES.get(spec.unit, 1.0)


def answer_windows(spec: InputSpec, windows: int = WINDOWS, *, size: float | None = None) -> np.ndarray:
    """Return (windows, n_chans, n_times) float32 noise, the same bits on every machine.

    All but the last are of `size`, by default about that of EEG in the unit of the spec; the last is of size 1.

    Made of integers alone (SplitMix64; Steele, Lea and Flood, 2014, "Fast splittable pseudorandom number generators").
    """
    shape = (windows, spec.n_chans, spec.n_times)
    with np.errstate(over="ignore"):
        z = np.arange(1, int(np.prod(shape)) + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z = (z ^ (z >> np.uint64(shift))) * np.uint64(factor)
        z ^= z >> np.uint64(31)
    x = ((z >> np.uint64(40)).astype(np.float64) * 2.0**-23 - 1.0).astype(np.float32).reshape(shape)
    x[:-1] *= np.float32(_size(spec) if size is None else size)
    return x


def require_engine(graph: Graph, infer: Callable[[np.ndarray], np.ndarray], *, engine: str, name: str) -> str:
    """Compare what an engine gives with the graph's reference answers, before anybody believes it.

    Parameters
    ----------
    graph : Graph
        Its stored answers are used; where it has none they are found as `rtserve.graphs.witness.hear` finds them.
    infer : callable
        The engine at work.
    engine, name : str
        What messages call engine and graph.

    Returns
    -------
    str
        What the reader should know: that nobody could be asked, or an empty text.

    Raises
    ------
    ParityError
        Where the engine answers something else.
    """
    from rtserve.graphs.turning import turning_words

    size = graph.answers.size if graph.answers is not None else None
    x = answer_windows(graph.input_spec, graph.fixed_batch or WINDOWS, size=size)
    try:
        compare = _comparison(graph, x)
        case = compare(np.asarray(infer(x)))
    except ParityError:
        raise
    except RtserveError as error:
        return f"{name} has no reference answers, and no second witness for those of {engine}: {error.message}"
    if case.passed:
        return ""
    detail, said = "no number where it has one", ""
    if case.finite:
        called = {shown: key for key, shown in ENGINE_NAMES.items()}.get(engine, "")
        detail = f"off by {case.error:.1e}, {case.allowed:.1e} is allowed"
        said = turning_words(graph, x, lambda y: compare(y).error, case.allowed, called)
    raise ParityError(
        f"{engine} does not give the numbers of {name}: {detail} on its reference windows;{f' {said};' if said else ''}"
        " nothing was measured",
        hint="another --engine does; a graph is laid out for one by `rtserve fuse --engine`",
    )


def _comparison(graph: Graph, x: np.ndarray) -> Callable[[np.ndarray], ParityCase]:
    """Return what compares an engine's answers to x with those that are right."""
    from rtserve.graphs.witness import hear

    if graph.answers is not None and len(x) == WINDOWS:
        return partial(graph.answers.compare, name="its reference windows")
    (answer,) = hear(graph, [("its reference windows", x)]).answers
    return answer.compare
