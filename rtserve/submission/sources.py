"""The executor's own source as one text: what ``submission.py`` begins with.

Of `rtserve.runtime` only the files that the plans need are taken, in order of their imports, with their imports merged.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from importlib import resources

__all__ = ["runtime_source"]

PACKAGE = "rtserve.runtime"
FIRST, LAST = "node", ("executor", "serving")
ROUTES = {"torchscript": "script_route", "onnxruntime": "onnxruntime_route", "auto": "onnxruntime_route",
          "native": "native_route"}  # fmt: skip
RULE = "# " + "-" * 117


def runtime_source(operators: Iterable[str], runtimes: Iterable[str] = ()) -> str:
    """Return the source of the executor with every operator named, and of the routes that are asked for.

    Parameters
    ----------
    operators : iterable of str
        ONNX operator names.
    runtimes : iterable of str
        As in a recipe; ``"torch"`` is always there.

    Returns
    -------
    str
        Begins with ``from __future__ import annotations``; needs the standard library and torch.
    """
    parts = {name: _Part(name) for name in _needed(operators, runtimes)}
    imports: dict[str, set[str]] = {}
    for part in parts.values():
        for module, names in part.imports.items():
            imports.setdefault(module, set()).update(names)
    body = "\n\n\n".join(part.body for part in parts.values())
    return f"from __future__ import annotations\n\n{_ordered(imports)}\n\n{body}"


def _needed(operators: Iterable[str], runtimes: Iterable[str]) -> list[str]:
    """Return the names of the files to take, each after those that it imports."""
    import rtserve.runtime.executor  # noqa: F401  (fills the table)
    from rtserve.runtime.node import OPERATORS

    families = {OPERATORS[op].__module__.rpartition(".")[2] for op in operators}
    order: list[str] = []

    def add(name: str) -> None:
        for used in sorted(_Part(name).uses):
            if used not in order:
                add(used)
        if name not in order:
            order.append(name)

    routes = {ROUTES[runtime] for runtime in runtimes if runtime in ROUTES}
    for name in [FIRST, *sorted(families), *LAST, *sorted(routes)]:
        add(name)
    return order


def _ordered(imports: Mapping[str, set[str]]) -> str:
    """Return import lines, the standard library's first; the name "" stands for the module itself."""
    lines = []
    for module in sorted(imports):
        lines += [f"import {module}"] if "" in imports[module] else []
        names = ", ".join(sorted(imports[module] - {""}))
        lines += [f"from {module} import {names}"] if names else []
    lines.sort(key=lambda line: (line.startswith("from "), line))
    theirs = [line for line in lines if line.split()[1].partition(".")[0] == "torch"]
    return "\n".join([*(line for line in lines if line not in theirs), "", *theirs])


class _Part:
    """One file of the runtime, taken apart."""

    def __init__(self, name: str) -> None:
        source = (resources.files(PACKAGE) / f"{name}.py").read_text("utf-8")
        tree = ast.parse(source)
        lines = source.splitlines()
        self.uses: set[str] = set()
        self.imports: dict[str, set[str]] = {}
        last = 0
        for node in tree.body:
            if isinstance(node, ast.ImportFrom | ast.Import):
                self._note(node)
                last = node.end_lineno or last
            elif not (isinstance(node, ast.Expr) and last == 0):
                break
        title = (ast.get_docstring(tree) or "").splitlines()
        head = [RULE, f"# {PACKAGE}.{name}", *(f"# {line}".rstrip() for line in title)]
        self.body = "\n".join(head) + "\n\n" + "\n".join(_plain(line) for line in lines[last:]).strip()

    def _note(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            # A bare import of a runtime file fills the table of operators; which are taken is the caller's choice.
            for alias in node.names:
                if not alias.name.startswith(PACKAGE):
                    self.imports.setdefault(alias.name, set()).add("")
            return
        module = node.module or ""
        if module.startswith(PACKAGE):
            self.uses.add(module.rpartition(".")[2])
        elif module != "__future__":
            names = {alias.name + (f" as {alias.asname}" if alias.asname else "") for alias in node.names}
            self.imports.setdefault(module, set()).update(names)


def _plain(line: str) -> str:
    """Return a line without the notes that are for our own linters."""
    for mark in ("  # noqa", "  # type:"):
        line = line.partition(mark)[0]
    return line
