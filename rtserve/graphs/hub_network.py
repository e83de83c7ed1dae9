"""The exporter of models of the hub: class and arguments come from what braindecode wrote beside the weights.

Only classes of braindecode.models are built, and an argument that is a class (``activation``) is one of torch.nn or of
braindecode: nothing else that a config names is imported. Runs in the export's child.
"""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from rtserve.errors import InputError
from rtserve.graphs.braindecode_network import braindecode_class, described, network_names
from rtserve.graphs.exporter import Built, HubExporter, Quirk
from rtserve.spec import InputSpec

__all__ = ["exporter", "hub_built"]

_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_HOMES = ("torch.nn.modules", "braindecode.modules", "braindecode.models", "braindecode.functional")
"""Modules whose classes a config may name; what they are imported from is never the config's choice."""
_ASK = "say which class of braindecode.models it is: --network EEGNet"


def hub_built(
    hub: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    quirks_of: Callable[[nn.Module], tuple[Quirk, ...]] = lambda network: (),
    rewrite: Callable[[nn.Module], nn.Module] | None = None,
) -> Built:
    """Build the network that a model of the hub describes.

    Parameters
    ----------
    hub : mapping
        ``arguments`` of config.json, ``tags`` of the card, ``network``: the class where the user said it, ``braindecode``:
        the version that wrote it.
    settings : mapping
        Arguments of the constructor that take the place of the config's.
    quirks_of, rewrite : callable
        What has to be baked out of a network, and the module that has it baked out.

    Raises
    ------
    InputError
        Where no class is known or it is none of braindecode's, where it takes no such argument, or where the config does
        not say what windows it takes.
    """
    name = str(hub["network"]) or _tagged(hub["tags"])
    cls = braindecode_class(name)
    asked = inspect.signature(cls).parameters
    given = dict(hub["arguments"]) | dict(settings)
    _require_arguments(name, given, asked, str(hub["braindecode"]))
    arguments = {key: _value(key, value, asked[key].default) for key, value in given.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = cls(**arguments)
    return described(network, _spec(network), quirks=quirks_of(network), rewrite=rewrite)


def _tagged(tags: list[str]) -> str:
    """Return the one tag that is the name of a network."""
    known = set(network_names())
    found = [tag for tag in dict.fromkeys(tags) if tag in known]
    if len(found) == 1:
        return found[0]
    if found:
        raise InputError(f"the card's tags name several networks: {', '.join(found)}", hint=_ASK)
    card = f"names none (tags {', '.join(tags[:12])})" if tags else "(README.md) is not there or has no tags"
    raise InputError(f"config.json does not hold the class of its network, and its card {card}", hint=_ASK)


def _require_arguments(name: str, given: Mapping[str, Any], asked: Mapping[str, Any], wrote: str) -> None:
    unknown = [key for key in given if key not in asked or asked[key].kind is inspect.Parameter.VAR_KEYWORD]
    if not unknown:
        return
    from importlib.metadata import version

    written = f"config.json is of braindecode {wrote or 'unknown'}, installed is {version('braindecode')}"
    raise InputError(
        f"{name} takes no argument {', '.join(unknown[:8])} ({written})",
        hint=f"it takes {', '.join(asked)}; install the version that wrote it, or say another class with --network",
    )


def _value(key: str, value: Any, default: Any) -> Any:
    """Return an argument as the constructor takes it: a class for its dotted name, all else as JSON has it."""
    if not (isinstance(value, str) and _CLASS.fullmatch(value)):
        return value
    home = next((home for home in _HOMES if value.startswith(f"{home}.")), None)
    if home is None:
        if inspect.isclass(default) or value.startswith(("torch.", "braindecode.")):
            raise _refused(key, value)
        return value
    module, _, name = value.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise _refused(key, value) from None
    if not (inspect.isclass(found) and issubclass(found, nn.Module)):
        raise _refused(key, value)
    return found


def _refused(key: str, value: str) -> InputError:
    return InputError(
        f"config.json names {value[:100]} as {key}, no layer of torch.nn or braindecode; nothing else is imported",
        hint="export a module that you build yourself: rtserve.export(module, example)",
    )


def _spec(network: Any) -> InputSpec:
    """Return the windows that a network says it takes; their unit no config says."""
    return InputSpec(
        n_chans=_stated(network, "n_chans"),
        n_times=_stated(network, "n_times"),
        sfreq=float(_said(network, "sfreq") or 0.0),
        ch_names=tuple(str(channel.get("ch_name", "")) for channel in _said(network, "chs_info") or ()),
    )


def _said(network: Any, name: str) -> Any:
    try:  # braindecode's properties raise where nothing was said
        return getattr(network, name)
    except (AttributeError, ValueError):
        return None


def _stated(network: Any, name: str) -> int:
    value = _said(network, name)
    if value is None:
        raise InputError(f"config.json does not say the {name} of its windows", hint=f"say it: --set {name}=NUMBER")
    return int(value)


exporter = HubExporter(build=hub_built)
"""The exporter that `rtserve export FOLDER` takes where none is named: without quirks, which lie in ``exporters/``."""
