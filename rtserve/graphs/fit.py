"""Putting the weights of a checkpoint into a network: its own loading first, then what we know about other people's keys.

A network may rename keys while it loads (weight_norm's old names, braindecode's renamed layers, any hook); so every
reading of the keys is offered to its own ``load_state_dict``, strictly, and the first that it takes is the one. The
readings: as stored; without the prefixes of DataParallel, Lightning and torch.compile; the part of the keys under one
prefix, where a criterion or a metric stands beside the network; each also with the names that spectral_norm and
weight_norm had or have.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rtserve.errors import CheckpointError
from rtserve.graphs.weights import strip, strippers, without_counter

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Loaded", "is_lazy", "load_weights", "run_lazy_parts"]


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """How a checkpoint's tensors went into a network.

    Parameters
    ----------
    prefix : str
        What was taken off every key, e.g. ``"model."``.
    left_out : tuple of str
        Keys of the checkpoint that are not the network's.
    """

    prefix: str = ""
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """One way to understand the keys."""

    state: dict[str, torch.Tensor]
    prefix: str = ""
    left_out: tuple[str, ...] = ()
    part: bool = False


def run_lazy_parts(network: nn.Module, example: torch.Tensor) -> None:
    """Run a network once where it has lazy parts, which know their shapes only then; it stays in its mode.

    Raises
    ------
    CheckpointError
        Where it does not run on the example.
    """
    import torch

    if not any(is_lazy(value) for value in (*network.parameters(), *network.buffers())):
        return
    training = network.training
    try:
        with torch.no_grad():
            network.eval()(example)
    except Exception as error:
        names = [name for name, value in network.named_parameters() if is_lazy(value)]
        raise CheckpointError(
            f"{type(network).__name__} has lazy parts ({', '.join(names[:4])}) and does not run on"
            f" {tuple(example.shape)}: {' '.join(str(error).split())[:160]}",
            hint="give the sizes of its windows with --set, or build it with plain layers in the exporter",
        ) from None
    network.train(training)


def is_lazy(value: Any) -> bool:
    """Whether a tensor has no shape yet."""
    from torch.nn.parameter import is_lazy

    return bool(is_lazy(value))


def load_weights(network: nn.Module, state: Mapping[str, torch.Tensor], *, name: str) -> Loaded:
    """Load the tensors of a checkpoint into a network, all of the network's and nothing else.

    Parameters
    ----------
    network : torch.nn.Module
        Its lazy parts have been run (`run_lazy_parts`).
    state : mapping
        The checkpoint's tensors, keys as stored.
    name : str
        What the network is called in errors.

    Raises
    ------
    CheckpointError
        Where keys are missing, left over or misshapen (all of them are named), or several parts of the checkpoint fit.
    """
    expected = network.state_dict()
    _require_tensors_alone(expected, name)
    near = [one for one in _readings(state) if not one.part or 2 * _overlap(one, expected) >= len(expected)]
    readings = sorted(near, key=lambda reading: -_overlap(reading, expected))
    reason = ""
    for reading in readings:
        failed = _load(network, reading.state, expected)
        if not failed:
            _require_one(reading, readings, expected, name)
            _require_tied(network, reading.state, name)
            _require_kinds(reading.state, expected, name)
            return Loaded(prefix=reading.prefix, left_out=reading.left_out)
        reason = reason or failed
    raise _misfit(readings[0].state if readings else {}, expected, name, reason)


def _readings(state: Mapping[str, torch.Tensor]) -> Iterator[_Reading]:
    metadata = getattr(state, "_metadata", None)
    plain = without_counter(state)
    ways = strippers(list(plain))
    for way in ways:
        read = _with_metadata({strip(key, way): value for key, value in plain.items()}, metadata, way[0])
        yield _Reading(state=read, prefix=way[0])
    compiled = any(way[1] for way in ways)
    keys = {strip(key, ("", compiled)): key for key in plain}
    for start in _starts(keys):
        part = {key[len(start) :]: plain[stored] for key, stored in keys.items() if key.startswith(start)}
        if len(part) < len(keys):
            left = tuple(stored for key, stored in keys.items() if not key.startswith(start))
            inner = without_counter(part)
            for way in strippers(list(inner)):
                read = _with_metadata({strip(key, way): value for key, value in inner.items()}, metadata, start)
                yield _Reading(state=read, prefix=start + way[0], left_out=left, part=True)


def _starts(keys: Mapping[str, str], deepest: int = 3) -> list[str]:
    """Return what keys may begin with: one, two or three of their names."""
    starts = {
        ".".join(key.split(".")[:depth]) + "."
        for key in keys
        for depth in range(1, deepest + 1)
        if key.count(".") >= depth
    }
    return sorted(starts)


def _with_metadata(state: dict[str, torch.Tensor], metadata: Any, prefix: str) -> dict[str, torch.Tensor]:
    """Return a state_dict that carries the versions of its modules under their names without the prefix."""
    made = OrderedDict(state)
    if isinstance(metadata, Mapping):
        kept = {key[len(prefix) :]: value for key, value in metadata.items() if (key + ".").startswith(prefix or key)}
        made._metadata = OrderedDict(kept)  # type: ignore[attr-defined]
    return made


def _overlap(reading: _Reading, expected: Mapping[str, Any]) -> int:
    return len(reading.state.keys() & expected.keys())


def _load(network: nn.Module, state: dict[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> str:
    """Offer a reading to the network's own loading, as it is and then completed; return why it was refused."""
    reasons = []
    for candidate in (state, _completed(_renamed_norms(state, expected), expected)):
        try:
            network.load_state_dict(candidate)
        except Exception as error:
            reasons.append(" ".join(str(error).split())[:300])
        else:
            return ""
    return reasons[0] or "it was refused without a reason"


