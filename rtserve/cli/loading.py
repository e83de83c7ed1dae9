"""Files whose own library runs the code in them when it loads them: in a sandbox, or trusted, and said either way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rtserve.cli.output import warn

if TYPE_CHECKING:
    from rtserve.graphs.export import Child

__all__ = ["child_for"]


def child_for(checkpoint: Path, *, trusted: bool) -> Child | None:
    """Return what runs the export of a file, and say what loading the file does; None where nothing of it is run."""
    from rtserve.graphs.exporter import RUNS_CODE
    from rtserve.graphs.warm import run_child
    from rtserve.submission import sandbox
    from rtserve.submission.isolated_export import isolated_child

    if trusted:
        warn(f"loading {checkpoint.name} runs the code in it, as you, without a sandbox: --trusted")
        return run_child
    if checkpoint.suffix.lower() not in RUNS_CODE:
        return None
    warn(
        f"loading {checkpoint.name} runs the code in it: done in a sandbox ({sandbox.best_kind()}), which has no network"
        " and sees none of your files"
    )
    return isolated_child
