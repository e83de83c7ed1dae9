"""Curves for other tools while a run goes on: ``log.csv`` for a spreadsheet, events for TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.extras import extra_module
from rtserve.files import write_bytes
from rtserve.measure.signature import Signature

__all__ = ["LOGS", "make_logs", "require_logs"]

LOGS = ("csv", "tensorboard")
Log = Callable[[list[dict[str, Any]]], None]


def require_logs(names: Sequence[str]) -> None:
    """Raise `InputError` where a log is unknown, `EnvironmentMissingError` where TensorBoard is not installed."""
    unknown = [name for name in names if name not in LOGS]
    if unknown:
        raise InputError(f"unknown log {unknown[0]!r}", hint=f"use {' or '.join(LOGS)}")
    if "tensorboard" in names:
        extra_module("tensorboard", title="TensorBoard", extra="tensorboard")


def make_logs(names: Sequence[str], folder: Path, *, begun: int = 0) -> list[Log]:
    """Return what is called after each epoch with all rows of the log.

    Parameters
    ----------
    names : sequence of str
        Of `LOGS`.
    folder : Path
        RUNDIR/seedS.
    begun : int
        Epochs that were logged by an earlier, unfinished call.
    """
    require_logs(names)
    makers: dict[str, Callable[[], Log]] = {
        "csv": lambda: lambda rows: _write_csv(folder / "log.csv", rows),
        "tensorboard": lambda: _tensorboard(folder / "tensorboard", begun),
    }
    return [makers[name]() for name in dict.fromkeys(names)]


def _values(row: dict[str, Any]) -> dict[str, float]:
    valid = {f"valid/{Signature.parse(text).metric}": value for text, value in row["valid"].items()}
    return {"train/loss": row["train_loss"], "lr": row["lr"]} | valid | {"seconds": row["seconds"]}


def _write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["epoch", *_values(rows[0])])
    writer.writerows([row["epoch"], *_values(row).values()] for row in rows)
    write_bytes(path, text.getvalue().encode(), force=True)


def _tensorboard(folder: Path, begun: int) -> Log:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder), purge_step=begun + 1 if begun else None)

    def log(rows: list[dict[str, Any]]) -> None:
        for name, value in _values(rows[-1]).items():
            writer.add_scalar(name, value, rows[-1]["epoch"])
        writer.flush()

    return log
