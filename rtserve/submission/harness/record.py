"""A record of every load a submission makes: which file, which network, what fitted, what failed and was swallowed."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from typing import Any

import torch

__all__ = ["Loads"]


class Loads:
    """Wraps ``torch.load``, ``torch.jit.load`` and ``Module.load_state_dict``; results and errors pass unchanged.

    Parameters
    ----------
    describe : callable
        Turns an exception into data.
    """

    def __init__(self, describe: Callable[[BaseException], dict[str, Any]]) -> None:
        self.entries: list[dict[str, Any]] = []
        self._describe = describe
        self._last_file = ""
        self._depth = 0
        loader = torch.load  # noqa: TID251 - recorded, not called
        torch.load = self._file_loader(loader, "torch.load")  # noqa: TID251
        torch.jit.load = self._file_loader(torch.jit.load, "torch.jit.load")
        self._wrap_state_dict()

    def take(self) -> list[dict[str, Any]]:
        """Return the entries so far and forget them."""
        entries, self.entries = self.entries, []
        return entries

    def _file_loader(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def load(f: Any, *args: Any, **kwargs: Any) -> Any:
            name = os.fspath(f) if isinstance(f, (str, os.PathLike)) else str(getattr(f, "name", type(f).__name__))
            entry: dict[str, Any] = {
                "kind": kind,
                "file": str(name)[:500],
                "options": {key: str(value)[:100] for key, value in kwargs.items()},
                "positional": len(args),
                "error": None,
            }
            self.entries.append(entry)
            self._last_file = os.path.basename(str(name))
            try:
                value = function(f, *args, **kwargs)
            except BaseException as error:
                entry["error"] = self._describe(error)
                raise
            with contextlib.suppress(Exception):  # an object of the author's own may be odd
                entry["keys"] = [str(key) for key in list(value)[:40]] if isinstance(value, dict) else None
            return value

        return load

    def _wrap_state_dict(self) -> None:
        original = torch.nn.Module.load_state_dict

        @functools.wraps(original)
        def load_state_dict(module: torch.nn.Module, state_dict: Any, *args: Any, **kwargs: Any) -> Any:
            if self._depth:
                return original(module, state_dict, *args, **kwargs)
            entry = self._fit(module, state_dict)
            entry["strict"] = bool(kwargs.get("strict", args[0] if args else True))
            self.entries.append(entry)
            self._depth += 1
            try:
                return original(module, state_dict, *args, **kwargs)
            except BaseException as error:
                entry["error"] = self._describe(error)
                raise
            finally:
                self._depth -= 1

        torch.nn.Module.load_state_dict = load_state_dict

    def _fit(self, module: torch.nn.Module, state_dict: Any) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "kind": "load_state_dict",
            "file": self._last_file,
            "class": f"{type(module).__module__}.{type(module).__qualname__}",
            "error": None,
        }
        with contextlib.suppress(Exception):  # the load itself will say why, and lazy parameters have no shape yet
            entry |= _comparison(module.state_dict(), dict(state_dict))
        return entry


def _comparison(wanted: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    """Return which keys of a network and of a file do not fit each other."""
    shapes = {key: _shape(value) for key, value in given.items()}
    misshapen = [
        {"key": key, "file": list(shapes[key] or ()), "network": list(_shape(value) or ())}
        for key, value in wanted.items()
        if key in shapes and None not in (shapes[key], _shape(value)) and shapes[key] != _shape(value)
    ]
    nested = [
        str(key)
        for key, value in given.items()
        if isinstance(value, dict) and any(isinstance(item, torch.Tensor) for item in value.values())
    ]
    return {
        "wanted": len(wanted),
        "given": len(given),
        "missing": [key for key in wanted if key not in given][:200],
        "unexpected": [str(key) for key in given if key not in wanted][:200],
        "misshapen": misshapen[:200],
        "nested": nested,
    }


def _shape(value: Any) -> tuple[int, ...] | None:
    """Return the shape of a tensor; None for anything else, lazy parameters among them."""
    if not isinstance(value, torch.Tensor) or torch.nn.parameter.is_lazy(value):
        return None
    return tuple(value.shape)
