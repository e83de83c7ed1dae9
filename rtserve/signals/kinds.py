"""What a file given as windows really is, by its first bytes: the name says little, and an error should be true."""

from __future__ import annotations

import zipfile
from pathlib import Path

from rtserve.errors import InputError

__all__ = ["is_hdf5", "require_window_file"]

_HDF5, _ZIP = b"\x89HDF\r\n\x1a\n", b"PK\x03\x04"
_CURE = "a window set is an .npz or .h5 with X (n_windows, n_chans, n_times), y, sfreq and unit"
_OTHERS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x93NUMPY", "one .npy array", "numpy.savez('windows.npz', X=X, y=y, sfreq=100.0, unit='uV') makes a window set"),
    (b"MATLAB 5.0", "a MATLAB file", "read it with scipy.io.loadmat and save X and y with numpy.savez"),
    (b"MATLAB 7.3", "a MATLAB 7.3 file", "read it with h5py and save X and y with numpy.savez"),
    (b"0       ", "an EDF recording", "cut windows from it: rtserve prepare FILE -o windows.npz"),
    (b"\xffBIOSEMI", "a BDF recording", "cut windows from it: rtserve prepare FILE -o windows.npz"),
    (b"GDF ", "a GDF recording", "cut windows from it: rtserve prepare FILE -o windows.npz"),
    (b"\x1f\x8b", "compressed with gzip", "unpack it first: gunzip FILE"),
    (b"\x80", "a pickle, which is never opened", _CURE),
    (b"PAR1", "a Parquet table", _CURE),
)
_RECORDINGS = (".set", ".fdt", ".vhdr", ".eeg", ".edf", ".bdf", ".fif", ".gdf", ".cnt", ".mff", ".xdf")


def is_hdf5(path: Path) -> bool:
    """Whether the file begins as an HDF5 file does."""
    with open(path, "rb") as handle:
        return handle.read(len(_HDF5)) == _HDF5


def require_window_file(path: Path) -> None:
    """Raise `InputError` that says what the file is, where it is neither .npz nor .h5.

    What begins like one of them is left to its reader.
    """
    with open(path, "rb") as handle:
        head = handle.read(256)
    if head.startswith(_HDF5):
        return
    if head.startswith(_ZIP):
        _require_arrays(path)
        return
    for magic, what, cure in _OTHERS:
        if head.startswith(magic):
            raise InputError(f"{path} is not a window set but {what}", hint=cure)
    if not head:
        raise InputError(f"{path} is not a window set: it is empty", hint=_CURE)
    if path.suffix.lower() in _RECORDINGS:
        raise InputError(
            f"{path} is not a window set but a recording",
            hint="cut windows from it: rtserve prepare FILE -o windows.npz",
        )
    if _is_text(head):
        first = head.decode("utf-8", "replace").splitlines()[0].strip()
        raise InputError(f"{path} is not a window set but a text file; it begins {first!r:.60}", hint=_CURE)
    raise InputError(f"{path} is not a window set: neither .npz nor .h5, by its first bytes", hint=_CURE)


def _require_arrays(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:  # noqa: TID251 -- only its table of contents is read
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not a window set: a damaged or cut zip ({reason})", hint=_CURE) from None
    if any(name.endswith("/data.pkl") for name in names):
        raise InputError(f"{path} is not a window set but a checkpoint of torch", hint=_CURE)
    if not any(name.endswith(".npy") for name in names):
        some = ", ".join(names[:3]) or "nothing"
        raise InputError(f"{path} is not a window set but a zip of other files ({some})", hint=_CURE)


def _is_text(head: bytes) -> bool:
    return all(byte >= 32 or byte in (9, 10, 12, 13) for byte in head.removeprefix(b"\xef\xbb\xbf"))
