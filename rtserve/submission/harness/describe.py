"""What a submission's network is and gives, as plain data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

__all__ = [
    "as_array",
    "describe_object",
    "describe_output",
    "differs",
    "fingerprints",
    "flat",
    "numbers_of",
    "stray_modules",
    "tensors_of",
]


def describe_object(thing: Any, needed: list[str]) -> dict[str, Any]:
    """Return type, missing methods and, for a torch module, its size and forward hooks."""
    missing = [name for name in needed if not callable(getattr(thing, name, None))]
    module = isinstance(thing, torch.nn.Module)
    hooks = sum(len(getattr(thing, name, ())) for name in ("_forward_hooks", "_forward_pre_hooks")) if module else 0
    tensors = list(tensors_of(thing))
    return {
        "type": f"{type(thing).__module__}.{type(thing).__qualname__}",
        "missing": missing,
        "module": module,
        "script": isinstance(thing, torch.jit.ScriptModule),
        "hooks": hooks,
        "own_call": type(thing).__call__ is not torch.nn.Module.__call__ if module else callable(thing),
        "n_tensors": len(tensors),
        "n_parameters": sum(tensor.numel() for _, tensor in tensors),
        "bytes": sum(tensor.numel() * tensor.element_size() for _, tensor in tensors),
        "devices": sorted({str(tensor.device) for _, tensor in tensors}),
        "packages": sorted({type(m).__module__.partition(".")[0] for m in thing.modules()}) if module else [],
        **{name: _said(thing, name) for name in ("route", "reason")},
    }


def _said(thing: Any, name: str) -> str:
    """Return what an object says of itself in an attribute of this name, where that is a text."""
    value = getattr(thing, name, "")
    return value[:300] if type(value) is str else ""


def tensors_of(thing: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield named parameters and buffers of a module, or of the modules a plain object holds; lazy ones left out."""
    for name, tensor in _all_tensors(thing):
        if isinstance(tensor, torch.Tensor) and not torch.nn.parameter.is_lazy(tensor):
            yield name, tensor


def _all_tensors(thing: Any) -> Iterator[tuple[str, torch.Tensor]]:
    if isinstance(thing, torch.nn.Module):
        yield from thing.named_parameters()
        yield from thing.named_buffers()
        for where, stray in stray_modules(thing):
            yield from ((f"{where}.{name}", value) for name, value in stray.state_dict().items())
        return
    for where, module in _modules_in(getattr(thing, "__dict__", {}), "", set(), 0):
        yield from ((f"{where}.{name}", value) for name, value in module.state_dict().items())


def _modules_in(value: Any, where: str, seen: set[int], depth: int) -> Iterator[tuple[str, torch.nn.Module]]:
    if depth > 4 or id(value) in seen or len(seen) > 5000:
        return
    seen.add(id(value))
    if isinstance(value, torch.nn.Module):
        yield where, value
    elif isinstance(value, dict):
        for key, item in list(value.items()):
            yield from _modules_in(item, f"{where}.{key}".lstrip("."), seen, depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value[:200]):
            yield from _modules_in(item, f"{where}[{index}]", seen, depth + 1)
    elif hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        yield from _modules_in(vars(value), where, seen, depth + 1)


def stray_modules(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module]]:
    """Yield networks that a module keeps in plain lists or dicts, where eval() and state_dict() do not see them."""
    known = {id(child) for child in module.modules()}
    seen: set[int] = set()
    for name, child in list(module.named_modules()):
        for key, value in list(vars(child).items()):
            if key.startswith("_") and key in ("_modules", "_parameters", "_buffers"):
                continue
            for where, found in _modules_in(value, f"{name}.{key}".lstrip("."), seen, 0):
                if id(found) not in known:
                    known.add(id(found))
                    yield where, found


def fingerprints(thing: Any) -> dict[str, list[float]]:
    """Return two sums per tensor, enough to tell whether two builds hold the same numbers."""
    marks: dict[str, list[float]] = {}
    for name, tensor in tensors_of(thing):
        if (
            tensor.device.type == "meta"
            or tensor.numel() == 0
            or not (tensor.is_floating_point() or tensor.is_complex())
        ):
            continue
        values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        marks[name] = _sums(values.detach().reshape(-1))
    return marks


