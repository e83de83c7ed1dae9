"""Which code a recorded figure is of: one digest of the modules that it measures and of what those import.

What they import of other rooms hands them files and graphs, and has no part in a simulated number. Docstrings, comments
and layout do not count, so a record grows old only with what could change it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["code_digest", "require_beside"]

ROOT = Path(__file__).resolve().parent.parent
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def code_digest(modules: Sequence[str], scripts: Sequence[Path] = ()) -> str:
    """Return 12 hex digits of the named modules, of every module of their own room that they import, and of the scripts.

    Parameters
    ----------
    modules : sequence of str
        Dotted names in rtserve.
    scripts : sequence of Path
        Files outside of it.
    """
    names = set(modules)
    for module in modules:
        room = module.rpartition(".")[0] + "."
        names |= {name for name in _graph().find_upstream_modules(module) if name.startswith(room)}
    digest = hashlib.sha256()
    for file in [*(_file(name) for name in sorted(names)), *sorted(scripts)]:
        digest.update(f"{file.name}\n{_code(file)}\n".encode())
    return digest.hexdigest()[:12]


def require_beside() -> None:
    """Stop where rtserve is imported from elsewhere: the digest is of the files beside, and would not be what ran."""
    import rtserve

    found = Path(rtserve.__file__).resolve().parent.parent
    if found != ROOT:
        raise SystemExit(f"rtserve is imported from {found}, not from {ROOT}: set PYTHONPATH={ROOT}")


@functools.cache
def _graph() -> Any:
    import grimp

    return grimp.build_graph("rtserve", cache_dir=None)


def _file(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def _code(file: Path) -> str:
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
