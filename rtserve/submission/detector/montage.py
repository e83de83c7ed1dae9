"""From the channels of a file to those of a network, whatever both were referred to.

A channel is a difference of two potentials: ``Fp1-Avg`` of an electrode and the average, ``Fp1-F3`` of two electrodes,
``EEG FP1-REF`` of an electrode and one that is called REF. What a network takes is found from what a file has where it is a
sum of multiples of the file's differences, and nowhere else: a bipolar chain follows from referential channels, an average
reference follows from any one reference, and no average follows from bipolar chains that do not meet.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["AVERAGE", "Difference", "difference", "matrix"]

AVERAGE = "average"
"""The average of the electrodes, as one side of a difference."""
EXACT = 1e-9
"""How far a combination may be from what is wanted: rounding in float64 is 1e-15, a missing term 1 / electrodes."""


class Difference(NamedTuple):
    """A channel: the potential of `plus` less that of `minus`; each an electrode, `AVERAGE`, or a reference's name."""

    plus: str
    minus: str


def difference(label: str, names: Mapping[str, object], *, reference: str = "") -> Difference | None:
    """Return what a label stands for; None where it begins with none of the electrodes.

    Parameters
    ----------
    label : str
        ``EEG FP1-REF``, ``Fp1-Avg``, ``T7-P7``, ``Fp1``, ``T8-P8-1``; upper and lower case are one.
    names : mapping
        ``electrodes``, ``aliases`` (electrode to other names of it), ``prefixes``, ``averages`` (names of the average).
    reference : str
        What a label without one is referred to.
    """
    text = label.strip()
    for prefix in names["prefixes"]:  # type: ignore[attr-defined]
        if text.casefold().startswith(f"{prefix.casefold()} "):
            text = text[len(prefix) + 1 :].strip()
    parts = [part.strip() for part in re.split(r"[-\u2013:]", text)]
    if len(parts) == 3 and parts[2].isdigit():  # the same channel a second time, numbered
        parts = parts[:2]
    known = _known(names)
    plus = known.get(parts[0].casefold())
    if plus is None or len(parts) > 2:
        return None
    minus = parts[1].casefold() if len(parts) == 2 else ""
    if not minus:
        return Difference(plus, reference)
    averages = {str(name).casefold() for name in names["averages"]}  # type: ignore[attr-defined]
    return Difference(plus, AVERAGE if minus in averages else known.get(minus, minus))


def _known(names: Mapping[str, object]) -> dict[str, str]:
    """Return every spelling of an electrode, folded, with the one it goes by."""
    electrodes: Sequence[str] = names["electrodes"]  # type: ignore[assignment]
    aliases: Mapping[str, Sequence[str]] = names["aliases"]  # type: ignore[assignment]
    known = {name.casefold(): name for name in electrodes}
    return {other.casefold(): name for name, others in aliases.items() for other in others} | known


def matrix(
    has: Sequence[Difference], wanted: Sequence[Difference], electrodes: Sequence[str]
) -> tuple[np.ndarray, list[int]]:
    """Return the factors that make the wanted channels of a file's, and which of the wanted cannot be made.

    Parameters
    ----------
    has, wanted : sequence of Difference
        The file's channels and the network's.
    electrodes : sequence of str
        What an average goes over, as far as the file has them; where a file states an average, that is the one.

    Returns
    -------
    ndarray, (len(wanted), len(has))
        Rows of what cannot be made are zero.
    list of int
        Their places.
    """
    there = {side for one in has for side in one}
    average = [AVERAGE] if AVERAGE in there else [name for name in electrodes if name in there]
    columns = {side: k for k, side in enumerate(sorted({*there, *(side for one in wanted for side in one), AVERAGE}))}

    def row(one: Difference) -> np.ndarray:
        found = np.zeros(len(columns))
        for side, sign in ((one.plus, 1.0), (one.minus, -1.0)):
            parts = average if side == AVERAGE else [side]
            for part in parts:
                found[columns[part]] += sign / len(parts)
        return found

    factors = np.zeros((len(wanted), len(has)))
    if not has:
        return factors, list(range(len(wanted)))
    given = np.array([row(one) for one in has])
    inverse = np.linalg.pinv(given)
    lacking = []
    for place, one in enumerate(wanted):
        found = row(one) @ inverse
        if one in has:
            factors[place, has.index(one)] = 1.0
        elif np.abs(found @ given - row(one)).max() < EXACT:
            factors[place] = np.where(np.abs(found) < EXACT, 0.0, found)
        else:
            lacking.append(place)
    return factors, lacking
