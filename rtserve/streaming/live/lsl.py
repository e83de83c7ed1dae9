"""Lab Streaming Layer: a stream of a device as a source, and answers as a stream of their own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import EnvironmentMissingError, InputError, RtserveError
from rtserve.extras import extra_module
from rtserve.spec import spelled_unit
from rtserve.streaming.live.source import About, Chunk

if TYPE_CHECKING:
    from rtserve.streaming.step_graph import StepGraph

__all__ = ["LslOutlet", "LslSource", "lsl_module"]

FOUND_S = 5.0
"""How long a stream is looked for."""
SILENT_S = 10.0
"""Without a sample for so long a stream has ended."""
BUFFERED_S = 60
CORRECTED_S = 60.0
"""So often the difference of the two clocks is measured."""
_NOT_EEG = ("trig", "marker", "event", "stim", "status", "counter", "timestamp")


def lsl_module() -> Any:
    """Return pylsl, which says nothing on stderr unless a file of settings asks for it.

    Raises
    ------
    EnvironmentMissingError
        Where it is not installed, or has no library.
    """
    loaded = "pylsl" in sys.modules
    pylsl = extra_module("pylsl", title="pylsl", extra="live")
    if not loaded and "LSLAPICFG" not in os.environ and not _has_settings():
        try:
            pylsl.set_config_content("[log]\nlevel = -2\n")
        except (AttributeError, NotImplementedError, RuntimeError) as error:
            raise EnvironmentMissingError(
                f"pylsl has an older liblsl: {error}", hint='pip install "rtserve[live]" has one in its wheel'
            ) from None
    return pylsl


def _has_settings() -> bool:
    places = ("lsl_api.cfg", os.path.expanduser("~/lsl_api/lsl_api.cfg"), "/etc/lsl_api/lsl_api.cfg")
    return any(os.path.exists(place) for place in places)


class LslSource:
    """A stream by its name.

    Parameters
    ----------
    name : str
        Of the stream, or its source id.
    found_s, silent_s : float
        How long it is looked for, and how long it may be silent before it has ended.

    Raises
    ------
    InputError
        Where there is none of that name, several, or one without a rate.
    EnvironmentMissingError
        Where pylsl is not installed.
    """

    def __init__(self, name: str, *, found_s: float = FOUND_S, silent_s: float = SILENT_S) -> None:
        if not name:
            raise InputError("lsl: names no stream", hint="--source lsl:NAME, by the stream's name or its source id")
        self._lsl, self._silent_s = lsl_module(), silent_s
        self._inlet = self._lsl.StreamInlet(self._one(name, found_s), max_buflen=BUFFERED_S)
        try:
            self._inlet.open_stream(found_s)
            info = self._inlet.info(found_s)
        except (self._lsl.TimeoutError, self._lsl.LostError):
            raise InputError(f"the stream {name} is there and does not answer", hint="is a firewall between?") from None
        rate = float(info.nominal_srate())
        if rate <= 0:
            raise InputError(f"the stream {name} has no rate of its own", hint="markers are no samples; name another")
        if info.channel_format() == self._lsl.cf_string:
            raise InputError(f"the stream {name} is of texts", hint="name one of samples")
        self._rows, names, units = _described(info)
        self.about = About(
            name=f"lsl:{name}", sfreq=rate, ch_names=names, n_chans=len(self._rows),
            units=tuple(spelled_unit(unit) for unit in units),
        )  # fmt: skip
        left = info.channel_count() - len(self._rows)
        self.notes = (
            [f"{left} of {info.channel_count()} channels are no EEG by their type, and left out"] if left else []
        )
        self.watched = True
        self._shift = 0.0

    def _one(self, name: str, found_s: float) -> Any:
        found: list[Any] = []
        end = time.monotonic() + found_s
        while not found and time.monotonic() < end:
            found = [s for s in self._lsl.resolve_streams(min(0.5, found_s)) if name in (s.name(), s.source_id())]
        if len(found) != 1:
            there = ", ".join(sorted({s.name() for s in self._lsl.resolve_streams(0.2)})) or "none"
            raise InputError(
                f"{len(found) or 'no'} streams are called {name}",
                hint="its source id names one of several" if found else f"streams here: {there}",
            )
        return found[0]

    def now(self) -> float | None:
        """Return the time on this machine's LSL clock."""
        return float(self._lsl.local_clock())

    def chunks(self) -> Iterator[Chunk]:
        """Give what comes, until nothing has come for long; times are on this machine's clock.

        Raises
        ------
        RtserveError
            Where the stream is lost.
        """
        self._shift = self._corrected()
        asked = heard = time.monotonic()
        while time.monotonic() - heard < self._silent_s:
            try:
                samples, stamps = self._inlet.pull_chunk(timeout=0.05, max_samples=4096)
            except self._lsl.LostError:
                raise RtserveError(f"{self.about.name} was lost", hint="start the run again once it is back") from None
            if not stamps:
                continue
            heard = time.monotonic()
            if heard - asked > CORRECTED_S:
                self._shift, asked = self._corrected(), heard
            x, times = np.asarray(samples, float).T[self._rows], np.asarray(stamps) + self._shift
            yield Chunk(x=x, times=times, shift=self._shift)

    def _corrected(self) -> float:
        try:
            return float(self._inlet.time_correction(2.0))
        except (self._lsl.TimeoutError, self._lsl.LostError):
            return self._shift

    def close(self) -> None:
        """Close the inlet."""
        self._inlet.close_stream()


def _described(info: Any) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """Return a stream's EEG channels: their rows, their names (none where one lacks it), and their units."""
    n = info.channel_count()
    labels, kinds, units = (
        [str(text or "") for text in (found or [""] * n)][:n]
        for found in (info.get_channel_labels(), info.get_channel_types(), info.get_channel_units())
    )
    rows = [k for k in range(n) if not any(word in kinds[k].lower() for word in _NOT_EEG)]
    names = tuple(labels[k].strip() for k in rows)
    return np.array(rows, int), names if all(names) else (), [units[k] for k in rows]


class LslOutlet:
    """Answers as a stream: one sample each, at the time at which its window ends.

    Parameters
    ----------
    name : str
        Of the new stream.
    step : StepGraph
        What answers.
    rate : float
        Samples in a second of its source.
    """

    def __init__(self, name: str, step: StepGraph, rate: float) -> None:
        lsl, out = lsl_module(), step.output_spec
        info = lsl.StreamInfo(
            name, "Answers", out.n_outputs, rate / step.hop, "float32", f"rtserve-{name}-{step.digest[:12]}"
        )
        labels = out.classes if len(out.classes) == out.n_outputs else [f"y{k}" for k in range(out.n_outputs)]
        channels = info.desc().append_child("channels")
        for label in labels:
            channels.append_child("channel").append_child_value("label", label)
        self._outlet = lsl.StreamOutlet(info)

    def __call__(self, end_s: float, y: np.ndarray) -> None:
        """Send an answer (n_outputs,)."""
        self._outlet.push_sample(y.tolist(), end_s)

    def close(self) -> None:
        """End the stream: liblsl does so once nobody holds it."""
        del self._outlet
