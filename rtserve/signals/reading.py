"""A recording as its file says it is: samples, gaps, marks, channel types, units; nothing is done to it yet."""

from __future__ import annotations

import importlib.util
import os
import re
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.nearest import file_meant
from rtserve.signals import egi, gdf, neuroscan
from rtserve.signals.brainvision import HEADS
from rtserve.signals.brainvision import require_beside as headed_beside
from rtserve.signals.clock import Clock, Marks, Stretch, stretches_of
from rtserve.signals.edf import SUFFIXES as EDF_SUFFIXES
from rtserve.signals.edf import read_header, read_notes, require_whole
from rtserve.signals.marks import annotated, comma_notes, from_notes, tabled
from rtserve.signals.notes import Notes, Remark, listening
from rtserve.signals.sidecars import Sidecars, find_sidecars
from rtserve.signals.tables import is_empty, read_table
from rtserve.signals.triggers import triggered
from rtserve.signals.wholeness import (
    require_all_there,
    require_beside,
    require_fetched,
    require_first_part,
    require_modest,
)
from rtserve.signals.xdf import Stamped, read_xdf

__all__ = ["FETCH", "FOLDERS", "SUFFIXES", "Reading", "is_recording", "read_recording"]

SUFFIXES = (".bdf", ".edf", ".gdf", ".set", ".fif", ".fif.gz", ".vhdr", ".ahdr", ".cnt", ".mff", ".nxe", ".cdt", ".xdf")
"""Endings of what is taken for a recording in a folder."""
FETCH = "fetch it (datalad get, git annex get), or mend the link"
FOLDERS = (".mff",)
"""Of these a recording is a folder."""
_CONVERT = "convert it to .fif, BrainVision or EDF first: mne.io.read_raw_...(FILE).save('x_raw.fif')"
_TYPES = {
    "EEG": "eeg", "EOG": "eog", "HEOG": "eog", "VEOG": "eog", "ECG": "ecg", "EKG": "ecg", "EMG": "emg", "TRIG": "stim",
    "MISC": "misc", "REF": "misc", "AUDIO": "misc", "EYEGAZE": "misc", "PUPIL": "misc", "GSR": "gsr", "RESP": "resp",
    "TEMP": "temperature", "SYSCLOCK": "misc", "ADC": "misc", "DAC": "misc", "SEEG": "seeg", "ECOG": "ecog",
    "DBS": "dbs", "PPG": "bio", "OTHER": "misc",
}  # fmt: skip
"""BIDS's channel types in MNE's words."""
_UNREADABLE = {".gdf": gdf.unreadable, ".cnt": neuroscan.unreadable}
_MENDED = {".gdf": gdf.corrected, ".cnt": neuroscan.corrected, ".mff": egi.corrected}
_BY_NAME = re.compile(
    r"^(?:(?P<left>[hv]?eog|ecg|ekg|emg|resp|temp|sao2|spo2|pleth|gsr|eda)(?=$|[^a-z])|.*\b(?P<right>[hv]?eog|ecg|ekg|emg)$)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A recording as it is in its file.

    Parameters
    ----------
    path : Path
        The file.
    raw : mne.io.Raw
        Loaded, with channel types and bad channels as file and sidecars say.
    clock : Clock
        Of its stored samples.
    marks : tuple of Marks
        By source, the one to prefer first: events.tsv, annotations, trigger channels.
    notes : Notes
        What is worth saying.
    units : dict of str to str
        What each channel's samples were declared to be in, where the file says it.
    bands : dict of str to tuple
        What an EDF says each channel was filtered to: high-pass and low-pass in Hz, None where it does not say.
    """

    path: Path
    raw: Any
    clock: Clock
    marks: tuple[Marks, ...]
    notes: Notes
    units: dict[str, str] = field(default_factory=dict)
    bands: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)


def is_recording(path: Path) -> bool:
    """Whether a file or folder is named like a recording."""
    name = path.name.lower()
    return path.exists() and name.endswith(SUFFIXES) and (path.is_dir() == name.endswith(FOLDERS))


def read_recording(path: Path, *, column: str = "", stim_channel: str = "", mask: int | None = None) -> Reading:
    """Read a recording and all that stands beside it.

    Parameters
    ----------
    path : Path
        The file (or folder, of an .mff).
    column : str
        Of events.tsv; see `rtserve.signals.marks.tabled`.
    stim_channel : str
        The trigger channel; empty for all.
    mask : int, optional
        Bits of it that count.

    Raises
    ------
    InputError
        Where it cannot be read whole, or a table beside it cannot be read.
    EnvironmentMissingError
        Where its format needs a package that is not installed.
    """
    _require_readable(path)
    require_fetched(path)
    notes, header = Notes(), None
    if path.suffix.lower() in EDF_SUFFIXES:
        header = read_header(path)
        require_whole(path, header)
    if path.suffix.lower() in HEADS:
        headed_beside(path)
    require_modest(path)
    require_first_part(path)
    with listening(notes):
        raw, stamped = _read(path)
    said, sidecars = " ".join(_without_paths(line, path) for line in notes.lines()), find_sidecars(path)
    require_all_there(path, raw, said, tabled=sidecars.events is not None)
    lost, records, kept = "omitted" in said.lower(), None, None
    with listening(notes):
        if header is not None and header.discontinuous:
            onsets, found = read_notes(path, header)
            records, kept = (onsets, header.record_s), from_notes(found)
        _type_channels(raw, sidecars, path, notes)
        own = stamped.marks if stamped is not None else kept or _annotated(raw, path, notes, lost=lost)
        marks = [*_table_marks(sidecars, column, path, notes), own]
        pulses = triggered(_with_stim(raw, stim_channel, path), path, channel=stim_channel, mask=mask)
        marks = [*pulses, *marks] if stim_channel else [*marks, *pulses]  # who names a channel means it
        _project(raw, notes)
    rate = float(raw.info["sfreq"])
    stretches = stamped.stretches if stamped is not None else stretches_of(rate, raw.n_times, marks, records)
    if not stretches:
        raise InputError(f"{path} holds no sample", hint="is it the right file?")
    if len(stretches) > 1:
        notes.add(_gaps(stretches, rate))
    clock = Clock.of(rate, stretches)
    _tell_events_beyond(marks, clock, notes)
    units = dict(getattr(raw, "_orig_units", None) or {})
    return Reading(
        path=path, raw=raw, clock=clock, marks=tuple(marks), notes=notes, units=units,
        bands=header.bands if header is not None else {},
    )  # fmt: skip


def _annotated(raw: Any, path: Path, notes: Notes, *, lost: bool) -> Marks:
    """Return a recording's annotations, mended where MNE's reader does not take them as their format means them."""
    marks = annotated(raw, path, lost=lost)
    mend = _MENDED.get(path.suffix.lower())
    return mend(marks, raw, path, notes) if mend is not None else marks


def _without_paths(line: str, path: Path) -> str:
    """Return what a reader said without the names of files and folders, which may be any words."""
    names = {str(path), str(path.absolute()), str(path.resolve()), path.name, *map(str, path.absolute().parents)}
    for name in sorted(names - {"/", "."}, key=len, reverse=True):
        line = line.replace(name, "")
    return line


def _project(raw: Any, notes: Notes) -> None:
    """Apply the projectors that a file holds, as `mne.Epochs` does: an average reference is often stored as one."""
    eeg = {name for name, kind in zip(raw.ch_names, raw.get_channel_types(), strict=True) if kind == "eeg"}
    names = [p["desc"] for p in raw.info["projs"] if not p["active"] and eeg & set(p["data"]["col_names"])]
    if names:
        raw.apply_proj(verbose="warning")
        notes.add(f"projectors of the file applied, as mne.Epochs does: {', '.join(names)}")


def _tell_events_beyond(marks: list[Marks], clock: Clock, notes: Notes) -> None:
    """Say where events go on after the last sample, as they do in half a file."""
    for some in marks:
        last = float(some.onset.max(initial=0.0))
        if last > clock.duration + 1.0:
            notes.add(
                f"events of {some.source} go on to {last:.1f} s, the samples end at {clock.duration:.1f} s: is the"
                " recording cut off?"
            )


def _gaps(stretches: list[Stretch], rate: float) -> str:
    """Say how many gaps there are, and where the first one is."""
    first, second = stretches[:2]
    end = first.time + (first.stop - first.start) / rate
    lasts = f", {second.time - end:g} s long" if second.time - end > 0.5 / rate else ""
    n = f"{len(stretches) - 1} gaps" if len(stretches) > 2 else "a gap"
    return f"recordings with {n} (first at {end:g} s{lasts}): no window, trial or filter goes across one"


def _require_readable(path: Path) -> None:
    """Raise `InputError` where a path is not named like a recording."""
    if not path.exists():
        lost = f"is a link to {os.readlink(path)}, which is not there" if path.is_symlink() else "does not exist"
        raise InputError(
            f"recording {path} {lost}", hint=FETCH if path.is_symlink() else file_meant(path, "check the path")
        )
    if path.suffix.lower() in (".vmrk", ".eeg", ".fdt") and path.with_suffix(_head(path)).exists():
        raise InputError(f"{path} is one part of a recording", hint=f"name its head, {path.with_suffix(_head(path))}")
    folder = path.name.lower().endswith((*FOLDERS, ".mefd"))
    if not path.is_file() and not (path.is_dir() and folder):
        what = "a folder" if path.is_dir() else "a pipe or a device"
        raise InputError(f"recording {path} is {what}, not a file", hint="name the file itself")
    if path.is_file() and not path.stat().st_size:
        raise InputError(f"recording {path} is empty (0 bytes)", hint="copy it again")
    if not os.access(path, os.R_OK):
        raise InputError(f"recording {path} cannot be read: no permission", hint="check its permissions")
    name = path.name.lower()
    if not name.endswith((*SUFFIXES, ".eeg", ".nedf", ".lay", ".data", ".dat", ".dap", ".mefd")):
        raise InputError(
            f"{path} is no recording that is read here", hint=f"one of {', '.join(SUFFIXES)}; else {_CONVERT}"
        )


def _read(path: Path) -> tuple[Any, Stamped | None]:
    """Return the samples, and where every one has a time stamp also those and what is marked by them."""
    try:
        if path.suffix.lower() == ".xdf":
            stamped = read_xdf(path)
            return stamped.raw, stamped
        with egi.unprinted():
            return _load(path), None
    except (InputError, EnvironmentMissingError):
        raise
    except Exception as error:
        raise _unreadable(path, error) from None


def _head(path: Path) -> str:
    return ".set" if path.suffix.lower() == ".fdt" else ".vhdr"


def _load(path: Path) -> Any:
    import mne

    try:
        try:
            more = {"events_as_annotations": True} if path.suffix.lower() == ".mff" else {}  # MNE's default since 1.9
            raw = mne.io.read_raw(path, preload=path.suffix.lower() != ".set", verbose="warning", **more)
            require_beside(path, raw.filenames)
            raw.load_data(verbose="warning")
        except Exception as error:
            if "encoding='latin1'" not in str(error):
                raise
            warnings.warn("annotations in Latin-1, not UTF-8", Remark, stacklevel=2)
            raw = mne.io.read_raw(path, preload=True, encoding="latin1", verbose="warning")
    except TypeError as error:
        if "number of trials" not in str(error):
            raise
        from rtserve.signals.epoched import read_epoched_set

        return read_epoched_set(path)
    return raw


def _unreadable(path: Path, error: Exception) -> InputError | EnvironmentMissingError:
    """Return the error that says what is wrong with a file, by what its reader said."""
    said = " ".join(str(error).split())[:300] or type(error).__name__
    why = _UNREADABLE.get(path.suffix.lower())
    said = why(path) or said if why is not None else said
    message = f"recording {path} cannot be read whole: {said}"
    if path.is_file() and path.suffix.lower() == ".set" and _starts(path, b"MATLAB 7.3") and "truncated" not in said:
        install = "" if importlib.util.find_spec("pymatreader") else "pip install pymatreader (the extra eeglab), or "
        return InputError(
            f"recording {path} is a .set in MATLAB's v7.3 format (HDF5) that cannot be read: {said}",
            hint=f"{install}save it again from EEGLAB with File > Preferences > 'save as -v6/v7, not v7.3'",
        )
    if path.suffix.lower() == ".cnt" and re.search("bytes per sample|CNT file larger", said):
        return neuroscan.unsaid_width(f"recording {path}", said)
    if said.startswith("No raw data in"):
        return InputError(
            f"recording {path} holds no raw data",
            hint="epochs (-epo.fif) and averages are cut already: name the raw file",
        )
    missing = re.search(
        r"the module ['\"]?(\w+)|No module named ['\"](\w+)|(?:install|requires) the (\w+)|the (\w+) module is needed"
        r"|(\w+) is required to read",
        said,
    )
    if isinstance(error, (ImportError, RuntimeError)) and missing:
        module = next(filter(None, missing.groups()))
        return EnvironmentMissingError(f"recording {path} needs the package {module}", hint=f"pip install {module}")
    if isinstance(error, FileNotFoundError) or "does not exist" in said.lower():
        return InputError(message, hint="a recording can be several files (.vhdr .eeg .vmrk, .set .fdt, split .fif): "
                          "keep them together under the names they had")  # fmt: skip
    return InputError(message, hint="copy it again; is it cut off, or another format under this name?")


def _starts(path: Path, text: bytes) -> bool:
    with open(path, "rb") as handle:
        return handle.read(len(text)) == text


def _with_stim(raw: Any, channel: str, path: Path) -> Any:
    if channel and channel not in raw.ch_names:
        raise InputError(
            f"{path} has no channel {channel}", hint=f"its channels are {', '.join(raw.ch_names[-12:])}"
        )  # fmt: skip
    return raw


def _table_marks(sidecars: Sidecars, column: str, path: Path, notes: Notes) -> list[Marks]:
    if sidecars.events is None and column:
        raise InputError(f"{path} has no events.tsv, so no column {column} in it", hint="leave --event-column out")
    if sidecars.events is None:
        return []
    table = read_table(sidecars.events)
    marks = tabled(table, column)
    for note in (*table.notes, *comma_notes(table)):
        notes.add(note)
    for some in marks[:1]:
        if some.unplaced:
            notes.add(f"{some.unplaced} rows of {table.path.name} have no onset and are left out")
    return marks


def _type_channels(raw: Any, sidecars: Sidecars, path: Path, notes: Notes) -> None:
    """Give channels the types that their names or channels.tsv say, and mark the bad ones."""
    kinds = dict(zip(raw.ch_names, raw.get_channel_types(), strict=True))
    new: dict[str, str] = {}
    if not path.name.lower().endswith((".fif", ".fif.gz")):  # a .fif states every channel's type
        for name in (name for name, kind in kinds.items() if kind == "eeg"):
            if match := _BY_NAME.match(name):
                word = (match["left"] or match["right"]).upper()
                new[name] = _TYPES.get(word, "misc")
    bads: list[str] = list(raw.info["bads"])
    if sidecars.channels is not None:
        table = read_table(sidecars.channels)
        for note in table.notes:
            notes.add(note)
        rows = [row for row in table.rows if row.get("name") in kinds]
        absent = len(table.rows) - len(rows)
        if absent:
            notes.add(f"{absent} channels of {table.path.name} are not in the recording")
        for row in rows:
            kind = row.get("type", "")
            if not is_empty(kind):
                new[row["name"]] = _TYPES.get(kind.upper(), "misc")
        bads += [row["name"] for row in rows if row.get("status", "").lower() == "bad"]
    changes = {name: kind for name, kind in new.items() if kinds[name] != kind}
    if changes:
        raw.set_channel_types(changes, on_unit_change="ignore", verbose="error")
    raw.info["bads"] = [name for name in raw.ch_names if name in bads]
