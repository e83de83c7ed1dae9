"""Stub libraries: empty stand-ins for the CUDA libraries that a CUDA build of torch links to.

The dynamic linker wants every library a file names, and every symbol with the version it was linked against. A stub
has those names and answers each call with an error code, so that torch imports, finds no device, and computes on the
CPU. Needs readelf, nm and gcc.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from rtserve.errors import EnvironmentMissingError

__all__ = ["symbols_of", "write_stubs"]

SYSTEM = re.compile(r"(lib(c|m|dl|rt|util|gcc_s|gomp|stdc\+\+|pthread)\.so|ld-linux)")
"""Libraries that every Linux has."""
OWN_VERSIONS = ("GLIBC", "CXXABI", "GCC_", "GOMP", "OMP")
PREFIXES = {
    "libnccl": r"p?nccl",
    "libnvToolsExt": r"nvtx",
    "libcupti": r"cupti",
    "libnvrtc": r"nvrtc",
    "libcudart": r"cuda[A-Z]|__cuda",
    "libcuda": r"cu[A-Z]",
    "libcublasLt": r"cublasLt",
    "libcublas": r"cublas",
    "libcudnn": r"cudnn",
    "libcufft": r"cufft",
    "libcurand": r"curand",
    "libcusolver": r"cusolver",
    "libcusparseLt": r"cusparseLt",
    "libcusparse": r"cusparse",
    "libcufile": r"cuFile",
    "libnvshmem": r"nvshmem",
    "libnvJitLink": r"nvJitLink",
}
"""Which library a symbol without a version belongs to, by how its name begins."""


def write_stubs(folder: Path) -> list[str]:
    """Write stubs for every library that the files in `folder` need and this machine lacks; return their names.

    Raises
    ------
    EnvironmentMissingError
        Where readelf, nm or gcc is missing.
    """
    for tool in ("readelf", "nm", "gcc"):
        if shutil.which(tool) is None:
            raise EnvironmentMissingError(
                f"{tool} is missing, which a slim environment needs",
                hint="install gcc and binutils, or build with --full (several gigabytes of CUDA libraries)",
            )
    libraries = sorted(folder.glob("*.so*"))
    missing = sorted(_needed(libraries) - {path.name for path in libraries})
    versioned, plain = _undefined(libraries)
    written = []
    with tempfile.TemporaryDirectory(prefix="rtserve-stubs-") as name:
        for library in missing:
            if not SYSTEM.match(library):
                _write(Path(name), folder / library, *symbols_of(library, versioned, plain))
                written.append(library)
    return written


def _read(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _needed(libraries: Iterable[Path]) -> set[str]:
    """Return the names of the libraries that these link to."""
    return {name for path in libraries for name in re.findall(r"NEEDED.*\[(.*?)\]", _read("readelf", "-dW", str(path)))}


def _undefined(libraries: Iterable[Path]) -> tuple[dict[str, set[str]], set[str]]:
    """Return the symbols that no library here defines: by version, and those without one."""
    versioned: dict[str, set[str]] = {}
    wanted: set[str] = set()
    defined: set[str] = set()
    for path in libraries:
        for line in _read("nm", "-D", "--with-symbol-versions", str(path)).splitlines():
            *_, kind, symbol = line.split()
            name, _, version = symbol.partition("@")
            version = version.lstrip("@")
            if kind != "U":
                defined.add(name)
            elif version and not version.startswith(OWN_VERSIONS):
                versioned.setdefault(version, set()).add(name)
            elif not version:
                wanted.add(name)
    return versioned, wanted - defined


def symbols_of(library: str, versioned: dict[str, set[str]], plain: set[str]) -> tuple[set[str], str]:
    """Return what a stub must define, and under which version."""
    # The longest library name decides: libcublasLt is not libcublas.
    stem = max((key for key in PREFIXES if library.startswith(key)), key=len, default="")
    version = next((v for v in versioned if library == v or library.startswith(v)), "")
    version = version or next((v for v, names in versioned.items() if stem and _all_of(names, stem)), "")
    if version:
        return versioned[version], version
    return {name for name in plain if stem and re.match(PREFIXES[stem], name)}, ""


def _all_of(names: Iterable[str], stem: str) -> bool:
    """Whether all symbols of a version are a library's by their names: NVSHMEM is what libnvshmem_host calls its own."""
    return all(re.match(PREFIXES[stem], name) for name in names)


def _write(work: Path, target: Path, symbols: set[str], version: str) -> None:
    source = work / "stub.c"
    lines = [f"int {name}(void) {{ return 999; }}" for name in sorted(symbols)]
    source.write_text("\n".join(lines or ["int rtserve_empty_stub(void) { return 0; }"]), "utf-8")
    command = ["gcc", "-shared", "-fPIC", "-O0", "-w", "-fno-builtin", "-o", str(target), str(source)]
    command.append(f"-Wl,-soname,{target.name}")
    if version:
        script = work / "stub.map"
        script.write_text(f"{version} {{ global: *; }};\n", "utf-8")
        command.append(f"-Wl,--version-script={script}")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentMissingError(
            f"gcc cannot make the stub {target.name}: {done.stderr.strip().splitlines()[-1][:200]}",
            hint="build with --full instead",
        )
