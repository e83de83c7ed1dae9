"""The table of all attempts: version, architecture, metric with signature, against the baseline, cause, verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.metrics import metric_of
from rtserve.measure.side_results import evaluation_raw
from rtserve.measure.side_standing import headline, side_standing, standing_in, with_seeds
from rtserve.measure.sides import Claim, Side
from rtserve.measure.signature import Interval, Score, Signature
from rtserve.measure.standing import Standing, constant_score, standing_of, together
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
    every = [one for side in sides for one in with_seeds(side)]
    found = [side_standing(one) for one in every] + [_evaluation_standing(document) for _, document in evaluations]
    judged = together(found, "attempts of this report")
    several = len(found) > 1
    rows = [_side_row(one, where, causes, several=several) for one, where in zip(every, judged, strict=False)]
    rest = judged[len(every) :]
    rows += [
        _evaluation_row(*each, where, causes, several=several) for each, where in zip(evaluations, rest, strict=True)
    ]
    if not rows:
        return None
    known = {str(row["version"]).partition(" (")[0] for row in rows}
    unknown = [f"cause given for {name!r}, which is not in this report" for name in causes if name not in known]
    return Section(title="Attempts", tables=(Table.of(rows),), notes=tuple(unknown))


def _evaluation_standing(document: Mapping[str, Any]) -> Standing | None:
    """Return where a scored graph stands: by its predictions, or by what was stored of it where those were left out."""
    score, raw = Score.from_dict(document["scores"][0]), evaluation_raw(document)
    found = standing_in(raw.cases(), [score.signature]) if raw is not None else None
    return found if found is not None else _stored(score, document)


def _stored(score: Score, document: Mapping[str, Any]) -> Standing | None:
    """Return the standing that an evaluation stored beside a score, with its p; older ones stored the interval alone."""
    told, constant = (document.get("against_constant") or [None])[0], document["baseline"][0]
    metric, plain = metric_of(score.signature), standing_of(score)
    if not told or not constant or metric is None:
        return replace(plain, p=told.get("p")) if plain and told else plain
    ratio = told.get("ratio")
    return Standing(
        metric=told["metric"],
        value=score.value,
        constant=constant["value"],
        interval=score.interval,
        higher_is_better=metric.higher_is_better,
        p=told.get("p"),
        ratio=Interval.from_dict(ratio) if ratio else None,
    )


def _side_row(side: Side, where: Standing | None, causes: Mapping[str, str], *, several: bool) -> dict[str, Any]:
    claim = _own_claim(side)
    constant = constant_score(claim.signature) if claim and claim.signature else None
    against = claim.value - constant if claim and constant is not None else None
    if against is None and claim and where and np.isclose(claim.value, where.value):
        against = where.value - where.constant
    mean = f" ({side.settings['seeds'].partition(':')[0]})" if "seeds" in side.settings else ""
    return {
        "version": side.name + mean,
        "value": claim.value if claim else None,
        "against the constant": f"{against:+.4f}" if against is not None else None,
        "verdict": _verdict(claim, where, several=several, seeds=bool(mean)),
        "p": where.p_text() if where else None,
        "cause": causes.get(side.name) or _own_cause(side),
        "architecture": _architecture(side),
        "metric": str(claim.signature or f"{claim.name} (no signature)") if claim else None,
    }


def _architecture(side: Side) -> str:
    named = side.settings.get("settings.model") or side.settings.get("network", "")
    counted = f"{side.parameters:,} parameters" if side.parameters else ""
    return ", ".join(text for text in (named, counted, side.architecture[:24]) if text)


def _own_claim(side: Side) -> Claim | None:
    """Return the number to show: of several seeds that of their merged predictions, and none where those are not known."""
    stated = headline(side.claims)
    if stated is None or stated.signature is None or "seeds" not in side.settings:
        return stated
    metric = metric_of(stated.signature)
    if side.raw is None or metric is None:
        return None
    cases = side.raw.cases()
    try:
        bound = metric.on(cases.columns)
        value = bound(cases.y, cases.read(bound))
    except InputError:
        return None
    signature = replace(stated.signature, n=len(cases), data=side.raw.data[:12])
    return Claim(name=stated.signature.metric, value=value, signature=signature)


def _evaluation_row(
    name: str, document: Mapping[str, Any], where: Standing | None, causes: Mapping[str, str], *, several: bool
) -> dict[str, Any]:
    score, constant = document["scores"][0], document["baseline"][0]
    beside = constant["value"] if constant else constant_score(Signature.parse(score["signature"]))
    against = score["value"] - beside if beside is not None else None
    claim = Claim.of(score)
    parameters = f", {document['parameters']:,} parameters" if document.get("parameters") else ""
    return {
        "version": name,
        "value": score["value"],
        "against the constant": f"{against:+.4f}" if against is not None else None,
        "verdict": _verdict(claim, where, several=several),
        "p": where.p_text() if where else None,
        "cause": causes.get(name),
        "architecture": f"graph {document['graph_sha256'][:12]}{parameters}" if document["graph_sha256"] else None,
        "metric": score["signature"],
    }


def _own_cause(side: Side) -> str:
    """Return what a run says of itself: leaks, and what stopped it."""
    said = [f"leaks: {side.settings['leaks']}" if "leaks" in side.settings else "", side.settings.get("outcome", "")]
    return "; ".join(text for text in said if text)


def _verdict(claim: Claim | None, where: Standing | None, *, several: bool, seeds: bool = False) -> str:
    """Return what the number shows: never more than its signature and interval allow."""
    if claim is None:
        return "states no number of its own: see the seeds" if seeds else "states no number"
    if where is not None:
        alone = where.p is None and where.interval is not None and several
        return where.verdict + (" (by itself: its p is not stored)" if alone else "")
    if claim.signature is None:
        return "no signature: cannot be placed; score it again"
    found = standing_of(Score(value=claim.value, signature=claim.signature))
    return found.verdict if found else "see the constant beside it"
