"""The table of all attempts: version, architecture, metric with signature, against the baseline, cause, verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rtserve.measure.metrics import METRICS
from rtserve.measure.sides import Claim, Side, read_side
from rtserve.measure.statistics import Units, interval
from rtserve.report.collect import Document
from rtserve.report.page import Section, Table

__all__ = ["attempts_section"]


def attempts_section(
    sides: Sequence[Side], evaluations: Sequence[Document], causes: Mapping[str, str]
) -> Section | None:
    """Return the table of attempts: every run and checkpoint, and every scored graph; None where there is none.

    Parameters
    ----------
    sides : sequence of Side
        Runs, checkpoints, zips.
    evaluations : sequence of (str, dict)
        Scored graphs.
    causes : mapping of str to str
        What was found to be the cause, by name; it goes before what the run itself says.
    """
    rows = [_side_row(one, causes) for side in sides for one in _with_seeds(side)]
    rows += [_evaluation_row(name, document, causes) for name, document in evaluations]
    if not rows:
        return None
    known = {str(row["version"]).partition(" (")[0] for row in rows}
    unknown = [f"cause given for {name!r}, which is not in this report" for name in causes if name not in known]
    return Section(title="Attempts", tables=(Table.of(rows),), notes=tuple(unknown))


def _with_seeds(side: Side) -> list[Side]:
    """Return a run's seeds before the run itself, whose numbers are those of the mean of their predictions."""
    folders = sorted(side.path.glob("seed*/best.pth")) if side.kind == "run" else []
    return [*(read_side(file.parent) for file in folders), side] if len(folders) > 1 else [side]


def _side_row(side: Side, causes: Mapping[str, str]) -> dict[str, Any]:
    claim = _merged_claim(side) or _headline(side.claims)
    against = claim.value - 1.0 if claim and claim.signature and claim.signature.metric == "nrmse" else None
    mean = f" ({side.settings['seeds'].partition(':')[0]})" if "seeds" in side.settings else ""
    return {
        "version": side.name + mean,
        "value": claim.value if claim else None,
        "against the constant": f"{against:+.4f}" if against is not None else None,
        "verdict": _verdict(claim, _interval(side)),
        "cause": causes.get(side.name) or _own_cause(side),
        "architecture": _architecture(side),
        "metric": str(claim.signature or f"{claim.name} (no signature)") if claim else None,
    }


def _architecture(side: Side) -> str:
    named = side.settings.get("settings.model") or side.settings.get("network", "")
    counted = f"{side.parameters:,} parameters" if side.parameters else ""
    return ", ".join(text for text in (named, counted, side.architecture[:24]) if text)


def _merged_claim(side: Side) -> Claim | None:
    """Return the NRMSE of the predictions a run stores: of the mean, where it has several seeds."""
    stated = next((c.signature for c in side.claims if c.signature and c.signature.metric == "nrmse"), None)
    if side.raw is None or stated is None:
        return None
    metric = METRICS["nrmse"]
    signature = metric.signature(n=len(side.raw.targets), data=side.raw.data, split=stated.split)
    return Claim(name="nrmse", value=metric(side.raw.targets, side.raw.predictions), signature=signature)


def _evaluation_row(name: str, document: Mapping[str, Any], causes: Mapping[str, str]) -> dict[str, Any]:
    score, constant = document["scores"][0], document["baseline"][0]
    against = score["value"] - constant["value"] if constant else None
    ends = score["interval"]
    claim = Claim.of(score)
    parameters = f", {document['parameters']:,} parameters" if document.get("parameters") else ""
    return {
        "version": name,
        "value": score["value"],
        "against the constant": f"{against:+.4f}" if against is not None else None,
        "verdict": _verdict(claim, (ends["low"], ends["high"]) if ends else None),
        "cause": causes.get(name),
        "architecture": f"graph {document['graph_sha256'][:12]}{parameters}" if document["graph_sha256"] else None,
        "metric": score["signature"],
    }


def _headline(claims: Sequence[Claim]) -> Claim | None:
    """Return the number to show: a signed NRMSE, else a signed one, else any."""
    signed = [c for c in claims if c.signature]
    nrmse = [c for c in signed if c.signature and c.signature.metric == "nrmse"]
    return next(iter([*nrmse, *signed, *claims]), None)


def _own_cause(side: Side) -> str:
    """Return what a run says of itself: leaks, and what stopped it."""
    said = [f"leaks: {side.settings['leaks']}" if "leaks" in side.settings else "", side.settings.get("outcome", "")]
    return "; ".join(text for text in said if text)


def _interval(side: Side) -> tuple[float, float] | None:
    if side.raw is None:
        return None
    units = Units.of(side.raw.subject, len(side.raw.targets))
    ends = interval(METRICS["nrmse"], side.raw.targets, side.raw.predictions, units)
    return (ends.low, ends.high) if ends else None


def _verdict(claim: Claim | None, ends: tuple[float, float] | None) -> str:
    """Return what the number shows: never more than its signature and interval allow."""
    if claim is None:
        return "states no number"
    if claim.signature is None:
        return "no signature: cannot be placed; score it again"
    if claim.signature.metric != "nrmse" or ("norm", "std") not in claim.signature.options:
        return "see the constant beside it"
    low, high = ends if ends else (claim.value - 0.005, claim.value + 0.005)
    how = "" if ends else " (no interval)"
    if high < 1.0:
        return f"better than the constant{how}"
    if low > 1.0:
        return f"worse than the constant{how}"
    return f"not told apart from the constant{how}"