def _sums(values: torch.Tensor) -> list[float]:
    """Return the sum and a sum weighted by position, in blocks: a copy of 2 GB of weights may not fit."""
    plain = weighted = 0.0
    for index, block in enumerate(values.split(2**22)):
        numbers = block.cpu().double()
        ramp = torch.linspace(0.5, 1.5, numbers.numel(), dtype=torch.float64)
        plain += float(numbers.sum())
        weighted += (1.0 + index) * float((numbers * ramp).sum())
    return [plain, weighted]


def describe_output(y: Any) -> dict[str, Any]:
    """Return type, shape, dtype, values and what the scorer's ``y.detach().cpu().numpy()[0][0]`` makes of it."""
    data: dict[str, Any] = {
        "type": f"{type(y).__module__}.{type(y).__qualname__}",
        "tensor": isinstance(y, torch.Tensor),
    }
    data["array_shape"], data["dtype"] = as_array(y)
    data["shape"] = data["array_shape"] if getattr(y, "shape", None) is not None else None
    data["keys"] = [str(key) for key in y][:20] if isinstance(y, dict) else None
    data["length"] = len(y) if isinstance(y, (tuple, list)) else None
    if isinstance(y, torch.Tensor):
        data["device"], data["requires_grad"] = str(y.device), bool(y.requires_grad)
        data["values"] = flat(y, 64)
    try:
        value = y.detach().cpu().numpy()[0][0]
        data["array"] = bool(value.ndim)  # whose number NumPy reads until 2.3, where it is one
        data["read"] = float(value.item() if value.ndim and value.size == 1 else value)
    except Exception as error:  # what the scorer would die of
        data["read_error"] = f"{type(error).__name__}: {error}"[:400]
    return data


def as_array(y: Any) -> tuple[list[int] | None, str]:
    """Return shape and dtype of an output, of what is no array yet as NumPy makes numbers of it; None where it cannot."""
    array = y if getattr(y, "shape", None) is not None else _made(y)
    if array is None:
        return None, ""
    return [int(size) for size in array.shape], str(getattr(array, "dtype", "")).replace("torch.", "")


def _made(y: Any) -> Any:
    """Return the array that NumPy makes of what is none yet, where that holds real numbers; None elsewhere."""
    try:
        import numpy

        array = numpy.asarray(y)
    except Exception:  # no NumPy, or no numbers
        return None
    return array if array.dtype.kind in "biuf" else None


def numbers_of(y: Any) -> torch.Tensor:
    """Return the numbers of an output in order: float64, one axis."""
    if isinstance(y, (tuple, list)) and (array := _made(y)) is not None:
        y = torch.from_numpy(array.astype("float64"))
    if isinstance(y, (tuple, list, dict)):
        parts = [numbers_of(item) for item in (y.values() if isinstance(y, dict) else y)]
        return torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64)
    if not isinstance(y, torch.Tensor):
        try:
            y = torch.as_tensor(y)
        except Exception:  # no numbers in it
            return torch.zeros(0, dtype=torch.float64)
    if y.is_complex():
        y = torch.view_as_real(y)
    return y.detach().to("cpu", torch.float64).reshape(-1)


def flat(y: Any, n: int | None = None) -> list[float]:
    """Return the first `n` numbers of an output in order, all by default."""
    numbers: list[float] = numbers_of(y)[:n].tolist()
    return numbers


def differs(first: Any, second: Any) -> float:
    """Return the largest difference of two outputs relative to their size; infinite where shapes or NaNs differ."""
    a, b = numbers_of(first), numbers_of(second)
    if len(a) != len(b):
        return float("inf")
    whole, other = torch.isfinite(a), torch.isfinite(b)
    finite = whole & other
    same = (a == b) | (a.isnan() & b.isnan())
    if not bool((finite | same).all()):
        return float("inf")
    both = torch.cat([a[whole], b[other]]).abs()
    size = max(float(both.max()), 1e-3) if len(both) else 1e-3
    apart = (a[finite] - b[finite]).abs()
    return float(apart.max()) / size if len(apart) else 0.0
