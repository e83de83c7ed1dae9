"""Reading an exception: what kind of failure it is, and whether this machine rather than the submission is to blame.

A package that the profile promises and this machine lacks, or has in another version, can break a good submission here.
Such a break makes the verdict incomplete. What would break on the scorer too stays a failure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from rtserve.submission.checks.needs import DISTRIBUTIONS
from rtserve.submission.checks.rule import Case, Finding, Skip

__all__ = ["broken_stages", "excuse", "kind_of", "shown", "where"]

STEADY = frozenset({"torch", "torchaudio"})
"""Packages whose pinned and installed versions agree on what a submission uses."""
PICKLED = frozenset({"sklearn", "scipy", "pandas"})
"""Packages whose objects are pickled whole, so that another version may fail on them in any way."""
_KINDS = (
    ("weights", r"Error\(s\) in loading state_dict|Expected state_dict to be dict-like|size mismatch for"
                r"|Missing key\(s\) in state_dict"),
    ("damaged", r"invalid load key|Unsupported operand|pickle data was truncated|Ran out of input|unexpected EOF"
                r"|PytorchStreamReader|not a ZIP|central directory|BadZipFile|magic number"),
    ("refused", r"Weights only load failed|weights_only|Unsupported global"),
    ("device", r"Attempting to deserialize object on a CUDA|Torch not compiled with CUDA|No CUDA GPUs|Found no NVIDIA"
               r"|CUDA error|not linked with support for (cuda|mps)|CUDA driver|Cannot access accelerator"),
    ("class", r"Can't get attribute|unpickling"),
    ("network", r"urlopen error|Name or service not known|Temporary failure in name|Network is unreachable|Max retries"
                r"|ConnectionError|getaddrinfo|no network here|HTTPSConnection|Could not resolve|offline"),
    ("read-only", r"Read-only file system|no writing outside"),
    ("memory", r"not enough memory|Cannot allocate memory|can't allocate|MemoryError|bad_alloc"),
    ("path", r"No such file or directory|does not exist|open file failed|[Nn]ot found.*\.(pt|pth|pkl|npz|joblib|json)"),
)  # fmt: skip


def kind_of(error: dict[str, Any]) -> str:
    """Return what kind of failure an error is; ``"other"`` where it is none of the known ones."""
    name, text = error["type"], error["text"]
    if name in ("ModuleNotFoundError", "ImportError"):
        return "class" if error["module"] and error["module"].startswith(("pathlib._local", "__main__")) else "package"
    if name == "MemoryError":
        return "memory"
    if name in ("FileNotFoundError", "NotADirectoryError", "IsADirectoryError"):
        return "path"
    for kind, pattern in _KINDS:
        if re.search(pattern, f"{name}: {text}"):
            return kind
    return "damaged" if name in ("UnpicklingError", "EOFError") else "other"


def excuse(case: Case, error: dict[str, Any]) -> str:
    """Return why this machine, or an assumption of this check, may be to blame for an error, or an empty text."""
    if kind_of(error) == "network":
        asked = f"{error['text']} {' '.join(module.text for module in case.sources.modules.values())}"
        ready = [name for name in case.profile.staged if name in asked]
        if case.profile.network or ready:
            what = (
                f"{ready[0]}, which lies ready on the scorer" if ready else "the network, which the contest may allow"
            )
            return f"it needs {what} and this check has not"
    certain = ("NameError", "SyntaxError", "ImportError", "ModuleNotFoundError", "FileNotFoundError", "SystemExit")
    sizes = kind_of(error) in ("other", "weights") and error["type"] not in certain
    if any(case.profile.signal_of(challenge.key).assumed for challenge in case.challenges) and sizes:
        return f"the size of the contest's windows is not known here ({shown(error, 120)}); name it with --shape"
    top = str(error["module"] or "").partition(".")[0]
    promised = set(case.profile.modules)
    if error["type"] in ("ModuleNotFoundError", "ImportError") and top in promised:
        if error["type"] == "ModuleNotFoundError" and error["module"] == top:
            return f"{top} is promised by {case.profile.name} but is not installed here"
        return _drifted(case, top)
    return _drift_in(case, error)


def _drift_in(case: Case, error: dict[str, Any]) -> str:
    match = re.match(r"module '(\w+)[\w.]*' has no attribute", error["text"])
    if match and match[1] in case.profile.modules:
        return _drifted(case, match[1])
    package = _package_of(error)
    fragile = ("TypeError", "AttributeError", "ImportError", "KeyError", "ModuleNotFoundError", "NotImplementedError")
    loading = any("load" in (frame["code"] or "") for frame in error["frames"])
    pickled = (package in PICKLED or loading) and kind_of(error) not in ("path", "memory")
    if package in case.profile.modules and (pickled or error["type"] in (*fragile, "UnpicklingError")):
        return _drifted(case, package)
    if error["type"] == "TypeError" and "argument" in error["text"]:
        line = error["frames"][-1]["code"] or "" if error["frames"] else ""
        owners = [_import_of(case, name) for name in re.findall(r"\w+", f"{error['text']} {line}")]
        drifted = [_drifted(case, owner) for owner in owners if owner]
        return next((text for text in drifted if text), "")
    if kind_of(error) == "class" and error["type"] != "EOFError":
        lost = re.search(r"module '(\w+)", error["text"])
        return _drifted(case, lost[1]) if lost and lost[1] in case.profile.modules else ""
    return ""


def _package_of(error: dict[str, Any]) -> str:
    """Return the package that raised an error, compiled parts of it included, which give their source's own path."""
    found = re.search(r"site-packages/(\w+)/", error["raised_in"]) or re.match(
        r"(\w+)/[\w./]*\.pyx$", error["raised_in"]
    )
    return found[1] if found else ""


