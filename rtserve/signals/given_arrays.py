"""The arrays of what a person gives as windows: one reader per kind, told apart without importing any of their libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.epochs_file import epochs_arrays

__all__ = ["KINDS", "numbered", "read_any", "samples"]

KINDS = (
    "a window set, the path of one, (X, y), an array (n_windows, n_chans, n_times), MNE Epochs, or a braindecode data set"
    " of windows"
)
_EXAMPLE = "X is (n_windows, n_chans, n_times), numbers"


def read_any(windows: Any, *, need_y: bool) -> dict[str, Any]:
    """Return the arrays of a window set, and under ``called`` what messages call it.

    ``must_state`` is there where the kind of thing has units and does not say which.

    Raises
    ------
    InputError
        Where it is none of `KINDS`, or not usable.
    """
    if _is(windows, "mne", "BaseEpochs"):
        return epochs_arrays(windows, "the set of epochs", classed=need_y) | {"called": "the set of epochs"}
    if _is(windows, "mne", "BaseRaw") or _is(windows, "mne", "Evoked"):
        raise InputError(
            f"a {type(windows).__name__} is not cut into windows", hint="cut it: mne.Epochs(raw, events, ...)"
        )
    if _is_dataset(windows):
        return _dataset(windows, need_y=need_y)
    if isinstance(windows, tuple):
        return _pair(windows, need_y=need_y)
    _require_array(windows)
    if need_y:
        raise InputError(
            "an array has no targets to score against", hint="give (X, y): rtserve.evaluate(graph, (X, y), unit=...)"
        )
    return {"X": samples(windows), "called": "the array"}


def _is(value: Any, library: str, name: str) -> bool:
    """Whether a value is of a class of this name in a library, which need not be imported to be asked."""
    return any(base.__name__ == name and base.__module__.partition(".")[0] == library for base in type(value).__mro__)


def _is_dataset(value: Any) -> bool:
    sized = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return sized and any(_is(value, library, "Dataset") for library in ("torch", "skorch"))


def _require_array(value: Any) -> None:
    """Raise `InputError` where a value is no array, saying what it rather seems to be."""
    if hasattr(value, "__array__") and hasattr(value, "ndim"):
        return
    what, hint = f"windows cannot be of type {type(value).__name__}", f"give {KINDS}"
    if isinstance(value, Mapping):
        hint = "windows are no dict; weights (a state_dict) become a graph first: rtserve.export(module, example)"
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes):
        what = f"a list of {len(value)} entries is not windows"
        hint = "stack windows of one shape: numpy.stack(LIST); targets beside them are a tuple: (X, y)"
    raise InputError(what, hint=hint)


def samples(value: Any, *, called: str = "X") -> np.ndarray:
    """Return an array or a tensor, wherever it lives, as float32 (n_windows, n_chans, n_times).

    Raises
    ------
    InputError
        Where it is of another shape, or not of numbers.
    """
    X = to_numpy(value)
    if X.dtype.kind == "O":
        raise InputError(
            f"{called} holds objects {X.shape}, not numbers",
            hint="windows of one length each: numpy.stack(LIST); of numbers as objects: X.astype(float)",
        )
    if X.ndim == 2:
        raise InputError(
            f"{called} is {X.shape}: one window, or windows without channels",
            hint="one window is X[None]; windows of one channel are X[:, None, :]",
        )
    if X.ndim != 3 or X.dtype.kind not in "fiu":
        raise InputError(f"{called} is {X.dtype} {X.shape}", hint=_EXAMPLE)
    if not len(X):
        raise InputError(f"{called} holds no windows {X.shape}", hint="give at least one window")
    with np.errstate(over="ignore"):  # what float32 cannot hold is Inf, and refused as that
        return np.ascontiguousarray(X, dtype=np.float32)


def to_numpy(value: Any, hint: str = _EXAMPLE) -> np.ndarray:
    """Return what is like an array as one; a tensor is detached and brought from its device first."""
    if np.ma.is_masked(value):
        raise InputError("some numbers of the array are masked", hint="drop or repair those windows first")
    try:
        return _from_torch(value) if _is(value, "torch", "Tensor") else np.asarray(value)
    except InputError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:120]
        raise InputError(f"a {type(value).__name__} cannot be read as an array ({said})", hint=hint) from None


def _from_torch(tensor: Any) -> np.ndarray:
    if tensor.device.type == "meta":
        raise InputError("a tensor on the meta device holds no numbers", hint="give the tensor with its numbers")
    dense = tensor.detach().to_dense().cpu()
    return np.asarray((dense.float() if dense.dtype.itemsize < 4 and dense.is_floating_point() else dense).numpy())


def _pair(pair: tuple[Any, ...], *, need_y: bool) -> dict[str, Any]:
    if len(pair) != 2:
        raise InputError(
            f"a tuple of {len(pair)} is not windows", hint="give (X, y); what else is known: WindowSet(...)"
        )
    if not need_y:
        raise InputError("(X, y) where X alone is needed: y would be ignored", hint="give X alone")
    X, y = pair
    if _is(X, "mne", "BaseEpochs"):
        arrays = epochs_arrays(X, "the set of epochs", classed=False) | {"called": "the set of epochs"}
    else:
        _require_array(X)
        arrays = {"X": samples(X), "called": "(X, y)"}
    return arrays | {"y": to_numpy(y, "y is one target per window: numbers, or names of classes")}


def _dataset(dataset: Any, *, need_y: bool) -> dict[str, Any]:
    """Return a map-style torch data set of (X, y, ...): skorch's, braindecode's, one's own."""
    called = f"the {type(dataset).__name__}"
    if not len(dataset):
        raise InputError(f"a {type(dataset).__name__} holds no windows", hint="give at least one window")
    items = [_item(dataset[k], called) for k in range(len(dataset))]
    shapes = sorted({x.shape for x, _ in items})
    if len(shapes) > 1 or len(shapes[0]) != 2:
        raise InputError(
            f"{called} has windows of shape {', '.join(map(str, shapes[:4]))}, not one of (n_chans, n_times)",
            hint="cut windows of one length first, e.g. braindecode.preprocessing.create_windows_from_events",
        )
    arrays = {"X": samples(np.stack([x for x, _ in items])), "called": called, "must_state": True}
    if need_y:
        arrays["y"] = np.asarray([y for _, y in items])
    return arrays | _described(dataset, len(items), called)


