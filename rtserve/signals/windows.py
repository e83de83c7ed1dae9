"""`WindowSet`: windows of EEG with their target, subject and run, in volts.

The file format is .npz or .h5 with the arrays ``X (n_windows, n_chans, n_times)``, ``y (n_windows,)``, ``subject``,
``run_id``, ``ch_names``, ``sfreq`` (Hz), ``t0`` (s, first sample relative to the event) and ``unit``. Files may be in
microvolt; in memory X is always volts.
"""

from __future__ import annotations

import functools
import hashlib
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError, SpecMismatchError
from rtserve.files import readable_file, replacing
from rtserve.spec import UNITS, InputSpec, channel_difference, electrode

__all__ = ["WindowSet", "load_windows", "save_windows"]


@dataclass(frozen=True, kw_only=True)
class WindowSet:
    """Windows in volts.

    Parameters
    ----------
    X : ndarray, float32, (n_windows, n_chans, n_times)
        Samples in volts.
    y : ndarray, float32, (n_windows,)
        Target of each window.
    subject, run_id : ndarray of str, (n_windows,)
        Whose and which recording; empty arrays where not known.
    ch_names : tuple of str
        Channel names in order, or empty.
    sfreq : float
        Hz.
    t0 : float
        Time in s of the first sample relative to the event.
    target : str
        What y is, as in `rtserve.spec.OutputSpec`; empty where not said.
    extra : dict
        Further arrays (n_windows, ...) and scalars that the file carried.
    """

    X: np.ndarray
    y: np.ndarray
    subject: np.ndarray = field(default_factory=lambda: np.empty(0, "U1"))
    run_id: np.ndarray = field(default_factory=lambda: np.empty(0, "U1"))
    ch_names: tuple[str, ...] = ()
    sfreq: float = 100.0
    t0: float = 0.0
    target: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.X.shape[0])

    @property
    def input_spec(self) -> InputSpec:
        """The spec a network for these windows has."""
        return InputSpec(
            n_chans=self.X.shape[1], n_times=self.X.shape[2], sfreq=self.sfreq, ch_names=self.ch_names, unit="V"
        )

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over X, y and subject: the name of this data in a metric's signature."""
        digest = hashlib.sha256()
        for array in (self.X.astype("<f4"), self.y.astype("<f4"), self.subject.astype("U")):
            digest.update(repr(array.shape).encode())
            digest.update(
                np.ascontiguousarray(array).tobytes() if array.dtype.kind == "f" else "\0".join(array).encode()
            )
        return digest.hexdigest()

    def take(self, index: np.ndarray) -> WindowSet:
        """Return the windows that `index` (integers or a mask) names."""
        return WindowSet(
            X=self.X[index],
            y=self.y[index],
            subject=self.subject[index] if self.subject.size else self.subject,
            run_id=self.run_id[index] if self.run_id.size else self.run_id,
            ch_names=self.ch_names,
            sfreq=self.sfreq,
            t0=self.t0,
            target=self.target,
            extra={k: v[index] if np.shape(v)[:1] == (len(self),) else v for k, v in self.extra.items()},
        )

    def require_spec(self, spec: InputSpec, *, name: str) -> str:
        """Make sure that a network with `spec` (called `name`) can take these windows.

        Channel names are refused only where they are the network's in another order; other names for as many channels
        are the user's to judge. Cz and E129 are one electrode.

        Returns
        -------
        str
            What is worth saying about the channel names, or ``""``.

        Raises
        ------
        SpecMismatchError
            Where channels, samples or rate differ, or the channels stand in another order.
        """
        mine = self.input_spec
        pairs = [(key, getattr(mine, key), getattr(spec, key)) for key in ("n_chans", "n_times", "sfreq")]
        known = [pair for pair in pairs if not (pair[0] == "sfreq" and pair[2] == 0)]
        wrong = [f"{key} {data} against {graph}" for key, data, graph in known if data != graph]
        note = "" if wrong else channel_difference(mine.ch_names, spec.ch_names)
        reordered = sorted(map(electrode, mine.ch_names)) == sorted(map(electrode, spec.ch_names))
        if note and reordered:
            wrong = [f"{note}, the same names in another order"]
        if wrong:
            raise SpecMismatchError(
                f"the windows do not fit {name} (data against graph): {'; '.join(wrong)}",
                hint="use windows cut for this network: same channels in the same order, samples and rate",
            )
        return f"channel names of the windows and of {name} differ: {note}" if note else ""