def _import_of(case: Case, name: str) -> str:
    for module in case.sources.modules.values():
        for item in module.imports:
            if name in item.names and item.top in case.profile.modules:
                return item.top
    return ""


def _drifted(case: Case, top: str) -> str:
    """Return how the installed version of a package differs from the scorer's, or an empty text where it does not."""
    name = DISTRIBUTIONS.get(top, top)
    pinned = case.profile.primary.pins.get(name)
    installed = case.drive.versions.get(name) if case.drive is not None else None
    if top in STEADY or pinned is None:
        return "" if top in STEADY else f"{top} here may be another version than the scorer's"
    if installed == pinned:
        return ""
    return f"the scorer has {name} {pinned}, this machine {installed or 'none'}"


def excused_weights(case: Case, entry: dict[str, Any]) -> str:
    """Return why weights that do not fit may do so only because a library's network changed between versions.

    A network of a drifted library whose keys differ from the file's in a few names may have been renamed; one of other
    shapes, or of none of the same names, was never the right one.
    """
    top = str(entry.get("class", "")).partition(".")[0]
    if top not in case.profile.modules or top in STEADY:
        return ""
    drifted = _drifted(case, top)
    name = str(entry.get("class", "")).rpartition(".")[2]
    if not drifted or entry.get("misshapen") or name in case.profile.stable.get(top, ()):
        return ""
    missing, wanted = len(entry.get("missing", ())), max(entry.get("wanted", 0), 1)
    renamed = bool(missing) and bool(entry.get("unexpected"))
    return f"{drifted}: {name} may have other names there" if missing / wanted < 0.5 and (renamed or missing) else ""


def where(error: dict[str, Any]) -> str:
    """Return the author's own line that an error comes from."""
    if error["frames"]:
        frame = error["frames"][-1]
        return f"{frame['file']}:{frame['line']}"
    return f"line {error['line']}" if error.get("line") else ""


def shown(error: dict[str, Any], limit: int = 300) -> str:
    """Return an error as one line, with the author's code."""
    text = " ".join(str(error["text"]).split())[:limit]
    code = f" in `{error['frames'][-1]['code']}`" if error["frames"] and error["frames"][-1]["code"] else ""
    return f"{error['type']}: {text}{code}"


def broken_stages(
    case: Case, stages: tuple[str, ...], kinds: tuple[str, ...]
) -> Iterator[tuple[dict[str, Any], Finding | Skip]]:
    """Yield failed stages of the given kinds, each with a finding, or a skip where this machine is to blame."""
    if case.drive is None:
        return
    seen: set[str] = set()
    for stage in stages:
        for event in case.drive.all(stage):
            if event.get("ok") is not False or kind_of(event["error"]) not in kinds:
                continue
            error = event["error"]
            if shown(error) in seen:
                continue
            seen.add(shown(error))
            reason = excuse(case, error)
            finding = Finding(message=shown(error), where=where(error), challenge=event["challenge"])
            yield event, Skip(reason=reason, incomplete=True) if reason else finding
