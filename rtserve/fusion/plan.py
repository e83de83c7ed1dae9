"""`FusionPlan`: which members, which views, how they are merged, how the result is calibrated.

Branches are members x views, flat and member-major: member 1 with every view, then member 2, and so on. The merge acts
over all of them at once; calibration follows in the order scale, offset, clip.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rtserve.errors import InputError
from rtserve.files import readable_file
from rtserve.fusion.views import View, parse_views

__all__ = ["Calibration", "FusionPlan", "Merge", "parse_clip", "parse_merge"]


KINDS = ("mean", "weighted", "median", "trimmed")
"""Ways of making one of many."""
AVERAGES = ("logits", "probabilities")
"""What a merge of classifiers can be of."""


@dataclass(frozen=True, kw_only=True)
class Merge:
    """How branch outputs become one.

    Parameters
    ----------
    kind : str
        One of `KINDS`; a median of an even number is the mean of the middle two.
    weights : tuple of float
        For weighted: one per branch, adding up to 1.
    proportion : float
        For trimmed: floor(proportion x branches) are dropped on each side.
    average : str
        Of classifiers: one of `AVERAGES`, which the branches are brought to first; else ``""``.
    """

    kind: str = "mean"
    weights: tuple[float, ...] = ()
    proportion: float = 0.0
    average: str = ""

    def __post_init__(self) -> None:
        if self.average and self.average not in AVERAGES:
            raise InputError(f"an average of {self.average!r}", hint=f"classifiers average {' or '.join(AVERAGES)}")
        if self.kind not in KINDS:
            raise InputError(f"unknown merge {self.kind!r}", hint=f"merges are {', '.join(KINDS)}")
        if not 0 <= self.proportion < 0.5:
            raise InputError(
                f"trimmed:{self.proportion:g} drops that share on each side", hint="give a number from 0 to below 0.5"
            )
        if (self.kind == "weighted") != bool(self.weights) or (
            self.weights and not abs(math.fsum(self.weights) - 1.0) < 1e-6
        ):
            raise InputError(
                f"a {self.kind} merge with weights {list(self.weights)}",
                hint="a weighted merge has one weight per branch, adding up to 1; the others have none",
            )

    @property
    def linear(self) -> bool:
        """Whether the merge is a weighted sum."""
        return self.kind in ("mean", "weighted")

    def weights_for(self, branches: int) -> tuple[float, ...]:
        """Return the weight of every branch of a linear merge."""
        return self.weights if self.kind == "weighted" else (1.0 / branches,) * branches

    def trimmed(self, branches: int) -> int:
        """Return how many branches are dropped on each side (trimmed and median)."""
        if self.kind == "median":
            return (branches - 1) // 2
        return math.floor(self.proportion * branches + 1e-12) if self.kind == "trimmed" else 0

    def to_dict(self) -> dict[str, Any]:
        """Return the merge as JSON values."""
        said = {"average": self.average} if self.average else {}
        return {"kind": self.kind, "weights": list(self.weights), "proportion": self.proportion} | said

    def __str__(self) -> str:
        return f"{self.kind} of {self.average}" if self.average else self.kind


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """An affine map and a clip on the merged output: ``clip(scale y + offset, low, high)``."""

    scale: float = 1.0
    offset: float = 0.0
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        values = [v for v in (self.scale, self.offset, self.low, self.high) if v is not None]
        if not all(math.isfinite(v) for v in values):
            raise InputError(f"calibration {values} is not finite", hint="give finite numbers")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise InputError(f"clip from {self.low} to {self.high} is empty", hint="give the lower bound first")

    def __bool__(self) -> bool:
        return self != Calibration()

    def to_dict(self) -> dict[str, Any]:
        """Return the calibration as JSON values."""
        return {"scale": self.scale, "offset": self.offset, "low": self.low, "high": self.high}


@dataclass(frozen=True, kw_only=True)
class FusionPlan:
    """What a fused graph computes.

    Parameters
    ----------
    members : tuple of str
        Digests of the member graphs, in order.
    views : tuple of View
        Bound to the members' input.
    merge : Merge
        Over all branches.
    calibration : Calibration
        On the merged output.
    """

    members: tuple[str, ...]
    views: tuple[View, ...]
    merge: Merge
    calibration: Calibration

    @property
    def n_branches(self) -> int:
        """Members x views."""
        return len(self.members) * len(self.views)

    @property
    def weights(self) -> tuple[float, ...]:
        """What every branch weighs; 1 where the merge is no weighted sum."""
        return self.merge.weights_for(self.n_branches) if self.merge.linear else (1.0,) * self.n_branches

    @property
    def distinct(self) -> dict[str, int]:
        """The different members: by digest, in order, the number of the first that is the same."""
        return {digest: self.members.index(digest) for digest in self.members}

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON values; `from_dict` reads them back."""
        return {
            "members": list(self.members),
            "views": [view.to_dict() for view in self.views],
            "merge": self.merge.to_dict(),
            "calibration": self.calibration.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FusionPlan:
        """Read what `to_dict` wrote."""
        merge = values["merge"] | {"weights": tuple(values["merge"]["weights"])}
        return cls(
            members=tuple(values["members"]),
            views=tuple(View.from_dict(view) for view in values["views"]),
            merge=Merge(**merge),
            calibration=Calibration(**values["calibration"]),
        )


def parse_merge(text: str | Merge, *, members: int, views: int) -> Merge:
    """Read ``mean``, ``weighted:FILE``, ``median`` or ``trimmed:p`` for so many branches.

    Of classifiers each takes what is averaged: ``mean-logits``, ``weighted-probabilities:FILE``, ...

    A weights file is a JSON list (or numbers separated by white space) with one weight per branch, member-major; or
    ``{"members": [...], "views": [...]}``, whose products are the weights. They are divided by their sum.

    Raises
    ------
    InputError
        Where the name is unknown, the file does not fit, or nothing would remain.
    """
    if isinstance(text, Merge):
        if text.weights and len(text.weights) != members * views:
            words = f"{len(text.weights)} weights for {members * views} branches"
            raise InputError(words, hint="one per member and view, member-major")
        return text
    if not isinstance(text, str):
        raise InputError(f"merge {text!r} is no merge", hint='give a name, as in merge="median", or a Merge')
    name, _, argument = text.strip().partition(":")
    kind, _, average = name.partition("-")
    if kind in ("mean", "median") and not argument:
        return Merge(kind=kind, average=average)
    if kind == "trimmed":
        try:
            proportion = float(argument)
        except ValueError:
            raise InputError(f"trimmed:{argument} names no share", hint="give a number from 0 to below 0.5") from None
        return Merge(kind=kind, proportion=proportion, average=average)
    if kind == "weighted" and argument:
        return Merge(kind="weighted", weights=_weights(argument, members, views), average=average)
    raise InputError(
        f"unknown merge {text!r}",
        hint="merges are mean, weighted:FILE, median, trimmed:0.2; of classifiers mean-logits, mean-probabilities, ...",
    )


def _weights(path: str, members: int, views: int) -> tuple[float, ...]:
    text = readable_file(path, "weights file").read_text("utf-8-sig", errors="replace")
    hint = f"a JSON list of {members * views} numbers, member-major, or {{'members': [...], 'views': [...]}}"
    try:
        values = json.loads(text)
    except json.JSONDecodeError:
        values = text.split()
    try:
        if isinstance(values, dict):
            sizes = len(values["members"]), len(values["views"])
            if sizes != (members, views):
                raise ValueError(f"{sizes[0]} members x {sizes[1]} views, not {members} x {views}")
            values = [float(m) * float(v) for m in values["members"] for v in values["views"]]
        weights = [float(value) for value in values]
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"weights file {path} cannot be read ({error})", hint=hint) from None
    if len(weights) != members * views:
        raise InputError(f"weights file {path} has {len(weights)} weights for {members * views} branches", hint=hint)
    total = math.fsum(weights)
    if not all(math.isfinite(w) for w in weights) or abs(total) < 1e-12:
        raise InputError(f"the weights in {path} add up to {total}", hint="give finite weights whose sum is not 0")
    return tuple(weight / total for weight in weights)


def parse_clip(text: str | None) -> tuple[float | None, float | None]:
    """Read ``low,high``; either may be left out."""
    if text is None:
        return None, None
    parts = text.split(",")
    try:
        low, high = (float(part) if part.strip() else None for part in parts)
    except ValueError:
        raise InputError(f"clip {text!r} is not low,high", hint="for example --clip 0,2.4 or --clip 0,") from None
    return low, high


def make_plan(
    digests: Sequence[str],
    views: str | Sequence[str] | Sequence[View],
    merge: str | Merge,
    calibration: Calibration | None,
    average: str = "",
) -> FusionPlan:
    """Put a plan together; views still unbound are bound by `rtserve.fusion.fuse`.

    Raises
    ------
    InputError
        Where a name is wrong, or `average` contradicts the merge.
    """
    parsed = parse_views(views)
    chosen = parse_merge(merge, members=len(digests), views=len(parsed))
    if average and chosen.average not in ("", average):
        raise InputError(f"merge {merge} and --average {average} contradict each other", hint="give one of the two")
    return FusionPlan(
        members=tuple(digests),
        views=parsed,
        merge=replace(chosen, average=average) if average else chosen,
        calibration=calibration or Calibration(),
    )
