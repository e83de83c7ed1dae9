"""RT1: the entry script, read as a syntax tree. It is never imported in this process."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from rtserve.nearest import nearest
from rtserve.submission.checks.rule import WARN, Case, Finding, Rule, Skip
from rtserve.submission.checks.source import Import, Module, python_version, standard_modules, too_new
from rtserve.submission.reachability import DeadMethod, dead_methods

__all__ = ["RULES"]

Definition = tuple[Module, ast.ClassDef]


def find_class(case: Case) -> Definition | None:
    """Return the entry class and the module that defines it, through imports from the zip and plain renaming."""
    entry = case.sources.entry
    if entry is None:
        return None
    return _resolve(case, entry, case.profile.entry.class_name, 0)


def _resolve(case: Case, module: Module, name: str, depth: int) -> Definition | None:
    if depth > 6 or module.tree is None:
        return None
    if name in module.classes():
        return module, module.classes()[name]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Name) and name in _targets(node):
            return _resolve(case, module, node.value.id, depth + 1)
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name and node.module in case.sources.modules:
                    return _resolve(case, case.sources.modules[node.module], alias.name, depth + 1)
    return None


def _targets(node: ast.Assign) -> set[str]:
    return {target.id for target in node.targets if isinstance(target, ast.Name)}


def _dynamic(module: Module, name: str) -> bool:
    """Whether a name may come into being in ways the syntax does not show."""
    marks = ("import *", "exec(", "globals()", "setattr(", "sys.modules", "importlib", "__getattr__", "type(")
    taken = any(name in item.names for item in module.imports)
    assigned = f"{name} =" in module.text or f"{name}=" in module.text
    return taken or assigned or any(mark in module.text for mark in marks)


def _methods(case: Case, definition: Definition, depth: int = 0) -> tuple[dict[str, ast.AST], bool]:
    """Return a class's methods with those of its bases, and whether all bases are known."""
    module, node = definition
    known: dict[str, ast.AST] = {}
    complete = not node.decorator_list and not node.keywords
    for base in node.bases:
        name = base.id if isinstance(base, ast.Name) else ""
        if name == "object" or (name and name == case.profile.entry.base):
            continue
        parent = _resolve(case, module, name, 0) if name and depth < 6 else None
        if parent is None:
            complete = False
            continue
        more, all_known = _methods(case, parent, depth + 1)
        known |= more
        complete = complete and all_known
    for item in _class_body(node):
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            known[item.name] = item
        elif isinstance(item, ast.Assign):
            known |= {target.id: item for target in item.targets if isinstance(target, ast.Name)}
        elif isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name):
            known[item.target.id] = item
    return known, complete and "__getattr__" not in known and f"setattr({node.name}" not in module.text


def _class_body(node: ast.ClassDef) -> Iterator[ast.stmt]:
    queue = list(node.body)
    while queue:
        item = queue.pop(0)
        yield item
        if isinstance(item, (ast.If, ast.Try)):
            queue += [*item.body, *item.orelse]


class Parses(Rule):
    """The entry script and the modules it imports parse under the scorer's Python."""

    code = "RT101"
    requires = ("RT004",)
    cause = "A syntax error, or syntax newer than the scorer's Python."
    cure = "Run `python -m py_compile` on the file with the scorer's Python version."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        version = case.profile.primary.python
        for module in case.sources.modules.values():
            if module.error:
                where = f"{module.file}:{module.error_line}" if module.error_line else module.file
                severity = "" if module is case.sources.entry or not case.all_ran else WARN
                yield Finding(message=f"{module.error} (Python {version})", where=where, severity=severity)


