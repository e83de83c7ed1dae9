"""CompactRT: checkpoints of `rtserve train`, and those of the 2025 EEG contest.

The network is rtserve's own (`rtserve.training.networks`); this file adds what contest checkpoints need. Their network
ended in ``squeeze(-1)``, which gives (batch,) where a scorer reads (batch, 1), and a number without a dimension at
batch 1. The weights are the same; the graph keeps the last axis.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from rtserve.graphs.exporter import Built, Quirk
from rtserve.training.networks import CompactRT
from rtserve.training.networks import exporter as own_exporter

__all__ = ["CompactRT", "exporter"]

SQUEEZE = Quirk(
    name="squeeze",
    reason="the contest network's forward ends in squeeze(-1), (batch,) instead of (batch, 1); the output axis is kept",
)


def exporter(shapes: Mapping[str, tuple[int, ...]], settings: Mapping[str, Any]) -> Built:
    """Build the network for a CompactRT checkpoint; see `rtserve.training.networks.exporter` for settings and errors.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        The checkpoint's tensors.
    settings : mapping
        ``n_times``, ``sfreq``, ``unit``, ``ch_names``, ``target``.
    """
    built = own_exporter(shapes, settings)
    if "input_scale" in shapes:
        return built
    return dataclasses.replace(built, quirks=(*built.quirks, SQUEEZE))
