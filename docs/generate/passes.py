"""The rewrites of fusion, from their modules: what each does with which mathematics, where, and in which order."""

from __future__ import annotations

import importlib
import inspect
import re
from types import ModuleType

from rtserve.fusion.ir.passes import Pass
from rtserve.fusion.run.order import PASSES

__all__ = ["passes_page"]

OPENING = """\
Passes of fusion
================

``rtserve fuse`` writes the assembled graph anew, one rewrite after the other, in this order. Each works on a copy, is
compared in float64 with what it was given, and is undone with a reason where it does not hold or does not pay;
``rtserve fuse --explain`` says which were applied to a graph, and which were not and why. A pass on a *member* looks at one
network and saves work whatever runs it; one on the *whole* writes the fused graph as an engine likes it.

What follows is what the modules themselves say.
"""
SHARED = """\
What several passes build on
----------------------------
"""
NAMED = re.compile(r"`(rtserve\.[a-z_.]+)`")


def passes_page() -> str:
    """Return the catalogue as one page of reStructuredText, which the docstrings are."""
    modules = {one.name: importlib.import_module(one.run.__module__) for one in PASSES}
    parts = [OPENING, *(_entry(one, modules[one.name]) for one in PASSES), SHARED]
    for module in _below(list(modules.values())):
        name = " ".join(module.__name__.split(".")[-2:])
        parts.append(_heading(name, "~") + f"\n(``{module.__name__}``)\n\n{_text(module)}\n")
    return "\n".join(parts)


def _entry(one: Pass, module: ModuleType) -> str:
    notes = [f"on {'each member' if one.scope == 'member' else 'the whole'}", f"for {', '.join(one.engines)}"]
    if one.after:
        notes.append(f"after {', '.join(one.after)}")
    if one.blocked:
        notes.append("not in a graph that torch may run as well")
    head = (
        _heading(one.name, "-")
        + f"\n*{one.why[0].upper()}{one.why[1:]}* ({'; '.join(notes)}; ``{module.__name__}``).\n"
    )
    return f"{head}\n{_text(module)}\n"


def _heading(text: str, line: str) -> str:
    return f"{text}\n{line * len(text)}\n"


def _text(module: ModuleType) -> str:
    return inspect.cleandoc(module.__doc__ or "")


def _below(modules: list[ModuleType]) -> list[ModuleType]:
    """Return the modules that the passes' own words send a reader to, each once, in the order they are named."""
    found: dict[str, ModuleType] = {}
    for module in modules:
        for name in NAMED.findall(_text(module)):
            below = _module(name)
            if below is not None and below not in modules:
                found.setdefault(below.__name__, below)
    return list(found.values())


def _module(name: str) -> ModuleType | None:
    """Return the module of a dotted name, also where the name goes on to something in it."""
    while "." in name:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError:
            name = name.rpartition(".")[0]
    return None
