"""tract's pulse as a peer of streaming: the plain export turned into a network that takes a hop of samples at a time.

Pulse (https://github.com/sonos/tract, ``doc/``, package ``tract`` of PyPI) follows the axis of time through a network and
gives the endless stream: a network whose answer is about a window, by a mean or a dense layer over all of it, has no pulse.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx

__all__ = ["pulsed"]

SYMBOL = "S"


def pulsed(plain: Path, hop: int) -> tuple[Callable[[np.ndarray], object] | None, str]:
    """Return what takes (1, n_chans, hop) and gives the stream's next answers, else None and why there is none.

    Parameters
    ----------
    plain : Path
        A plain export, (batch, n_chans, n_times) in.
    hop : int
        Samples at a time.
    """
    try:
        import tract
    except ImportError:
        return None, "tract is not installed here"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "open.onnx"
        n_chans = _open(plain, path)
        try:
            inferred = tract.onnx().load(str(path))
            inferred.set_input_fact(0, f"1,{n_chans},{SYMBOL},f32")
            model = inferred.into_model()
            model.transform(tract.Pulse(hop, symbol=SYMBOL))
            state = model.into_runnable().spawn_state()
        except tract.TractError as error:
            return None, _first_and_last(str(error))
    return lambda x: state.run([x]), ""


def _open(plain: Path, path: Path) -> int:
    """Write an export for one window of unknown length, and return its channels."""
    model = onnx.load(plain)
    del model.graph.value_info[:]
    batch, channels, time = model.graph.input[0].type.tensor_type.shape.dim
    batch.dim_value, time.dim_param = 1, SYMBOL
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    return int(channels.dim_value)


def _first_and_last(text: str) -> str:
    """Return an error's first line and its deepest cause, without what was called."""
    lines = [line.strip() for line in text.partition("Stack backtrace")[0].splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys((lines[0], lines[-1])))[:240] if lines else "no reason given"
