"""The Python API's page: the verbs of ``rtserve.__all__`` and the classes that they take and give."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import sys
import typing
from collections.abc import Iterator
from typing import Any

import rtserve

__all__ = ["classes", "python_page", "verbs"]

OPENING = """\
Python
======

The verbs are those of the command line. They are imported on first use, so that ``import rtserve`` is cheap. What a verb
refuses it refuses with an error of `rtserve.errors`, whose ``hint`` says what to do.

.. code-block:: python

    import rtserve

    graph = rtserve.export("seed42.pth", exporter="exporters/compact_rt.py")
    fused = rtserve.fuse([graph], views="identity,roll:+3")
    y = rtserve.predict(fused, X, unit="uV")
    print("\\n".join(rtserve.bench(fused, against=graph).lines()))

"""


def verbs() -> list[str]:
    """Return the names of the package that are functions, in the order of ``__all__``."""
    return [name for name in rtserve.__all__ if inspect.isroutine(getattr(rtserve, name))]


def classes() -> list[type]:
    """Return the public classes, and those that verbs take or give, each once, by name."""
    public = [getattr(rtserve, name) for name in rtserve.__all__]
    found: dict[str, type] = {one.__name__: one for one in public if inspect.isclass(one)}
    functions = [getattr(rtserve, name) for name in verbs()]
    for function in functions:
        names = vars(sys.modules[function.__module__]) | _only_for_types(function)
        hints = typing.get_type_hints(function, globalns=names)
        for hint in (hints.pop("return", None), *hints.values()):
            found |= {one.__name__: one for one in _ours(hint)}
    return [found[name] for name in sorted(found)]


def _only_for_types(function: Any) -> dict[str, Any]:
    """Return names that a module imports for type checkers alone, by running those imports."""
    source = inspect.getsource(sys.modules[function.__module__])
    names: dict[str, Any] = {}
    _, mark, rest = source.partition("if TYPE_CHECKING:\n")
    lines = []
    for line in rest.splitlines() if mark else ():
        if line and not line.startswith(" "):
            break
        lines.append(line)
    exec(inspect.cleandoc("\n".join(["", *lines])), names)
    return names


def _ours(hint: Any) -> Iterator[type]:
    if inspect.isclass(hint) and hint.__module__.startswith("rtserve."):
        yield hint
    for part in typing.get_args(hint):
        yield from _ours(part)


def python_page() -> str:
    """Return the page as reStructuredText; Sphinx reads signatures and docstrings itself."""
    parts = [OPENING, _heading("Verbs")]
    parts += [f".. autofunction:: rtserve.{name}\n" for name in verbs()]
    parts.append(_heading("What they take and give"))
    for one in classes():
        module = importlib.import_module(one.__module__)
        fields = [field.name for field in dataclasses.fields(one)] if dataclasses.is_dataclass(one) else []
        skip = ", ".join([*fields, *_foreign(one)])
        parts.append(f".. autoclass:: {module.__name__}.{one.__name__}\n   :members:")
        parts.append(f"   :exclude-members: {skip}\n" if skip else "")
    return "\n".join(parts)


def _foreign(one: type) -> list[str]:
    """Return a class's methods that another package wrote into it, whose words point into that package's pages."""
    routines = {name: getattr(one, name) for name in vars(one) if inspect.isroutine(getattr(one, name))}
    return [name for name, made in routines.items() if not made.__module__.startswith("rtserve.") and name[0] != "_"]


def _heading(text: str) -> str:
    return f"{text}\n{'-' * len(text)}\n"
