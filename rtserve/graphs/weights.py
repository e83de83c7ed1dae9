"""Which of the tensors in a checkpoint are the network's: where a state_dict lies, and whether there are two.

A moving average beside a model (EMA, SWA) has the same keys and other numbers. Either may be what its owner means, so
the choice is asked for, never made.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import CheckpointError
from rtserve.graphs.inert import Inert

if TYPE_CHECKING:
    import torch

__all__ = [
    "AVERAGED",
    "PREFIXES",
    "Found",
    "choose_weights",
    "exporter_shapes",
    "require_names",
    "strip_prefixes",
    "strippers",
    "weights_in",
]

STATE_KEYS = ("model_state_dict", "state_dict", "model_state", "model", "net", "network", "weights", "params")
"""Where a state_dict is looked for in a checkpoint dict, in this order."""
_DEEPEST = 3
"""How many dicts may lie around a state_dict."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DataParallel and AveragedModel, Lightning, and torch.compile put before every key."""
HOLDERS = (*PREFIXES, "net.", "network.", "_model.")
"""What a training's module calls its network, whose keys then begin so."""
AVERAGED = "n_averaged"
"""The counter that torch.optim.swa_utils.AveragedModel keeps beside ``module.*``."""
SHADOW = "shadow_params"
"""Where torch_ema, and what was made after it, keeps its average: a list."""
WHOLE = "holds a whole pickled network ({}), whose class is not imported: that would run its code"
WHOLE_HINT = (
    "where you trust it, save its weights alone:"
    " torch.save(torch.load(FILE, weights_only=False).state_dict(), 'weights.pth')"
)
OBJECT = "holds a whole pickled {}, whose class is not imported: that would run its code"
OBJECT_HINT = (
    "where you trust it, load it and save its network's state_dict alone: torch.save(....state_dict(), 'weights.pth')"
)
SKORCH_HINT = "where you trust it, load it and save its weights alone: net.save_params(f_params='params.pt')"


@dataclass(frozen=True, kw_only=True)
class Found:
    """A set of weights and where it was: the keys of the dicts around it, and what its own keys begin with."""

    state: dict[str, torch.Tensor]
    keys: tuple[str, ...] = ()
    prefix: str = ""

    @property
    def name(self) -> str:
        """Where it was, as one text; the choice that ``--weights`` takes."""
        return ".".join((*self.keys, self.prefix.rstrip("."))).strip(".")


def weights_in(content: Mapping[str, Any], path: Path) -> list[Found]:
    """Return every set of weights in a checkpoint's content, those in the usual places first.

    Raises
    ------
    CheckpointError
        Where there is none.
    """
    found = sorted(_states(content, (), _DEEPEST), key=_rank)
    if not found:
        require_names(content, path, found)
        found = _among_others(content)
    if not found:
        raise _nothing(content, path)
    return found


def _among_others(content: Mapping[str, Any]) -> list[Found]:
    """Return the tensors of a dict into which its owner put numbers and texts as well: ``state['epoch'] = 3``.

    What is a tensor in the network and something else here stays missing, and is named.
    """
    import torch

    plain = {
        key: value
        for key, value in content.items()
        if isinstance(key, str) and not isinstance(value, (bool, int, float, str, type(None)))
    }
    tensors = [value for key, value in plain.items() if isinstance(value, torch.Tensor) and "." in key]
    return [Found(state=_plain(plain))] if len(tensors) > 1 and _is_state(plain) else []


def choose_weights(found: list[Found], path: Path, weights: str = "") -> Found:
    """Return the set of weights that is meant.

    Raises
    ------
    CheckpointError
        Where several may be, and `weights` does not name one of them.
    """
    if weights:
        return _named(found, path, weights)
    best = found[0]
    rivals = [other for other in found if other is not best and (_rank(best)[0] or _alike(best, other))]
    if rivals:
        names = [other.name for other in (best, *rivals)]
        listed = names if len(names) <= 12 else [*names[:8], "...", *names[-2:]]
        raise CheckpointError(
            f"checkpoint {path} holds {len(names)} sets of weights: {', '.join(listed)}",
            hint=f"say which is meant, for example --weights {names[-1]}",
        )
    return best


