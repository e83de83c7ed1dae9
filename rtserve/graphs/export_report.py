"""An export as the command line does it: check the output first, write only what passed, report what was done."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rtserve.files import check_writable
from rtserve.graphs.export import Child, export_with_report, hint_of

__all__ = ["export_text", "export_to_file"]


def export_to_file(
    checkpoint: Path,
    output: Path,
    *,
    exporter: str,
    settings: Mapping[str, Any],
    timeout_s: float = 600.0,
    weights: str = "",
    network: str = "",
    stated: Mapping[str, Any] | None = None,
    child: Child | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Export to a file and return the report as JSON values; nothing is written unless parity holds.

    Raises
    ------
    RtserveError
        As `rtserve.graphs.export.export`, and where `output` may not be written.
    """
    check_writable(output, force=force)
    graph, parity, facts = export_with_report(
        checkpoint,
        exporter=exporter,
        settings=settings,
        timeout_s=timeout_s,
        weights=weights,
        network=network,
        stated=stated,
        child=child,
    )
    parity.require(hint=hint_of(parity))
    graph.save(output, force=force)
    return {
        "output": str(output),
        "sha256": graph.digest,
        "network": facts["network"],
        "n_parameters": facts["n_parameters"],
        "architecture": facts["architecture"],
        "input": str(graph.input_spec),
        "output_spec": str(graph.output_spec),
        "quirks": facts["quirks"],
        "weights": facts["weights"],
        "left_out": facts["left_out"],
        "coupled": facts["coupled"],
        "scaling": facts["scaling"],
        "form": facts["form"],
        "bytes": output.stat().st_size,
        "nodes": graph.model.graph.num_nodes(),
        "parity": parity.to_dict() | {"reference": parity.reference, "summary": parity.summary()},
    }


def _left_out(keys: list[str]) -> list[str]:
    """Say which tensors of the checkpoint are not the network's."""
    if not keys:
        return []
    more = f" and {len(keys) - 8} more" if len(keys) > 8 else ""
    return [f"  left    {len(keys)} tensors out, which are not the network's: {', '.join(keys[:8])}{more}"]


def _scaling(names: list[str]) -> list[str]:
    """Say what in the checkpoint may have scaled the windows or the answers: the graph does not."""
    if not names:
        return []
    return [
        f"  beside  the weights lie {', '.join(names[:8])}: where windows or answers were scaled by them, the exporter"
        " has to do it (wrap); the graph does not"
    ]


def export_text(report: dict[str, Any]) -> str:
    """Return the report as a few lines for a person."""
    quirks = [f"  quirk   {quirk['name']}: {quirk['reason']}" for quirk in report["quirks"]]
    return "\n".join(
        [
            f"{report['output']}  {report['network']}, {report['n_parameters']:,} parameters, {report['nodes']} nodes,"
            f" {report['bytes']:,} bytes",
            f"  input   {report['input']}; output {report['output_spec']}; batch symbolic",
            *([f"  weights {report['weights']}"] if report["weights"] else []),
            *_left_out(report["left_out"]),
            *_scaling(report["scaling"]),
            *([f"  form    {report['form']}"] if report["form"] else []),
            *quirks,
            *([f"  coupled {report['coupled']}; its score is one of a batch size"] if report["coupled"] else []),
            f"  parity  {report['parity']['summary']}",
            f"  sha256  {report['sha256']}",
        ]
    )
