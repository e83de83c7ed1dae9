"""braindecode's networks, imported in one place, with the torchaudio that is there."""

from __future__ import annotations

from types import ModuleType

from rtserve.extras import extra_module
from rtserve.graphs.pure_torchaudio import allow_pure_torchaudio

__all__ = ["braindecode_models"]


def braindecode_models() -> ModuleType:
    """Import and return `braindecode.models`.

    Raises
    ------
    EnvironmentMissingError
        Where braindecode is not installed, or is and cannot be imported; the message says which of the two.
    """
    allow_pure_torchaudio()
    return extra_module("braindecode.models", title="braindecode", extra="braindecode")
