"""The submission's Python, parsed and never imported: modules, imports, and where each name is defined."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from rtserve.submission.profile import Profile

__all__ = ["Import", "Module", "Sources", "read_sources", "statements_in"]

MODULE_LIMIT = 400
SIZE_LIMIT = 4 * 2**20
NEWER: dict[tuple[int, int], dict[str, tuple[str, ...]]] = {
    (3, 11): {"tomllib": (), "typing": ("Self", "LiteralString", "Never", "assert_never", "assert_type", "reveal_type",
              "Required", "NotRequired", "Unpack", "TypeVarTuple", "dataclass_transform"), "enum": ("StrEnum", "verify",
              "EnumCheck", "ReprEnum"), "datetime": ("UTC",), "asyncio": ("TaskGroup", "timeout", "Runner"),
              "contextlib": ("chdir",), "hashlib": ("file_digest",), "wsgiref.types": ()},
    (3, 12): {"typing": ("override", "TypeAliasType"), "itertools": ("batched",)},
    (3, 13): {"warnings": ("deprecated",), "copy": ("replace",), "pathlib": ("UnsupportedOperation",)},
}  # fmt: skip
"""Names of the standard library by the Python that brought them (docs.python.org, "What's New")."""
REMOVED = frozenset(
    {"asynchat", "asyncore", "distutils", "imp", "smtpd", "cgi", "cgitb", "crypt", "imghdr", "pipes", "sndhdr"}
)
"""Modules that Python 3.10 still has and later ones may lack."""


@dataclass(frozen=True, kw_only=True)
class Import:
    """One import statement's module.

    Parameters
    ----------
    module : str
        Full dotted name; relative imports start with dots.
    names : tuple of str
        What is taken from it.
    line : int
        Line number.
    guarded : bool
        Whether its failure is caught, or it runs only for type checkers or as a script.
    function : str
        Qualified name of the function it stands in, or empty at module level.
    """

    module: str
    names: tuple[str, ...]
    line: int
    guarded: bool
    function: str

    @property
    def top(self) -> str:
        """The top-level package."""
        return self.module.partition(".")[0]


@dataclass(frozen=True, kw_only=True)
class Module:
    """One parsed file; `error` and `error_line` where it does not parse."""

    name: str
    file: str
    text: str = ""
    tree: ast.Module | None = None
    imports: tuple[Import, ...] = ()
    error: str = ""
    error_line: int = 0

    def classes(self) -> dict[str, ast.ClassDef]:
        """Return classes at module level, those inside if and try included."""
        return {node.name: node for node in _top_level(self.tree) if isinstance(node, ast.ClassDef)}

    def functions(self) -> dict[str, ast.FunctionDef | ast.AsyncFunctionDef]:
        """Return functions at module level, those inside if and try included."""
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        return {node.name: node for node in _top_level(self.tree) if isinstance(node, kinds)}


@dataclass(frozen=True, kw_only=True)
class Sources:
    """The entry script and every module of the zip that it can reach.

    Parameters
    ----------
    entry : Module or None
        The entry script; None where there is none.
    modules : dict
        Reachable modules by dotted name, the entry's among them.
    folders : tuple of str
        Folders of the zip that may be on sys.path, the root first.
    moves_path : bool
        Whether the code changes sys.path or imports by hand.
    files : tuple of str
        All file names in the zip.
    """

    entry: Module | None = None
    modules: dict[str, Module] = field(default_factory=dict)
    folders: tuple[str, ...] = ("",)
    moves_path: bool = False
    files: tuple[str, ...] = ()

    def provides(self, top: str) -> bool:
        """Whether the zip holds a top-level module of that name where Python may find it."""
        for folder in self.folders:
            stem = f"{folder}/{top}" if folder else top
            if any(
                f == f"{stem}.py" or f.startswith((f"{stem}/", f"{stem}.cpython", f"{stem}.abi3")) for f in self.files
            ):
                return True
        if not self.moves_path:
            return False
        inside = (f"/{top}.py", f"/{top}/")
        packed = tuple(f for f in self.files if f.endswith((".whl", ".zip", ".egg", ".tar.gz")))
        return any(mark in f"/{f}" for f in self.files for mark in inside) or bool(packed)


def read_sources(folder: Path, files: list[str], profile: Profile) -> Sources:
    """Parse the entry script and what it imports from the zip.

    Parameters
    ----------
    folder : Path
        The unpacked zip.
    files : list of str
        Names of its files.
    profile : Profile
        Gives the entry's name and the Python version whose grammar counts.
    """
    version = python_version(profile.primary.python)
    if profile.entry.file not in files:
        return Sources(files=tuple(files))
    entry = parse(folder, profile.entry.file, profile.entry.file.removesuffix(".py"), version)
    modules = {entry.name: entry}
    queue = [entry]
    folders, moves = _path_folders(entry, files, profile)
    while queue and len(modules) < MODULE_LIMIT:
        module = queue.pop()
        for name in _wanted(module):
            file = _find(name, folders, files)
            if file and name not in modules:
                modules[name] = parse(folder, file, name, version)
                queue.append(modules[name])
    moves = moves or any(_moves_path(module) for module in modules.values())
    return Sources(entry=entry, modules=modules, folders=tuple(folders), moves_path=moves, files=tuple(files))


def python_version(text: str) -> tuple[int, int]:
    """Return a Python version as two numbers; this Python's where the contest does not say."""
    if not text:
        return sys.version_info[:2]
    major, _, minor = text.partition(".")
    return int(major), int(minor.partition(".")[0] or 0)


