"""Which electrode mirrors which: from their positions, not from their numbers.

On the contest's net (E1..E129) odd and even numbers say nothing about left and right; positions do.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from rtserve.errors import InputError
from rtserve.spec import InputSpec, electrode

__all__ = ["mirror_order"]

MONTAGES = (
    "GSN-HydroCel-129",
    "GSN-HydroCel-128",
    "colin27_1005",
    "standard_1005",
    "biosemi64",
    "biosemi128",
    "GSN-HydroCel-65_1.0",
)
TOLERANCE_M = 0.012
"""Largest distance in metres between an electrode and the mirror image of its partner."""


def mirror_order(spec: InputSpec) -> tuple[int, ...]:
    """Return the channel order that exchanges left and right.

    Parameters
    ----------
    spec : InputSpec
        Its `ch_names` must all be electrodes of one montage that MNE knows.

    Returns
    -------
    tuple of int
        An involution: output channel c is input channel ``order[c]``; midline electrodes stay.

    Raises
    ------
    InputError
        Where positions are not known or the electrodes are not symmetric.
    """
    if not spec.ch_names:
        raise InputError(
            "view mirror: the channels have no names, so no positions", hint="export with ch_names, or use permute:FILE"
        )
    names = tuple(map(electrode, spec.ch_names))
    for montage in MONTAGES:
        positions = _positions(montage)
        if all(name in positions for name in names):
            return _match(np.array([positions[name] for name in names]), spec)
    unknown = [name for name in names if name not in _positions(MONTAGES[0])]
    raise InputError(
        f"view mirror: no montage has positions for {', '.join(unknown[:5])}", hint="use permute:FILE with the order"
    )


@cache
def _positions(montage: str) -> dict[str, np.ndarray]:
    """Return electrode positions in metres, or none where this MNE does not know the montage."""
    import mne

    if montage not in mne.channels.get_builtin_montages():
        return {}
    return dict(mne.channels.make_standard_montage(montage).get_positions()["ch_pos"])


def _match(xyz: np.ndarray, spec: InputSpec) -> tuple[int, ...]:
    """Pair each electrode with the one nearest to its mirror image (x to the right)."""
    distance = np.linalg.norm((xyz * [-1, 1, 1])[:, None] - xyz[None], axis=-1)
    order = distance.argmin(axis=1)
    if not np.array_equal(order[order], np.arange(len(order))) or distance.min(axis=1).max() > TOLERANCE_M:
        worst = int(distance.min(axis=1).argmax())
        raise InputError(
            f"view mirror: {spec.ch_names[worst]} has no partner on the other side"
            f" (nearest is {distance.min(axis=1)[worst] * 1000:.0f} mm off)",
            hint="a one-sided set of electrodes has no mirror; use permute:FILE",
        )
    return tuple(int(i) for i in order)
