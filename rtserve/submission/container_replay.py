"""The reference recording through a container's own command, in the sandbox of `rtserve check`."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from rtserve.errors import EnvironmentMissingError
from rtserve.stages import Stages
from rtserve.submission.container_build import RECORDING, TABLE
from rtserve.submission.container_drills import Drill
from rtserve.submission.container_run import run_container

if TYPE_CHECKING:
    from rtserve.submission.profile import Profile

__all__ = ["replayed_container"]

NEAR = 0.011
"""What another processor may change in a number of two digits."""


def replayed_container(
    folder: Path,
    files: dict[str, bytes],
    profile: Profile,
    python: Path,
    routes: dict[str, str],
    stages: Stages | None = None,
) -> Iterator[str]:
    """Yield where the command does not write the table of the reference recording that it wrote when it was built.

    Raises
    ------
    EnvironmentMissingError
        Where this machine cannot run it.
    """
    drill = Drill(
        name="reference", what="of the zip", labels=(), data=np.zeros((0, 0)), unit="", sfreq=1.0, file=files[RECORDING]
    )
    run = run_container(folder, profile, [drill], python=python, stages=stages)
    if run.why_not or not run.answered:
        raise EnvironmentMissingError(
            f"the reference recording cannot be replayed: {run.why_not or 'nothing was run'}",
            hint="try another --env, or --no-replay for the digests alone",
        )
    (answer,) = run.answered
    (challenge,) = profile.challenges
    routes[challenge.key] = f"its command, in {run.kind}"
    if answer.code:
        yield f"{profile.entry.file}: the command ends with {answer.code} on {RECORDING}: {answer.last}"
        return
    expected = files[TABLE].decode("utf-8", "replace").splitlines()
    for number, (old, new) in enumerate(itertools.zip_longest(expected, answer.table.splitlines()), start=1):
        if not _near(old or "", new or "", profile):
            yield f"{TABLE}: line {number} is {old!r}, the command writes {new!r}"


def _near(one: str, other: str, profile: Profile) -> bool:
    assert profile.container is not None
    separator = profile.container.table.separator
    cells, others = one.split(separator), other.split(separator)
    return len(cells) == len(others) and all(map(_same, cells, others))


def _same(one: str, other: str) -> bool:
    try:
        return one == other or abs(float(one) - float(other)) < NEAR
    except ValueError:
        return False
