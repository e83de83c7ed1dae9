"""The table of all attempts: version, architecture, metric with signature, against the baseline, cause, verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.metrics import metric_of
from rtserve.measure.side_results import evaluation_raw
from rtserve.measure.side_standing import headline, side_standing, standing_in, stored_standing, with_seeds
from rtserve.measure.sides import Claim, Side
from rtserve.measure.signature import Score, Signature
from rtserve.measure.standing import Standing, constant_score, standing_of, together
from rtserve.report.collect import Document
from rtserve.report.page import Section, Table

__all__ = ["Judged", "attempts_section", "judge"]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Everything of a report that has a verdict against the constant, as one family.

    Parameters
    ----------
    sides : tuple of (Side, Standing or None)
        Runs with each of their seeds, checkpoints, zips.
    evaluations : tuple of (Document, Standing or None)
        Scored graphs.
    """

    sides: tuple[tuple[Side, Standing | None], ...]
    evaluations: tuple[tuple[Document, Standing | None], ...]

    def notes(self) -> list[tuple[str, str]]:
        """Return (name, note) of the scored graphs; a verdict among them is the one that it has in this report."""
        return [
            (name, where.sentence() if where and note == _alone(document) else note)
            for (name, document), where in self.evaluations
            for note in document.get("notes", ())
        ]


def _alone(document: Mapping[str, Any]) -> str | None:
    found = stored_standing(document)
    return found.sentence() if found else None


def judge(sides: Sequence[Side], evaluations: Sequence[Document]) -> Judged:
    """Return where all attempts stand, corrected for each other."""
    every = [one for side in sides for one in with_seeds(side)]
    found = [side_standing(one) for one in every] + [_evaluation_standing(document) for _, document in evaluations]
    judged = together(found, "attempts of this report")
    return Judged(
        sides=tuple(zip(every, judged, strict=False)),
        evaluations=tuple(zip(evaluations, judged[len(every) :], strict=True)),
    )


def attempts_section(judged: Judged, causes: Mapping[str, str]) -> Section | None:
    """Return the table of attempts: every run and checkpoint, and every scored graph; None where there is none.

    Parameters
    ----------
    judged : Judged
        From `judge`.
    causes : mapping of str to str
        What was found to be the cause, by name; it goes before what the run itself says.
    """
    several = len(judged.sides) + len(judged.evaluations) > 1
    # A graph or zip is no attempt of its own: it stands among the graphs, with the scores that were taken on it.
    rows = [
        _side_row(one, where, causes, several=several)
        for one, where in judged.sides
        if one.claims or one.kind not in ("graph", "zip")
    ]
    networks = {one.digest: _architecture(one) for one, _ in judged.sides if one.kind == "graph"}
    rows += [_evaluation_row(*each, where, causes, networks, several=several) for each, where in judged.evaluations]
    if not rows:
        return None
    known = {str(row["version"]).partition(" (")[0] for row in rows}
    unknown = [f"cause given for {name!r}, which is not in this report" for name in causes if name not in known]
    return Section(title="Attempts", tables=(Table.of(rows),), notes=tuple(unknown))


def _evaluation_standing(document: Mapping[str, Any]) -> Standing | None:
    """Return where a scored graph stands: by its predictions, or by what was stored of it where those were left out."""
    score, raw = Score.from_dict(document["scores"][0]), evaluation_raw(document)
    found = standing_in(raw.cases(), [score.signature]) if raw is not None else None
    return found if found is not None else stored_standing(document)


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
    return ", ".join(text for text in (named, counted, side.architecture[:19]) if text)


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
    name: str,
    document: Mapping[str, Any],
    where: Standing | None,
    causes: Mapping[str, str],
    networks: Mapping[str, str],
    *,
    several: bool,
) -> dict[str, Any]:
    score, constant = document["scores"][0], document["baseline"][0]
    beside = constant["value"] if constant else constant_score(Signature.parse(score["signature"]))
    if where is not None and where.unrelated:  # the verdict stands against guesses, not against any constant
        beside = where.constant
    against = score["value"] - beside if beside is not None else None
    claim = Claim.of(score)
    parameters = f"{document['parameters']:,} parameters" if document.get("parameters") else ""
    return {
        "version": name,
        "value": score["value"],
        "against the constant": f"{against:+.4f}" if against is not None else None,
        "verdict": _verdict(claim, where, several=several),
        "p": where.p_text() if where else None,
        "cause": causes.get(name),
        "architecture": networks.get(document["graph_sha256"] or "") or parameters or None,
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
