"""Export: a checkpoint and its exporter to a `Graph` that answers as the network does.

The torch exporter runs in a child process under a timeout. What comes back is folded, named and versioned by our own
rules, must have a symbolic batch, and is compared with the network in float64 before anybody gets to see it.
"""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve import errors
from rtserve.errors import ExportError, InputError
from rtserve.files import sha256_file
from rtserve.graphs.checkpoint import checkpoint_digest
from rtserve.graphs.exporter import exporter_file
from rtserve.graphs.foreign import checkpoint_file
from rtserve.graphs.hub import HubModel, hub_model, is_hub
from rtserve.graphs.meaning import listed
from rtserve.graphs.proof import NO_NUMBER, proven
from rtserve.graphs.warm import run_child
from rtserve.spec import TRAINED_ON, Provenance

if TYPE_CHECKING:
    from torch import nn

    from rtserve.graphs.graph import Graph
    from rtserve.graphs.parity import ParityReport

__all__ = ["Child", "export", "export_module", "export_with_report", "hint_of"]

REWRITE = (
    "write that part of forward otherwise: torch.where instead of a branch on values, none on the size of the batch; or give"
    " a module that wraps it"
)
"""What helps where torch cannot export a module, or fixes its batch: there is no exporter that could have a quirk."""
HUB_EXPORTER = "rtserve.graphs.hub_network:exporter"
"""The exporter of a model of the hub where none is named."""
Child = Callable[[Path, float], tuple[int, str]]
"""Runs the export that ``job.json`` in a folder describes within some seconds, as `rtserve.graphs.warm.run_child`."""


def export(
    source: nn.Module | str | Path | None,
    example: Any = None,
    *,
    exporter: str = "",
    settings: Mapping[str, Any] | None = None,
    timeout_s: float = 600.0,
    seed: int = 0,
    weights: str = "",
    network: str = "",
    stated: Mapping[str, Any] | None = None,
    unit: str | None = None,
    sfreq: float = 0.0,
    ch_names: Sequence[str] = (),
    target: str = "",
    classes: Sequence[str] = (),
    form: str = "",
) -> Graph:
    """Export a module, or a checkpoint, to a graph that is proven equal to its network.

    Parameters
    ----------
    source : torch.nn.Module, path or None
        A trained module, (batch, n_chans, n_times) to (batch, n_outputs): it is exported in this process, from a copy in
        evaluation mode, and stays as it is. Or a .pth/.pt file, exported in a process of its own; ``"hf:ORG/NAME"`` or
        a folder with config.json and model.safetensors as braindecode writes them, which needs no exporter; None exports
        the network as its exporter initialises it with `seed`.
    example : array, tensor, InputSpec, WindowSet or mne.Epochs
        Of a module: windows (batch, n_chans, n_times) that it takes. Only their size matters, and channel names and rate
        where they have some.
    exporter : str
        Of a checkpoint: reference of its exporter, e.g. ``"exporters/compact_rt.py"``.
    settings : mapping, optional
        What ``--set`` gives: keyword arguments for the exporter.
    timeout_s : float
        Seconds the process of a checkpoint's export may take.
    seed : int
        Seed of the initialiser where there is no checkpoint.
    weights : str
        Which set of weights to take where the checkpoint has several; see `rtserve.graphs.checkpoint.load_checkpoint`.
    network : str
        Of a model of the hub: its class in braindecode.models, where the card beside config.json does not name it.
    stated : mapping, optional
        The following six in one.
    unit, sfreq, ch_names, target, classes, form : str, float, sequence of str, str, sequence of str, str
        What neither module nor exporter nor checkpoint says: unit of the windows that the network takes (``"V"``,
        ``"mV"``, ``"uV"``, ``"1"`` for standardised), their rate in Hz and channels; what the answers are, the names of
        the classes in order, and whether they are ``"logits"`` or ``"probabilities"``. What nobody says stays unknown.

    Returns
    -------
    Graph
        With a symbolic batch, opset 20, IR version 9.

    Raises
    ------
    CheckpointError, InputError
        Where the module, the checkpoint or the exporter reference is wrong.
    ExportError
        Where the network draws at random or keeps state, the torch exporter fails or hangs, or it gives a static batch.
    ParityError
        Where the graph's answers differ from the network's.
    """
    own = {"unit": unit, "sfreq": _rate(sfreq), "ch_names": list(listed(ch_names)), "target": target, "form": form,
           "classes": list(listed(classes))}  # fmt: skip
    said = dict(stated or {}) | {key: value for key, value in own.items() if value}
    if source is None or isinstance(source, str | Path):
        _require_exporter(source, example, exporter)
        graph, report, _ = export_with_report(
            source, exporter=exporter, settings=settings, timeout_s=timeout_s, seed=seed, weights=weights,
            network=network, stated=said,
        )  # fmt: skip
    else:
        _require_module(source, settings or exporter or weights or network)
        try:
            graph, report, _ = export_module(source, example, said)
        except ExportError as error:
            raise ExportError(error.message, hint=REWRITE if "exporter" in error.hint else error.hint) from error
    report.require(hint=hint_of(report))
    return graph


