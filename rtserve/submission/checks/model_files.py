"""RT2: the model files, read as bytes and pickle opcodes."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from rtserve.submission.checks.needs import DISTRIBUTIONS
from rtserve.submission.checks.pickles import SUFFIXES, ModelFile, read_model_file
from rtserve.submission.checks.rule import WARN, Case, Finding, Rule, Skip
from rtserve.submission.checks.source import python_version, standard_modules

__all__ = ["RULES", "needed"]


@functools.lru_cache(maxsize=512)
def _look(path: Path, size: int, changed: int) -> ModelFile:
    return read_model_file(path)


def model_files(case: Case) -> Iterator[tuple[str, ModelFile]]:
    """Yield the model files of the zip with what they are."""
    folder = case.unpacked.folder
    for name in case.unpacked.files():
        if folder is not None and name.lower().endswith(SUFFIXES) and not name.startswith("__MACOSX"):
            stat = (folder / name).stat()
            yield name, _look(folder / name, stat.st_size, stat.st_mtime_ns)


def _used(case: Case, name: str) -> bool:
    """Whether the submission opens a file, by the run's record or by its name in the code."""
    base = PurePosixPath(name).name
    if case.drive is not None and case.ran("import"):
        items = [item for event in case.drive.all("opened") for item in event["items"]]
        opened = {PurePosixPath(item["path"]).name for item in items} | {
            PurePosixPath(e["file"]).name for e in case.loads()
        }
        if base in opened:
            return True
        if case.all_ran:
            return False
    return any(base in module.text for module in case.sources.modules.values())


def _loaded_well(case: Case, name: str) -> bool:
    base = PurePosixPath(name).name
    entries = [e for e in case.loads() if e["kind"] != "load_state_dict" and PurePosixPath(e["file"]).name == base]
    return bool(entries) and all(entry["error"] is None for entry in entries)


