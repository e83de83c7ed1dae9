"""Whether a graph is for a contest: what it says of its windows and target against what the contest gives and scores.

`build` refuses what differs and asks for a unit or rate that neither the graph nor the recipe states; `check` reads
the graphs inside a zip by the same rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rtserve.errors import SpecMismatchError
from rtserve.spec import InputSpec, order_difference, require_known, require_same_input

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph
    from rtserve.submission.profile import Challenge, Profile

__all__ = ["coupled", "differences", "require_fit", "taken"]


def require_fit(graph: Graph, profile: Profile, challenge: Challenge, stated: Mapping[str, Any]) -> None:
    """Make sure that a challenge's graph takes what the contest gives and predicts what it scores.

    Parameters
    ----------
    graph : Graph
        Of the whole challenge.
    profile, challenge : Profile, Challenge
        Whose windows it is given, and whose target it answers.
    stated : mapping
        ``unit`` and ``sfreq`` of the windows that the members take; what is empty is not stated.

    Raises
    ------
    SpecMismatchError
        Where the graph, or the recipe for it, states what the contest does not give or score.
    InputError
        Where neither states the unit, or the rate.
    """
    from rtserve.graphs.meaning import stated_specs

    name = f"the graph of challenge {challenge.key}"
    inputs, _ = stated_specs(graph.input_spec, graph.output_spec, stated, name=name)
    found = differences(replace(graph, input_spec=inputs), profile, challenge)
    if found:
        raise SpecMismatchError(
            f"challenge {challenge.key}: {'; '.join(found)}", hint="use members for what this contest gives and scores"
        )
    require_known(inputs, ("unit", "sfreq"), name=name, hint=_ask(inputs, profile, challenge))


def taken(graph: Graph, challenge: Challenge, stated: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a graph that fits leaves open, as the recipe states it: unit, rate, and by its place the target.

    It stays out of the graph, whose bytes are those that were measured, and goes into the manifest.
    """
    found = {key: stated[key] for key in graph.input_spec.unknown if stated.get(key)}
    return found | ({"target": challenge.target} if challenge.target and not graph.output_spec.target else {})


def coupled(graph: Graph, challenge: Challenge) -> dict[str, Any]:
    """Return how a graph's answers depend on the batch and how many windows it is given at once; empty where they do not.

    It is for the contest to allow: `differences` names it where the profile says ``coupling = "fail"``.
    """
    return {"coupled": {"by": graph.coupling, "batch": challenge.batch}} if graph.output_spec.coupled else {}


def _ask(spec: InputSpec, profile: Profile, challenge: Challenge) -> str:
    """Say how the unit, or the rate, of a graph that fits is stated."""
    signal = profile.signal_of(challenge.key)
    given = {"unit": signal.unit or "UNIT", "sfreq": f"{signal.sfreq:g}"}
    options = " ".join(f"--{key} {given[key]}" for key in spec.unknown)
    keys = " and ".join(f"{key} = " + (f'"{given[key]}"' if key == "unit" else given[key]) for key in spec.unknown)
    return (
        f"{profile.name} gives {signal}: where the members take that, give"
        f" {options} to build (or {keys} in the recipe, or rtserve annotate MEMBER {options})"
    )


def differences(graph: Graph, profile: Profile, challenge: Challenge) -> list[str]:
    """Return in what a graph states something else than its contest; nothing of what either leaves open.

    Sizes and the rate are compared where the contest sets them; the unit, the target and the outputs always. Channels are
    those of the contest in another order, or the author's to judge. A container reads recordings: its windows, their unit
    and their channels are its own, and whether they follow from the contest's is asked when it is built.
    """
    signal, takes = profile.signal_of(challenge.key), graph.input_spec
    given = signal.spec
    if profile.container is not None:
        given, signal = takes, replace(signal, ch_names=())
    elif signal.assumed:
        given = replace(given, n_chans=takes.n_chans, n_times=takes.n_times, sfreq=takes.sfreq)
    found = []
    try:
        require_same_input(given, takes, names=(f"profile {profile.name}", "the graph"))
    except SpecMismatchError as error:
        found.append(error.message)
    if reordered := order_difference(signal.ch_names, takes.ch_names):
        found.append(f"profile {profile.name} and the graph take different input: {reordered}")
    output, wanted = graph.output_spec, challenge.output[-1]
    if output.target and challenge.target and output.target != challenge.target:
        found.append(f"challenge {challenge.key} scores {challenge.target}, the graph predicts {output.target}")
    if wanted.isdigit() and int(wanted) != output.n_outputs:
        found.append(f"challenge {challenge.key} reads {wanted} numbers a window, the graph gives {output.n_outputs}")
    if output.coupled and challenge.coupling == "fail":
        company = "one window at a time" if challenge.batch == 1 else f"{challenge.batch} windows at once, in no order"
        found.append(
            f"challenge {challenge.key} gives {company} and lets no answer depend on the rest of its batch; those of the"
            f" graph do ({graph.coupling})"
        )
    classes = challenge.meta.get("n_classes", 0)
    if classes and output.n_outputs != classes:
        found.append(f"challenge {challenge.key} has {classes} classes, the graph gives {output.n_outputs} numbers")
    return found