class EntryClass(Rule):
    """The entry script defines the class that the scorer imports."""

    code = "RT102"
    requires = ("RT101",)
    cause = "The class is misspelt, nested, or missing."
    cure = "Define the class at the top level of the script under exactly this name."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        entry, name = case.sources.entry, case.profile.entry.class_name
        if entry is None or entry.tree is None or find_class(case) is not None or case.ran("construct"):
            return
        if _dynamic(entry, name):
            yield Skip(reason=f"{name} may be made at run time; the run decides")
            return
        defined = [*entry.classes(), *entry.functions()]
        near = nearest(name, defined, alike=0.5)
        line = f":{(entry.classes() | entry.functions())[near[0]].lineno}" if near else ""
        yield Finding(
            message=f"there is no class {name}; defined are {', '.join(defined[:12]) or 'no classes and no functions'}",
            where=f"{entry.file}{line}",
            cure=f"rename {near[0]} to {name}" if near else f"define class {name}; see `rtserve profiles show`",
        )


class Constructor(Rule):
    """The constructor takes what the scorer passes."""

    code = "RT103"
    requires = ("RT102",)
    cause = "The scorer calls it with its own arguments, by position."
    cure = "Write `def __init__(self, SFREQ, DEVICE):`; the names are free, the number is not."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        found = find_class(case)
        if found is None or case.ran("construct"):
            return
        module, node = found
        methods, complete = _methods(case, found)
        passed = 0 if case.profile.entry.style == "solver" else 2
        call = f"{node.name}({', '.join(['100', 'device'][:passed])})"
        init = methods.get("__init__")
        if init is None:
            if complete and "__new__" not in methods and passed:
                yield Finding(
                    message=f"the scorer calls {call}, but {node.name} has no __init__", where=_at(module, node)
                )
            return
        if isinstance(init, ast.FunctionDef):
            problem = _mismatch(init, passed)
            if problem:
                yield Finding(message=f"the scorer calls {call}, but __init__ {problem}", where=_at(module, init))


def _mismatch(function: ast.FunctionDef | ast.AsyncFunctionDef, passed: int) -> str:
    """Return why a method cannot be called with `passed` positional arguments, or an empty text."""
    arguments = function.args
    static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)
    positional = [a.arg for a in (*arguments.posonlyargs, *arguments.args)][0 if static else 1 :]
    needed = len(positional) - len(arguments.defaults)
    required = [a.arg for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is None]
    takes = f"takes ({', '.join(positional)})"
    if needed > passed:
        return f"{takes} and needs {needed}"
    if len(positional) < passed and arguments.vararg is None:
        return takes if positional else "takes no arguments"
    return f"needs {', '.join(required)} by name" if required else ""


def _at(module: Module, node: ast.AST) -> str:
    return f"{module.file}:{getattr(node, 'lineno', 0)}"


class Getters(Rule):
    """The entry class has every method that the scorer calls, callable as it is called."""

    code = "RT104"
    requires = ("RT102",)
    cause = "A misspelt or missing method; the scorer knows only the exact names."
    cure = "Rename the method to exactly what the scorer calls."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        found = find_class(case)
        if found is None:
            return
        module, node = found
        methods, complete = _methods(case, found)
        for call in dict.fromkeys(challenge.call for challenge in case.challenges):
            method = methods.get(call)
            if any(case.ran("build", c.key) for c in case.challenges if c.call == call):
                continue
            if method is None and complete:
                yield self._missing(case, module, node, methods, call)
            elif isinstance(method, ast.AsyncFunctionDef):
                yield Finding(message=f"{call} is async: the scorer gets a coroutine", where=_at(module, method))
            elif isinstance(method, ast.FunctionDef) and not method.decorator_list:
                passed = 1 if case.profile.entry.style == "solver" else 0
                problem = _mismatch(method, passed)
                if problem:
                    said = "(meta)" if passed else "()"
                    yield Finding(message=f"the scorer calls {call}{said}, but it {problem}", where=_at(module, method))

    def _missing(
        self, case: Case, module: Module, node: ast.ClassDef, methods: dict[str, ast.AST], call: str
    ) -> Finding:
        wanted = {challenge.call for challenge in case.challenges}
        own = [name for name in methods if not name.startswith("__") and name not in wanted]
        near = nearest(call, own, alike=0.75)
        if near:
            return Finding(
                message=f"{node.name} has no {call}; did you mean {near[0]}?",
                where=_at(module, methods[near[0]]),
                cure=f"rename {near[0]} to {call}",
            )
        if call in module.functions():
            outside = module.functions()[call]
            return Finding(
                message=f"{call} stands outside class {node.name}",
                where=_at(module, outside),
                cure="indent it into the class",
            )
        public = ", ".join(name for name in methods if not name.startswith("_")) or "no public methods"
        return Finding(message=f"{node.name} has no {call}; it has {public}", where=_at(module, node))