def parse(folder: Path, file: str, name: str, version: tuple[int, int]) -> Module:
    """Parse one file with the grammar of the scorer's Python; an error is kept as data."""
    data = (folder / file).read_bytes()[:SIZE_LIMIT]
    try:
        tree = ast.parse(data, filename=file, feature_version=version)
    except SyntaxError as error:
        return Module(name=name, file=file, error=str(error.msg), error_line=error.lineno or 0)
    except (ValueError, RecursionError, MemoryError) as error:
        return Module(name=name, file=file, error=f"{type(error).__name__}: {error}")
    text = data.decode("utf-8", "replace")
    return Module(name=name, file=file, text=text, tree=tree, imports=tuple(_imports(tree)))


def _top_level(tree: ast.Module | None) -> Iterator[ast.stmt]:
    queue: list[ast.stmt] = list(tree.body) if tree else []
    while queue:
        node = queue.pop(0)
        yield node
        for part in ("body", "orelse", "finalbody"):
            if isinstance(node, (ast.If, ast.Try, ast.With)):
                queue += getattr(node, part, [])
        if isinstance(node, ast.Try):
            queue += [stmt for handler in node.handlers for stmt in handler.body]


def _imports(tree: ast.Module) -> Iterator[Import]:
    queue: list[tuple[ast.AST, bool, str]] = [(tree, False, "")]
    while queue:
        node, guarded, function = queue.pop()
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(module=alias.name, names=(), line=node.lineno, guarded=guarded, function=function)
        elif isinstance(node, ast.ImportFrom):
            names = tuple(alias.name for alias in node.names)
            module = "." * node.level + (node.module or "")
            yield Import(module=module, names=names, line=node.lineno, guarded=guarded, function=function)
        queue += _below(node, guarded, function)


def statements_in(node: ast.AST) -> list[ast.AST]:
    """Return the children of a node that can be, or hold, statements: most of a tree is expressions, which hold none."""
    return [child for child in ast.iter_child_nodes(node) if not isinstance(child, ast.expr)]


