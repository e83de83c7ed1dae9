"""A plan as a TorchScript archive with repeatable bytes; run as a program in a process of its own.

``torch.jit.save`` writes local paths (``debug_pkl``) and a number that identifies the run. The archive is written anew
without them, under one folder name and one date; torch 2.2 and later load it.
"""

from __future__ import annotations

import io
import json
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

__all__ = ["repeatable", "trace"]

ROOT = "archive"
DATE = (1980, 1, 1, 0, 0, 0)


def trace(plan: dict[str, Any], tensors: dict[str, Any], shape: tuple[int, int]) -> bytes:
    """Return the frozen trace of a plan as an archive.

    Parameters
    ----------
    plan, tensors : dict
        From `rtserve.graphs.plan.graph_to_plan`.
    shape : tuple of int
        (n_chans, n_times); the batch of the example is 2, and any batch runs.
    """
    import torch

    from rtserve.runtime.executor import PlanModule

    module = PlanModule(plan, tensors).eval()
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, *shape, generator=generator)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # sizes that become constants are checked at other batch sizes by the build
        traced = torch.jit.trace(module, (example,), check_trace=False)
        frozen = torch.jit.freeze(traced.eval())
        buffer = io.BytesIO()
        torch.jit.save(frozen, buffer)
    return repeatable(buffer.getvalue())


def repeatable(archive: bytes) -> bytes:
    """Return a TorchScript archive without what differs from run to run."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as source, zipfile.ZipFile(target, "w") as out:  # noqa: TID251
        entries = {entry.filename.split("/", 1)[1]: source.read(entry) for entry in source.infolist()}
        for name in sorted(entries):
            if not name.endswith(".debug_pkl") and name != ".data/serialization_id":
                out.writestr(zipfile.ZipInfo(f"{ROOT}/{name}", date_time=DATE), entries[name])
    return target.getvalue()


def main(folder: str, n_chans: str, n_times: str) -> None:
    """Trace FOLDER/plan.json with FOLDER/plan.pt into FOLDER/plan.ts."""
    import torch

    here = Path(folder)
    tensors = torch.load(here / "plan.pt", weights_only=True)  # noqa: TID251  (written by the parent)
    plan = json.loads((here / "plan.json").read_text("utf-8"))
    (here / "plan.ts").write_bytes(trace(plan, tensors, (int(n_chans), int(n_times))))


if __name__ == "__main__":
    main(*sys.argv[1:])
