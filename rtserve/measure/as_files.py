"""What a person holds in Python as the files that a comparison reads: graphs, evaluations, windows."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.graphs.graph import Graph
from rtserve.measure.evaluation import Evaluation
from rtserve.signals.given import as_stated
from rtserve.signals.windows import Stated, save_windows
from rtserve.spec import InputSpec, OutputSpec

__all__ = ["as_files"]


@contextmanager
def as_files(first: Any, second: Any, data: Any, train: Any, stated: Stated) -> Iterator[tuple[Any, ...]]:
    """Yield the four as paths (or None, of windows); what was no path lies in a folder that goes afterwards.

    Raises
    ------
    InputError
        Where a side is no run, checkpoint, graph, zip or result, or windows are none.
    """
    graphs = [side for side in (first, second) if isinstance(side, Graph)]
    spec, output = (graphs[0].input_spec, graphs[0].output_spec) if graphs else (None, OutputSpec())
    with tempfile.TemporaryDirectory(prefix="rtserve-compare-") as name:
        folder = Path(name)
        sides = [_side(side, folder / called) for side, called in ((first, "first"), (second, "second"))]
        windows = [
            _windows(one, folder / f"{called}.npz", stated, spec, output)
            for one, called in ((data, "windows"), (train, "train"))
        ]
        yield (*sides, *windows)


def _side(side: Any, place: Path) -> str | Path:
    if isinstance(side, str | Path):
        return side
    if isinstance(side, Graph):
        return side.save(place.with_suffix(".onnx"))
    if isinstance(side, Evaluation):
        return side.save(place.with_suffix(".json"))
    raise InputError(
        f"a {type(side).__name__} cannot be compared",
        hint="give a graph, what rtserve.evaluate gave, or the path of a run, checkpoint, graph, zip or result",
    )


def _windows(
    windows: Any, place: Path, stated: Stated, spec: InputSpec | None, output: OutputSpec
) -> str | Path | None:
    if windows is None or isinstance(windows, str | Path):
        return windows
    given = as_stated(windows, stated, spec=spec, output=output)
    if spec is not None and spec.sfreq and not given.sfreq:
        raise InputError(
            f"the windows do not say their rate; the graph takes {spec.sfreq:g} Hz",
            hint=f"state it: sfreq={spec.sfreq:g}",
        )
    return save_windows(place, given)
