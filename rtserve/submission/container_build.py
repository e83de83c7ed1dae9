"""`contained`: the files of a container that answers a contest of recordings, and proof that it answers as its graph does.

The network travels as the step of a stream where windows share work, else as the graph of a window. What reads, mixes,
resamples and writes is `rtserve.submission.detector`, copied as it is; all numbers are in ``model/detector.json``.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import rtserve
from rtserve.errors import BundleError, InputError, ParityError
from rtserve.submission.archive import unpack
from rtserve.submission.container_drills import SHORT, edf_bytes, planted
from rtserve.submission.container_settings import detector_settings, events_for, hop_of

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph
    from rtserve.graphs.parity import ParityReport
    from rtserve.submission.container_parts import Container
    from rtserve.submission.profile import Profile

__all__ = ["DETECTOR", "MODEL", "RECORDING", "TABLE", "Contained", "contained", "derived_container", "detector_files"]

MODEL, DETECTOR = "model", "detector"
RECORDING, TABLE = "reference/recording.edf", "reference/table.tsv"
COMPARED = 8
"""Windows of the reference recording whose answers are held against the graph in float64."""
HOUR_S = 3600.0
PLAIN = "torch"
"""A layout in which a graph is still a network along time, as a stream has to find it."""


@dataclass(frozen=True, kw_only=True)
class Contained:
    """A container's files and what was found of them.

    Parameters
    ----------
    graph : Graph
        Of a window.
    files : dict of str to bytes
        By name in the zip.
    entry : dict
        What the manifest says of it, besides what it says of every graph.
    route : str
        ``"stream"`` or ``"windows"``.
    parity : ParityReport
        The detector's answers beside the graph's in float64.
    us_per_window : float
        Of the route, one thread, over an hour of recording.
    """

    graph: Graph
    files: dict[str, bytes]
    entry: dict[str, Any]
    route: str
    parity: ParityReport
    us_per_window: float


def contained(
    laid_out: Callable[[str], Graph], profile: Profile, key: str, *, name: str, events: dict[str, Any], layout: str
) -> Contained:
    """Return the container of a graph.

    Parameters
    ----------
    laid_out : callable
        Gives the graph of a window, its unit and rate stated, as an engine likes it.
    profile, key : Profile, str
        The contest and its challenge.
    name : str
        Stem of the network's files.
    events : dict
        What the recipe says of events.
    layout : str
        Engine that the graph is laid out for where it does not become a stream.

    Raises
    ------
    RtserveError
        Where the graph cannot be had from the contest's recordings, or the detector's answers are not the graph's.
    """
    assert profile.container is not None
    chosen = events_for(profile.container, events, f"events of challenge {key}")
    graph = laid_out(PLAIN)
    hop = hop_of(chosen, graph.input_spec)
    step, why = _step(graph, hop)
    graph = graph if step else laid_out(layout)
    window, network = f"{MODEL}/{name}.onnx", f"{name}.step.onnx" if step else f"{name}.onnx"
    settings = detector_settings(graph, profile.container, chosen, network=network)
    drill = planted(profile.container.recordings, profile.signal_of(key), SHORT)
    files = {window: graph.to_bytes(), f"{MODEL}/detector.json": _json(settings), RECORDING: edf_bytes(drill)}
    files |= {f"{MODEL}/{network}": step} if step else {}
    files |= detector_files(profile, graph)
    route = "stream" if step else "windows"
    parity, files[TABLE] = _tried(files, graph, settings, f"challenge {key} by {route}")
    entry = {
        "graph": window,
        "container": {
            "route": route, "why": why, "network": f"{MODEL}/{network}", "hop": hop,
            "events": settings["events"], "recording": RECORDING, "table": TABLE,
        },
    }  # fmt: skip
    us = _us_per_window(files[f"{MODEL}/{network}"], graph, hop)
    return Contained(graph=graph, files=files, entry=entry, route=route, parity=parity, us_per_window=us)


def _step(graph: Graph, hop: int) -> tuple[bytes, str]:
    """Return the step of a graph for every `hop` samples, or nothing and why the window's graph is what runs."""
    from rtserve.streaming.build import stream

    try:
        return stream(graph, hop=hop)[0].to_bytes(), ""
    except (InputError, ParityError) as error:
        return b"", error.message


def detector_files(profile: Profile, graph: Graph) -> dict[str, bytes]:
    """Return what follows from the profile and this version alone: Dockerfile, requirements, the detector's own code."""
    from rtserve.submission.manifest import rendered

    assert profile.container is not None
    packages = profile.primary.packages
    folder = Path(__file__).parent / DETECTOR
    found = {f"{DETECTOR}/{file.name}": file.read_bytes() for file in sorted(folder.glob("*.py"))}
    pins = "".join(f"{package}=={version}\n" for package, version in sorted(packages.items()))
    container: Container = profile.container
    text = rendered(
        profile,
        title=profile.title,
        version=rtserve.__version__,
        summary=f"Windows of {graph.input_spec}; what is in here is listed in manifest.json.",
        python=profile.primary.python,
        folder=profile.layout.submission,
        data=container.data,
        output=container.output,
        input_variable=container.input_variable,
        output_variable=container.output_variable,
    )
    return found | {"requirements.txt": pins.encode(), profile.entry.file: text.encode()}


