"""What the scorer can reach, by the syntax tree alone: the rest is code that nothing it calls ever names.

The graph is generous: a function counts as reached when any reached code mentions its name, as a call, an attribute or
a bare reference. What it calls dead is therefore dead, short of names made up at run time.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rtserve.submission.checks.source import Module, Sources, statements_in
from rtserve.submission.profile import Profile

if TYPE_CHECKING:
    from rtserve.submission.checks.rule import Case

__all__ = ["DeadMethod", "Function", "dead_methods", "functions", "reached_functions", "reached_nodes"]

_WORK = re.compile(
    r"(?i)challenge|predict|infer|tta|view|augment|ensembl|calibrat|flip|postproc|average|smooth|clip|correct|adjust|__call__"
)
_IMPLICIT = frozenset(
    {
        "__init__", "__new__", "__post_init__", "__getattr__", "__getattribute__", "__setattr__", "__call__", "__len__",
        "__iter__", "__getitem__", "__enter__", "__exit__", "__del__", "__init_subclass__", "__setstate__",
        "__getstate__", "__reduce__", "__deepcopy__", "forward", "eval", "setup",
    }
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Function:
    """A function or method in the zip: its module, qualified name, own name, class, node."""

    module: Module
    qualname: str
    name: str
    owner: str
    node: ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class DeadMethod:
    """A method with work in it that the scorer never reaches.

    Parameters
    ----------
    name, owner, file, line : str, str, str, int
        Where it is.
    takes : int
        Arguments it needs besides self.
    on_entry : bool
        Whether it belongs to the entry class.
    """

    name: str
    owner: str
    file: str
    line: int
    takes: int
    on_entry: bool


def functions(sources: Sources) -> list[Function]:
    """Return every function of the reachable modules."""
    found: list[Function] = []
    for module in sources.modules.values():
        queue: list[tuple[ast.AST, str, str]] = [(module.tree, "", "")] if module.tree else []
        while queue:
            node, prefix, owner = queue.pop()
            for child in statements_in(node):
                name = f"{prefix}.{child.name}".lstrip(".") if hasattr(child, "name") and child.name else prefix
                if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                    found.append(Function(module=module, qualname=name, name=child.name, owner=owner, node=child))
                    queue.append((child, name, ""))
                elif isinstance(child, ast.ClassDef):
                    queue.append((child, name, child.name))
                else:
                    queue.append((child, prefix, owner))
    return found


def _names(node: ast.AST, *, skip_functions: bool) -> Iterator[str]:
    """Yield every name that a piece of code mentions; bodies of functions inside it only on request."""
    queue: list[ast.AST] = list(ast.iter_child_nodes(node))
    while queue:
        current = queue.pop()
        if isinstance(current, ast.Name):
            yield current.id
        elif isinstance(current, ast.Attribute):
            yield current.attr
        elif isinstance(current, ast.Constant) and isinstance(current.value, str) and current.value.isidentifier():
            yield current.value  # getattr(self, "name")
        elif isinstance(current, ast.alias):
            yield current.name.rpartition(".")[2]
        if skip_functions and isinstance(current, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            queue += [*current.decorator_list] if not isinstance(current, ast.Lambda) else [current.body]
            continue
        if skip_functions and isinstance(current, ast.If) and "__main__" in ast.unparse(current.test):
            queue += current.orelse
            continue
        queue += list(ast.iter_child_nodes(current))


def reached_functions(every: Sequence[Function], sources: Sources, profile: Profile) -> set[int]:
    """Return the ids of function nodes that the scorer's calls can reach.

    Parameters
    ----------
    every : sequence of Function
        All functions of `sources`.
    sources : Sources
        The parsed submission.
    profile : Profile
        Names the entry class and what is called on it.
    """
    roots = {
        profile.entry.class_name,
        *(c.call for c in profile.challenges),
        profile.entry.method,
        *profile.entry.requires,
    }
    mentioned = set(roots)
    for module in sources.modules.values():
        if module.tree is not None:
            mentioned |= set(_names(module.tree, skip_functions=True))
    reached: set[int] = set()
    grew = True
    while grew:
        grew = False
        for function in every:
            if id(function.node) in reached or not _is_reached(function, mentioned, profile):
                continue
            reached.add(id(function.node))
            mentioned |= set(_names(function.node, skip_functions=False))
            grew = True
    return reached


def _is_reached(function: Function, mentioned: set[str], profile: Profile) -> bool:
    if function.owner == profile.entry.class_name and function.name not in ("__init__", "__new__", "__getattr__"):
        return function.name in mentioned
    if function.owner and function.name in _IMPLICIT:
        return function.owner in mentioned
    return function.name in mentioned


def reached_nodes(sources: Sources, reached: set[int]) -> Iterator[tuple[Module, str, ast.AST, list[ast.AST]]]:
    """Yield (module, function, node, ancestors) for all code outside of functions, and in those of `reached`."""
    for module in sources.modules.values():
        if module.tree is None:
            continue
        queue: list[tuple[ast.AST, str, list[ast.AST]]] = [(module.tree, "", [])]
        while queue:
            node, function, above = queue.pop()
            yield module, function, node, above
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                if id(node) not in reached:
                    continue
                function = node.name
                children: list[ast.AST] = [*node.body]
            elif isinstance(node, ast.If) and "__main__" in ast.unparse(node.test):
                children = [*node.orelse]
            else:
                children = list(ast.iter_child_nodes(node))
            queue += [(child, function, [*above, node]) for child in children]


def dead_methods(case: Case) -> list[DeadMethod]:
    """Return methods that look like part of the prediction and that the scorer never reaches."""
    ignored = {"fit", "save_model", "train", "training_step", "validation_step", "test", "main"}
    found = []
    for function in case.functions:
        if id(function.node) in case.reached or not function.owner or function.name in ignored:
            continue
        if not _WORK.search(function.name) or _trivial(function.node):
            continue
        arguments = function.node.args
        takes = len(arguments.posonlyargs) + len(arguments.args) - 1 - len(arguments.defaults)
        found.append(
            DeadMethod(
                name=function.name,
                owner=function.owner,
                file=function.module.file,
                line=function.node.lineno,
                takes=max(takes, 0),
                on_entry=function.owner == case.profile.entry.class_name,
            )
        )
    return found


def _trivial(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a body holds nothing but a docstring, pass, or raise."""
    return all(
        isinstance(s, (ast.Pass, ast.Raise)) or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
        for s in node.body
    )
