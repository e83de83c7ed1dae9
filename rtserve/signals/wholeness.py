"""Whether a recording is all there: readers read a file that was cut off as far as it goes, and half of one is none.

Before it is read: what a packed file unpacks to, since a few megabytes can ask for all memory. After: what MNE said of
the file while it read it, and the sizes that MNE does not compare.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath
from typing import Any

from rtserve.errors import InputError
from rtserve.signals.brainvision import HEADS, require_whole_samples
from rtserve.signals.limits import RATIO, SMALL_BYTES
from rtserve.signals.subjects import placed

__all__ = ["require_all_there", "require_beside", "require_fetched", "require_first_part", "require_modest"]

_CUT = re.compile(
    r"(Invalid tag with only \d+/16 bytes"
    r"|FIF tag directory missing at the end"
    r"|sample count from header doesn't match actual data"
    r"|the file is likely truncated)"
)
"""How MNE's readers say that a file ends before it should. What they say of EDF is decided by `rtserve.signals.edf`."""
_NO_MARKERS = re.compile(r"MarkerFile '([^']*)' not found; no annotations")
_SAMPLES, _REF_ROLE, _REF_FILE_NAME, _PREVIOUS = 300, 115, 118, 1
"""Of a .fif: the tag that holds samples, and those of a file that goes on with another; the role of the one before."""
_PIECE = 1 << 20
_COMPRESSED = 15
"""miCOMPRESSED of MATLAB's format 5: one zlib stream."""


def require_fetched(path: Path) -> None:
    """Raise `InputError` where a file only says where a recording is: git-annex and Git LFS leave such in its place."""
    if not path.is_file() or path.stat().st_size > 1024:
        return
    head = path.read_bytes()
    if head.startswith(b"/annex/objects/") or head.startswith(b"version https://git-lfs"):
        tool = "git-annex" if head.startswith(b"/annex") else "Git LFS"
        raise InputError(
            f"{path} is a pointer of {tool} and not the recording",
            hint="fetch it: datalad get, git annex get or git lfs pull",
        )


def require_modest(path: Path) -> None:
    """Raise `InputError` where a packed file (.fif.gz, .set) unpacks to far more than its bytes can stand for.

    EEG packed without loss takes more than a tenth of its size; a stream is counted as far as the limit and not kept.
    """
    most = max(SMALL_BYTES, RATIO * path.stat().st_size)
    total = 0
    for size in _unpacked(path):
        total += size
        if total > most:
            raise InputError(
                f"recording {path} has {path.stat().st_size:,} bytes and unpacks to more than {most:,}",
                hint="the file is damaged or made to exhaust memory; nothing was read",
            )


def require_first_part(path: Path) -> None:
    """Raise `InputError` where a .fif says that it goes on with another file: its times count from that one's start."""
    if not path.name.lower().endswith((".fif", ".fif.gz")):
        return
    role, before = 0, ""
    for kind, value in _head_tags(path):
        role = int.from_bytes(value, "big") if kind == _REF_ROLE else role
        if kind == _REF_FILE_NAME and role == _PREVIOUS:
            before = PureWindowsPath(value.decode("latin-1")).name
    if before:
        there = path.with_name(before)
        raise InputError(
            f"recording {path} is a later part of a recording in several files: it goes on where {before} ends",
            hint=f"name the first part; {there} is {'there' if there.exists() else 'not there'}",
        )


def _head_tags(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield kind and content of a .fif's small tags up to its first samples; damage is the reader's to name."""
    import gzip

    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as handle:
            while len(head := handle.read(16)) == 16:
                kind, _, size, then = struct.unpack(">iIii", head)
                if kind == _SAMPLES or size < 0:
                    return
                if kind in (_REF_ROLE, _REF_FILE_NAME):
                    yield kind, handle.read(size)
                else:
                    handle.seek(size, 1)
                if then > 0:
                    handle.seek(then)
                elif then < 0:
                    return
    except (OSError, EOFError, zlib.error):
        return


def _unpacked(path: Path) -> Iterator[int]:
    """Yield the sizes of the pieces that a file's packed parts unpack to; damage is the reader's to name."""
    name = path.name.lower()
    if name.endswith(".gz"):
        import gzip

        try:
            with gzip.open(path) as handle:
                while piece := handle.read(_PIECE):
                    yield len(piece)
        except (OSError, EOFError, zlib.error):
            return
    elif name.endswith(".set"):
        yield from _matlab_elements(path)


def _matlab_elements(path: Path) -> Iterator[int]:
    with open(path, "rb") as handle:
        head = handle.read(128)
        order = {b"IM": "<II", b"MI": ">II"}.get(head[126:128])
        while order and len(tag := handle.read(8)) == 8:
            kind, size = struct.unpack(order, tag)
            if kind != _COMPRESSED:
                handle.seek(size, 1)
                continue
            yield from _inflated(handle, size)


def _inflated(handle: Any, size: int) -> Iterator[int]:
    """Yield what the next `size` bytes inflate to, at most 1 MiB at a time."""
    stream, left = zlib.decompressobj(), size
    while left > 0 and (packed := handle.read(min(_PIECE, left))):
        left -= len(packed)
        try:
            while packed:
                yield len(stream.decompress(packed, _PIECE))
                packed = stream.unconsumed_tail
        except zlib.error:
            handle.seek(left, 1)
            return


def require_beside(path: Path, files: Iterable[Path | str | None]) -> None:
    """Raise `InputError` where a recording has samples in a file outside its own folder: it could name any file."""
    folders = {placed(path).parent, path.resolve().parent, placed(path), path.resolve()}
    for file in [one for one in files if one is not None]:
        if not folders & set(placed(Path(file)).parents):
            raise InputError(
                f"{path} names {file} for its samples, which is not in its own folder", hint="put that file beside it"
            )


def require_all_there(path: Path, raw: Any, said: str, *, tabled: bool) -> None:
    """Raise `InputError` where a recording that was read is not all there.

    Parameters
    ----------
    path : Path
        Its file.
    raw : mne.io.Raw
        As it was read.
    said : str
        What MNE said meanwhile.
    tabled : bool
        Whether an events.tsv has its events, so that a lost marker file loses none.
    """
    if cut := _CUT.search(said):
        raise InputError(f"recording {path} cannot be read whole: {cut[0]}", hint="copy it again; is it cut off?")
    lost = _NO_MARKERS.search(said)
    if lost and not tabled:
        raise InputError(
            f"{path} names the marker file {lost[1]}, which is not beside it: its events would be lost",
            hint="keep .vhdr, .eeg and .vmrk together under the names they had; without events, leave MarkerFile out",
        )
    if path.suffix.lower() in HEADS:
        require_whole_samples(path, raw)
