"""torchaudio where its compiled half cannot be loaded.

braindecode imports torchaudio, whose wheels on the package index are built against CUDA: beside a CPU build of torch
their libraries fail to load with an OSError, and everything that imports braindecode fails with them. The networks use
only what torchaudio computes in Python (filters, resampling, spectrograms), so the one module that loads the libraries,
``torchaudio._extension``, is replaced by a stand-in that says they are not there, which torchaudio knows how to live
with. Where the libraries load, nothing is replaced.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, NoReturn

__all__ = ["allow_pure_torchaudio"]

_NAME = "torchaudio._extension"


def allow_pure_torchaudio() -> None:
    """Let a later ``import torchaudio`` go on in Python alone where its compiled half cannot be loaded.

    Costs nothing until torchaudio is imported, and may be called any number of times.
    """
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds torchaudio's extension module where it is, and has it loaded by `_Loader`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _NAME:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(importlib.abc.Loader):
    """Runs the module, and where its libraries do not load says in it that there are none."""

    def __init__(self, original: Any) -> None:
        self.original = original

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        created: ModuleType | None = self.original.create_module(spec)
        return created

    def exec_module(self, module: ModuleType) -> None:
        try:
            self.original.exec_module(module)
        except (OSError, ImportError, RuntimeError) as error:  # which of them depends on what does not fit
            vars(module).update(
                _IS_TORCHAUDIO_EXT_AVAILABLE=False,
                _IS_ALIGN_AVAILABLE=False,
                fail_if_no_align=_absent(f"{type(error).__name__}: {error}"),
            )


def _absent(reason: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return a decorator that makes a function say that torchaudio's compiled half is not there."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        def refuse(*args: Any, **kwargs: Any) -> NoReturn:
            raise RuntimeError(f"{function.__name__} needs torchaudio's compiled half, which did not load ({reason})")

        return refuse

    return decorate
