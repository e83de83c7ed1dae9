"""A graph and its card in a folder as the Hugging Face hub takes it, and, asked, uploaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.extras import extra_module
from rtserve.files import check_writable, write_bytes
from rtserve.graphs.answers import answer_windows
from rtserve.graphs.graph import Graph
from rtserve.graphs.hub_download import repository
from rtserve.measure.results import environment, load_result
from rtserve.report.hub_card import Told, hub_card

__all__ = ["push", "times_of"]

MODEL, CARD = "model.onnx", "README.md"


def push(
    graph: str | Path,
    folder: str | Path,
    *,
    bench: Sequence[str | Path] = (),
    title: str = "",
    licence: str = "",
    use: str = "",
    upload: str = "",
    private: bool = False,
    force: bool = False,
) -> dict[str, Any]:
    """Write a graph and its card into a folder; upload both where `upload` names a model of the hub.

    Parameters
    ----------
    graph : path
        The graph (.onnx).
    folder : path
        Gets ``model.onnx`` and ``README.md``; made where it is not there.
    bench : sequence of path
        Results of `rtserve bench -o` that timed exactly this graph.
    title, licence, use : str
        What the card says and no file knows: its heading, the licence as the hub spells it, what it is meant for.
    upload : str
        ``"ORG/NAME"``.
    private : bool
        Whether a model that is new there is private.
    force : bool
        Replace files in the folder, and a model that the hub has already.

    Returns
    -------
    dict
        ``folder``, ``files``, ``sha256`` and ``uploaded`` (its address, or empty).

    Raises
    ------
    InputError
        Where a file cannot be read or written, a result timed another graph, or the hub refuses.
    ParityError
        Where the graph does not answer here what it carries as its reference answers.
    EnvironmentMissingError
        Where it is to be uploaded and huggingface_hub is not installed.
    """
    name = _named(upload) if upload else ""
    hub = extra_module("huggingface_hub", title="huggingface_hub", extra="hub") if upload else None
    folder = Path(folder)
    loaded = Graph.load(graph)
    for file in (MODEL, CARD):
        check_writable(folder / file, force=force)
    told = Told(
        title=title, licence=licence, use=use, parity=_compared(loaded),
        times=tuple(one for path in bench for one in times_of(path, loaded)),
    )  # fmt: skip
    card = hub_card(loaded, told)
    write_bytes(folder / MODEL, loaded.to_bytes(), force=force)
    write_bytes(folder / CARD, card.encode(), force=force)
    uploaded = _upload(hub, name, folder, private=private, force=force) if hub is not None else ""
    return {"folder": str(folder), "files": [MODEL, CARD], "sha256": loaded.digest, "uploaded": uploaded}


def _named(upload: str) -> str:
    name, revision = repository(upload)
    if revision is not None:
        raise InputError(f"{upload!r} names a revision, which an upload makes itself", hint=f"--upload {name}")
    return name


def _compared(graph: Graph) -> str:
    """Ask the graph for its reference answers in onnxruntime, and say how near they are; raise where they are not."""
    from rtserve.graphs.parity import ParityReport
    from rtserve.graphs.runners import OnnxruntimeRunner

    if graph.answers is None:
        return ""
    windows = answer_windows(graph.input_spec, size=graph.answers.size)
    case = graph.answers.compare(OnnxruntimeRunner(graph).infer(windows), "reference windows")
    report = ParityReport(cases=(case,), subject="onnxruntime on the graph", reference="its reference answers")
    report.require(hint="the file was edited, or onnxruntime is wrong here; make the graph again")
    here = environment()
    return (
        f"Here ({here['cpu']}, onnxruntime {here['versions'].get('onnxruntime', 'of an unknown version')}) it was asked"
        f" for the {len(graph.answers.values)} reference answers that travel in it: {report.summary()}."
    )


def times_of(path: str | Path, graph: Graph) -> list[Mapping[str, Any]]:
    """Return what a result of `rtserve bench` says of exactly this graph: a row for each engine that ran it.

    Raises
    ------
    InputError
        Where the file is no such result, or timed other graphs alone.
    """
    result = load_result(path, "bench")
    found = [one for one in result["contenders"] if one["digest"] == graph.digest and one.get("loop", 1) == 1]
    if not found:
        timed = ", ".join(f"{one['name']} {one['digest'][:12]}" for one in result["contenders"])
        raise InputError(f"{path} timed {timed}, not {graph.digest[:12]}", hint="rtserve bench GRAPH -o RESULT.json")
    where = result["environment"]
    kept = ("rtserve", "onnxruntime", "openvino", "torch")
    versions = ", ".join(f"{name} {where['versions'][name]}" for name in kept if name in where["versions"])
    shared = {"batch": result["batch"], "threads": result["threads"], "cpu": where["cpu"], "versions": versions}
    return [
        {"engine": one["engine"], "latency_us": one["latency_us"], "notes": [*one["unstable"], *result["notes"]]}
        | shared
        for one in found
    ]


def _upload(hub: Any, name: str, folder: Path, *, private: bool, force: bool) -> str:
    """Upload the two files, and nothing else that lies in the folder; return the address."""
    try:
        api = hub.HfApi()
        there = bool(api.repo_exists(name))
        if not (there and not force):
            api.create_repo(name, private=private, exist_ok=force)
            api.upload_folder(
                repo_id=name,
                folder_path=str(folder),
                allow_patterns=[MODEL, CARD],
                commit_message="A graph and its card",
            )
    except Exception as error:  # of huggingface_hub or its transport
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(
            f"{name} could not be uploaded: {reason}",
            hint=f"the files are in {folder}; `hf auth login` gives this machine the right to write",
        ) from None
    if there and not force:
        raise InputError(
            f"the hub has a model {name} already; the files are in {folder}",
            hint="another name, or --force to replace it",
        )
    return f"https://huggingface.co/{name}"
