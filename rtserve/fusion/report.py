"""A fusion as the command line does it: check the output first, write only what passed, report what was done."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.files import check_writable, write_bytes
from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.plan import Calibration, Merge, parse_clip

__all__ = ["fuse_text", "fuse_to_file"]


def fuse_to_file(
    members: Sequence[Path],
    output: Path,
    *,
    views: str = "identity",
    merge: str = "mean",
    average: str | None = None,
    scale: float = 1.0,
    offset: float = 0.0,
    clip: str | None = None,
    passes: str | None = None,
    no_optimize: bool = False,
    engine: str = "onnxruntime",
    tune: bool = False,
    force_views: bool = False,
    force: bool = False,
    stated: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fuse to a file and return the report as JSON values; nothing is written unless parity holds.

    With `tune`, the candidates' timings go into ``OUTPUT.tuning.json`` beside the graph.

    Raises
    ------
    RtserveError
        As `rtserve.fusion.fuse.fuse`, and where `output` may not be written.
    """
    check_writable(output, force=force)
    if any(output.resolve() == Path(m).resolve() for m in members):
        raise InputError(f"output {output} is one of the members", hint="choose another name")
    low, high = parse_clip(clip)
    graph, report, parity = fuse_with_report(
        members,
        views=views,
        merge=merge,
        average=average or "",
        calibration=Calibration(scale=scale, offset=offset, low=low, high=high),
        optimize=not no_optimize,
        passes=[name.strip() for name in passes.split(",") if name.strip()] if passes else None,
        engine=engine,
        tune=tune,
        force=force_views,
        stated=stated,
    )
    graph.save(output, force=force)
    if report.timings:
        text = json.dumps(report.timings, indent=2) + "\n"
        write_bytes(output.with_suffix(".tuning.json"), text.encode(), force=True)
    details = graph.provenance.details
    names = dict(zip(details["plan"]["members"], report.members, strict=True))
    return {
        "output": str(output),
        "sha256": graph.digest,
        "bytes": output.stat().st_size,
        "members": len(members),
        "architectures": _architectures(details["members"]),
        "views": [view["name"] for view in details["plan"]["views"]],
        "merge": details["plan"]["merge"],
        "member_names": list(report.members),
        "removed": [entry | {"member_name": report.members[entry["member"]]} for entry in details["removed"]],
        "assumed": [entry | {"member_name": names[entry["member"]]} for entry in details.get("assumed", [])],
        "stated": details.get("stated", {}),
        "input": str(graph.input_spec),
        "output_spec": str(graph.output_spec),
        "passes": [dataclasses.asdict(outcome) for outcome in report.outcomes],
        "macs": {"before": report.macs_before, "after": report.macs_after},
        "uncounted": report.uncounted,
        "nodes": {"before": report.nodes_before, "after": report.nodes_after},
        "parity": parity.to_dict() | {"summary": parity.summary()} if parity else None,
        "coupled": graph.output_spec.coupled,
        "laid_out": report.laid_out if isinstance(report.laid_out, str) else report.laid_out.summary(),
        "explain": report.explain(),
        "timings": report.timings or {},
        "stages": graph.stages.to_dict() if graph.stages is not None else None,
    }


def _architectures(members: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the kinds of network among the members, with their parameter counts and how many of each there are."""
    found: dict[str, dict[str, Any]] = {}
    for member in members:
        told = member["provenance"]["details"]
        network, size = told.get("network", member["provenance"]["kind"]), told.get("n_parameters")
        entry = {"network": network, "n_parameters": size, "architecture": told.get("architecture"), "members": 0}
        found.setdefault(str(list(entry.values())), entry)["members"] += 1
    return list(found.values())


def _architecture_lines(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say what is fused, and ask where one network comes in two sizes: one of them may be a mistake."""
    texts = [
        f"{a['members']} x {a['network']}" + (f" ({a['n_parameters']:,} parameters)" if a["n_parameters"] else "")
        for a in found
    ]
    names = [a["network"] for a in found if a["architecture"]]
    twice = sorted({name for name in names if names.count(name) > 1})
    notes = [f"  note    {name} comes in {names.count(name)} architectures: is one a mistake?" for name in twice]
    return [f"  members {', '.join(texts)}", *notes]


def _assumed_lines(assumed: Sequence[Mapping[str, str]], stated: Mapping[str, Any]) -> list[str]:
    """Say what a member leaves open and was taken as the other members, or the command, state it."""
    found = []
    for one in assumed:
        values = {key: value for key, value in one.items() if not key.startswith("member")}
        for said, source in ((False, "as the other members"), (True, "as the command states it")):
            words = ", ".join(f"{key} {value}" for key, value in values.items() if (key in stated) is said)
            if words:
                found.append(f"  assumed {words} of {one['member_name']}, which does not state it: {source}")
    return found


def fuse_text(report: dict[str, Any], *, explain: bool) -> str:
    """Return the report as a few lines for a person."""
    removed = [
        f"  removed branch {r['branch']} ({r['member_name']}, {r['view']}): {r['why']}" for r in report["removed"]
    ]
    macs, nodes = report["macs"], report["nodes"]
    work = f"{macs['before'] / 1e6:.2f} M -> {macs['after'] / 1e6:.2f} M multiply-adds per window"
    work = f"not counted: the shapes at {report['uncounted']} are not known" if report["uncounted"] else work
    return "\n".join(
        [
            f"{report['output']}  {report['members']} member{'s' * (report['members'] > 1)} x {len(report['views'])}"
            f" view{'s' * (len(report['views']) > 1)}, {Merge(**report['merge'])}, {report['bytes']:,} bytes",
            f"  input   {report['input']}; output {report['output_spec']}",
            *_architecture_lines(report["architectures"]),
            *_assumed_lines(report["assumed"], report["stated"]),
            *removed,
            *(f"  {line}" for line in (report["explain"].splitlines()[:-1] if explain else ())),
            f"  work    {work}, {nodes['before']} -> {nodes['after']} nodes",
            f"  parity  {report['parity']['summary'] if report['parity'] else 'not checked'}",
            *([f"          {report['laid_out']}"] if report["laid_out"] else []),
            f"  sha256  {report['sha256']}",
        ]
    )
