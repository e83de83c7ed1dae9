"""Packages that only some uses need, imported where they are needed, with a true word where that fails."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from rtserve.errors import EnvironmentMissingError

__all__ = ["extra_module"]


def extra_module(name: str, *, title: str, extra: str = "", install: str = "") -> ModuleType:
    """Import and return the module `name`, without the warnings that it gives while it is imported.

    Parameters
    ----------
    name : str
        For example ``"braindecode.models"``.
    title : str
        What people call the package.
    extra : str
        The extra of rtserve that brings it.
    install : str
        What to run where no extra brings it.

    Raises
    ------
    EnvironmentMissingError
        Where the package is not installed, or is and cannot be imported; the message says which of the two.
    """
    install = install or f'pip install "rtserve[{extra}]"'
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if name == missing or name.startswith(f"{missing}."):
            raise EnvironmentMissingError(f"{title} is not installed", hint=install) from None
        reason = f"{title} is installed, but {missing}, which it imports, is not"
        raise EnvironmentMissingError(reason, hint=install) from None
    except Exception as error:  # whatever a package that does not fit its neighbours raises while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise EnvironmentMissingError(
            f"{title} is installed, but cannot be imported: {reason}",
            hint=f"what the reason names does not fit the other packages; in a new environment: {install}",
        ) from None