def _rate(sfreq: Any) -> float:
    try:
        return float(sfreq or 0.0)
    except (TypeError, ValueError):
        raise InputError(f"sfreq {sfreq!r:.40} is no number", hint="give the rate in Hz: sfreq=250") from None


def _require_exporter(source: str | Path | None, example: Any, exporter: str) -> None:
    """Raise `InputError` where a checkpoint comes without what builds its network, or with what only a module needs."""
    if not (exporter or (source is not None and is_hub(source))):
        raise InputError(
            f"{source or 'None'} has no network in it, and no exporter is named",
            hint='exporter="exporters/compact_rt.py", or your own; a module that you hold: rtserve.export(module, example)',
        )
    if example is not None:
        raise InputError("an exporter says itself what windows its network takes", hint="leave the example out")


def _require_module(source: Any, more: Any) -> None:
    """Raise `InputError` where what shall be exported is no module, saying what it rather is."""
    bases = {base.__module__.partition(".")[0] + "." + base.__name__ for base in type(source).__mro__}
    if isinstance(source, Mapping):
        raise InputError(
            f"a {type(source).__name__} of {len(source)} entries holds weights (a state_dict), and no network",
            hint="module.load_state_dict(weights); rtserve.export(module, example)",
        )
    if "torch.Module" not in bases and not hasattr(source, "module_") and not isinstance(source, type):
        raise InputError(
            f"a {type(source).__name__} is no torch module and no path of a checkpoint",
            hint="rtserve.export(module, example), or rtserve.export('seed42.pth', exporter='exporters/compact_rt.py')",
        )
    if more:
        raise InputError("exporter, settings and weights are of a checkpoint", hint="leave them out with a module")


def hint_of(report: ParityReport) -> str:
    """Return what helps where a graph differs from its network, or where the network itself answers no number."""
    if any(case.name.endswith(NO_NUMBER) for case in report.cases):
        return (
            "a logarithm of 0 or a division by a standard deviation of 0, most often: give it a floor (eps), or scale"
            " what the network is given; nothing was written"
        )
    return "the network may need a quirk in its exporter, see exporters/README.md; nothing was written"


def export_with_report(
    checkpoint: str | Path | None,
    *,
    exporter: str,
    settings: Mapping[str, Any] | None = None,
    timeout_s: float = 600.0,
    seed: int = 0,
    weights: str = "",
    network: str = "",
    stated: Mapping[str, Any] | None = None,
    child: Child | None = None,
) -> tuple[Graph, ParityReport, dict[str, Any]]:
    """Export as `export` does, and return the graph, its parity report and the child's facts, passed or not.

    `child` runs the job of a folder, isolated or trusted: it may load what runs code (`FileExporter`); by default a
    process of its own does it, which may not.
    """
    hub = hub_model(checkpoint) if checkpoint is not None and is_hub(checkpoint) else None
    _require_network_of_hub(network, hub)
    if checkpoint is not None:
        checkpoint = hub.weights if hub else checkpoint_file(checkpoint)
    exporter = exporter or (HUB_EXPORTER if hub else "")
    file = exporter_file(exporter)
    job = {
        # A hub's snapshot links to files without a name, and an index is known by its own.
        "checkpoint": str(checkpoint.absolute() if hub else checkpoint.resolve()) if checkpoint else "",
        "exporter": exporter,
        "exporter_name": exporter,
        "settings": dict(settings or {}),
        "seed": seed,
        "weights": weights,
        "stated": dict(stated or {}),
        "isolated": child is not None,
    }
    if hub is not None:
        told = {"arguments": dict(hub.arguments), "tags": list(hub.tags), "network": network}
        job["hub"] = told | {"braindecode": hub.provenance["braindecode"]}
    origin = {"hub": dict(hub.provenance)} if hub else {}

    def provenance(facts: dict[str, Any]) -> Provenance:
        found = _provenance(job, facts, checkpoint, file)
        return Provenance(kind=found.kind, details=found.details | origin)

    return _proven(job, timeout_s, child or run_child, provenance)