def load_windows(path: str | Path, *, allow_nonfinite: bool = False) -> WindowSet:
    """Read a window set; X comes back in volts.

    Parameters
    ----------
    path : path
        An .npz or .h5 file.
    allow_nonfinite : bool
        Keep windows with NaN or Inf in them instead of refusing the file.

    Raises
    ------
    InputError
        Where the file is no window set, shapes contradict each other, values are not finite, or the scale contradicts
        the unit.
    """
    path = readable_file(path, "window set")
    arrays = _read_hdf5(path) if path.suffix in (".h5", ".hdf5") else _read_npz(path)
    return _from_arrays(arrays, path, allow_nonfinite=allow_nonfinite)


def save_windows(path: str | Path, windows: WindowSet, *, force: bool = False) -> Path:
    """Write a window set whole or not at all, as .npz or .h5 by the name's ending; same windows, same bytes (.npz)."""
    arrays = _to_arrays(windows)
    path = Path(path)
    with replacing(path, force=force) as temporary:
        if path.suffix in (".h5", ".hdf5"):
            _write_hdf5(temporary, arrays)
        else:
            with open(temporary, "wb") as handle:
                np.savez(handle, **arrays)
    return path


def _to_arrays(windows: WindowSet) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "X": windows.X.astype(np.float32),
        "y": windows.y.astype(np.float32),
        "sfreq": np.float64(windows.sfreq),
        "t0": np.float64(windows.t0),
        "unit": np.array("V"),
        "target": np.array(windows.target),
        "ch_names": np.array(windows.ch_names, dtype="U"),
    }
    if windows.subject.size:
        arrays["subject"] = windows.subject.astype("U")
    if windows.run_id.size:
        arrays["run_id"] = windows.run_id.astype("U")
    return windows.extra | arrays


def _read_npz(path: Path) -> dict[str, Any]:
    hint = "a window set is an .npz with X (n_windows, n_chans, n_times), y and sfreq; see `rtserve inspect`"
    try:
        # Opened here and not by numpy, which leaves a broken file open.
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:
            if not hasattr(archive, "files"):
                raise InputError(f"{path} holds one array, not a window set", hint=hint)
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, KeyError, AttributeError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a window set ({' '.join(str(error).split())})", hint=hint) from None


def _read_hdf5(path: Path) -> dict[str, Any]:
    import h5py

    try:
        with h5py.File(path, "r") as archive:
            arrays = {name: archive[name][()] for name in archive if isinstance(archive[name], h5py.Dataset)}
            arrays |= {name: value for name, value in archive.attrs.items() if name not in arrays}
    except OSError as error:
        raise InputError(
            f"{path} is not an HDF5 file ({' '.join(str(error).split())})", hint="see `rtserve inspect`"
        ) from None
    return {name: _decoded(value) for name, value in arrays.items()}


def _decoded(value: Any) -> Any:
    array = np.asarray(value)
    if array.dtype.kind in "OS":
        return np.array([v.decode() if isinstance(v, bytes) else str(v) for v in array.ravel()]).reshape(array.shape)
    return array


def _write_hdf5(path: Path, arrays: dict[str, Any]) -> None:
    import h5py

    with h5py.File(path, "w") as archive:
        for name, value in arrays.items():
            array = np.asarray(value)
            if array.dtype.kind == "U":
                array = np.array([str(v).encode() for v in array.ravel()], dtype="S").reshape(array.shape)
            archive.create_dataset(name, data=array, compression="gzip" if array.ndim == 3 else None)


