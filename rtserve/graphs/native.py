"""A graph as native code: generated, compiled, and put beside its description.

What is compiled is the graph as it stands. `rtserve fuse --engine native` leaves it in the form that is fastest so:
algebra and sharing, no engine's layout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import ExportError, InputError
from rtserve.files import check_writable
from rtserve.graphs.answers import answer_windows
from rtserve.graphs.graph import Graph, as_graph
from rtserve.graphs.parity import ParityReport, compare_outputs, probe_inputs
from rtserve.graphs.witness import Testimony, hear
from rtserve.native.build import SUFFIXES, Built, build, save
from rtserve.native.compiler import FLAGS, find_compiler
from rtserve.native.flow import Unsupported, read_flow
from rtserve.native.generate import Generated, generate
from rtserve.native.load import NativeModule

if TYPE_CHECKING:
    from rtserve.native.compiler import Level

__all__ = ["Compiled", "compile_graph", "compile_text", "compile_to_file", "generate_graph", "native_parity"]


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A graph as native code that was found equal to it: what was built, at work, and how it was compared."""

    built: Built
    module: NativeModule
    parity: ParityReport
    macs: int


def generate_graph(graph: Graph, *, tiles: bool = True, shared: bool = False, marks: bool = False) -> Generated:
    """Return the C of a graph.

    Parameters
    ----------
    graph : Graph
        What to write.
    tiles : bool
        Whether convolutions may be computed by tiles (`rtserve.native.fast`).
    shared : bool
        Whether several threads are to compute one window (`rtserve.native.shares`).
    marks : bool
        Whether the code times its operations (`rtserve.native.profile`).

    Raises
    ------
    ExportError
        Where native code lacks an operator, or a form of one; or where the answers depend on the batch.
    """
    from rtserve.graphs.plan import graph_to_plan

    spec = graph.input_spec
    if graph.output_spec.coupled:
        raise ExportError(
            "native code computes window by window, and this graph's answers depend on the batch",
            hint="run it in onnxruntime with --batch",
        )
    if graph.fixed_batch > 1:
        raise ExportError(
            f"native code computes window by window, and this graph takes {graph.fixed_batch} at once",
            hint="export it with a batch of any size",
        )
    plan, tensors = graph_to_plan(graph, written=True)
    try:
        return generate(read_flow(plan, tensors, (spec.n_chans, spec.n_times)), tiles=tiles, shared=shared, marks=marks)
    except Unsupported as reason:
        raise ExportError(
            f"native code has no {reason}", hint="run the graph in onnxruntime; a graph is compiled whole or not at all"
        ) from None


def compile_graph(
    graph: Graph,
    *,
    levels: Sequence[Level] | None = None,
    threads: int = 1,
    probes: Sequence[tuple[str, np.ndarray]] | None = None,
) -> Compiled:
    """Return a graph compiled and compared; without tiles where they round too much for it, or spread what is no number.

    Parameters
    ----------
    graph : Graph
        What to compile.
    levels : sequence of Level, optional
        Instruction sets; all of this machine's family by default.
    threads : int
        That the code is built for and runs on; with more than one any other number runs on it as well.
    probes : sequence of (str, ndarray), optional
        Inputs that it is compared on; by default noise of every size, the graph's own windows, and broken ones.

    Raises
    ------
    ExportError
        As `generate_graph`, and where the compiler fails.
    EnvironmentMissingError
        Where there is no compiler.
    ParityError
        Where the code does not give the graph's numbers.
    """
    compiler = find_compiler()
    with_tiles, plain = (generate_graph(graph, tiles=tiles, shared=threads > 1) for tiles in (True, False))
    heard = hear(graph, _probes(graph) if probes is None else probes)
    found = None
    for generated in (plain,) if plain.source == with_tiles.source else (with_tiles, plain):
        built = build(generated, compiler=compiler, levels=levels)
        module = NativeModule.of(built, threads=threads)
        found = Compiled(built=built, module=module, parity=native_parity(heard, module), macs=generated.macs)
        if found.parity.passed:
            break
    assert found is not None  # at least one form was built
    found.parity.require(hint="this is a defect of rtserve: run the .onnx, which is not touched")
    return found


