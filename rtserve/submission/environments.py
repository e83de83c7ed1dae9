"""Scoring environments: the profile's pinned packages, built on this machine with venv and pip.

``slim`` leaves out gigabytes of CUDA libraries: torch is installed without its dependencies, and stub libraries stand
for what its own libraries link to. Such an environment computes on the CPU alone; `torch.cuda.is_available()` is False.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import EnvironmentMissingError, InputError

if TYPE_CHECKING:
    from rtserve.submission.profile import Environment, Profile

__all__ = ["EnvironmentReport", "create", "find_python"]

RECORD = "environment.json"
TORCH_NEEDS = ("filelock", "typing_extensions", "sympy", "networkx", "jinja2", "fsspec", "mpmath", "MarkupSafe")
"""What torch imports besides CUDA; pinned by the profile's full list where that names them."""
Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class EnvironmentReport:
    """One environment that was built.

    Parameters
    ----------
    name : str
        As the profile calls it.
    python : Path
        Its interpreter.
    versions : dict of str to str
        What is installed, from the environment itself.
    slim : bool
        Whether CUDA libraries are stubs.
    megabytes : int
        Size on disk.
    """

    name: str
    python: Path
    versions: dict[str, str]
    slim: bool
    megabytes: int

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "name": self.name,
            "python": str(self.python),
            "versions": self.versions,
            "slim": self.slim,
            "megabytes": self.megabytes,
        }


def create(
    profile: Profile,
    path: str | Path,
    *,
    only: Iterable[str] = (),
    slim: bool = True,
    minimal: bool = False,
    python: str | Path | None = None,
    say: Say = lambda _: None,
) -> list[EnvironmentReport]:
    """Build the environments of a profile as ``PATH/NAME``, one after the other; one that is whole is kept.

    Parameters
    ----------
    profile : Profile
        Names Python and packages.
    path : path
        Folder that is to hold them.
    only : iterable of str
        Names; all by default.
    slim : bool
        Stub libraries instead of CUDA.
    minimal : bool
        torch and numpy alone, for submissions that need no more.
    python : path, optional
        The interpreter to build from; found by its version by default.
    say : callable
        Told what is going on.

    Raises
    ------
    InputError
        Where a name is not the profile's, or the folder cannot be used.
    EnvironmentMissingError
        Where this machine lacks the Python, a compiler, or the package index.
    """
    wanted = list(only) or [environment.name for environment in profile.environments]
    known = {environment.name: environment for environment in profile.environments}
    for name in wanted:
        if name not in known:
            raise InputError(f"profile {profile.name} has no environment {name!r}", hint=f"it has {', '.join(known)}")
    root = Path(path).absolute()
    if root.exists() and not root.is_dir():
        raise InputError(f"{root} is a file", hint="name a folder")
    reports = []
    for name in wanted:
        build = _Build(known[name], root / name, slim=slim, minimal=minimal, say=say)
        reports.append(build.kept() or build.run(find_python(known[name].python, python)))
    return reports


def find_python(version: str, given: str | Path | None = None) -> Path:
    """Return an interpreter of a version such as ``"3.10"``.

    Raises
    ------
    EnvironmentMissingError
        Where there is none.
    """
    pyenv = _pyenv(version)
    named = [Path(found) for found in [shutil.which(f"python{version}")] if found]
    for candidate in [Path(given)] if given else [*named, *reversed(pyenv)]:
        if _version_of(candidate) == version:
            return candidate
    raise EnvironmentMissingError(
        f"no Python {version} on this machine" + (f" at {given}" if given else ""),
        hint=f"install it (pyenv install {version}, or your system's packages) or name it with --python",
    )


def _pyenv(version: str) -> list[Path]:
    """Return pyenv's interpreters of a version, oldest first; none where its folder is another's and closed."""
    root = Path(os.environ.get("PYENV_ROOT") or os.path.expanduser("~/.pyenv"))
    try:
        return sorted((root / "versions").glob(f"{version}.*/bin/python"))
    except OSError:
        return []