def _from_arrays(arrays: dict[str, Any], path: Path, *, allow_nonfinite: bool) -> WindowSet:
    missing = [name for name in ("X", "y") if name not in arrays]
    if missing:
        raise InputError(
            f"{path} has no {' and no '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}",
            hint="a window set holds X (n_windows, n_chans, n_times) and y (n_windows,)",
        )
    X, y = np.asarray(arrays.pop("X")), np.asarray(arrays.pop("y"))
    if X.ndim != 3 or X.dtype.kind not in "fiu":
        raise InputError(f"X in {path} is {X.dtype} {X.shape}", hint="X is (n_windows, n_chans, n_times), numbers")
    if not len(X):
        raise InputError(f"{path} holds no windows", hint="give at least one window")
    if y.shape[:1] != X.shape[:1] or y.ndim > 2 or y.dtype.kind not in "fiu":
        raise InputError(f"y in {path} is {y.dtype} {y.shape} for {X.shape[0]} windows", hint="one target per window")
    unit = str(arrays.pop("unit", "V"))
    X = _in_volts(X.astype(np.float32, copy=False), unit, path)
    if not allow_nonfinite:
        _require_finite(X, y, path)
    names = [str(name) for name in np.atleast_1d(arrays.pop("ch_names", np.empty(0, "U1")))]
    if names and len(names) != X.shape[1]:
        raise InputError(f"{path} names {len(names)} channels for {X.shape[1]}", hint="name every channel, or none")
    sfreq = float(arrays.pop("sfreq", 100.0))
    t0, target = float(arrays.pop("t0", 0.0)), str(arrays.pop("target", ""))
    subject = _labels(arrays, "subject", len(X), path)
    run_id = _labels(arrays, "run_id", len(X), path)
    y = y.astype(np.float32)
    return WindowSet(
        X=X, y=y.reshape(len(X)) if y.size == len(X) else y,
        subject=subject, run_id=run_id, ch_names=tuple(names), sfreq=sfreq, t0=t0, target=target, extra=arrays,
    )  # fmt: skip


def _labels(arrays: dict[str, Any], key: str, n: int, path: Path) -> np.ndarray:
    labels = np.atleast_1d(np.asarray(arrays.pop(key, np.empty(0, "U1")))).astype("U")
    if labels.size not in (0, n):
        raise InputError(f"{path} has {labels.size} entries in {key} for {n} windows", hint="one per window, or none")
    return labels


def _in_volts(X: np.ndarray, unit: str, path: Path) -> np.ndarray:
    """Return X in volts; refuse a scale no scalp EEG in that unit can have."""
    if unit not in UNITS or unit == "1":
        raise InputError(f"{path} has unknown unit {unit!r}", hint="use V, mV or uV")
    volts = X if unit == "V" else X * np.float32(UNITS[unit])
    few = volts.ravel()[:: max(1, volts.size // 1_000_000)]
    spread = float(np.median(np.abs(few[np.isfinite(few)]))) if np.isfinite(few).any() else 0.0
    if spread > 1e-2:
        raise InputError(
            f"{path} says its unit is {unit}, but half its samples exceed {spread:.3g} V; EEG is about 1e-5 V",
            hint="if the samples are microvolt, set unit to 'uV' (a factor of 1e6)",
        )
    return volts


def _require_finite(X: np.ndarray, y: np.ndarray, path: Path) -> None:
    bad = ~np.isfinite(X).all(axis=(1, 2))
    bad_y = ~np.isfinite(y.reshape(len(y), -1)).all(axis=1)
    if bad.any() or bad_y.any():
        which = np.flatnonzero(bad | bad_y)
        raise InputError(
            f"{path}: {int(bad.sum())} windows hold NaN or Inf, {int(bad_y.sum())} targets do (first: {which[0]})",
            hint="drop or repair those windows first; a score over them would be NaN",
        )
