"""braindecode's networks, imported in one place: with the torchaudio that is there, and a true word where it fails."""

from __future__ import annotations

import warnings
from types import ModuleType

from rtserve.errors import EnvironmentMissingError
from rtserve.graphs.pure_torchaudio import allow_pure_torchaudio

__all__ = ["braindecode_models"]

_EXTRA = 'pip install "rtserve[braindecode]"'


def braindecode_models() -> ModuleType:
    """Import and return `braindecode.models`.

    Raises
    ------
    EnvironmentMissingError
        Where braindecode is not installed, or is and cannot be imported; the message says which of the two.
    """
    allow_pure_torchaudio()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from braindecode import models
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "braindecode":
            raise EnvironmentMissingError("braindecode is not installed", hint=_EXTRA) from None
        raise EnvironmentMissingError(
            f"braindecode is installed, but {error.name}, which it imports, is not", hint=_EXTRA
        ) from None
    except Exception as error:  # whatever a package that does not fit its neighbours raises while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise EnvironmentMissingError(
            f"braindecode is installed, but cannot be imported: {reason}",
            hint=f"the package the reason names does not fit the others; in a new environment: {_EXTRA}",
        ) from None
    found: ModuleType = models
    return found