def _version_of(python: Path) -> str:
    """Return major.minor of an interpreter, or nothing where it does not run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run([str(python), "-c", code], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


class _Build:
    """One environment in the making."""

    def __init__(self, environment: Environment, folder: Path, *, slim: bool, minimal: bool, say: Say) -> None:
        self.environment, self.folder, self.slim, self.minimal, self.say = environment, folder, slim, minimal, say

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def kept(self) -> EnvironmentReport | None:
        """Return the report of an earlier, whole build of the same packages; None where there is none."""
        try:
            record = json.loads((self.folder / RECORD).read_text("utf-8"))
        except (OSError, ValueError):
            return None
        if record["requested"] != self._requested() or not self.python.exists():
            return None
        self.say(f"{self.environment.name}: already there")
        return EnvironmentReport(**{**record["report"], "python": self.python})

    def _requested(self) -> dict[str, Any]:
        return {"packages": self._packages(), "slim": self.slim, "minimal": self.minimal}

    def _packages(self) -> dict[str, str]:
        packages = self.environment.packages
        return {k: v for k, v in packages.items() if k in ("torch", "numpy")} if self.minimal else dict(packages)

    def run(self, base: Path) -> EnvironmentReport:
        """Make the environment; a failure leaves nothing that `kept` would take for whole."""
        self.say(f"{self.environment.name}: Python {self.environment.python} from {base}")
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        _run([str(base), "-m", "venv", str(self.folder)])
        packages = self._packages()
        heavy: dict[str, str] = {name: packages.pop(name) for name in ("torch", "torchaudio") if name in packages}
        if self.slim and heavy:
            self._pip(["--no-deps", *(f"{name}=={version}" for name, version in heavy.items())])
            self._stubs()
            self._pip([*self._pins(packages), *TORCH_NEEDS], constraints=heavy)
        else:
            self._pip([f"{name}=={version}" for name, version in (heavy | packages).items()])
        return self._record()

    def _pins(self, packages: dict[str, str]) -> list[str]:
        return [f"{name}=={version}" for name, version in packages.items()]

    def _pip(self, what: list[str], constraints: dict[str, str] | None = None) -> None:
        command = [str(self.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what]
        if constraints:
            # Packages that ask for torch find it there; pip must not bring its CUDA libraries after all.
            command += ["--no-deps"] if self.minimal else self._without_cuda(constraints)
        self.say(f"{self.environment.name}: installing {', '.join(what[:6])}{' ...' if len(what) > 6 else ''}")
        _run(command)

    def _without_cuda(self, heavy: dict[str, str]) -> list[str]:
        """Return pip options under which torch stays as it is and its CUDA wheels are not fetched.

        pip installs a requirement of an installed package only where it resolves that package anew: the recorded
        metadata of torch is relieved of its nvidia-* and triton requirements first.
        """
        for info in self.folder.glob("lib/python*/site-packages/torch-*.dist-info/METADATA"):
            lines = info.read_text("utf-8").splitlines(keepends=True)
            unwanted = ("Requires-Dist: nvidia-", "Requires-Dist: triton")
            info.write_text("".join(line for line in lines if not line.startswith(unwanted)), "utf-8")
        path = self.folder / "constraints.txt"
        path.write_text("".join(f"{name}=={version}\n" for name, version in heavy.items()), "utf-8")
        return ["-c", str(path)]

    def _stubs(self) -> None:
        from rtserve.submission.stubs import write_stubs

        (site,) = self.folder.glob("lib/python*/site-packages")
        made = write_stubs(site / "torch" / "lib")
        self.say(f"{self.environment.name}: {len(made)} stub libraries in place of CUDA's")
        # torchaudio's compiled half wants CUDA too; without it the package runs in pure Python.
        for library in (site / "torchaudio" / "lib").glob("*.so"):
            library.unlink()

    def _record(self) -> EnvironmentReport:
        """Ask the environment what it holds, prove that torch computes where it is there, and write it down."""
        computes = "import torch; assert torch.ones(3).sum().item() == 3" if "torch" in self._packages() else ""
        code = (
            f"import json, importlib.metadata as m\n{computes}\n"
            "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
        )
        versions = json.loads(_run([str(self.python), "-W", "ignore", "-c", code]).splitlines()[-1])
        size = sum(f.stat().st_size for f in self.folder.rglob("*") if f.is_file() and not f.is_symlink())
        report = EnvironmentReport(
            name=self.environment.name,
            python=self.python,
            versions=dict(sorted(versions.items())),
            slim=self.slim,
            megabytes=round(size / 1e6),
        )
        record = {"schema": "rtserve.environment/1", "requested": self._requested(), "report": report.to_dict()}
        (self.folder / RECORD).write_text(json.dumps(record, indent=1), "utf-8")
        return report


def _run(command: list[str]) -> str:
    """Run a command; return its output.

    Raises
    ------
    EnvironmentMissingError
        Where it fails, with the last line it said.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-1:] or ["no message"]
        raise EnvironmentMissingError(
            f"`{' '.join(command[:6])} ...` failed: {last[0][:300]}",
            hint="is the package index reachable, and is there room on the disk?",
        )
    return done.stdout
