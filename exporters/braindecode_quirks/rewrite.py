"""What a quirk is: the replacement of one method of one kind of part, wherever in a network it stands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rtserve.graphs.exporter import Quirk

__all__ = ["Quirk", "Rewrite"]


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """The replacement of one method of one kind of part.

    Parameters
    ----------
    quirk : Quirk
        Its name and the case that needed it.
    stand_in : callable
        What stands in for the method; its first argument is the part.
    method : str
        What it stands in for.
    prepare : callable, optional
        Called with the part first, to refuse a state from which the rewrite cannot be exact.
    """

    quirk: Quirk
    stand_in: Callable[..., Any]
    method: str = "forward"
    prepare: Callable[[Any], None] | None = None