def _require_network_of_hub(network: str, hub: HubModel | None) -> None:
    """Raise `InputError` where the class of a network is named for what is no model of the hub."""
    if network and hub is None:
        raise InputError(
            f"--network {network} is of a model of the hub (a folder with config.json, or hf:ORG/NAME)",
            hint=f"of a checkpoint, --exporter names it: exporters/braindecode_models.py:{network}",
        )


def export_module(
    module: nn.Module, example: Any, stated: Mapping[str, Any]
) -> tuple[Graph, ParityReport, dict[str, Any]]:
    """Export a module that the caller holds, in this process; returns and raises as `export_with_report`."""
    from rtserve.graphs.module import prepared, run_here

    subject = prepared(module, example, stated)
    job: dict[str, Any] = {
        "checkpoint": "",
        "exporter": "",
        "exporter_name": subject.name,
        "settings": {},
        "seed": None,
        "weights": "",
    }
    held = {"module": {"name": subject.name, "sha256": subject.digest}}

    def provenance(facts: dict[str, Any]) -> Provenance:
        details = _provenance(job, facts, None, None).details
        return Provenance(kind="export", details=details | held | {"exporter": None})

    return _proven(job | {"stated": dict(stated)}, 0.0, lambda folder, _: run_here(subject, folder), provenance)


def _proven(
    job: dict[str, Any], timeout_s: float, child: Child, provenance: Callable[[dict[str, Any]], Provenance]
) -> tuple[Graph, ParityReport, dict[str, Any]]:
    """Let `child` do the job, and return the finished graph, compared with the answers that the child found."""
    with tempfile.TemporaryDirectory(prefix="rtserve-export-") as name:
        folder = Path(name)
        facts = _run_child(folder, job, timeout_s, child)
        graph, report = proven(folder, facts, provenance(facts))
    return graph, report, facts


def _run_child(folder: Path, job: dict[str, Any], timeout_s: float, child: Child) -> dict[str, Any]:
    """Run the child; return its facts or raise the error it reports."""
    (folder / "job.json").write_text(json.dumps(job), "utf-8")
    try:
        code, said = child(folder, timeout_s)
    except subprocess.TimeoutExpired:
        raise ExportError(
            f"the export took longer than {timeout_s:g} s and was stopped",
            hint="raise --timeout, or look at the network",
        ) from None
    result_path = folder / "result.json"
    if not result_path.exists():
        last = [line for line in said.splitlines() if line.strip()][-1:] or ["no message"]
        died = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit {code}"
        raise ExportError(f"the export process died ({died}): {last[0][:300]}", hint="is the exporter file right?")
    result: dict[str, Any] = json.loads(result_path.read_text("utf-8"))
    if "error" in result:
        kind = getattr(errors, result["error"]["type"], ExportError)
        raise kind(result["error"]["message"], hint=result["error"]["hint"])
    return result


def _provenance(job: dict[str, Any], facts: dict[str, Any], checkpoint: Path | None, file: Path | None) -> Provenance:
    """Record what the graph was made of: digests and names, no paths and no times."""
    name = job["exporter"]
    if file is not None:
        name = f"{file.resolve().parent.name}/{file.name}" + job["exporter"].partition(".py")[2]
    details = {
        "checkpoint": {"name": checkpoint.name, "sha256": checkpoint_digest(checkpoint)} if checkpoint else None,
        "exporter": name,
        "exporter_sha256": sha256_file(file) if file else None,
        "settings": job["settings"],
        "seed": None if checkpoint else job["seed"],
    }
    kept = (
        "network",
        "n_parameters",
        "architecture",
        "quirks",
        "torch",
        *([TRAINED_ON] if facts.get(TRAINED_ON) else []),
    )
    chosen = {"weights": job["weights"]} if job["weights"] else {}
    told = {key: facts[key] for key in ("left_out", "training", "coupled") if facts.get(key)}
    return Provenance(kind="export", details=details | chosen | told | {key: facts[key] for key in kept})
