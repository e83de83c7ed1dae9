"""Where a run computes: the GPU where there is one, unless the recipe says otherwise; the same bits each time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.training.recipe import AUTO

__all__ = ["chosen_device", "repeatable"]


def chosen_device(name: str) -> str:
    """Return ``"cpu"`` or ``"cuda:0"`` and so on; ``"auto"`` takes CUDA where there is any.

    Raises
    ------
    InputError
        Where it is no such device.
    EnvironmentMissingError
        Where CUDA is asked for and torch finds none.
    """
    if name == AUTO:
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdecimal()) or (kind == "cpu" and number):
        raise InputError(f"unknown device {name!r}", hint="use auto, cpu, cuda or cuda:1")
    if kind == "cpu":
        return name
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(number or 0) >= found:
        raise EnvironmentMissingError(
            f"torch finds {found} CUDA devices, {name} is asked for", hint="use --device cpu, or a torch with CUDA"
        )
    return f"cuda:{int(number or 0)}"


@contextlib.contextmanager
def repeatable(device: str) -> Iterator[None]:
    """Compute on one thread and by kernels that give the same bits each time; leave torch as it was."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    index = [int(device.partition(":")[2] or 0)] if device.startswith("cuda") else []
    try:
        with (
            torch.random.fork_rng(devices=index),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False),
        ):
            yield
    finally:
        torch.set_num_threads(threads)
