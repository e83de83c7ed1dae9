"""What MNE does not compare in a BrainVision recording: its header's claims, and where its markers are."""

from __future__ import annotations

import re
from pathlib import Path, PureWindowsPath
from typing import Any

from rtserve.errors import InputError

__all__ = ["HEADS", "marker_file", "require_beside", "require_whole_samples"]

HEADS = (".vhdr", ".ahdr")
_WIDTHS = {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}
_AGAIN = "copy it again; is it cut off?"


def marker_file(path: Path) -> Path:
    """Return the file with the markers of the header `path`, by the name in it or, where that is not there, its own."""
    named = _said(path, "MarkerFile").replace("$b", path.stem)
    found = path.with_name(Path(named).name) if named else path
    return found if named and found.exists() else path.with_suffix(path.suffix.lower().replace("hdr", "mrk"))


def require_beside(path: Path) -> None:
    """Raise `InputError` where a header names samples or markers that are not in its own folder.

    Programs that record write all files beside each other; a header that came from elsewhere could name any file.
    """
    for key in ("DataFile", "MarkerFile"):
        named = _said(path, key)
        if PureWindowsPath(named).name != named:
            raise InputError(
                f"{path} names {named} as its {key}, which is not in its own folder",
                hint=f"put that file beside it, and write {key}={PureWindowsPath(named).name or 'NAME'}",
            )


def require_whole_samples(path: Path, raw: Any) -> None:
    """Compare the size of the samples with the header's channels, and with its DataPoints where it says them.

    Parameters
    ----------
    path : Path
        The header.
    raw : mne.io.Raw
        As it was read.

    Raises
    ------
    InputError
        Where there are fewer than there should be.
    """
    data, channels, points = Path(raw.filenames[0]), _said(path, "NumberOfChannels"), _said(path, "DataPoints")
    width = _WIDTHS.get(_said(path, "BinaryFormat").upper())
    size = data.stat().st_size
    if width and channels.isdecimal() and size % (width * int(channels)):
        raise InputError(
            f"recording {path} is cut off: {data.name} has {size:,} bytes, no whole number of samples of {channels}"
            " channels",
            hint=_AGAIN,
        )
    held = size // (width * int(channels)) if width and channels.isdecimal() else raw.n_times
    if points.isdecimal() and int(points) > held:
        raise InputError(
            f"recording {path} is cut off: {data.name} has {held:,} samples, its header promises {int(points):,}",
            hint=_AGAIN,
        )


def _said(path: Path, key: str) -> str:
    found = re.search(rf"^{key}\s*=\s*(.*?)\s*$", path.read_bytes().decode("latin-1"), re.MULTILINE)
    return found[1] if found else ""
