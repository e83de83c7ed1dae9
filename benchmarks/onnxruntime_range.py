"""Do the oldest and the newest onnxruntime load and run our graphs, with their numbers?

    python benchmarks/onnxruntime_range.py [GRAPH.onnx ...] [--versions 1.17.0,newest] [--folder FOLDER] [-o FILE.md]

Each version gets a clean environment of its own with numpy alone beside it. Without GRAPHs a seeded EEGNet is
exported, plain, fused with views, and fused for OpenVINO. A graph is asked for the reference answers that it carries.
Exit 1 where one cannot be loaded or answers something else. Needs a package index.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import click
import numpy as np

from rtserve.errors import InputError, RtserveError
from rtserve.files import write_bytes
from rtserve.fusion.fuse import fuse
from rtserve.graphs.answers import answer_windows
from rtserve.graphs.export import export
from rtserve.graphs.graph import Graph

EXPORTER = str(Path(__file__).resolve().parent.parent / "exporters" / "braindecode_models.py") + ":EEGNet"
RUN = """
import json, sys
import numpy as np, onnxruntime
found = {"version": onnxruntime.__version__, "numpy": np.__version__, "graphs": {}}
for name in sys.argv[2:]:
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(name, options, providers=["CPUExecutionProvider"])
        y = session.run(None, {session.get_inputs()[0].name: np.load(name + ".npy")})[0]
        found["graphs"][name] = y.astype(float).tolist()
    except Exception as error:
        found["graphs"][name] = str(error).splitlines()[0]
json.dump(found, open(sys.argv[1], "w"))
"""


def environment(folder: Path, version: str) -> Path:
    """Return the Python of a clean environment with that onnxruntime, made where it is not there."""
    home = folder / version
    python = home / "bin" / "python"
    if not python.exists():
        venv.create(home, with_pip=True)
    package = "onnxruntime" if version == "newest" else f"onnxruntime=={version}"
    numpy = "numpy" if version == "newest" else "numpy<2"  # built before numpy 2
    subprocess.run([str(python), "-m", "pip", "install", "-qq", package, numpy], check=True)
    return python


def sample_graphs() -> dict[str, Graph]:
    """Return a seeded network as exported, as fused with views, and as laid out for OpenVINO."""
    settings = {"n_chans": 129, "n_times": 200}
    plain = export(None, exporter=EXPORTER, settings=settings)
    views = "identity,roll:+3,scale:1.02"
    fused = {name: fuse([plain], views=views, engine=name) for name in ("onnxruntime", "openvino", "torch")}
    return {"exported.onnx": plain} | {f"fused-{name}.onnx": graph for name, graph in fused.items()}


def ask(python: Path, graphs: dict[str, Graph]) -> tuple[str, dict[str, str]]:
    """Return the version of an environment's onnxruntime and what each graph did in it: ``equal`` or what is wrong."""
    with tempfile.TemporaryDirectory(prefix="rtserve-range-") as name:
        folder, verdicts = Path(name), {}
        for file, graph in graphs.items():
            if graph.answers is None:
                raise InputError(f"{file} carries no reference answers", hint="export or fuse it again")
            graph.save(folder / file)
            np.save(folder / f"{file}.npy", answer_windows(graph.input_spec, size=graph.answers.size))
        subprocess.run([str(python), "-c", RUN, "found.json", *graphs], check=True, cwd=folder)
        found = json.loads((folder / "found.json").read_text())
    for file, graph in graphs.items():
        got = found["graphs"][file]
        if isinstance(got, str) or graph.answers is None:
            verdicts[file] = f"cannot be run: {got}"
            continue
        case = graph.answers.compare(np.array(got), file)
        verdicts[file] = f"{case.verdict} ({case.error:.1e}, {case.allowed:.1e} is allowed)"
    return f"onnxruntime {found['version']} with numpy {found['numpy']}", verdicts


@click.command(help=__doc__.split("\n\n")[0])
@click.argument("files", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option("--versions", default="1.17.0,newest", show_default=True)
@click.option("--folder", default=".envs/onnxruntime", show_default=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Write the table here too (.md).")
def main(files: tuple[Path, ...], versions: str, folder: Path, output: Path | None) -> None:
    rows: list[str] = []
    try:
        graphs = {file.name: Graph.load(file) for file in files} or sample_graphs()
        wrong = 0
        for version in versions.split(","):
            told, verdicts = ask(environment(folder, version.strip()), graphs)
            for file, verdict in verdicts.items():
                wrong += not verdict.startswith("equal")
                rows.append(f"| {told} | {file} | {graphs[file].model.ir_version} | {verdict} |")
                click.echo(f"{told}: {file} (IR {graphs[file].model.ir_version}) {verdict}")
    except RtserveError as error:
        click.echo(f"error: {error.message}\nhint: {error.hint}", err=True)
        sys.exit(error.exit_code)
    if output:
        head = [
            "# The oldest and the newest onnxruntime", "",
            "Each in a clean environment, asked for the reference answers that the graphs carry",
            "(`benchmarks/onnxruntime_range.py`, part of `make test-envs`).", "",
            "| engine | graph | IR version | answers |", "|---|---|--:|---|",
        ]  # fmt: skip
        write_bytes(output, ("\n".join([*head, *rows]) + "\n").encode(), force=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
