"""Views (test-time augmentation): deterministic changes of a window, each by a name and as a `LinearView`.

A view takes x (batch, n_chans, n_times) and gives the same shape. Those here are all linear maps, which is what lets
the compiler share work between them:

=================  ==========================================================================================
``identity``       x
``roll:+k``        ``torch.roll(x, k, -1)``: sample t comes from t - k, what leaves at one end enters at the other
``crop-shift:+k``  the same with zeros filled in
``scale:a``        a x
``sign-flip``      -x
``time-reverse``   x backwards in time
``mirror``         left and right electrodes exchanged, from their positions
``permute:FILE``   channels in the order that a file gives (names or indices)
``drop:E1+E2``     those channels set to 0
=================  ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rtserve.errors import InputError
from rtserve.fusion.ir.conv import ZERO
from rtserve.fusion.ir.linear_view import LinearView
from rtserve.nearest import meant
from rtserve.spec import InputSpec, OutputSpec, electrode

if TYPE_CHECKING:
    import torch

__all__ = ["Refusal", "View", "parse_view", "parse_views"]


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why a view may not be used; `forceable` where it is a matter of meaning, not of possibility."""

    reason: str
    forceable: bool = True


@dataclass(frozen=True, kw_only=True)
class View:
    """One view, by its kind and what that takes.

    Parameters
    ----------
    name : str
        Canonical text, e.g. ``"roll:+3"``; what `parse_view` reads.
    kind : str
        The part before the colon.
    argument : int, float or str
        What stands after the colon: samples, a factor, channels or a file.
    order : tuple of int
        For mirror and permute, once bound to a spec: output channel c is input channel ``order[c]``.
    dropped : tuple of int
        For drop, once bound to a spec: channels set to 0.
    """

    name: str
    kind: str
    argument: Any = ""
    order: tuple[int, ...] = ()
    dropped: tuple[int, ...] = ()

    def bind(self, spec: InputSpec) -> View:
        """Return the view with channel names resolved for windows of `spec`.

        Raises
        ------
        InputError
            Where the spec does not have what the view names.
        """
        if self.kind == "drop" and not self.dropped:
            return replace(self, dropped=_channel_indices(self.argument.split("+"), spec, self.name))
        if self.kind == "permute" and not self.order:
            return replace(self, order=_read_order(self.argument, spec))
        if self.kind == "mirror" and not self.order:
            from rtserve.fusion.mirror import mirror_order

            return replace(self, order=mirror_order(spec))
        return self

    def valid_for(self, spec: InputSpec, output: OutputSpec) -> Refusal | None:
        """Return None where the view can be used with these windows and this target, or why not."""
        if self.kind == "time-reverse" and output.target == "response_time":
            return Refusal(reason="time-reverse breaks a response time: the response would precede the stimulus")
        if self.kind == "mirror" and output.target == "class":
            return Refusal(reason="mirror may exchange classes that are left and right (motor imagery)")
        if self.kind in SHIFTS and abs(self.argument) >= spec.n_times:
            reason = f"{self.name} shifts by {abs(self.argument)} samples, a window has {spec.n_times}"
            return Refusal(reason=reason, forceable=self.kind == "roll")
        if self.kind == "drop" and len(self.dropped) == spec.n_chans:
            return Refusal(reason=f"{self.name} sets every channel to 0")
        return None

    def linear(self, n_chans: int, n_times: int) -> LinearView:
        """Return the view of windows of one size, once bound."""
        return _linear(self, n_chans, n_times)

    def torch(self, x: torch.Tensor) -> torch.Tensor:
        """Return the view of x (batch, n_chans, n_times) in torch."""
        return self.linear(*x.shape[1:]).torch(x)

    def to_dict(self) -> dict[str, object]:
        """Return what a graph's provenance keeps: the name, and the resolved channels where there are some."""
        extra = {"order": list(self.order)} if self.order else {"dropped": list(self.dropped)} if self.dropped else {}
        return {"name": self.name, **extra}

    @classmethod
    def from_dict(cls, values: dict[str, object]) -> View:
        """Read what `to_dict` wrote; needs no file and no spec."""
        view = parse_view(str(values["name"]))
        order, dropped = values.get("order", ()), values.get("dropped", ())
        return replace(view, order=tuple(order), dropped=tuple(dropped))  # type: ignore[arg-type]


class Kind(NamedTuple):
    """A kind of view: all that is said of it, and what a person reads of it."""

    read: type | None
    of: Callable[[View, np.ndarray, np.ndarray], dict[str, Any]]
    example: str
    meaning: str


