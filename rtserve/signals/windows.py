"""`WindowSet`: windows of EEG with their targets, subject and run.

The file format is .npz or .h5 (for large sets) with the arrays ``X (n_windows, n_chans, n_times)``, ``y (n_windows,)``,
``subject``, ``run_id``, ``ch_names``, ``sfreq`` (Hz), ``t0`` (s, first sample relative to the event), ``unit``,
``target``, ``classes``, and further targets ``y.NAME`` with ``classes.NAME``. What a file does not state is unknown.
Files may be in microvolt; in memory X is volts, or standardised (unit ``"1"``), or as it stands where the unit is
unknown. X of more than 32 MiB stays in its file and is read as it is needed (`rtserve.signals.stored`).
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import readable_file, replacing
from rtserve.signals import fields
from rtserve.signals.arrays import read_arrays
from rtserve.signals.fields import Stated, Target
from rtserve.signals.fitting import require_output, require_spec
from rtserve.signals.hdf5 import write_hdf5
from rtserve.signals.labels import joined
from rtserve.signals.npz import write_npz
from rtserve.signals.options import require_window_name
from rtserve.signals.show import windows_card, windows_line
from rtserve.signals.soundness import require_sound
from rtserve.signals.stored import StoredArray, blocks, in_memory
from rtserve.spec import InputSpec, OutputSpec

__all__ = [
    "Stated",
    "Target",
    "WindowSet",
    "check_arrays",
    "load_windows",
    "read_arrays",
    "save_windows",
    "write_arrays",
]

_NOTHING = Stated()


@dataclass(frozen=True, kw_only=True)
class WindowSet:
    """Windows in volts, or standardised.

    Parameters
    ----------
    X : ndarray or StoredArray, float32, (n_windows, n_chans, n_times)
        Samples; a `StoredArray` is indexed like an array and reads what is indexed from its file.
    y : ndarray, float32, (n_windows,)
        Target of each window.
    subject, run_id : ndarray of str, (n_windows,)
        Whose and which recording; empty arrays where not known.
    ch_names : tuple of str
        Channel names in order, or empty.
    sfreq : float
        Hz; 0 where not known.
    t0 : float
        Time in s of the first sample relative to the event.
    target : str
        What y is, as in `rtserve.spec.OutputSpec`; empty where not said.
    unit : str or None
        ``"V"``, ``"1"`` (standardised), or None where not known.
    classes : tuple of str
        Names of the classes 0, 1, ... that y numbers; empty where y is no class or they are not named.
    targets : dict of str to Target
        Further targets of the same windows, by name; `with_target` makes one of them y.
    preprocessing : tuple of (str, str)
        What was done to the samples, as in `rtserve.spec.InputSpec`; empty where not known.
    extra : dict
        Further arrays (n_windows, ...), such as ``split`` and ``session``, and scalars that the file carried.
    source : str
        The file they come from, as messages call it; empty where they were made here.

    Raises
    ------
    InputError
        Where shapes contradict each other, samples or targets are not finite, or the samples' scale contradicts the
        unit: standardised samples are no volts.
    """

    X: np.ndarray | StoredArray
    y: np.ndarray
    subject: np.ndarray = field(default_factory=lambda: np.empty(0, "U1"))
    run_id: np.ndarray = field(default_factory=lambda: np.empty(0, "U1"))
    ch_names: tuple[str, ...] = ()
    sfreq: float = 0.0
    t0: float = 0.0
    target: str = ""
    unit: str | None = "V"
    classes: tuple[str, ...] = ()
    targets: dict[str, Target] = field(default_factory=dict)
    preprocessing: tuple[tuple[str, str], ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    source: str = field(default="", repr=False, compare=False)
    checked: tuple[Any, str | None] = field(default=(None, None), repr=False, compare=False)
    """The X, and in which unit, that was looked through already, so that a part or a copy is not again."""

    def __post_init__(self) -> None:
        X = self.X if isinstance(self.X, StoredArray) else np.asarray(self.X)
        if X.ndim != 3 or X.dtype.kind not in "fiu":
            raise InputError(f"X is {X.dtype} {X.shape}", hint="X is (n_windows, n_chans, n_times), numbers")
        if self.unit not in ("V", "1", None):
            raise InputError(
                f"windows in unit {self.unit!r}", hint="in memory they are in V (uV times 1e-6), in '1', or None"
            )
        known = self.checked[0] is self.X and self.checked[1] == self.unit
        X = X if isinstance(X, StoredArray) else X.astype(np.float32, copy=False)
        object.__setattr__(self, "X", X)
        object.__setattr__(self, "y", np.asarray(self.y))
        self._require_lengths()
        if not known and len(X):
            require_sound(X, self.y, self.unit, name="the window set")
        object.__setattr__(self, "checked", (X, self.unit))

    def _require_lengths(self) -> None:
        n, n_chans = self.X.shape[:2]
        if self.y.shape[:1] != (n,) or self.y.ndim > 2 or self.y.dtype.kind not in "fiub":
            raise InputError(f"y is {self.y.dtype} {self.y.shape} for {n} windows", hint="one target per window")
        for key in ("subject", "run_id"):
            if len(getattr(self, key)) not in (0, n):
                raise InputError(
                    f"{len(getattr(self, key))} entries in {key} for {n} windows", hint="one per window, or none"
                )
        wrong = next((name for name, target in self.targets.items() if target.values.shape[:1] != (n,)), None)
        if wrong is not None:
            raise InputError(
                f"target {wrong} is {self.targets[wrong].values.shape} for {n} windows", hint="one value per window"
            )
        if self.ch_names and len(self.ch_names) != n_chans:
            raise InputError(f"{len(self.ch_names)} channel names for {n_chans}", hint="name every channel, or none")
        twice = next((name for name in self.ch_names if self.ch_names.count(name) > 1), None)
        if twice is not None:
            raise InputError(f"two channels are called {twice}", hint="give every channel a name of its own, or none")
        if not np.isfinite(self.t0):
            raise InputError(f"a first sample at {self.t0} s is impossible", hint="give t0 in s from the event")
        if not (np.isfinite(self.sfreq) and self.sfreq >= 0):
            raise InputError(f"sampling rate {self.sfreq} Hz is impossible", hint="give sfreq in Hz")

    def __len__(self) -> int:
        return int(self.X.shape[0])

    def __repr__(self) -> str:
        return windows_line(self)

    def _repr_html_(self) -> str:
        return windows_card(self)

    @property
    def input_spec(self) -> InputSpec:
        """The spec a network for these windows has."""
        return InputSpec(
            n_chans=self.X.shape[1],
            n_times=self.X.shape[2],
            sfreq=self.sfreq,
            ch_names=self.ch_names,
            unit=self.unit,
            preprocessing=self.preprocessing,
        )

    @property
    def predicts(self) -> str:
        """What a network for these windows predicts, as `rtserve.spec.OutputSpec` has it: y may be the class of a sex."""
        return "class" if self.classes else self.target

    def batches(self, size: int | None = None) -> Iterator[np.ndarray]:
        """Yield X in order as float32 arrays of `size` windows, by default what makes a block of 8 MiB."""
        return blocks(self.X, size)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over X, y and subject: the name of this data in a metric's signature."""
        digest = hashlib.sha256(repr(tuple(int(size) for size in self.X.shape)).encode())
        for block in self.batches():
            digest.update(block.astype("<f4", copy=False).data)
        y = np.ascontiguousarray(self.y.astype("<f4"))
        digest.update(repr(y.shape).encode() + y.tobytes())
        digest.update(repr(self.subject.shape).encode())
        for piece in joined(self.subject):
            digest.update(piece)
        if self.unit == "1":
            digest.update(b"standardised")
        return digest.hexdigest()

    def take(self, index: np.ndarray) -> WindowSet:
        """Return the windows that `index` (integers or a mask) names; what is in a file stays there."""
        X = self.X.take(index) if isinstance(self.X, StoredArray) else self.X[index]
        return replace(
            self,
            X=X,
            y=self.y[index],
            subject=self.subject[index] if self.subject.size else self.subject,
            run_id=self.run_id[index] if self.run_id.size else self.run_id,
            targets={k: replace(v, values=v.values[index]) for k, v in self.targets.items()},
            extra={k: v[index] if np.shape(v)[:1] == (len(self),) else v for k, v in self.extra.items()},
            checked=(X, self.unit),
        )

    def with_target(self, name: str) -> WindowSet:
        """Return the windows with the target called `name` as y, and what was y among the others.

        Raises
        ------
        InputError
            Where there is no such target.
        """
        if name == self.target:
            return self
        if name not in self.targets:
            known = [label for label in (self.target, *self.targets) if label]
            raise InputError(
                f"the windows have no target {name!r}", hint=f"they have {', '.join(known) or 'one without a name'}"
            )
        chosen = self.targets[name]
        rest = {label: target for label, target in self.targets.items() if label != name}
        if self.target:
            rest[self.target] = Target(values=self.y, classes=self.classes)
        return replace(self, y=chosen.values, target=name, classes=chosen.classes, targets=rest)

    def require_spec(self, spec: InputSpec, *, name: str) -> str:
        """Make sure that a network with `spec` (called `name`) can take these windows.

        Channel names are refused only where they are the network's in another order; other names for as many channels
        are the user's to judge. Cz and E129 are one electrode.

        Returns
        -------
        str
            What is worth saying about channel names and an unknown rate, or ``""``.

        Raises
        ------
        SpecMismatchError
            Where channels, samples, rate or kind of unit differ, or the channels stand in another order.
        InputError
            Where the network says its unit, or its rate, and the file of the windows does not.
        """
        return require_spec(self, spec, name)

    def require_output(self, spec: OutputSpec, *, name: str) -> None:
        """Make sure that y is what a network with `spec` (called `name`) predicts, where both say what that is.

        Raises
        ------
        SpecMismatchError
            Where targets differ, or classes do or stand in another order: its class 1 would be scored as another.
        """
        require_output(self, spec, name)


