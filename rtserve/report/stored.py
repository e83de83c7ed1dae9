"""What stored results say, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rtserve.measure.metrics import metric_of
from rtserve.measure.signature import Interval, Signature

__all__ = ["interval_text", "metric_is"]


def interval_text(interval: Mapping[str, Any] | None) -> str:
    """Return an interval as text, empty where there is none."""
    return Interval.from_dict(dict(interval)).text() if interval else ""


def metric_is(document: Mapping[str, Any], what: str) -> bool:
    """Return what is true of a stored evaluation's first metric; False where it is not one of ours."""
    return bool(getattr(metric_of(Signature.parse(document["scores"][0]["signature"])), what, False))
