"""What measures the tables of torch's executor, OpenVINO and CUDA, as `engine_tables_onnxruntime` does onnxruntime's."""

from __future__ import annotations

from functools import partial
from itertools import product
from typing import Any

import numpy as np
import onnx_ir as ir
from engine_tables_micro import Form, Measure, Times, Unmeasured, bend, conv, crossing, small_nodes

from rtserve.fusion.ir.conv import ZERO, Conv1d
from rtserve.fusion.program.share import spans
from rtserve.fusion.program.stage import _seams  # the pass's own nodes
from rtserve.graphs.emit import Emitter

__all__ = ["MEASURES"]

T, CHANNELS, FILTERS, ROLL = 200, 129, 40, 3


def _forms(body: Any, n_chans: int, n_times: int, *sizes: Any, engine: str = "torch") -> dict[Any, Form]:
    return {
        key: Form(
            body=lambda emit, x, key=key: body(emit, x, *key), n_chans=n_chans, n_times=n_times, engine=engine
        )
        for key in product(*sizes)
    }  # fmt: skip


# torch


def _of_window(emit: Emitter, x: ir.Value, taps: int) -> ir.Value:
    return conv(emit, x, (FILTERS, CHANNELS, taps))


def _rate(us: Times) -> float:
    return FILTERS * CHANNELS * T * 20 / (us[(25,)] - us[(5,)])


def _rows_taken(emit: Emitter, x: ir.Value, times: int, rows: int) -> ir.Value:
    """Return rows gathered so often, in another order each time."""
    for k in range(times):
        x = emit("Gather", x, np.random.default_rng(k).integers(0, rows if k else 100, rows), axis=1)
    return x


STAGE = Conv1d(
    weight=np.random.default_rng(0).standard_normal((FILTERS, CHANNELS, 5)).astype(np.float32),
    left=2, right=2, n_in=T, rows=0, axis=2,
)  # fmt: skip


def _runs() -> list[np.ndarray]:
    """Return the seam windows of two rolls: those that are no stretch of the window."""
    runs = []
    for roll in (ROLL, -ROLL):
        windows = STAGE.reads((np.arange(T) - roll) % T)
        seam = (np.diff(windows, axis=1) != 1).any(axis=1) | (windows == ZERO).any(axis=1)
        runs += [windows[low:high] for low, high in spans(np.flatnonzero(seam))]
    return runs


def _by_themselves(emit: Emitter, x: ir.Value, way: str) -> ir.Value:
    if way == "none":
        return emit.slice(x, 2, 0, 1)
    return emit("Concat", *(signal.value for signal in _seams(emit, x, STAGE, _runs())), axis=2)


SEAM_WINDOWS = sum(map(len, _runs()))
SEAM_FORMS = _forms(_by_themselves, CHANNELS, T, ("seams", "none")) | _forms(_of_window, CHANNELS, T, (5, 25))


def _seams_us(us: Times) -> float:
    return us[("seams",)] - us[("none",)] - SEAM_WINDOWS * STAGE.weight.size / _rate(us)


# OpenVINO


def _way(emit: Emitter, x: ir.Value, way: str, outputs: int) -> ir.Value:
    channels = int(x.shape[1])  # type: ignore[index,arg-type]
    if way == "plane":
        return conv(emit, emit("Unsqueeze", x, [1]), (outputs, 1, channels, 9))
    return conv(emit, emit("Unsqueeze", x, [2]), (outputs, channels, 1, 9))


BY_CHANNELS, BY_OUTPUTS = (16, 32, 64, 96, 128, 192), (16, 32, 48, 64, 96, 128)
CHANNEL_FORMS = {
    (way, channels): form
    for channels in BY_CHANNELS
    for (way, _), form in _forms(_way, channels, T, ("plain", "plane"), (16,), engine="openvino").items()
}
KERNELS = "counted, not timed: kernels that a step launches on a CUDA device (benchmarks/gpu.py counts a plan's)"

MEASURES = (
    Measure(
        name="torch.MACS_PER_US", how=f"{FILTERS} filters over {CHANNELS} channels, {T} samples: 5 and 25 taps",
        forms=_forms(_of_window, CHANNELS, T, (5, 25)), constant=_rate,
    ),
    Measure(
        name="torch.NODE_US", how="8 and 72 of Add, Slice, Mul and Concat on 16 numbers",
        forms=_forms(small_nodes, 1, 16, (8, 72)), constant=lambda us: (us[(72,)] - us[(8,)]) / 64,
    ),
    Measure(
        name="torch.COPIED_US", how="100 and 400 rows of 64 gathered 1 and 5 times",
        forms=_forms(_rows_taken, 100, 64, (1, 5), (100, 400)),
        constant=lambda us: bend(us, (1, 5), (100, 400)) / (4 * 300 * 64),
    ),
    Measure(
        name="torch.SEAMS_US", how=f"{SEAM_WINDOWS} seam windows of 5 taps by themselves, without their multiply-adds",
        forms=SEAM_FORMS, constant=_seams_us,
    ),
    Measure(
        name="openvino.PLANE_CHANNELS", how="16 filters of 9 taps as they are, and on the window as a plane",
        forms=CHANNEL_FORMS, constant=partial(crossing, ladder=BY_CHANNELS, other="plane"), ladder=BY_CHANNELS,
    ),
    Measure(
        name="openvino.PLANE_OUTPUTS", how="filters of 9 taps over 128 channels on a plane, and as they are",
        forms=_forms(_way, 128, T, ("plain", "plane"), BY_OUTPUTS, engine="openvino"),
        constant=partial(crossing, ladder=BY_OUTPUTS, plain="plane", other="plain"), ladder=BY_OUTPUTS,
    ),
    *(Unmeasured(name=f"cuda.{name}", reason=KERNELS) for name in ("CONVOLVED", "PACKED", "SEAMS", "SCALED", "JOINED")),
)  # fmt: skip
