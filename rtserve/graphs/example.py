"""What windows a module takes, read off an example of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.spec import InputSpec

__all__ = ["example_spec"]

_WANTED = "give an array or tensor (batch, n_chans, n_times), or rtserve.InputSpec(n_chans=..., n_times=...)"


def example_spec(example: Any) -> InputSpec:
    """Return the spec of windows like the example.

    A window set and MNE's epochs give channel names and rate as well; the unit of samples in memory says nothing about
    what the module was trained on, and stays unknown.

    Raises
    ------
    InputError
        Where it is no example of windows.
    """
    if isinstance(example, InputSpec):
        return example
    if isinstance(own := getattr(example, "input_spec", None), InputSpec):
        return dataclasses.replace(own, unit=None)
    if hasattr(example, "get_channel_types") and hasattr(example, "times"):
        kinds = example.get_channel_types()
        names = tuple(name for name, kind in zip(example.ch_names, kinds, strict=True) if kind == "eeg")
        return InputSpec(
            n_chans=len(names), n_times=len(example.times), sfreq=float(example.info["sfreq"]), ch_names=names
        )
    shape = _shape(example)
    if len(shape) == 2:
        raise InputError(f"the example is {shape}: one window, without its batch", hint="one window is example[None]")
    if len(shape) == 4:
        raise InputError(
            f"the example is {shape}, and a graph takes (batch, n_chans, n_times)",
            hint="wrap the module in one whose forward adds the axis itself: self.network(x.unsqueeze(1))",
        )
    if len(shape) != 3:
        raise InputError(f"the example is {shape}", hint=_WANTED)
    return InputSpec(n_chans=shape[1], n_times=shape[2])


def _shape(example: Any) -> tuple[int, ...]:
    if not (hasattr(example, "shape") and hasattr(example, "dtype")):
        what = "there is no example of its windows" if example is None else f"the example is a {type(example).__name__}"
        raise InputError(what, hint=_WANTED)
    kind = getattr(example.dtype, "kind", "f")
    if kind not in "fiu" or np.ndim(example) != len(example.shape):
        raise InputError(f"the example holds {example.dtype}, not numbers", hint=_WANTED)
    return tuple(int(size) for size in example.shape)