def _below(node: ast.AST, guarded: bool, function: str) -> list[tuple[ast.AST, bool, str]]:
    """Return what stands in a statement, each with whether its failure is caught and the function it is in."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) or (function and isinstance(node, ast.ClassDef)):
        function = f"{function}.{node.name}".lstrip(".")
    guarded = guarded or isinstance(node, ast.ExceptHandler) or _suppresses(node)
    body = {id(child) for child in node.body} if isinstance(node, (ast.Try, ast.If)) and _guards(node) else set()
    return [(child, guarded or id(child) in body, function) for child in statements_in(node)]


def _guards(node: ast.Try | ast.If) -> bool:
    """Whether what fails in a body is caught, or the body runs only for type checkers or as a script."""
    if isinstance(node, ast.Try):
        return any(_catches_import(handler) for handler in node.handlers)
    return _never_scored(node.test)


def _suppresses(node: ast.AST) -> bool:
    return isinstance(node, ast.With) and "suppress" in ast.dump(node.items[0].context_expr)


def _catches_import(handler: ast.ExceptHandler) -> bool:
    kinds = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
    return handler.type is None or any(isinstance(n, ast.Name) and n.id in kinds for n in ast.walk(handler.type))


def _never_scored(test: ast.expr) -> bool:
    text = ast.unparse(test)
    return "TYPE_CHECKING" in text or "__main__" in text


def _wanted(module: Module) -> Iterator[str]:
    """Yield dotted names of modules that may be in the zip."""
    package = module.name if module.file.endswith("__init__.py") else module.name.rpartition(".")[0]
    for item in module.imports:
        level = len(item.module) - len(item.module.lstrip("."))
        base = item.module.lstrip(".")
        if level:
            parts = package.split(".") if package else []
            parts = parts[: len(parts) - (level - 1)] if level > 1 else parts
            base = ".".join([*parts, base]).strip(".")
        pieces = base.split(".") if base else []
        yield from (".".join(pieces[: i + 1]) for i in range(len(pieces)))
        yield from (f"{base}.{name}".strip(".") for name in item.names)


def _find(name: str, folders: list[str], files: list[str]) -> str:
    known = set(files)
    path = name.replace(".", "/")
    for folder in folders:
        stem = f"{folder}/{path}" if folder else path
        for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
            if candidate in known:
                return candidate
    return ""


def _moves_path(module: Module) -> bool:
    marks = ("sys.path", "addsitedir", "importlib", "exec(", "zipimport", "__import__", "PYTHONPATH", "runpy")
    return any(mark in module.text for mark in marks)


def _path_folders(entry: Module, files: list[str], profile: Profile) -> tuple[list[str], bool]:
    """Return folders of the zip that the entry script may put on sys.path: those it names, and the usual ones."""
    moves = _moves_path(entry)
    if not moves or entry.tree is None:
        return [""], moves
    present = {"/".join(f.split("/")[:depth]) for f in files for depth in range(1, f.count("/") + 1)}
    named = {
        node.value.strip("/")
        for node in ast.walk(entry.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    usual = [f for f in profile.package_folders if f in present]
    chosen = [folder for folder in sorted(present) if folder in named or folder.split("/")[-1] in named]
    return ["", *dict.fromkeys([*usual, *chosen])], moves


def standard_modules(version: tuple[int, int]) -> frozenset[str]:
    """Return the top-level modules of the standard library of that Python."""
    names = set(sys.stdlib_module_names) | REMOVED | {"__future__", "__main__"}
    for since, added in NEWER.items():
        if version < since:
            names -= {module for module, members in added.items() if not members and "." not in module}
    return frozenset(names)


def too_new(item: Import, version: tuple[int, int]) -> list[tuple[str, str]]:
    """Return (name, Python that brought it) for names an import takes that the scorer's Python lacks."""
    found = []
    for since, added in NEWER.items():
        if version < since and item.module in added:
            taken = [name for name in item.names if name in added[item.module]]
            found += [(f"{item.module}.{name}", f"{since[0]}.{since[1]}") for name in taken]
    return found
