"""What has to be rewritten in networks of braindecode before they can be exported, each exactly, each with its case.

One file per module of braindecode.models; its ``REWRITES`` names classes of that module. A quirk replaces a method of
one kind of part, wherever in a network it stands; the weights stay where they are. The network that comes back is a
copy: the one that was built is left as it is, to be compared with.
"""

from __future__ import annotations

import copy
import importlib
import types
from pathlib import Path

from torch import nn

from .rewrite import Quirk, Rewrite

__all__ = ["apply_quirks", "quirks_of", "source_files"]

_FOLDER = Path(__file__).parent


def _module_of(part: nn.Module) -> str:
    package, _, module = type(part).__module__.rpartition(".")
    return module if package == "braindecode.models" else ""


def _rewrite_of(part: nn.Module) -> Rewrite | None:
    module = _module_of(part)
    if not module or not (_FOLDER / f"{module}.py").is_file():
        return None
    rewrites: dict[str, Rewrite] = importlib.import_module(f".{module}", __name__).REWRITES
    return rewrites.get(type(part).__name__)


def quirks_of(network: nn.Module) -> tuple[Quirk, ...]:
    """Return the quirks that `network` needs, each once."""
    found = {rewrite.quirk.name: rewrite.quirk for part in network.modules() if (rewrite := _rewrite_of(part))}
    return tuple(found.values())


def source_files(network: nn.Module) -> tuple[Path, ...]:
    """Return the files that the quirks of `network` are written in, beside the shared ones."""
    modules = {_module_of(part) for part in network.modules() if _rewrite_of(part)}
    return tuple(_FOLDER / f"{module}.py" for module in sorted(modules))


def apply_quirks(network: nn.Module) -> nn.Module:
    """Return a copy of `network` in eval mode with every part rewritten that needs it; itself where none does.

    Raises
    ------
    ExportError
        Where a part is in a state from which its rewrite cannot be exact.
    """
    if not quirks_of(network):
        return network
    changed = copy.deepcopy(network).eval()
    for part in changed.modules():
        rewrite = _rewrite_of(part)
        if rewrite is not None:
            if rewrite.prepare is not None:
                rewrite.prepare(part)
            setattr(part, rewrite.method, types.MethodType(rewrite.stand_in, part))
    return changed