def require_names(content: Mapping[str, Any], path: Path, found: list[Found]) -> None:
    """Raise `CheckpointError` where a moving average lies beside the weights, or instead of them, as a list without keys.

    Raises
    ------
    CheckpointError
        With the cure: the average is copied into the network by what kept it.
    """
    place = next(_nameless(content, (), _DEEPEST), "")
    if not place:
        return
    beside = f", beside {found[0].name or 'the weights'}" if found else ""
    plain = f"; --weights {found[0].name} takes the others" if found and found[0].name else ""
    raise CheckpointError(
        f"checkpoint {path} holds a moving average of weights without their names ({place}){beside}",
        hint=f"for the average: ema.copy_to(model.parameters()), and save model.state_dict(){plain}",
    )


def _nameless(content: Any, keys: tuple[str, ...], depth: int) -> Iterator[str]:
    """Yield where lists of tensors lie that torch_ema and its likes keep: in the order of the network's parameters."""
    import torch

    if not isinstance(content, Mapping) or not depth:
        return
    for key, value in content.items():
        held = value if isinstance(value, (list, tuple)) else ()
        if key == SHADOW and held and all(isinstance(one, torch.Tensor) for one in held):
            yield ".".join((*keys, key))
        elif isinstance(key, str):
            yield from _nameless(value, (*keys, key), depth - 1)


def _states(content: Any, keys: tuple[str, ...], depth: int) -> Iterator[Found]:
    """Yield every state_dict in nested dicts, those under the usual keys first."""
    if _is_state(content):
        yield Found(state=_plain(content), keys=keys)
    elif depth:
        entries = _entries(content)
        order = [key for key in STATE_KEYS if key in entries]
        for key in (*order, *(key for key in entries if key not in order)):
            if "optim" not in key:
                yield from _states(entries[key], (*keys, key), depth - 1)


def _entries(content: Any) -> dict[str, Any]:
    """Return what may hold sets of weights: a dict's entries (of epochs, say) or a list's (of folds), by name or number.

    An optimizer's state is none: its averages of gradients are tensors with names too.
    """
    if isinstance(content, (list, tuple)):
        return {str(number): value for number, value in enumerate(content)}
    if not isinstance(content, Mapping) or content.keys() >= {"state", "param_groups"}:
        return {}
    return {str(key): value for key, value in content.items() if isinstance(key, (str, int))}


def _is_state(value: Any) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and any(isinstance(entry, torch.Tensor) for entry in value.values())
        and all(
            isinstance(key, str) and (isinstance(entry, torch.Tensor) or key.endswith("_extra_state"))
            for key, entry in value.items()
        )
    )


