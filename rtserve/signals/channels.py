"""Which channels of a recording are used, and what becomes of those that are missing or marked as bad."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.signals.electrodes import CHANNELS
from rtserve.signals.notes import Notes

__all__ = ["Choice", "choose_channels", "few", "interpolate", "referenced"]

_VERTEX = ("E129", "VREF", "Vertex Reference")
"""What files call the net's Cz; the last two are NetStation's."""
_NET = {*CHANNELS, *_VERTEX}
_SMALLER = 65
"""Electrodes of the next smaller net with its vertex, E65."""
_BEYOND = re.compile(r"E(1[3-9]\d|2\d\d)")
"""Electrodes of larger nets, whose E1 to E129 are elsewhere on the head."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Channels of a window.

    Parameters
    ----------
    names : tuple of str
        In order, as windows call them.
    found : list of str
        Those of `names` that are taken from the recording, as it calls them.
    filled : tuple of str
        The others, to be interpolated.
    of_the_net : bool
        Whether all are electrodes of the contest's net.
    kept : tuple of str
        Those of `names` that are marked as bad and kept as they are.
    """

    names: tuple[str, ...]
    found: list[str]
    filled: tuple[str, ...]
    of_the_net: bool
    kept: tuple[str, ...] = ()


def choose_channels(
    raw: Any, path: Path, *, wanted: tuple[str, ...], drop: tuple[str, ...], bads: str, fill: bool, notes: Notes
) -> Choice:
    """Decide which channels to use; see `rtserve.signals.recordings.Cleaning`.

    Raises
    ------
    InputError
        Where channels are missing or bad and nothing says what to do about it, or none is left.
    """
    absent = [name for name in drop if name not in raw.ch_names]
    if absent:
        raise InputError(f"{path} has no channel {', '.join(absent)} to drop", hint=f"it has {few(raw.ch_names)}")
    there = [name for name in raw.ch_names if name not in drop]
    kinds = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    eeg = [name for name in there if kinds[name] == "eeg"]
    auto = wanted == ("auto",)
    contest = auto and _is_the_net(eeg)
    named = wanted and (not auto or contest)
    if named:
        names = CHANNELS if auto else wanted
        found = {name: _as_recorded(name, there) for name in names}
    else:
        _tell_left_out(there, kinds, notes)
        found = {name: name for name in eeg}
    marked = [name for name, own in found.items() if own in raw.info["bads"]]
    filled = _bad(marked, found, bads, named=bool(named), contest=contest or wanted == CHANNELS, path=path, notes=notes)
    missing = [name for name, own in found.items() if not own]
    if missing and (not fill or len(missing) > len(found) // 4):
        raise InputError(
            f"{path} lacks {len(missing)} of {len(found)} channels: {few(missing)}",
            hint="--missing interpolate fills up to a quarter from their neighbours; --channels names others",
        )
    if missing:
        notes.add(f"interpolated, being absent: {few(missing)}")
    if not found and marked:
        raise InputError(f"{path} marks all {len(marked)} channels asked for as bad: {few(marked)}", hint="--bads keep")
    if not found:
        raise InputError(f"{path} has no EEG channel", hint=f"it has {few(raw.ch_names)}; --channels names some")
    return Choice(
        names=tuple(found),
        found=[own for name, own in found.items() if own and name not in filled],
        filled=tuple(name for name, own in found.items() if not own or name in filled),
        of_the_net=set(found) <= _NET and not any(map(_BEYOND.fullmatch, eeg)),
        kept=tuple(name for name in marked if name in found and name not in filled),
    )


def _as_recorded(name: str, there: list[str]) -> str:
    """Return what the recording calls a channel: the net's vertex is Cz or one of `_VERTEX`; empty where it has none."""
    if name in there:
        return name
    return next((own for own in _VERTEX if own in there), "") if name == "Cz" else ""


def _is_the_net(eeg: list[str]) -> bool:
    """Whether a recording's EEG channels are those of the contest's net, or most of them."""
    return len(set(CHANNELS[:-1]) & set(eeg)) > _SMALLER and not any(map(_BEYOND.fullmatch, eeg))


def _tell_left_out(there: list[str], kinds: dict[str, str], notes: Notes) -> None:
    other = [f"{name} ({kinds[name]})" for name in there if kinds[name] not in ("eeg", "stim")]
    if other:
        notes.add(f"left out, being no EEG: {few(other)}")


