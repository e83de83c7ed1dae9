"""How a submission's Python comes in: by name from its own folder, or script by script as a benchmark's solvers do.

In the second way every Python file at the root is run for itself, with none of the zip's folders on the path; one that
raises is passed over. The file that holds the entry class is scored from a copy among the benchmark's solvers, so that
its ``__file__`` leads to nothing else that was in the zip.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import types
from typing import Any

__all__ = ["install_base_classes", "load_copy", "load_named", "named_solver", "run_beside"]


def load_named(file: str) -> types.ModuleType:
    """Import the entry script from the path, as a scorer of getters does."""
    return importlib.import_module(file.removesuffix(".py"))


def load_copy(folder: str, file: str) -> types.ModuleType:
    """Run a copy of a root script that lies among the solvers of a benchmark, as a module of its own."""
    solvers = os.path.join(tempfile.mkdtemp(prefix="benchmark_"), "solvers")
    os.makedirs(solvers)
    return _run(os.path.join(folder, file), os.path.join(solvers, f"_submission_{file}"))


def run_beside(folder: str, entry: str) -> None:
    """Run every other root script in its place; the scorer passes over one that raises.

    What is no `Exception` ends the scorer's process, and is let through.
    """
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if name == entry or not name.endswith(".py") or not os.path.isfile(path):
            continue
        with contextlib.suppress(Exception):
            _run(path, path)


def _run(source: str, file: str) -> types.ModuleType:
    """Run the code of `source` as a module that takes itself for `file`; errors name `source`, the author's file."""
    with open(source, "rb") as handle:
        text = handle.read()
    if file != source:
        with open(file, "wb") as handle:
            handle.write(text)
    module = types.ModuleType(f"_sub_{os.path.basename(source).removesuffix('.py')}")
    module.__file__ = file
    sys.modules[module.__name__] = module
    exec(compile(text, source, "exec"), vars(module))
    return module


def named_solver(module: types.ModuleType, class_name: str) -> Any:
    """Return the entry class of a script. Raises `TypeError` where it has no name of its own, as the scorer would."""
    cls = getattr(module, class_name)
    name = getattr(cls, "name", None)
    if not isinstance(name, str) or not name:
        said = "an inherited property" if isinstance(name, property) else repr(name)
        raise TypeError(
            f"class {class_name} has no name: the scorer joins {said} into its command line and dies of a TypeError;"
            f' write name = "..." into the class'
        )
    return cls


def install_base_classes(base: str) -> None:
    """Offer the contest's base class under the names its own kit uses."""

    def to_numpy(x: Any) -> Any:
        return x.detach().cpu().numpy() if hasattr(x, "detach") else x

    class Base:
        requirements: list[str] = []  # noqa: RUF012
        sampling_strategy = "run_once"
        parameters: dict[str, Any] = {}  # noqa: RUF012

        @property
        def name(self) -> str:
            raise NotImplementedError("a solver names itself")

    Base.__name__ = Base.__qualname__ = base
    for package in ("benchmark_utils", "compet_core"):
        root = types.ModuleType(package)
        root.__path__ = []
        solver = types.ModuleType(f"{package}.base_solver")
        setattr(solver, base, Base)
        data = types.ModuleType(f"{package}.data")
        data.to_numpy = to_numpy  # type: ignore[attr-defined]
        root.base_solver, root.data = solver, data  # type: ignore[attr-defined]
        sys.modules.update({package: root, f"{package}.base_solver": solver, f"{package}.data": data})
