"""`Comparison`: what two sides have in common, what sets them apart, and which numbers may be subtracted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtserve.display import card
from rtserve.measure.results import save_result
from rtserve.measure.sides import Claim, Side
from rtserve.measure.signature import Signature
from rtserve.measure.statistics import Difference
from rtserve.tables import fitting

__all__ = ["Comparison", "Row"]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One setting of both sides; None where a side does not state it."""

    key: str
    first: str | None
    second: str | None

    @property
    def verdict(self) -> str:
        """``same``, ``differs``, or ``only one side states it``."""
        if self.first is None or self.second is None:
            return "only one side states it"
        return "same" if self.first == self.second else "differs"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What two sides have in common and what sets them apart.

    Parameters
    ----------
    first, second : Side
        As read.
    rows : tuple of Row
        Settings, architecture and parameter counts.
    differences : tuple of (Signature, Difference)
        Paired differences of equal metrics on equal windows, second minus first.
    plain : tuple of (Claim, Claim)
        Claims of equal signature whose raw predictions are not stored: subtracted without an interval.
    refusals : tuple of str
        Pairs of numbers that were not subtracted, and why.
    warnings : tuple of str
        What the detectors found.
    """

    first: Side
    second: Side
    rows: tuple[Row, ...]
    differences: tuple[tuple[Signature, Difference], ...] = ()
    plain: tuple[tuple[Claim, Claim], ...] = ()
    refusals: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def comparable(self) -> bool:
        """Whether any number of the one may be subtracted from one of the other."""
        return bool(self.differences or self.plain)

    @property
    def hint(self) -> str:
        """What to run where nothing is comparable."""
        if self.first.cost and self.second.cost:
            return "time them by turns in one run: rtserve bench F.onnx --against M.onnx"
        if self.first.scorable and self.second.scorable:
            return f"score both with one metric: rtserve compare {self.first.name} {self.second.name} --data W.npz"
        return "score both graphs on the same windows: rtserve evaluate F.onnx --data W.npz -o result.json"

    def __repr__(self) -> str:
        found = "; ".join(f"{d.metric} {d.sentence()}" for _, d in self.differences)
        told = found or ("subtracted without an interval" if self.plain else f"not comparable: {self.hint}")
        return f"<Comparison of {self.first.name} and {self.second.name}: {told}>"

    def _repr_html_(self) -> str:
        rows: list[tuple[str, object]] = [
            (d.metric, f"{d.first:.5g} -> {d.second:.5g}: {d.sentence()}") for _, d in self.differences
        ]
        rows += [
            (str(a.signature), f"{b.value - a.value:+.3g}, no interval (predictions not stored)") for a, b in self.plain
        ]
        apart = [row for row in self.rows if row.verdict != "same"]
        rows += [(row.key, f"{row.first or '-'} | {row.second or '-'}") for row in apart[:12]]
        rows += [("settings", f"{len(self.rows) - len(apart)} of {len(self.rows)} are the same")]
        notes = [*self.refusals, *(f"warning: {warning}" for warning in self.warnings)]
        return card(
            f"{self.first.name} and {self.second.name}", rows, notes if self.comparable else [*notes, self.hint]
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {
            "first": _side_dict(self.first),
            "second": _side_dict(self.second),
            "comparable": self.comparable,
            "settings": [{"key": r.key, "first": r.first, "second": r.second, "verdict": r.verdict} for r in self.rows],
            "differences": [{"signature": str(s)} | d.to_dict() for s, d in self.differences],
            "plain_differences": [
                {"signature": str(a.signature), "first": a.value, "second": b.value, "value": b.value - a.value}
                for a, b in self.plain
            ],
            "refusals": list(self.refusals),
            "warnings": list(self.warnings),
            "hint": "" if self.comparable else self.hint,
        }

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the comparison as JSON."""
        return save_result(path, "comparison", self.to_dict(), force=force)

    def lines(self, width: int | None = None) -> list[str]:
        """Return what a person reads; `width` are a terminal's columns."""
        out = [f"A  {self.first.name} ({self.first.kind})", f"B  {self.second.name} ({self.second.kind})", ""]
        apart = [row for row in self.rows if row.verdict != "same"]
        longest = max((len(row.key) for row in apart), default=0)
        marks = {"differs": "!", "only one side states it": "?"}
        out += fitting(
            [f"{marks[r.verdict]} {r.key:{longest}s}  {r.first or '-'}  |  {r.second or '-'}" for r in apart],
            [(f"{marks[r.verdict]} {r.key}", [("A", r.first or "-"), ("B", r.second or "-")]) for r in apart],
            width,
        )
        out.append(
            f"  {len(self.rows) - len(apart)} of {len(self.rows)} settings are the same (! differs, ? one side only)"
        )
        if self.differences:
            out += ["", "B against A:"]
        for signature, d in self.differences:
            constant = "undefined" if d.constant is None else f"{d.constant:.5g}"
            out += [f"  {signature}", f"    {d.first:.5g} -> {d.second:.5g} (constant {constant})  {d.sentence()}"]
        out += [
            f"  {a.signature}: {b.value - a.value:+.3g}, no interval (predictions not stored)" for a, b in self.plain
        ]
        if self.refusals:
            out += ["", "not subtracted:"]
        out += [f"  {reason}" for reason in self.refusals]
        return out + [f"warning: {warning}" for warning in self.warnings]


def _side_dict(side: Side) -> dict[str, Any]:
    return {
        "name": side.name,
        "kind": side.kind,
        "sha256": side.digest,
        "architecture": side.architecture,
        "parameters": side.parameters,
        "claims": [str(claim) for claim in side.claims],
    }