def _item(item: Any, called: str) -> tuple[np.ndarray, Any]:
    if not isinstance(item, tuple | list) or len(item) < 2:
        raise InputError(f"{called} gives no pairs of X and y", hint="each item is (X, y), X (n_chans, n_times)")
    y = to_numpy(item[1])
    return to_numpy(item[0]), y.item() if y.size == 1 else y


def _described(dataset: Any, n: int, called: str) -> dict[str, Any]:
    """Return what braindecode's data sets know besides: rate, channels, and whose windows they are."""
    parts = list(getattr(dataset, "datasets", [dataset]))
    held = [getattr(part, "windows", None) or getattr(part, "raw", None) for part in parts]
    infos = [info for one in held if (info := getattr(one, "info", None)) is not None]
    if not infos or len(infos) < len(parts):
        return {}
    if len({tuple(info["ch_names"]) for info in infos}) > 1 or len({float(info["sfreq"]) for info in infos}) > 1:
        raise InputError(
            f"{called} is of recordings with other channels or rates", hint="pick the same channels, and resample"
        )
    found: dict[str, Any] = {
        "ch_names": np.array(infos[0]["ch_names"], "U"),
        "sfreq": np.float64(infos[0]["sfreq"]),
    }
    metadata = dataset.get_metadata() if hasattr(dataset, "get_metadata") else None
    if metadata is not None and "subject" in metadata and len(metadata) == n and metadata["subject"].notna().all():
        found["subject"] = np.asarray(metadata["subject"].astype(str).tolist(), "U")
    return found


def numbered(arrays: dict[str, Any], classes: Sequence[str], called: str) -> None:
    """Put the graph's (or the caller's) names beside a y of names, so that each gets its number by name.

    Epochs know their classes in the order of their codes; where the graph names all of them, its order counts.

    Raises
    ------
    InputError
        Where y holds names and nobody says which number each has.
    """
    y = arrays["y"]
    if y.dtype.kind == "O" and all(isinstance(entry, str) for entry in y.ravel().tolist()):
        y = arrays["y"] = y.astype("U")
    if "classes" in arrays:
        mine = [str(name) for name in arrays["classes"]]
        if classes and set(mine) <= set(classes):
            arrays["y"] = np.array([classes.index(mine[int(k)]) for k in y], np.float32)
            arrays["classes"] = np.array(classes, "U")
        return
    if y.dtype.kind not in "SU":
        return
    if not classes:
        names = sorted(set(y.astype("U").ravel().tolist()))
        listed = ", ".join(f'"{name}"' for name in names[:6]) + (", ..." if len(names) > 6 else "")
        raise InputError(
            f"y of {called} holds names ({listed}), and nothing says which class number each has",
            hint=f"say it: classes=({listed}), class 0 first, as the network was trained",
        )
    arrays["classes"] = np.array(classes, "U")