def needed(case: Case) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the model files in use whose objects are of packages beyond torch and NumPy: name, and package to version.

    The version is the one that wrote them, empty where the objects do not say; packages in the zip are left out.
    """
    standard = standard_modules(python_version(case.profile.primary.python))
    plain = standard | {"torch", "numpy", "joblib", "__main__", "__builtin__", "copy_reg"}
    for name, file in model_files(case):
        tops = dict.fromkeys(item.partition(".")[0] for item in file.globals) if _used(case, name) else {}
        found = {DISTRIBUTIONS.get(top, top): "" for top in tops if top not in plain and not case.sources.provides(top)}
        if found:
            yield name, found | {package: " and ".join(written) for package, written in file.versions.items()}


class Readable(Rule):
    """Every model file that is used can be read."""

    code = "RT201"
    requires = ("RT004",)
    cause = "A cut-off copy, a git-lfs pointer, or an error page saved as weights."
    cure = "Copy the file again and compare its size or digest."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for name, file in model_files(case):
            if file.problem and not _loaded_well(case, name):
                severity = "" if _used(case, name) and not case.all_ran else WARN
                yield Finding(message=file.problem, where=name, severity=severity)


class TensorsOnly(Rule):
    """Files that torch.load opens hold tensors only, or are opened with weights_only=False."""

    code = "RT202"
    requires = ("RT004",)
    cause = "From torch 2.6 on torch.load refuses any other object unless told weights_only=False."
    cure = "Save the state_dict alone (`torch.save(model.state_dict(), ...)`), or pass weights_only=False."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        major, minor = (int(part) for part in case.profile.primary.packages.get("torch", "2.8").split(".")[:2])
        if (major, minor) < (2, 6):
            return
        for name, file in model_files(case):
            if not file.kind.startswith("torch") or file.kind == "torchscript" or not file.beyond_tensors:
                continue
            if not _used(case, name) or _loaded_well(case, name):
                continue
            entry = self._entry(case, name)
            told = "weights_only=False" in "".join(m.text.replace(" ", "") for m in case.sources.modules.values())
            severity = "" if (entry and entry["error"]) or not told else WARN
            shown = ", ".join(file.beyond_tensors[:4])
            yield Finding(message=f"it holds {shown}: torch.load refuses it by default", where=name, severity=severity)

    def _entry(self, case: Case, name: str) -> dict[str, object] | None:
        base = PurePosixPath(name).name
        return next(
            (e for e in case.loads() if e["kind"] == "torch.load" and PurePosixPath(e["file"]).name == base), None
        )


class KnownGlobals(Rule):
    """Pickled objects come from packages and Python versions that the scorer has."""

    code = "RT203"
    requires = ("RT004",)
    cause = "A pickle stores where a class lives; the scorer must find it there."
    cure = "Save numbers instead of objects, or ship the class in the zip under the same module name."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        known = standard_modules(python_version(case.profile.primary.python)) | set(case.profile.modules)
        told = "".join(module.text for module in case.sources.modules.values())
        for name, file in model_files(case):
            if file.kind == "torchscript" or not _used(case, name):
                continue
            for item in file.globals:
                module = item.rpartition(".")[0]
                yield from self._judge(case, name, item, module, known, told)
            yield from self._versions(case, name, file)

    def _versions(self, case: Case, name: str, file: ModelFile) -> Iterator[Finding]:
        for package, written in file.versions.items():
            pinned = case.profile.primary.pins.get(package, "")
            if pinned and set(written) != {pinned}:
                message = f"its objects were written by {package} {' and '.join(written)}; the scorer has {pinned}"
                cure = f"save it with {package} {pinned}, or its numbers alone; `rtserve env create` makes that environment"
                yield Finding(message=message, where=name, cure=cure, severity=WARN)

    def _judge(
        self, case: Case, name: str, item: str, module: str, known: set[str] | frozenset[str], told: str
    ) -> Iterator[Finding]:
        top = module.partition(".")[0]
        severity = WARN if case.all_ran or case.drive is None else ""
        if module.startswith("pathlib._local") and "pathlib._local" not in told:
            python = case.profile.primary.python
            if python_version(case.profile.primary.python) < (3, 13):
                yield Finding(
                    message=f"it holds {item}, which exists from Python 3.13 on; the scorer runs {python}",
                    where=name,
                    cure="store paths as text: str(path)",
                )
        elif top == "__main__" and "__main__" not in told:
            yield Finding(
                message=f"it holds {item}: pickled from a notebook or script, it is sought in the scorer's own",
                where=name,
                severity=severity,
            )
        elif not case.sources.provides(top) and top not in known | {"__main__", "__builtin__", "copy_reg"}:
            aliased = f"'{top}" in told or f'"{top}' in told  # sys.modules["old_name"] = ...
            if not aliased:
                yield Finding(message=f"it holds {item}; the scorer has no {top}", where=name, severity=severity)


class Harmless(Rule):
    """No pickle calls anything but constructors of data."""

    code = "RT204"
    severity = WARN
    requires = ("RT004",)
    cause = "A pickle can run any command when it is loaded."
    cure = "Do not load this file; make the weights again from a source you trust."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for name, file in model_files(case):
            if file.unsafe:
                yield Finding(message=f"it calls {', '.join(file.unsafe[:4])} when it is loaded", where=name)


class Portable(Rule):
    """Tensors load on a machine without the device they were saved on."""

    code = "RT205"
    severity = WARN
    requires = ("RT004",)
    cause = "Tensors saved from a GPU go back to it unless torch.load is told otherwise."
    cure = "Pass map_location=DEVICE, or save after model.cpu()."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        text = "".join(module.text for module in case.sources.modules.values())
        for name, file in model_files(case):
            if file.devices and _used(case, name) and "map_location" not in text:
                yield Finding(
                    message=f"it was saved on {', '.join(file.devices)}; no map_location is given", where=name
                )


RULES: tuple[type[Rule], ...] = (Readable, TensorsOnly, KnownGlobals, Harmless, Portable)