def load_windows(path: str | Path, *, allow_nonfinite: bool = False, stated: Stated = _NOTHING) -> WindowSet:
    """Read a window set; X comes back in volts, or as it is where it is standardised or in an unknown unit.

    Parameters
    ----------
    path : path
        An .npz or .h5 file (X of more than 32 MiB stays in it), or epochs that MNE saved (``-epo.fif``).
    allow_nonfinite : bool
        Keep windows with NaN or Inf in them instead of refusing the file.
    stated : Stated
        What the caller says where the file says nothing: unit, rate, target, classes.

    Raises
    ------
    InputError
        Where the file is no window set, reads outside itself, claims more than it holds, shapes contradict each other,
        values are not finite, the scale contradicts the unit, or `stated` contradicts the file.
    """
    path = readable_file(path, "window set")
    return check_arrays(read_arrays(path), path, allow_nonfinite=allow_nonfinite, stated=stated)


def save_windows(path: str | Path, windows: WindowSet, *, force: bool = False) -> Path:
    """Write a window set whole or not at all, as .npz or .h5 by the name's ending; same windows, same bytes (.npz)."""
    require_window_name(Path(path))
    return write_arrays(path, _to_arrays(windows), force=force)


def write_arrays(path: str | Path, arrays: Mapping[str, Any], *, force: bool = False) -> Path:
    """Write the arrays of a window set by their names; X may be a `StoredArray`, and no block of it is kept."""
    path = Path(path)
    with replacing(path, force=force) as temporary:
        (write_hdf5 if path.suffix.lower() in (".h5", ".hdf5") else write_npz)(temporary, arrays)
    return path


