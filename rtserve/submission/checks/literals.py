"""RT1: the files, folders, devices and addresses that the entry script names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TypeGuard

from rtserve.submission.checks.rule import WARN, Case, Finding, Rule, Skip

__all__ = ["RULES"]

_WEIGHTS = re.compile(
    r"(?i)^[\w\-./ \\:+=()]*[\w)]\.(pt|pth|pkl|pickle|joblib|npz|npy|onnx|ckpt|safetensors|h5|hdf5|bin|json|ya?ml|csv)$"
)
_LOADERS = {
    "torch.load", "torch.jit.load", "jit.load", "joblib.load", "np.load", "numpy.load", "open", "np.loadtxt",
    "pd.read_csv", "pd.read_pickle", "h5py.File", "onnxruntime.InferenceSession",
}  # fmt: skip
_TALK = {"print", "info", "warning", "warn", "error", "debug", "log", "save", "to_csv", "dump", "savez", "export"}
_NETWORK = {
    "urlopen", "urlretrieve", "hf_hub_download", "snapshot_download", "from_pretrained", "load_state_dict_from_url",
    "download_url_to_file", "check_call", "check_output", "Popen", "system",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Literal:
    """A text in code that the scorer can reach, with what surrounds it.

    Parameters
    ----------
    value, file, line, function : str, str, int, str
        The text and where it stands.
    loader : str
        The call it is handed to directly, such as ``torch.load``, or empty.
    choice : bool
        Whether it is one of several in a list, or its absence is provided for.
    partial : bool
        Whether it is the beginning of an f-string.
    """

    value: str
    file: str
    line: int
    function: str
    loader: str
    choice: bool
    partial: bool = False

    @property
    def where(self) -> str:
        """File and line."""
        return f"{self.file}:{self.line}"


def _name(call: ast.Call) -> str:
    try:
        return ast.unparse(call.func)
    except (ValueError, RecursionError):
        return ""


def _last(call: ast.Call) -> str:
    """Return the last part of what is called, as in ``logging.info``."""
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else _name(call).rpartition(".")[2]


def _loader(above: list[ast.AST]) -> str:
    """Return the loader that is handed a text as it stands: ``torch.load("w.pt")``, ``open(Path("w.pt"))``."""
    for node in reversed(above):
        if not isinstance(node, ast.Call):
            return ""
        name = _name(node)
        if name in _LOADERS:
            return name
        if name not in ("Path", "pathlib.Path", "str", "os.fspath"):
            return ""
    return ""


def literals(case: Case) -> list[Literal]:
    """Return the texts in reached code, without docstrings and messages."""
    found = []
    for module, function, node, above in case.reached_nodes:
        if not (isinstance(node, ast.Constant) and isinstance(node.value, str)) or not above:
            continue
        head = isinstance(above[-1], ast.JoinedStr)
        if head and node is not above[-1].values[0]:  # type: ignore[attr-defined]
            continue
        if isinstance(above[-1], (ast.Expr, ast.Compare)) or any(isinstance(a, ast.Raise) for a in above):
            continue
        if any(_last(a) in _TALK for a in above if isinstance(a, ast.Call)):
            continue
        collected = any(isinstance(a, (ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Try, ast.IfExp)) for a in above)
        tested = any(isinstance(a, ast.If) and "exist" in ast.unparse(a.test) for a in above)
        found.append(
            Literal(
                value=node.value,
                file=module.file,
                line=node.lineno,
                function=function,
                loader=_loader(above),
                choice=collected or tested,
                partial=head,
            )
        )
    return found


class NamedFiles(Rule):
    """Every file that the code loads is in the zip."""

    code = "RT106"
    requires = ("RT101",)
    cause = "The file was not added to the zip, or has another name there."
    cure = "Add the file under exactly this name, or change the name in the script."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        names = {PurePosixPath(name.replace("\\", "/")).name for name in case.unpacked.files()}
        data = sorted(name for name in case.unpacked.files() if not name.endswith((".py", ".md", ".txt")))
        seen: set[str] = set()
        for item in literals(case):
            base = PurePosixPath(item.value.replace("\\", "/")).name
            if not _WEIGHTS.match(item.value) or "://" in item.value or base in names or base in seen:
                continue
            if item.choice or item.partial or case.all_ran:
                continue
            seen.add(base)
            inside = f" in {item.function}" if item.function else ""
            holds = f"the zip has {', '.join(data[:8])}" if data else "the zip has no data files"
            weights = not base.endswith((".json", ".csv", ".yml", ".yaml"))
            yield Finding(
                message=f"{base} is named{inside} but is not in the zip; {holds}",
                where=item.where,
                severity="" if weights else WARN,
            )


class Paths(Rule):
    """Files are opened where the scorer puts them."""

    code = "RT107"
    requires = ("RT101",)
    cause = "The scorer runs in another folder and mounts the files elsewhere than a training machine has them."
    cure = "Use Path(__file__).resolve().parent / NAME."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        layout = case.profile.layout
        moved = any("chdir(" in module.text for module in case.sources.modules.values())
        severity = WARN if case.all_ran else ""
        for item in literals(case):
            if item.choice:
                continue
            wrong = next((w for w in layout.wrong if item.value == w or item.value.startswith(f"{w}/")), "")
            home = re.match(r"^(/home/|/root/|/Users/|/mnt/|/data/|/workspace|[A-Za-z]:[\\/])", item.value)
            if wrong or (home and _WEIGHTS.match(item.value)):
                message = f"{item.value} is opened; the scorer has the files in {layout.submission}"
                yield Finding(message=message, where=item.where, severity=severity)
            elif item.loader and _WEIGHTS.match(item.value) and not item.value.startswith("/") and not moved:
                message = (
                    f"{item.loader}({item.value!r}) is a relative path: the scorer runs in {layout.cwd},"
                    f" the files are in {layout.submission}"
                )
                yield Finding(message=message, where=item.where, severity=severity)


class Devices(Rule):
    """Tensors go to the device that the scorer hands over."""

    code = "RT109"
    severity = WARN
    requires = ("RT101",)
    cause = "A device is written into the code; the scorer may have a GPU or not."
    cure = "Use the DEVICE that the constructor is given, and map_location=DEVICE in torch.load."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for module, _, node, above in case.reached_nodes:
            if not _names_device(node):
                continue
            chosen = any(
                isinstance(a, (ast.IfExp, ast.If)) and "is_available" in ast.unparse(a.test) for a in above[-6:]
            ) or any(
                isinstance(a, (ast.Compare, ast.Expr, ast.JoinedStr))
                for a in above[-1:]
                if isinstance(node, ast.Constant)
            )
            if chosen or _asks_about_kind(above):
                continue
            if isinstance(node, ast.Constant):
                yield Finding(message=f"the device {node.value!r} is fixed", where=f"{module.file}:{node.lineno}")
            else:
                yield Finding(message=f"{_name(node)}() puts it on a GPU, always", where=f"{module.file}:{node.lineno}")


def _names_device(node: ast.AST) -> TypeGuard[ast.Constant | ast.Call]:
    """Whether a node is a text such as ``"cuda:0"``, or a call of something's ``cuda``."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str) and re.fullmatch(r"cuda(:\d+)?", node.value) is not None
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "cuda"


def _asks_about_kind(above: Sequence[ast.AST]) -> bool:
    """Whether a device's name stands in a call that puts nothing there: autocast's says which kind it is about."""
    calls = [node for node in above[-2:] if isinstance(node, ast.Call)]  # the call, or its keyword
    return any(_last(call) in ("autocast", "is_autocast_enabled", "GradScaler") for call in calls)


class Network(Rule):
    """Nothing is downloaded or installed."""

    code = "RT110"
    severity = WARN
    requires = ("RT101",)
    cause = "The scorer has no network."
    cure = "Ship the file in the zip."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for module, _, node, _ in case.reached_nodes:
            if not isinstance(node, ast.Call):
                continue
            name = _name(node)
            last = name.rpartition(".")[2]
            if last in ("check_call", "check_output", "Popen", "system", "run") and "pip" not in ast.unparse(node):
                continue
            if (
                last in _NETWORK
                or name.startswith(("requests.", "urllib.request."))
                or (last == "run" and "subprocess" in name)
            ):
                yield Finding(message=f"{name}(...) needs the network", where=f"{module.file}:{node.lineno}")


RULES: tuple[type[Rule], ...] = (NamedFiles, Paths, Devices, Network)