class Imports(Rule):
    """Everything imported is in the scorer's environment or in the zip."""

    code = "RT105"
    requires = ("RT101",)
    cause = "The scorer installs nothing."
    cure = "Ship a pure Python package inside the zip; for compiled ones export the model to TorchScript."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        reached = {f.qualname for f in case.functions if id(f.node) in case.reached}
        version = python_version(case.profile.primary.python)
        known = standard_modules(version) | set(case.profile.modules)
        for module in case.sources.modules.values():
            for item in module.imports:
                if item.guarded or item.module.startswith("."):
                    continue
                dormant = bool(item.function) and item.function not in reached
                yield from self._judge(case, module, item, known, version, dormant)

    def _judge(
        self,
        case: Case,
        module: Module,
        item: Import,
        known: frozenset[str] | set[str],
        version: tuple[int, int],
        dormant: bool,
    ) -> Iterator[Finding]:
        newer = item.top in standard_modules((99, 0)) - standard_modules(version)
        missing = item.top in case.profile.absent
        severity = WARN if dormant or (case.all_ran and not newer and not missing) else ""
        where = f"{module.file}:{item.line}"
        if item.top not in known and not case.sources.provides(item.top):
            if dormant:
                return
            vendored = f"put {item.top} beside {case.profile.entry.file} if it is pure Python"
            yield Finding(
                message=f"{item.top} is neither in the scorer's environment nor in the zip",
                where=where,
                cure=f"{vendored}; otherwise export the model (TorchScript, or `rtserve build`)",
                severity=severity,
            )
        for name, since in too_new(item, version):
            if not dormant:
                message = f"{name} came with Python {since}; the scorer runs {case.profile.primary.python}"
                yield Finding(message=message, where=where, cure="take it from typing_extensions, or write it out")


class DeadWork(Rule):
    """What the submission computes is on the path that the scorer calls."""

    code = "RT108"
    severity = WARN
    requires = ("RT102",)
    strict = True
    cause = "Views, ensembling or calibration in a method that nobody calls: it changes no score."
    cure = "Move the work into the forward of the object that the getter returns."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for method in dead_methods(case):
            yield Finding(
                message=f"{method.owner}.{method.name} is never called by the scorer{self._numbers(case, method)}",
                where=f"{method.file}:{method.line}",
            )

    def _numbers(self, case: Case, method: DeadMethod) -> str:
        events = case.drive.all("dead") if case.drive is not None else []
        event = next((e for e in events if e.get("ok") and e["method"] == method.name), None)
        if event is None or not event["gives"] or not event["scored"]:
            return ""
        same = event["difference"] < 1e-6
        verdict = "the same number" if same else "another number"
        return f": the scorer sees {event['scored'][0]:.6g}, the method gives {event['gives'][0]:.6g} ({verdict})"


class OneFile(Rule):
    """All Python stands in the one entry script."""

    code = "RT111"
    requires = ("RT101",)
    cause = "The contest imports a single file; other modules of the zip cannot be imported."
    cure = "Put all classes and functions into the entry script; rtserve build writes such a file."
    styles = ("solver",)

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        if not case.profile.entry.single_file:
            return
        for module in case.sources.modules.values():
            if module is not case.sources.entry:
                yield Finding(
                    message=f"{module.file} is imported, but only one Python file is supported", where=module.file
                )


RULES: tuple[type[Rule], ...] = (Parses, EntryClass, Constructor, Getters, Imports, DeadWork, OneFile)