def compile_to_file(
    graph: Graph | str | Path, output: str | Path, *, force: bool = False, threaded: bool = False
) -> dict[str, Any]:
    """Compile a graph's file to F.so, F.weights and F.json; nothing is written unless the code gives the graph's numbers.

    Parameters
    ----------
    graph : Graph or path
        What to compile.
    output : str or Path
        The .so to write; .weights and .json are put beside it.
    force : bool
        Replace what is there.
    threaded : bool
        Whether several threads may compute a window together.

    Returns
    -------
    dict
        JSON values: files, graph (digest), compiler, flags, levels, level (the one of this processor), macs, parity.

    Raises
    ------
    InputError
        Where `output` does not end in .so or may not be written.
    ExportError
        Where the graph cannot be compiled.
    ParityError
        Where the code does not give the graph's numbers.
    """
    output = Path(output)
    if output.suffix != ".so":
        raise InputError(f"output {output} does not end in .so", hint=f"-o {output.with_suffix('.so')}")
    for suffix in SUFFIXES:
        check_writable(output.with_suffix(suffix), force=force)
    graph = as_graph(graph)
    compiled = compile_graph(graph, threads=2 if threaded else 1)
    built, parity = compiled.built, compiled.parity
    facts = {"graph": graph.digest, "metadata": graph.metadata(), "macs": compiled.macs, "threaded": threaded}
    files = save(built, output, facts, force=force)
    return {
        "files": [str(file) for file in files],
        "bytes": {file.suffix[1:]: file.stat().st_size for file in files},
        "graph": graph.digest,
        "compiler": built.compiler,
        "flags": list(FLAGS),
        "levels": list(built.levels),
        "level": compiled.module.level,
        "macs": compiled.macs,
        "parity": parity.to_dict() | {"summary": parity.summary()},
    }


def _probes(graph: Graph, seed: int = 0) -> list[tuple[str, np.ndarray]]:
    """Return probes of every size, the graph's own windows and broken ones."""
    spec = graph.input_spec
    x = np.random.default_rng(seed + 1).standard_normal((2, spec.n_chans, spec.n_times)).astype(np.float32)
    x[0, spec.n_chans // 3] = np.nan
    x[1, spec.n_chans // 2, spec.n_times // 3] = np.inf
    return [*probe_inputs(spec, seed=seed), ("reference windows", answer_windows(spec)), ("broken windows", x)]


def native_parity(heard: Testimony, module: NativeModule) -> ParityReport:
    """Compare compiled code with what a graph answers in float64.

    What is no number must be none in the code either; where onnxruntime itself makes another thing of a broken window
    than float64 does, the code may do as it does.
    """
    cases = []
    for answer in heard.answers:
        got = module.infer(answer.x)
        case = answer.compare(got)
        if not case.passed and not np.isfinite(answer.x).all():
            as_engine = compare_outputs(answer.name, got, answer.single, rounding=answer.rounding)
            case = as_engine if as_engine.passed else case
        cases.append(case)
    return ParityReport(cases=tuple(cases), subject=f"native code ({module.level})", reference="the graph in float64",
                        notes=heard.notes)  # fmt: skip


def compile_text(report: dict[str, Any]) -> str:
    """Return the report as a few lines for a person."""
    sizes = ", ".join(f".{kind} {n:,} bytes" for kind, n in report["bytes"].items())
    return "\n".join(
        [
            f"{report['files'][0]}  {report['macs']:,} multiply-adds a window; {sizes}",
            f"  built   by {report['compiler']} for {', '.join(report['levels'])}; here {report['level']} runs",
            f"  parity  {report['parity']['summary']}",
            f"  sha256  {report['graph']} (of the graph)",
        ]
    )