KINDS = {
    "identity": Kind(None, lambda view, t, c: {}, "identity", "the window as it is"),
    "roll": Kind(int, lambda view, t, c: {"times": (t - view.argument) % len(t)}, "roll:+3",
                 "samples moved in time; what leaves at one end enters at the other"),
    "crop-shift": Kind(int, lambda view, t, c: {"times": _inside(t - view.argument, len(t))}, "crop-shift:-3",
                       "samples moved in time, zeros filled in"),
    "scale": Kind(float, lambda view, t, c: {"factor": view.argument}, "scale:1.02", "every sample times a factor"),
    "sign-flip": Kind(None, lambda view, t, c: {"factor": -1.0}, "sign-flip", "the window negated"),
    "time-reverse": Kind(None, lambda view, t, c: {"times": t[::-1]}, "time-reverse", "the window backwards in time"),
    "mirror": Kind(None, lambda view, t, c: {"channels": np.array(view.order)}, "mirror",
                   "left and right electrodes exchanged, from their positions"),
    "permute": Kind(str, lambda view, t, c: {"channels": np.array(view.order)}, "permute:FILE",
                    "channels in the order that a file gives"),
    "drop": Kind(str, lambda view, t, c: {"channels": np.where(np.isin(c, view.dropped), ZERO, c)}, "drop:E1+E2",
                 "those channels set to 0"),
}  # fmt: skip
"""Kind to what its argument is read as, None where it takes none; what it is of samples t and channels c; and what
`rtserve list views` says of it."""
SHIFTS = ("roll", "crop-shift")
"""Kinds whose argument is by how many samples all are moved."""


def _inside(times: np.ndarray, n_times: int) -> np.ndarray:
    return np.where((times >= 0) & (times < n_times), times, ZERO)


@lru_cache(maxsize=256)
def _linear(view: View, n_chans: int, n_times: int) -> LinearView:
    t, c = np.arange(n_times), np.arange(n_chans)
    return LinearView(**{"times": t, "channels": c} | KINDS[view.kind].of(view, t, c))


def parse_view(text: str) -> View:
    """Read one view.

    Raises
    ------
    InputError
        Where the name is unknown (the nearest is named) or its argument does not fit.
    """
    if not isinstance(text, str):
        raise InputError(f"view {text!r} is no view", hint='give its name, as in "roll:+3", or a View')
    kind, colon, argument = text.strip().partition(":")
    if kind not in KINDS:
        raise InputError(f"unknown view {text!r}", hint=meant(kind, KINDS, f"views are {', '.join(KINDS)}"))
    read = KINDS[kind].read
    if (read is not None) != bool(colon and argument):
        raise InputError(
            f"view {text!r} {'takes no argument' if read is None else 'needs an argument'}",
            hint=f"for example {', '.join(one.example for one in KINDS.values() if one.read)}",
        )
    if read is int or read is float:
        value = _number(text, argument, read)
        return View(name=f"{kind}:{value:+d}" if read is int else f"{kind}:{value!r}", kind=kind, argument=value)
    name = text.strip() if kind != "permute" else f"permute:{argument.rpartition('/')[2]}"
    return View(name=name, kind=kind, argument=argument)


def parse_views(given: str | Sequence[str | View]) -> tuple[View, ...]:
    """Read a comma-separated list of views (or a sequence of names, and of what is one already).

    Raises
    ------
    InputError
        Where there is none, one is wrong (`parse_view`), or it is no sequence of them.
    """
    parts = given.split(",") if isinstance(given, str) else given
    if not isinstance(parts, Iterable):
        raise InputError(f"views {given!r} name no view", hint='give names, as in views="identity,roll:+3", or Views')
    views = tuple(v if isinstance(v, View) else parse_view(v) for v in parts if not isinstance(v, str) or v.strip())
    if not views:
        raise InputError("no view given", hint="at least identity")
    return views


def _number(text: str, argument: str, kind: type) -> Any:
    """Return `argument` as a whole number, or as one that float32 can hold."""
    try:
        value = kind(argument)
        fits = abs(value) <= float(np.finfo(np.float32).max)
    except ValueError:
        fits = False
    if not fits:
        wanted = "a whole number" if kind is int else "a finite number"
        raise InputError(f"view {text!r}: {argument!r} is not {wanted}", hint="for example roll:+3 or scale:1.02")
    return value


def _channel_indices(names: Sequence[str], spec: InputSpec, view: str) -> tuple[int, ...]:
    """Return positions of channels given by name, or by index where the spec has no names."""
    known = {electrode(name): i for i, name in enumerate(spec.ch_names)}
    found = [known.get(electrode(n), int(n) if n.isdecimal() else -1) for n in names]
    missing = [n for n, index in zip(names, found, strict=True) if not 0 <= index < spec.n_chans]
    if missing:
        have = ", ".join(spec.ch_names[:6]) + ", ..." if spec.ch_names else f"no names, only 0..{spec.n_chans - 1}"
        raise InputError(
            f"view {view}: no channel {', '.join(missing)}; the windows have {have}", hint="name channels of the input"
        )
    return tuple(sorted(set(found)))


def _read_order(path: str, spec: InputSpec) -> tuple[int, ...]:
    """Read a channel order: a JSON list, or one name or index per line."""
    import json

    from rtserve.files import readable_file

    text = readable_file(path, "channel order").read_text("utf-8-sig", errors="replace")
    try:
        entries = [str(entry) for entry in json.loads(text)]
    except (json.JSONDecodeError, TypeError):
        entries = text.split()
    known = {electrode(name): i for i, name in enumerate(spec.ch_names)}
    try:
        order = tuple(known[electrode(entry)] if electrode(entry) in known else int(entry) for entry in entries)
    except ValueError as error:
        raise InputError(f"{path}: {error}", hint="give channel names of the input, or indices from 0") from None
    if sorted(order) != list(range(spec.n_chans)):
        raise InputError(
            f"{path} is no permutation: {len(order)} entries, {len(set(order))} different, for {spec.n_chans} channels",
            hint="every channel once",
        )
    return order