def _plain(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return a state_dict's tensors with its metadata, by which modules tell their own old formats."""
    import torch

    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    made = OrderedDict((key, value.resolve_conj().resolve_neg()) for key, value in tensors.items())
    metadata = getattr(state, "_metadata", None)
    if isinstance(metadata, Mapping):
        made._metadata = metadata  # type: ignore[attr-defined]
    return made


def _rank(found: Found) -> tuple[bool, int]:
    """Order by how usual the place is; the first says whether it is none of the usual ones."""
    unusual = [key for key in found.keys if key not in STATE_KEYS]
    places = [STATE_KEYS.index(key) for key in found.keys if key in STATE_KEYS]
    return bool(unusual), sum(places)


def _alike(one: Found, other: Found) -> bool:
    """Whether two sets are weights of one network with other numbers: the keys of one are among those of the other."""
    import torch

    first, second = strip_prefixes(one.state), strip_prefixes(other.state)
    few, many = sorted((first, second), key=len)
    same_keys = all(key in many and few[key].shape == many[key].shape for key in few)
    return same_keys and not all(torch.equal(few[key], many[key]) for key in few)


def _named(found: list[Found], path: Path, weights: str) -> Found:
    """Return the set that `weights` names: by its place, or by what its keys begin with."""
    for one in found:
        if weights in (one.name, one.keys[-1] if one.keys else ""):
            return one
    start = weights.rstrip(".") + "."
    for one in found:
        part = {key.removeprefix(start): value for key, value in one.state.items() if key.startswith(start)}
        if part:
            return Found(state=part, keys=one.keys, prefix=start)
    names = sorted({one.name for one in found if one.name} | {key.partition(".")[0] for key in found[0].state})
    raise CheckpointError(
        f"checkpoint {path} has no weights {weights!r}", hint=f"it has {', '.join(names[:12])}; or leave --weights out"
    )


def _nothing(content: Mapping[str, Any], path: Path) -> CheckpointError:
    whole = next((value for value in content.values() if isinstance(value, Inert) and value.is_module), None)
    if whole is not None:
        return CheckpointError(f"checkpoint {path} {WHOLE.format(whole.inert_name)}", hint=WHOLE_HINT)
    if isinstance(content, Inert) and not content:
        save = SKORCH_HINT if content.inert_name.startswith("skorch.") else OBJECT_HINT
        return CheckpointError(f"checkpoint {path} {OBJECT.format(content.inert_name)}", hint=save)
    odd = [key for key, value in content.items() if isinstance(key, str) and key.endswith((".weight", ".bias"))]
    odd = [key for key in odd if isinstance(content[key], (Inert, list, tuple))]
    if odd:
        kind = getattr(content[odd[0]], "inert_name", f"{type(content[odd[0]]).__name__} of numbers")
        return CheckpointError(
            f"checkpoint {path} has {', '.join(odd[:5])} as no plain tensors ({kind}):"
            " NumPy arrays, sparse, or without numbers (on device meta, or of a lazy layer that never ran)",
            hint="save the state_dict of a network that has run, on a CPU, as dense tensors of torch",
        )
    keys = ", ".join(str(key)[:40] for key in list(content)[:12]) or "nothing"
    return CheckpointError(
        f"checkpoint {path} holds no state_dict; it has {keys}",
        hint=f"one of {', '.join(STATE_KEYS[:4])} must map names to tensors",
    )


def strippers(keys: list[str]) -> list[tuple[str, bool]]:
    """Return ways of removing prefixes, from none to all, while every key has the one in question.

    Each is the prefix to remove, and whether ``_orig_mod.`` goes wherever it stands.
    """
    ways = [("", False)]
    cleaned = [key.replace("_orig_mod.", "") for key in keys]
    if cleaned != keys:
        ways.append(("", True))
    start = ""
    while cleaned:
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in cleaned)), "")
        if not prefix:
            break
        cleaned = [key[len(prefix) :] for key in cleaned]
        start += prefix
        ways.append((start, True))
    return ways


def strip(key: str, way: tuple[str, bool]) -> str:
    """Return a key with what a way of `strippers` removes taken off."""
    return (key.replace("_orig_mod.", "") if way[1] else key)[len(way[0]) :]


def strip_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return `state` with every prefix that all keys share removed; for guessing an architecture from its shapes."""
    state = without_counter(state)
    way = strippers(list(state))[-1]
    return {strip(key, way): value for key, value in state.items()}


def without_counter(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `state` without the counter of an AveragedModel, where it is one."""
    rest = {key: value for key, value in state.items() if key != AVERAGED}
    return rest if len(rest) < len(state) and all(key.startswith("module.") for key in rest) else state


def exporter_shapes(state: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shapes an exporter guesses its network from, by the network's own keys.

    Where other tensors (a criterion's, a metric's) stand beside the network's, keys under what usually holds a network
    are given both as stored and without it.
    """
    stripped = strip_prefixes(state)
    shapes = {key: tuple(value.shape) for key, value in stripped.items()}
    for holder in HOLDERS:
        inside = {key.removeprefix(holder): value for key, value in stripped.items() if key.startswith(holder)}
        if len(inside) * 2 > len(stripped):
            shapes |= {key: tuple(value.shape) for key, value in strip_prefixes(inside).items()}
    return shapes
