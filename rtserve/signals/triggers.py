"""The events of trigger channels: BioSemi's Status, STI 014, or any channel that is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rtserve.signals.claims import multiplied
from rtserve.signals.clock import Marks

__all__ = ["triggered"]

BIOSEMI_MASK = 0xFFFF
"""The trigger input of BioSemi's Status channel: its 16 low bits (the others are the amplifier's own state)."""
_NEAR = 0.1
"""How far from a whole number a trigger's number may be by the resolution of its file."""


def triggered(raw: Any, path: Path, *, channel: str = "", mask: int | None = None) -> list[Marks]:
    """Return the marks of each trigger channel, as `mne.find_events` finds them; a mark is called by its number.

    A channel that never goes back to zero holds each number until the next: there every change is a mark. Elsewhere, as
    in MNE, a change to a lower number is none (two overlapping pulses end one after the other), which is said.

    Parameters
    ----------
    raw : mne.io.Raw
        With its channels of type stim.
    path : Path
        Its file.
    channel : str
        Only this one; empty for all of type stim.
    mask : int, optional
        Bits that count; by default all, and BioSemi's 16 low ones of ``Status``.
    """
    import mne

    kinds = raw.get_channel_types()
    names = [channel] if channel else [n for n, kind in zip(raw.ch_names, kinds, strict=True) if kind == "stim"]
    out = []
    for name in names:
        bits = BIOSEMI_MASK if mask is None and name.lower() == "status" else mask
        values, note = _codes(raw, path, name)
        alone = mne.io.RawArray(
            (values if bits is None else values & bits).astype(float),
            mne.create_info([name], raw.info["sfreq"], "stim", verbose="error"),
            verbose="error",
        )
        held = _never_zero(alone.get_data()[0])
        found = mne.find_events(
            alone, name, shortest_event=1, consecutive=True if held else "increasing", verbose="error"
        )
        out.append(
            Marks(
                source=f"trigger channel {name}",
                onset=found[:, 0] / float(raw.info["sfreq"]),
                duration=np.zeros(len(found)),
                name=found[:, 2].astype("U"),
                stored=found[:, 0],
                note="; ".join(filter(None, [note, _held_note(alone.get_data()[0], name, held=held)])),
            )
        )
    return out


def _codes(raw: Any, path: Path, name: str) -> tuple[np.ndarray, str]:
    """Return a trigger channel's numbers (1, n_times) as they stand in the file, and what is to be said of them.

    What MNE takes for a signal it turned into volts, where 1 uV is no whole number. Numbers that are whole but for the
    file's resolution are rounded; of others the whole part is taken, as `mne.find_events` does.
    """
    values = raw.get_data([raw.ch_names.index(name)])  # by place: a name may be a type, such as resp
    factor = multiplied(raw, path, name)
    exact = path.suffix.lower() in (".gdf", ".edf", ".bdf")
    if np.isfinite(factor) and factor != 1.0 and (exact or 0 < np.abs(values).max() < 0.5):
        values = values / factor
    whole = np.rint(values)
    if np.abs(values - whole).max(initial=0.0) <= _NEAR:
        return whole.astype(np.int64), ""
    odd = float(values.flat[int(np.abs(values - whole).argmax())])
    said = f"trigger channel {name} holds numbers that are not whole, such as {odd:g}: their whole part is taken, as in MNE"
    return np.trunc(values).astype(np.int64), said


def _never_zero(values: np.ndarray) -> bool:
    """Whether a trigger channel holds each number until the next one."""
    started = np.flatnonzero(values)
    return bool(len(started)) and bool((values[started[0] :] != 0).all())


def _held_note(values: np.ndarray, name: str, *, held: bool) -> str:
    """Say what of a trigger channel is no event, or is one that its numbers alone do not show."""
    said = []
    if held:
        said.append("never goes back to 0: every change of its number is taken for an event")
    if negative := int(((np.diff(values) != 0) & (values[1:] < 0)).sum()):
        said.append(f"goes below 0 {negative} times: the numbers without their sign are taken, as in MNE")
    lower = int(((np.diff(np.abs(values)) < 0) & (values[1:] != 0)).sum())
    if lower and not held:
        said.append(f"changes to a lower number {lower} times: no events, as in MNE")
    if values[0]:
        said.append(
            f"is at {abs(values[0]):g} from its first sample on, when it began is not known: no event, as in MNE"
        )
    return f"trigger channel {name} {'; it '.join(said)}" if said else ""
