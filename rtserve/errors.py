"""What can go wrong, as one tree; the command line turns each branch into an exit code.

::

    RtserveError                      1  a check, parity or gate failed
    |-- InputError (ValueError)       2  usage or bad input
    |   |-- CheckpointError           2  a checkpoint that cannot be read, or does not fit its network
    |   |-- ProfileError              2  a contest profile or recipe that says something impossible
    |   `-- SpecMismatchError         2  two things that must agree on channels, samples, rate or unit do not
    |-- ExportError                   1  the network could not be turned into a graph
    |-- FusionError                   1  members and views could not be joined
    |-- ParityError                   1  two things that must give the same numbers do not (carries the report)
    |-- BundleError                   1  the zip could not be built, or is not what its manifest says
    |-- NotComparableError            3  two numbers that may not be subtracted
    `-- EnvironmentMissingError       4  a package, tool or environment this machine lacks

A message says what is wrong with both values, and where; the hint says what to do. An outcome such as a view refused
or a check failed is no exception but a value with its reason.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "BundleError",
    "CheckpointError",
    "EnvironmentMissingError",
    "ExportError",
    "FusionError",
    "InputError",
    "NotComparableError",
    "ParityError",
    "ProfileError",
    "RtserveError",
    "SpecMismatchError",
]


class RtserveError(Exception):
    """Base of every error rtserve raises on purpose.

    Parameters
    ----------
    message : str
        What is wrong, with both values, and where.
    hint : str
        What to do about it.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Return the message, and the hint on a line of its own: a traceback in a notebook says what to do."""
        return f"{self.message}\nhint: {self.hint}" if self.hint else str(self.message)


class InputError(RtserveError, ValueError):
    """Usage or input that cannot be right."""

    exit_code = 2


class CheckpointError(InputError):
    """A checkpoint that cannot be read safely, or does not fit the network it is meant for."""


class ProfileError(InputError):
    """A profile or recipe that cannot be read or contradicts itself."""


class SpecMismatchError(InputError):
    """Two things that must agree on channels, samples, rate or unit, and do not."""


class ExportError(RtserveError):
    """A network that could not be turned into a graph."""


class FusionError(RtserveError):
    """Members, views or a merge that could not be joined into one graph."""


class ParityError(RtserveError):
    """Two things that must give the same numbers and do not.

    Parameters
    ----------
    message, hint : str
        As for `RtserveError`.
    report : Any
        The parity report that says where and by how much.
    """

    def __init__(self, message: str, *, hint: str = "", report: Any = None) -> None:
        super().__init__(message, hint=hint)
        self.report = report


class BundleError(RtserveError):
    """A zip that could not be built, or is not what its manifest says."""


class NotComparableError(RtserveError):
    """Two numbers whose signatures differ, so that their difference means nothing."""

    exit_code = 3


class EnvironmentMissingError(RtserveError):
    """A package, tool or scoring environment that this machine lacks."""

    exit_code = 4
