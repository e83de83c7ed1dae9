"""Compiled code in a zip: made of a graph, tried on the reference windows, and looked at again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from rtserve.errors import EnvironmentMissingError, ExportError, ProfileError
from rtserve.files import sha256_bytes

if TYPE_CHECKING:
    import numpy as np

    from rtserve.graphs.graph import Graph
    from rtserve.native.build import Built
    from rtserve.submission.profile import Clause, Profile
    from rtserve.submission.recipe import Recipe

__all__ = ["NATIVE", "compiled_files", "compiled_findings", "forbidding", "require_compiled_allowed"]

NATIVE = (".native.so", ".native.weights", ".native.json")
"""Endings of the files of compiled code in a zip."""
CURE = 'choose runtime = "torch" or "torchscript"'


def forbidding(profile: Profile) -> Clause | None:
    """Return the clause by which a contest forbids compiled code, or None."""
    return next((clause for clause in profile.clauses if clause.id == profile.no_binaries), None)


def require_compiled_allowed(recipe: Recipe, profile: Profile) -> None:
    """Raise `ProfileError` where a recipe puts compiled code into the zip of a contest that forbids it."""
    clause = forbidding(profile)
    native = [key for key in recipe.challenges if recipe.runtime_of(key) == "native"]
    what = "a wheel" if recipe.wheel is not None else f'runtime = "native" of challenge {native[0]}' if native else ""
    if clause is not None and what:
        raise ProfileError(
            f"{what} puts compiled code into the zip, and {profile.name} says: {clause.text} ({clause.source})",
            hint=CURE,
        )


def compiled_files(name: str, graph: Graph, windows: np.ndarray) -> dict[str, bytes]:
    """Return a graph's code, weights and description by their names in a zip.

    Parameters
    ----------
    name : str
        Stem of the challenge's files.
    graph : Graph
        What is compiled.
    windows : ndarray, (windows, n_chans, n_times)
        The reference windows; the code of every instruction set that this processor has is tried on them.

    Raises
    ------
    EnvironmentMissingError
        Where there is no compiler.
    ExportError, ParityError
        Where the graph cannot be compiled, or its code does not give its numbers.
    """
    from rtserve.graphs.native import compile_graph

    try:
        built = compile_graph(graph).built
    except EnvironmentMissingError as error:
        raise EnvironmentMissingError(error.message, hint=f"{error.hint}; or {CURE}") from None
    except ExportError as error:
        raise ExportError(error.message, hint=CURE) from None
    told = _description(built, graph, _tolerance(built, graph, windows))
    return {name + ending: data for ending, data in zip(NATIVE, (built.library, built.weights, told), strict=True)}


def _tolerance(built: Built, graph: Graph, windows: np.ndarray) -> float:
    """Return how far answers to the reference windows may lie apart, after every instruction set was tried."""
    from rtserve.graphs.parity import ParityReport
    from rtserve.graphs.witness import hear
    from rtserve.native.compiler import best_level
    from rtserve.native.load import NativeModule

    (answer,) = hear(graph, [("reference windows", windows)]).answers
    able = built.levels[: built.levels.index(best_level().name) + 1]
    cases = [answer.compare(NativeModule.of(built, level=level).infer(windows)) for level in able]
    ParityReport(
        cases=tuple(cases), subject=f"native code ({', '.join(able)})", reference="the graph in float64"
    ).require(hint=CURE)
    return max(case.allowed for case in cases)


def _description(built: Built, graph: Graph, tolerance: float) -> bytes:
    """Return the JSON that says what the code is; `rtserve.runtime.native_route` reads it."""
    import platform

    from rtserve.native.build import describe

    spec = graph.input_spec
    facts = {
        "graph": graph.digest, "machine": platform.machine(), "window": [spec.n_chans, spec.n_times],
        "tolerance": tolerance,
    }  # fmt: skip
    return describe(built, facts)


def compiled_findings(
    entry: Mapping[str, Any], files: Mapping[str, bytes], graph: Graph, *, again: bool = True
) -> Iterator[str]:
    """Yield what is not right with the compiled code of a challenge: its files, whose it is, what it was made of.

    With `again` the C is written anew, and where the compiler that made the code is here the code as well: the same
    compiler gives the same bytes.
    """
    stem = entry["graph"].removesuffix(".onnx")
    names = [f"{stem}{ending}" for ending in NATIVE]
    there = [name for name in names if name in files]
    if entry["runtime"] != "native":
        yield from (f"{name}: is compiled code, and challenge {stem} runs by {entry['runtime']}" for name in there)
        return
    lacking = [name for name in names if name not in files]
    if lacking:
        yield f"{lacking[0]}: is missing"
        return
    told = json.loads(files[names[2]])
    if told["graph"] != graph.digest:
        yield f"{names[2]}: describes the code of graph {told['graph'][:12]}, {entry['graph']} is {graph.digest[:12]}"
        return
    for name, kind in zip(names[:2], ("so", "weights"), strict=True):
        digest = sha256_bytes(files[name])
        if digest != told["sha256"][kind]:
            yield f"{name}: sha256 {digest[:12]}, {names[2]} says {told['sha256'][kind][:12]}"
            return
    if again:
        yield from _made_again(told, files, names, graph)


def _made_again(told: Mapping[str, Any], files: Mapping[str, bytes], names: list[str], graph: Graph) -> Iterator[str]:
    import rtserve
    from rtserve.graphs.native import generate_graph
    from rtserve.native.build import build
    from rtserve.native.compiler import find_compiler, levels_here

    if told["rtserve"] != rtserve.__version__:
        return  # another version writes other C; the digests stand for it
    forms = [generate_graph(graph, tiles=tiles) for tiles in (True, False)]
    same = [one for one in forms if sha256_bytes(one.source.encode()) == told["sha256"]["c"]]
    if not same:
        yield f"{names[2]}: its C is not what rtserve {told['rtserve']} writes for {graph.digest[:12]}"
        return
    if same[0].weights.astype("<f4").tobytes() != files[names[1]]:
        yield f"{names[1]}: are not the weights of the graph"
    try:
        compiler = find_compiler()
    except EnvironmentMissingError:
        return
    if compiler.version != told["compiler"] or [level.name for level in levels_here()] != told["levels"]:
        return
    if build(same[0], compiler=compiler).library != files[names[0]]:
        yield f"{names[0]}: is not what {compiler.version} makes of the graph"