def _completed(state: dict[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the state with BatchNorm's counters, and with tensors that the network shares with one that is there."""
    made = OrderedDict(state)
    places: dict[tuple[int, tuple[int, ...]], str] = {}
    for key, value in expected.items():
        if key in state and value.numel():
            places[value.data_ptr(), tuple(value.shape)] = key
    for key, value in expected.items():
        twin = places.get((value.data_ptr(), tuple(value.shape)))
        if key not in made and twin is not None:
            made[key] = state[twin]
        elif key not in made and key.endswith("num_batches_tracked"):
            made[key] = value
    if hasattr(state, "_metadata"):
        made._metadata = state._metadata  # type: ignore[attr-defined]
    return made


_NORMS = (
    ("{0}_orig", "{0}_u", "{0}_v"),
    ("parametrizations.{0}.original", "parametrizations.{0}.0._u", "parametrizations.{0}.0._v"),
    ("{0}_g", "{0}_v"),
    ("parametrizations.{0}.original0", "parametrizations.{0}.original1"),
)
"""Keys of spectral_norm and of weight_norm, as they were and as they are; those of a pair mean the same tensors."""
_TWINS = ((0, 1), (1, 0), (2, 3), (3, 2))


def _renamed_norms(state: dict[str, torch.Tensor], expected: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the state with the names that the network's version of spectral_norm or weight_norm has."""
    made = OrderedDict(state)
    stems = {(key.rpartition(".")[0], key.rpartition(".")[2]) for key in expected}
    stems |= {(k.partition("parametrizations.")[0].rstrip("."), k.partition("parametrizations.")[2]) for k in expected}
    for module, last in sorted(stems):
        for attribute in {last.partition(".")[0], last.removesuffix("_orig"), last.removesuffix("_g")}:
            _rename_one(made, expected, f"{module}." if module else "", attribute)
    return made


def _rename_one(made: dict[str, torch.Tensor], expected: Mapping[str, Any], module: str, attribute: str) -> None:
    for old, new in _TWINS:
        have = [module + name.format(attribute) for name in _NORMS[old]]
        want = [module + name.format(attribute) for name in _NORMS[new]]
        if all(key in made for key in have) and all(key in expected for key in want) and not set(want) & made.keys():
            for source, target in zip(have, want, strict=True):
                made[target] = made.pop(source)


def _require_one(taken: _Reading, readings: list[_Reading], expected: Mapping[str, torch.Tensor], name: str) -> None:
    """Raise `CheckpointError` where another part of the checkpoint fits as well and has other numbers."""
    if not taken.part:
        return
    rivals = {taken.prefix: taken} | {
        other.prefix: other
        for other in readings
        if other.part and _fits(other.state, expected) and not _equal(other.state, taken.state)
    }
    if len(rivals) > 1:
        names = [prefix.rstrip(".") for prefix in rivals]
        raise CheckpointError(
            f"{len(names)} parts of the checkpoint fit {name}: {', '.join(names)}",
            hint=f"say which is meant, for example --weights {names[-1]}",
        )


def _fits(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> bool:
    return state.keys() == expected.keys() and all(state[key].shape == expected[key].shape for key in expected)


def _equal(first: Mapping[str, torch.Tensor], second: Mapping[str, torch.Tensor]) -> bool:
    import torch

    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def _require_tied(network: nn.Module, state: Mapping[str, torch.Tensor], name: str) -> None:
    """Raise `CheckpointError` where the network shares one tensor under two keys for which the checkpoint has two."""
    import torch

    places: dict[tuple[int, tuple[int, ...]], str] = {}
    for key, value in network.state_dict().items():
        place = value.data_ptr(), tuple(value.shape)
        twin = places.setdefault(place, key)
        if twin == key or key not in state or twin not in state or not value.numel():
            continue
        if not torch.equal(state[key], state[twin]):
            raise CheckpointError(
                f"{name} shares one tensor as {twin} and {key}, for which the checkpoint has different numbers",
                hint="the weights were trained without that sharing; build the network without it",
            )


def _require_tensors_alone(expected: Mapping[str, Any], name: str) -> None:
    """Raise `CheckpointError` where a network keeps more than tensors, which may be what its answers depend on."""
    import torch

    others = [key for key, value in expected.items() if not isinstance(value, torch.Tensor)]
    if others:
        raise CheckpointError(
            f"{name} keeps state that is no tensor ({', '.join(others[:5])}): it cannot be read without running code",
            hint="an exporter sets it when it builds the network, from a class without get_extra_state()",
        )


def _require_kinds(state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], name: str) -> None:
    """Raise `CheckpointError` where loading would turn numbers into others of their kind: torch does so in silence."""
    for key, value in expected.items():
        given = state.get(key)
        if given is None or given.dtype == value.dtype:
            continue
        complex_lost = given.is_complex() and not value.is_complex()
        whole = value.is_floating_point() and not (given.is_floating_point() or given.is_complex())
        broken = given.is_floating_point() and not (value.is_floating_point() or value.is_complex())
        if complex_lost or whole or (broken and not bool((given == given.to(value.dtype)).all())):
            raise CheckpointError(
                f"the checkpoint's {key} is {_type(given)}, that of {name} is {_type(value)}",
                hint="quantised codes mean nothing without their scale, and complex weights nothing without their"
                " imaginary part: save the weights as the network has them",
            )


def _type(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _misfit(
    best: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], name: str, reason: str
) -> CheckpointError:
    """Name every key that does not fit; where all do, give the network's own reason."""
    optional = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in best and key not in optional]
    unexpected = [key for key in best if key not in expected]
    shapes = [
        f"{key} is {tuple(best[key].shape)}, the network has {tuple(expected[key].shape)}"
        for key in expected
        if key in best and not is_lazy(expected[key]) and best[key].shape != expected[key].shape
    ]
    parts = [
        f"{label} {len(keys)}: {', '.join(keys)}"
        for label, keys in (("missing", missing), ("unexpected", unexpected), ("misshapen", shapes))
        if keys
    ]
    return CheckpointError(
        f"the checkpoint does not fit {name}; {'; '.join(parts) or reason}", hint=_cure(missing, unexpected)
    )


_WRITTEN_SO = (
    (("weight_g", "weight.original0"), "weight_norm", "build it with torch.nn.utils.parametrizations.weight_norm"),
    (("weight_u", "weight.0._u"), "spectral_norm", "build it with torch.nn.utils.parametrizations.spectral_norm"),
    (
        ("weight_mask", "bias_mask"),
        "pruning",
        "call torch.nn.utils.prune.remove(module, name) on the trained one, and save it again",
    ),
)
"""How the keys of a layer end that torch rewrote, what did it, and what helps a network that lacks it."""


def _cure(missing: list[str], unexpected: list[str]) -> str:
    for ends, what, cure in _WRITTEN_SO:
        found = next((key for key in unexpected if key.endswith(ends)), "")
        if found:
            return f"{found} is of {what}, which the network does not have: {cure}"
        found = next((key for key in missing if key.endswith(ends)), "")
        if found:
            return f"{found} is of {what}, with which the checkpoint was not trained: build the network without it"
    return "is it another architecture, or does it need other settings (--set n_chans=..., n_outputs=...)?"
