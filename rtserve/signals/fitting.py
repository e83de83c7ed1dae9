"""Whether windows and a network are for each other: what `WindowSet.require_spec` and `require_output` ask."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtserve.errors import InputError, SpecMismatchError
from rtserve.spec import InputSpec, OutputSpec, channel_difference, order_difference, steps_differ

if TYPE_CHECKING:
    from rtserve.signals.windows import WindowSet

__all__ = ["require_output", "require_spec"]


def require_spec(windows: WindowSet, spec: InputSpec, name: str) -> str:
    """Make sure that a network can take windows; see `rtserve.signals.windows.WindowSet.require_spec`."""
    mine = windows.input_spec
    pairs = [(key, getattr(mine, key), getattr(spec, key)) for key in ("n_chans", "n_times", "sfreq")]
    wrong = [f"{key} {data} against {graph}" for key, data, graph in pairs if data and graph and data != graph]
    wrong += steps_differ(dict(mine.preprocessing), dict(spec.preprocessing))
    note = "" if wrong else channel_difference(mine.ch_names, spec.ch_names)
    wrong += [reordered] if (reordered := order_difference(mine.ch_names, spec.ch_names)) else []
    if wrong:
        raise SpecMismatchError(
            f"the windows do not fit {name} (data against graph): {'; '.join(wrong)}",
            hint="use windows cut for this network: same channels in the same order, samples and rate",
        )
    said = [f"channel names of the windows and of {name} differ: {note}"] if note else []
    return "; ".join(said + _unstated(windows, spec, name))


def _unstated(windows: WindowSet, spec: InputSpec, name: str) -> list[str]:
    """Ask for what the network is particular about and the windows do not say; of a rate not said here, say so."""
    for key, said in (("unit", spec.unit), ("sfreq", f"{spec.sfreq:g}" if spec.sfreq else "")):
        if said and not getattr(windows, key) and (windows.source or key == "unit"):
            file = windows.source or "WINDOWS"
            raise InputError(
                f"{windows.source or 'the window set'} does not say its {key}; {name} takes {key} {said}",
                hint=f"state it: --{key} ..., or once and for all: rtserve annotate {file} --{key} ...",
            )
    unknown = spec.sfreq and not windows.sfreq
    return [f"the windows do not say their rate; {name} takes {spec.sfreq:g} Hz"] if unknown else []


def require_output(windows: WindowSet, spec: OutputSpec, name: str) -> None:
    """Make sure that y is what a network predicts; see `rtserve.signals.windows.WindowSet.require_output`."""
    if spec.target and windows.predicts and spec.target != windows.predicts:
        others = [label for label, target in windows.targets.items() if label == spec.target or target.classes]
        raise SpecMismatchError(
            f"{name} predicts {spec.target}, y of the windows is {windows.predicts}",
            hint=f"the windows have {', '.join(others)} besides: name it with --target"
            if others
            else f"use windows with {spec.target} for y",
        )
    if spec.classes and windows.classes and spec.classes != windows.classes:
        raise SpecMismatchError(
            f"the classes of {name} are {', '.join(spec.classes)}, those of the windows {', '.join(windows.classes)}",
            hint=f"prepare the windows with --classes {','.join(spec.classes)}, in this order",
        )
