"""What a network's windows and answers mean, put together: what its exporter, its checkpoint and the user say.

Each is asked in this order and fills what those before left open; two that contradict each other are refused. What
none of them says stays unknown. A checkpoint of `rtserve train` says what it was trained on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rtserve.errors import InputError, SpecMismatchError
from rtserve.spec import InputSpec, OutputSpec, require_same_input, require_same_target

if TYPE_CHECKING:
    from rtserve.graphs.exporter import Built

__all__ = ["completed", "is_ours", "listed", "scaling_beside", "stated_specs", "training_of"]

SCHEMA = "rtserve.training_checkpoint/"
TRAINING = ("data", "split", "trained_on")
"""What a checkpoint of `rtserve train` says of its training that its graph keeps."""


def completed(built: Built, content: Mapping[str, Any], stated: Mapping[str, Any]) -> tuple[InputSpec, OutputSpec]:
    """Return the specs of an exporter, completed by its checkpoint and by what the user states.

    Parameters
    ----------
    built : Built
        What the exporter gives.
    content : mapping
        The checkpoint, read inertly.
    stated : mapping
        ``unit``, ``sfreq``, ``target``, ``form``; ``ch_names`` and ``classes`` (a list, or text with commas).

    Raises
    ------
    SpecMismatchError
        Where two of the three contradict each other.
    """
    inputs, outputs = built.input_spec, built.output_spec
    if is_ours(content):
        trained = _trained(content, inputs, outputs)
        require_same_input(
            replace(trained[0], n_times=inputs.n_times), inputs, names=("the checkpoint", "its exporter")
        )
        _require_target(trained[1].target, outputs.target, "the checkpoint", "its exporter")
        inputs, outputs = inputs.completed_by(trained[0]), outputs.completed_by(trained[1])
    return stated_specs(inputs, outputs, stated, name="the exporter or its checkpoint")


def is_ours(content: Mapping[str, Any]) -> bool:
    """Whether a checkpoint is one of `rtserve train`, whose networks scale what they are given themselves."""
    return str(content.get("schema", "")).startswith(SCHEMA)


def _require_target(first: str, second: str, one: str, other: str) -> None:
    require_same_target(first, second, names=(one, other), hint="leave the setting out: the checkpoint says it")


def _trained(content: Mapping[str, Any], inputs: InputSpec, outputs: OutputSpec) -> tuple[InputSpec, OutputSpec]:
    """Return what a checkpoint of `rtserve train` says of its windows and target."""
    said = content.get("input")
    found = InputSpec.from_json(json.dumps(dict(said))) if isinstance(said, Mapping) else inputs
    found = found if found.n_chans == inputs.n_chans else replace(found, n_chans=inputs.n_chans, ch_names=())
    target, classes = content.get("target"), content.get("classes")
    names = tuple(map(str, classes)) if isinstance(classes, (list, tuple)) else ()
    names = names if len(names) == max(2, outputs.n_outputs) else ()
    return found, OutputSpec(
        n_outputs=outputs.n_outputs, target=target if isinstance(target, str) else "", classes=names
    )


def stated_specs(
    inputs: InputSpec, outputs: OutputSpec, stated: Mapping[str, Any], *, name: str, force: bool = False
) -> tuple[InputSpec, OutputSpec]:
    """Return specs with what the user states; with `force` also where they say something else.

    Raises
    ------
    SpecMismatchError
        Where `name` says something else.
    InputError
        Where a value is impossible.
    """
    given = {key: value for key, value in stated.items() if value}
    given |= {key: listed(given[key]) for key in {"classes", "ch_names"} & given.keys()}
    if given.get("classes") and not outputs.target:
        given.setdefault("target", "class")
    for key, value in given.items():
        mine = getattr(inputs, key) if key in ("unit", "sfreq", "ch_names") else getattr(outputs, key, "")
        if mine and mine != value and not force:
            raise SpecMismatchError(
                f"--{key} says {_shown(value)}, {name} says {_shown(mine)}",
                hint=f"leave --{key} out, or correct the other",
            )
    unknown = [key for key in given if key not in ("unit", "sfreq", "ch_names", "target", "classes", "form")]
    if unknown:
        raise InputError(f"{unknown[0]!r} cannot be stated of a graph", hint="unit, sfreq, target, classes or form")
    ours = {key: value for key, value in given.items() if key in ("unit", "sfreq", "ch_names")}
    theirs = {key: value for key, value in given.items() if key in ("target", "classes", "form")}
    return replace(inputs, **ours), replace(outputs, **theirs)


def listed(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return names that are given as text with commas, or one by one."""
    if names == "":
        return ()
    return tuple(str(name).strip() for name in (names.split(",") if isinstance(names, str) else names))


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else f"{value:g}" if isinstance(value, float) else str(value)


_CENTRES = {"mean", "mu", "median", "center", "centre", "offset", "loc"}
_SPREADS = {"std", "sigma", "scale", "var", "iqr", "sd"}


def scaling_beside(riders: Iterable[str]) -> list[str]:
    """Return what lies beside a checkpoint's weights and looks as if windows or answers were scaled by it.

    A centre and a spread of one name (``mean`` and ``std``, ``scaler.mean_`` and ``scaler.scale_``, ``y_mean`` and
    ``y_std``): a network that was trained on scaled numbers answers something else without them.
    """
    parts: dict[str, dict[str, str]] = {}
    for name in riders:
        words = [word for word in re.split(r"[._]", name) if word]
        for kind, known in (("centre", _CENTRES), ("spread", _SPREADS)):
            if "running" not in words and (word := next((w for w in words if w.lower() in known), "")):
                rest = "_".join(w for w in words if w is not word)
                parts.setdefault(rest, {}).setdefault(kind, name)
    return sorted(name for found in parts.values() if len(found) == 2 for name in found.values())


def training_of(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a checkpoint of `rtserve train` says of its training: the data's digest, the split, the measure."""
    if not is_ours(content):
        return {}
    found = {key: content[key] for key in TRAINING if key in content}
    settings = content.get("settings")
    if isinstance(settings, Mapping) and "monitor" in settings:
        found["chosen_by"] = settings["monitor"]
    valid = content.get("valid")
    return json.loads(json.dumps(found | ({"valid": valid} if valid is not None else {}), default=str))  # type: ignore[no-any-return]