def _bad(
    marked: list[str], found: dict[str, str], bads: str, *, named: bool, contest: bool, path: Path, notes: Notes
) -> set[str]:
    """Deal with channels marked as bad: leave them out of `found`, or return those to interpolate."""
    if not marked:
        return set()
    if bads == "auto":
        bads = "keep" if contest else "refuse" if named else "drop"
    if bads == "refuse":
        raise InputError(
            f"{path} marks {few(marked)} as bad, which --channels asks for", hint="--bads keep, interpolate or drop"
        )
    if bads == "drop":
        for name in marked:
            del found[name]
        notes.add(f"left out, being marked as bad: {few(marked)} (--bads keep or interpolate)")
        return set()
    if bads == "interpolate":
        notes.add(f"interpolated, being marked as bad: {few(marked)}")
        return set(marked)
    why = ", as the contest's start kit does" if contest else ""
    notes.add(f"kept though marked as bad{why}: {few(marked)} (--bads interpolate fills them)")
    return set()


def few(names: Iterable[str]) -> str:
    """Return up to twelve names, and how many more there are."""
    listed = list(names)
    return ", ".join(listed[:12]) + (f" and {len(listed) - 12} more" if len(listed) > 12 else "")


def interpolate(data: np.ndarray, choice: Choice, info: Any, path: Path) -> np.ndarray:
    """Return samples of all channels of a choice in order, those that are to be filled from their neighbours.

    Parameters
    ----------
    data : ndarray, (n_found, n_times)
        Of ``choice.found``.
    choice : Choice
        What to have.
    info : mne.Info
        Of the recording.
    path : Path
        Of the recording, for messages.
    """
    if not choice.filled:
        return data
    import mne

    whole = np.zeros((len(choice.names), data.shape[1]))
    whole[[k for k, name in enumerate(choice.names) if name not in choice.filled]] = data
    raw = mne.io.RawArray(
        whole, mne.create_info(list(choice.names), info["sfreq"], "eeg", verbose="error"), copy="both", verbose="error"
    )
    raw.set_montage(_montage(choice.names, path), verbose="error")
    raw.info["bads"] = [*choice.filled, *choice.kept]  # what is bad and kept is no source of others
    raw.interpolate_bads(reset_bads=True, exclude=list(choice.kept), verbose="error")
    filled: np.ndarray = raw.get_data()
    return filled


def referenced(data: np.ndarray, choice: Choice, reference: str, path: Path, notes: Notes) -> np.ndarray:
    """Return samples (n_chans, n_times) less a reference.

    Channels marked as bad take no part in the average, as in `mne.io.Raw.set_eeg_reference`: they are neither in it nor
    is it taken from them.

    Parameters
    ----------
    data : ndarray, (n_chans, n_times) or (n_chans + 1, n_times)
        Of the channels of `choice`, and in a last row of the reference where it is none of them.
    choice : Choice
        What they are.
    reference : str
        ``"average"``, a channel's name, or empty for none.
    path : Path
        Of the recording, for messages.
    notes : Notes
        Where it is said what took no part.

    Raises
    ------
    InputError
        Where nothing would be left: the only channel is the reference.
    """
    if not reference:
        return data
    n = len(choice.names)
    good = [k for k, name in enumerate(choice.names) if name not in choice.kept]
    to, source = (good, good) if reference == "average" else (range(n), [n])
    if reference in choice.names:
        source = [choice.names.index(reference)]
    if not source or (list(to) == list(source) and n == 1):
        raise InputError(
            f"{path}: with --reference {reference} its only channel {choice.names[0]} would be 0 throughout",
            hint="name more channels with --channels, or another reference",
        )
    if len(good) < n and reference == "average":
        notes.add(f"not in the average reference, nor referred to it, being marked as bad: {few(choice.kept)}")
    out: np.ndarray = data[:n].copy()
    out[list(to)] -= data[source].mean(axis=0, keepdims=True)
    return out


def _montage(channels: tuple[str, ...], path: Path) -> Any:
    import mne

    known = mne.channels.get_builtin_montages()
    for name in ("GSN-HydroCel-129", "colin27_1005", "standard_1005"):  # MNE 1.13 renames the last one
        if name not in known:
            continue
        montage = mne.channels.make_standard_montage(name)
        if set(channels) <= set(montage.ch_names):
            return montage
    raise InputError(
        f"{path}: channels cannot be interpolated, the positions of {few(channels)} are not known",
        hint="channel names must be those of GSN-HydroCel-129 (E1..E128, Cz) or of the 10-05 system",
    )
