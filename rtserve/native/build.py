"""From C to a shared library: one object for each instruction set, and the choice among them at load."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rtserve
from rtserve.files import canonical_json, check_writable, sha256_bytes, write_bytes
from rtserve.native.compiler import FLAGS, Compiler, Level, find_compiler, levels_here
from rtserve.native.generate import Generated

__all__ = ["SCHEMA", "SOURCES", "SUFFIXES", "Built", "build", "defines", "describe", "save"]

SCHEMA = "rtserve.native/1"
HERE = Path(__file__).resolve().parent
SUFFIXES = (".so", ".weights", ".json")
"""Of the files of a compiled graph."""
SOURCES = ("kernels.h", "waves.h", "rtserve_native.h", "shared.h", "pool.h", "dispatch.c")
"""Beside a graph's own file."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A shared library and what it was made of.

    Parameters
    ----------
    library : bytes
        The ``.so``.
    source : str
        The C of the graph.
    weights : bytes
        Little-endian float32.
    compiler : str
        What the compiler says of itself.
    levels : tuple of str
        Instruction sets, the plainest first.
    """

    library: bytes
    source: str
    weights: bytes
    compiler: str
    levels: tuple[str, ...]


def build(
    generated: Generated, *, compiler: Compiler | None = None, levels: Sequence[Level] | None = None,
    extra: Sequence[str] = (),
) -> Built:  # fmt: skip
    """Compile a graph's C.

    Parameters
    ----------
    generated : Generated
        The C and the weights.
    compiler : Compiler, optional
        This machine's by default.
    levels : sequence of Level, optional
        Instruction sets; those of this machine's family by default.
    extra : sequence of str
        Further arguments (sanitizers).

    Raises
    ------
    EnvironmentMissingError
        Where there is no compiler.
    ExportError
        Where it fails.
    """
    compiler, levels = compiler or find_compiler(), tuple(levels or levels_here())
    with tempfile.TemporaryDirectory(prefix="rtserve-native-") as name:
        folder = Path(name)
        for source in SOURCES:
            shutil.copyfile(HERE / source, folder / source)
        (folder / "graph.c").write_text(generated.source, "utf-8")
        (folder / "levels.h").write_text(
            "".join(f'RT_LEVEL("{x.name}", {x.suffix}, {x.able})\n' for x in levels), "utf-8"
        )
        objects = []
        for level in levels:
            objects.append(f"graph_{level.suffix}.o")
            named = f"-DRT_SUFFIX={level.suffix}"
            compiler.run([*FLAGS, *level.flags, *extra, named, "-c", "graph.c", "-o", objects[-1]], folder)
        compiler.run([*FLAGS, *extra, *defines(generated), "-c", "dispatch.c", "-o", "dispatch.o"], folder)
        libraries = ["-lm", *["-pthread"] * generated.shared]
        linking = ["-shared", *extra, *objects, "dispatch.o", "-o", "graph.so", *libraries, "-Wl,--build-id=none", "-s"]
        compiler.run(linking, folder)
        library = (folder / "graph.so").read_bytes()
    weights = generated.weights.astype("<f4").tobytes()
    return Built(library=library, source=generated.source, weights=weights, compiler=compiler.version,
                 levels=tuple(level.name for level in levels))  # fmt: skip


def defines(generated: Generated) -> list[str]:
    """Return what dispatch.c is told of a graph."""
    return [f"-DRT_{key}={n}" for key, n in generated.sizes.items()] + ["-DRT_SHARED"] * generated.shared


def describe(built: Built, facts: Mapping[str, Any]) -> bytes:
    """Return the description of what was built, JSON with `facts` and the digests of code, weights and C."""
    data = {"so": built.library, "weights": built.weights, "c": built.source.encode()}
    told = dict(facts) | {
        "schema": SCHEMA,
        "rtserve": rtserve.__version__,
        "compiler": built.compiler,
        "flags": list(FLAGS),
        "levels": list(built.levels),
        "sha256": {kind: sha256_bytes(content) for kind, content in data.items()},
    }
    return (json.dumps(json.loads(canonical_json(told)), indent=1) + "\n").encode()


def save(built: Built, path: str | Path, facts: Mapping[str, Any], *, force: bool = False) -> list[Path]:
    """Write F.so, F.weights and F.json beside each other, the .json, which names the others' digests, last.

    Raises
    ------
    InputError
        Where one is there and `force` is not given.
    """
    path = Path(path)
    beside = {
        path: built.library,
        path.with_suffix(".weights"): built.weights,
        path.with_suffix(".json"): describe(built, facts),
    }
    for name in beside:
        check_writable(name, force=force)
    return [write_bytes(name, data, force=force) for name, data in beside.items()]