def derived_container(files: dict[str, bytes], manifest: dict[str, Any], profile: Profile) -> list[str]:
    """Return what in a container's zip does not follow from its graph, its profile and this version of rtserve."""
    from rtserve.graphs.graph import Graph

    if manifest["rtserve"] != rtserve.__version__:
        return []  # another version writes another detector; the digests stand for it
    found = []
    for key, entry in manifest["challenges"].items():
        graph, made = Graph.from_bytes(files[entry["graph"]], name=entry["graph"]), entry["container"]
        for name, data in detector_files(profile, graph).items():
            if files.get(name) != data:
                found.append(f"{name}: is not what rtserve {rtserve.__version__} writes for this contest")
        if made["network"] != entry["graph"] and _window_of(files[made["network"]]) != graph.digest:
            found.append(f"{made['network']}: is not the step of {entry['graph']}")
        settings = json.loads(files[f"{MODEL}/detector.json"])
        told = {"events": made["events"], "hop": made["hop"], "network": Path(made["network"]).name}
        found += [
            f"{MODEL}/detector.json: {name} is {settings[name]}, the manifest says {value}"
            for name, value in told.items()
            if settings[name] != value
        ]
        _, table = _tried(files, graph, settings, f"challenge {key} by {made['route']}")
        if table != files[TABLE]:
            found.append(f"{TABLE}: is not what the detector writes for {RECORDING}")
    return found


def _window_of(data: bytes) -> str:
    """Return the digest of the window's graph that a step says it is of."""
    from rtserve.streaming.step_graph import StepGraph

    with tempfile.TemporaryDirectory(prefix="rtserve-") as folder:
        path = Path(folder) / "step.onnx"
        path.write_bytes(data)
        return str(StepGraph.load(path).provenance.details.get("window", ""))


def _json(value: Any) -> bytes:
    # As they come: the order of a table's columns is the contest's.
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _tried(files: dict[str, bytes], graph: Graph, settings: dict[str, Any], subject: str) -> tuple[ParityReport, bytes]:
    """Run the detector's own code on the reference recording; return its answers beside the graph's, and its table."""
    from rtserve.graphs.parity import ParityReport
    from rtserve.graphs.witness import hear
    from rtserve.submission.detector.__main__ import main
    from rtserve.submission.detector.network import answers, window_starts
    from rtserve.submission.detector.recording import open_edf
    from rtserve.submission.detector.samples import samples_for

    with tempfile.TemporaryDirectory(prefix="rtserve-") as temporary:
        folder = Path(temporary)
        unpack(files, folder)
        source, model, target = str(folder / RECORDING), folder / MODEL, folder / "table"
        x, _ = samples_for(open_edf(source), settings["samples"])
        n_times, hop = settings["n_times"], settings["hop"]
        y = answers(str(model / settings["network"]), x, n_times=n_times, hop=hop)
        said = io.StringIO()
        with contextlib.redirect_stderr(said):
            code = main(source, str(target), model)
        lines = said.getvalue().splitlines()
        if code or any(line.startswith("error: ") for line in lines):
            raise BundleError(f"the detector fails on its own reference recording: {lines[-1]}", hint="see the message")
        table = target.read_bytes()
    starts = window_starts(x.shape[1], n_times, hop)
    asked = np.unique(np.linspace(0, len(starts) - 1, COMPARED).astype(int))
    windows = np.stack([x[:, starts[k] : starts[k] + n_times] for k in asked])
    (answer,) = hear(graph, [("the reference recording", windows)]).answers
    report = ParityReport(cases=(answer.compare(y[asked]),), subject=subject, reference="the graph in float64")
    return report.require(hint="this is a defect of rtserve"), table


def _us_per_window(network: bytes, graph: Graph, hop: int) -> float:
    """Return what a window costs, one thread, by the detector's own loop over an hour of noise."""
    from rtserve.submission.detector.network import answers, window_starts

    spec = graph.input_spec
    n = int(HOUR_S * spec.sfreq)
    x = np.random.default_rng(0).standard_normal((spec.n_chans, n), dtype=np.float32)
    with tempfile.TemporaryDirectory(prefix="rtserve-") as folder:
        path = Path(folder) / "network.onnx"
        path.write_bytes(network)
        begun = time.perf_counter()
        answers(str(path), x, n_times=spec.n_times, hop=hop)
        return 1e6 * (time.perf_counter() - begun) / len(window_starts(n, spec.n_times, hop))
