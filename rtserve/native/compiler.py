"""The system's C compiler: which one, what it is told, and what it says.

Objects are built in a folder of their own from relative names, so that the same compiler gives the same bytes wherever
that is.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from rtserve.errors import EnvironmentMissingError, ExportError

__all__ = ["FLAGS", "LEVELS", "Compiler", "Level", "best_level", "find_compiler", "levels_here"]

FLAGS = ("-std=gnu11", "-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fPIC",
         "-fvisibility=hidden")  # fmt: skip
"""What every object is compiled with; sums are never reordered and NaN stays NaN."""
LIMIT_S = 600.0
"""Seconds that one object may take."""


@dataclass(frozen=True, kw_only=True)
class Level:
    """An instruction set.

    Parameters
    ----------
    name : str
        As compilers and people call it.
    suffix : str
        Of its functions.
    flags : tuple of str
        What the compiler is told.
    able : str
        C that says whether the processor has it.
    """

    name: str
    suffix: str
    flags: tuple[str, ...]
    able: str


def _able(*features: str) -> str:
    return " && ".join(f'__builtin_cpu_supports("{feature}")' for feature in features)


LEVELS = {
    "x86_64": (
        Level(
            name="x86-64-v2", suffix="v2", flags=("-march=x86-64-v2", "-O2", "-ftree-vectorize"),
            able=_able("sse4.2", "popcnt"),
        ),
        Level(name="x86-64-v3", suffix="v3", flags=("-march=x86-64-v3",), able=_able("avx2", "fma", "bmi2")),
        Level(
            name="x86-64-v4", suffix="v4", flags=("-march=x86-64-v4", "-mprefer-vector-width=512"),
            able=_able("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"),
        ),
    ),
    "aarch64": (Level(name="armv8-a", suffix="neon", flags=("-march=armv8-a",), able="1"),),
}  # fmt: skip
"""Instruction sets by machine, the plainest first (armv8-a has NEON); any other machine has one, what its compiler takes by
itself."""
GENERIC = (Level(name="generic", suffix="generic", flags=(), able="1"),)


def levels_here(machine: str | None = None) -> tuple[Level, ...]:
    """Return the instruction sets that code for a machine, this one by default, is built for."""
    name = (machine or platform.machine()).lower()
    return LEVELS.get({"amd64": "x86_64"}.get(name, name), GENERIC)


@cache
def best_level() -> Level:
    """Return the highest instruction set of this processor, asked by a small program of the compiler's own."""
    levels = levels_here()
    text = "".join(f"  if ({level.able}) best = {k};\n" for k, level in enumerate(levels))
    with tempfile.TemporaryDirectory(prefix="rtserve-native-") as name:
        folder = Path(name)
        (folder / "able.c").write_text(f"int rt_able(void) {{\n  int best = -1;\n{text}  return best;\n}}\n", "utf-8")
        find_compiler().run(["-shared", "-fPIC", "able.c", "-o", "able.so"], folder)
        best = int(ctypes.CDLL(str(folder / "able.so")).rt_able())
    if best < 0:
        raise EnvironmentMissingError(
            f"this processor lacks {levels[0].name}, the plainest instruction set that code is built for",
            hint="the .onnx runs in onnxruntime as it is",
        )
    return levels[best]


@dataclass(frozen=True, kw_only=True)
class Compiler:
    """A C compiler: how it is called, and what it says of itself."""

    command: tuple[str, ...]
    version: str

    def run(self, arguments: list[str], folder: Path) -> None:
        """Run it in a folder; `ExportError` with its first words where it fails."""
        environment = os.environ | {"LC_ALL": "C", "SOURCE_DATE_EPOCH": "0"}
        try:
            done = subprocess.run([*self.command, *arguments], cwd=folder, env=environment, capture_output=True,
                                  text=True, timeout=LIMIT_S, check=False)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise ExportError(
                f"{self.command[0]} took longer than {LIMIT_S:.0f} s", hint="this is a defect of rtserve"
            ) from None
        if done.returncode:
            said = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr.strip()[:300])
            raise ExportError(
                f"{' '.join(self.command)} ({self.version}) cannot compile the graph: {said}",
                hint="name another compiler in CC, or keep the .onnx, which runs in onnxruntime as it is",
            )


def find_compiler(called: str | None = None) -> Compiler:
    """Return the compiler named by `called`, by CC, or the first of cc, gcc and clang that is there.

    Raises
    ------
    EnvironmentMissingError
        Where there is none.
    """
    named = called or os.environ.get("CC")
    wanted = [named] if named else ["cc", "gcc", "clang", str(sysconfig.get_config_var("CC") or "")]
    for text in filter(None, wanted):
        command = tuple(shlex.split(text))
        if command and shutil.which(command[0]):
            said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout
            return Compiler(command=command, version=said.splitlines()[0] if said else command[0])
    raise EnvironmentMissingError(
        f"no C compiler{f' {named}' if named else ' (cc, gcc or clang)'} on this machine",
        hint="install one (apt install gcc), or name one in CC; the .onnx runs in onnxruntime as it is",
    )
