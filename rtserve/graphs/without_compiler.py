"""Keep torch from loading its compiler where it has no work for it.

A network run on the meta device, and an optimizer when it is made and at each step, load all of ``torch._dynamo`` (a
second of processor time) only to tell it to leave them alone. Within `without_compiler` a stand-in takes that word.
Whatever else is asked of it, or of a module below it, loads the real one, which takes its place from then on.
Travels with the harness of a drive: nothing but the standard library and torch.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any

import torch

__all__ = ["without_compiler"]

_NAME = "torch._dynamo"


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Leave ``torch._dynamo`` unloaded for as long as nothing is compiled; where it is loaded already, do nothing."""
    if _NAME in sys.modules:
        yield
        return
    stand_in, finder = _StandIn(_NAME), _Finder()
    sys.modules[_NAME] = torch._dynamo = stand_in
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        _remove(stand_in)


class _StandIn(ModuleType):
    """The two words that torch has for a compiler that is not at work; the real module for every other."""

    __path__: list[str] = []  # noqa: RUF012 - a module below is looked for by `_Finder` first

    def disable(self, fn: Callable[..., Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """Return the function as it is: nothing compiles it. Once something does, have that leave it alone."""
        if sys.modules.get(_NAME) is self:
            return fn if fn is not None else lambda fn: fn
        return _real().disable(fn, *args, **kwargs)

    def graph_break(self, *args: Any, **kwargs: Any) -> None:
        """End a graph that is being compiled; none is."""
        if sys.modules.get(_NAME) is not self:
            _real().graph_break(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # what the import system asks of every module
            raise AttributeError(name)
        return getattr(_real(), name)


class _Finder(importlib.abc.MetaPathFinder):
    """Loads the real module before one below it is looked for."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(f"{_NAME}.") or not isinstance(sys.modules.get(_NAME), _StandIn):
            return None
        real = _real()
        if fullname in sys.modules:
            module = sys.modules[fullname]
            # The import system takes the spec of what has been loaded meanwhile, and would load it once more by that.
            spec = vars(module)["__spec__"] = importlib.machinery.ModuleSpec(fullname, _Loaded(module))
            return spec
        return importlib.machinery.PathFinder.find_spec(fullname, real.__path__, target)


class _Loaded(importlib.abc.Loader):
    """Gives a module that is there."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.own = module, module.__spec__

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        vars(module)["__spec__"] = self.own  # some refuse to have an attribute set


def _real() -> Any:
    """Return the real module, loaded."""
    _remove(sys.modules.get(_NAME))
    return importlib.import_module(_NAME)


def _remove(module: ModuleType | None) -> None:
    """Take a stand-in away."""
    if isinstance(module, _StandIn) and sys.modules.get(_NAME) is module:
        del sys.modules[_NAME]
        vars(torch).pop("_dynamo", None)