def _to_arrays(windows: WindowSet) -> dict[str, Any]:
    arrays: dict[str, Any] = {
        "X": windows.X,
        "y": windows.y.astype(np.float32),
        "t0": np.float64(windows.t0),
        "target": np.array(windows.target),
        "ch_names": np.array(windows.ch_names, dtype="U"),
    }
    known = {
        "sfreq": np.float64(windows.sfreq) if windows.sfreq else None,
        "unit": np.array(windows.unit) if windows.unit else None,
        "classes": np.array(windows.classes, dtype="U") if windows.classes else None,
        "preprocessing": np.array(list(map("=".join, windows.preprocessing))) if windows.preprocessing else None,
        "subject": windows.subject.astype("U") if windows.subject.size else None,
        "run_id": windows.run_id.astype("U") if windows.run_id.size else None,
    }
    said = {key: value for key, value in known.items() if value is not None}
    return windows.extra | arrays | said | fields.columns(windows.targets)


def check_arrays(
    arrays: dict[str, Any], path: Path, *, allow_nonfinite: bool = False, stated: Stated = _NOTHING
) -> WindowSet:
    """Return the window set that the arrays of the file `path` are, taking them out of `arrays`; see `load_windows`."""
    name = str(path)
    missing = [key for key in ("X", "y") if key not in arrays]
    if missing:
        raise InputError(
            f"{path} has no {' and no '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}",
            hint="a window set holds X (n_windows, n_chans, n_times) and y (n_windows,)",
        )
    X = arrays.pop("X")
    if X.ndim != 3 or X.dtype.kind not in "fiu":
        raise InputError(f"X in {path} is {X.dtype} {X.shape}", hint="X is (n_windows, n_chans, n_times), numbers")
    n, n_chans = int(X.shape[0]), int(X.shape[1])
    if not all(X.shape):
        raise InputError(f"{path} holds no windows ({X.shape})", hint="give at least one window")
    classes = stated.agree("classes", fields.names_of(arrays, "classes"), name)
    y = fields.target_values(arrays.pop("y"), classes, n, "y", name)
    said = stated.agree("unit", fields.file_unit(arrays, name), name)
    X, unit = in_memory(X, said)
    require_sound(X, y, unit, name=name, stated=said or "", finite=not allow_nonfinite)
    names = fields.names_of(arrays, "ch_names")
    if names and len(names) != n_chans:
        raise InputError(f"{path} names {len(names)} channels for {n_chans}", hint="name every channel, or none")
    windows = WindowSet(
        X=X,
        y=y,
        subject=fields.labels(arrays, "subject", n, name),
        run_id=fields.labels(arrays, "run_id", n, name),
        ch_names=names,
        sfreq=stated.agree("sfreq", fields.number(arrays, "sfreq", name), name),
        t0=fields.number(arrays, "t0", name),
        target=fields.text(arrays, "target", name),
        unit=unit,
        classes=classes,
        targets=fields.read_targets(arrays, n, name),
        preprocessing=fields.steps(arrays, name),
        extra=arrays,
        source=name,
        checked=(X, unit),
    )
    return _with_stated_target(windows, stated.target, name)


def _with_stated_target(windows: WindowSet, target: str, name: str) -> WindowSet:
    """Choose or name the target as the caller says."""
    if target and (target in windows.targets or target == windows.target):
        return windows.with_target(target)
    if target and windows.target:
        others = f", and beside it {', '.join(windows.targets)}" if windows.targets else ""
        raise InputError(
            f"{name} holds the target {windows.target}{others}, not {target}", hint="use --target with one it holds"
        )
    return replace(windows, target=target) if target else windows
