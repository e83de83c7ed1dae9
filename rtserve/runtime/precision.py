"""What float32 means on a CUDA device: its own arithmetic, or TF32 where it was asked for.

torch lets cuDNN's convolutions and recurrent layers round the factors of every product to TF32's ten bits unless it is
told otherwise (`torch.backends.cudnn.allow_tf32`, on by default), which is 1e-3 of an answer at worst. A plan says what
it computes in. The switches are the process's own: they are put back as they were after each call, and one thread at a
time has them, else the second to come would take the first one's for the process's.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

PRECISIONS = ("float32", "tf32")
"""What a plan may compute in on a CUDA device; the first where it does not say."""

SWITCHES: tuple[tuple[Any, str, dict[str, Any]], ...] = (
    tuple(
        (holder, "fp32_precision", {"float32": "ieee", "tf32": "tf32"})
        for holder in (torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul)
    )
    if hasattr(torch.backends.cudnn, "conv")
    else tuple(
        (holder, "allow_tf32", {"float32": False, "tf32": True})
        for holder in (torch.backends.cudnn, torch.backends.cuda.matmul)
    )
)
"""Object, attribute and value for each precision. Since torch 2.9 each operator has a switch of its own, and reading
the older common one raises where they differ; so a process's settings are read and put back by the newest names."""


SWITCHING = threading.RLock()


@contextmanager
def computing_in(precision: str) -> Iterator[None]:
    """Compute in `precision` on CUDA devices, whatever the process allows, and without autocast."""
    with SWITCHING:
        before = [getattr(holder, name) for holder, name, _ in SWITCHES]
        try:
            for holder, name, values in SWITCHES:
                setattr(holder, name, values[precision])
            with torch.autocast(device_type="cuda", enabled=False):
                yield
        finally:
            for (holder, name, _), value in zip(SWITCHES, before, strict=False):
                setattr(holder, name, value)
