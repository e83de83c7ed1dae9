"""How large the demo is, and where it puts things."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.files import write_bytes
from rtserve.training.recipe import Recipe

__all__ = ["FULL", "QUICK", "VIEWS", "DemoSettings", "Folder"]

VIEWS = ("identity", "roll:+3", "roll:-3", "scale:1.02", "scale:0.98")
VIEWED = "c1_views"
"""Name of the graph with all members and views, the one that goes into the zip."""


@dataclass(frozen=True, kw_only=True)
class DemoSettings:
    """Size of a demo.

    Parameters
    ----------
    windows, subjects : int
        Simulated for each challenge.
    seeds : tuple of int
        Members of challenge 1; challenge 2 has one, trained with the first.
    max_epochs : int
        Per member.
    rounds : int
        Of the timing.
    r1, r2 : float
        Planted information: what the best teams' 0.887 and 0.978 correspond to.
    """

    windows: int = 3000
    subjects: int = 120
    seeds: tuple[int, ...] = (42, 123, 456, 789, 999)
    max_epochs: int = 5
    rounds: int = 20
    r1: float = 0.46
    r2: float = 0.21

    def recipe(self) -> Recipe:
        """Return how the members are trained."""
        return Recipe(max_epochs=self.max_epochs, patience=0)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in dataclasses.asdict(self).items()}


FULL = DemoSettings()
QUICK = DemoSettings(windows=360, subjects=60, seeds=(42, 123), max_epochs=1, rounds=4)
"""A path of the same steps in a fraction of the time; its scores mean little."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """The demo's output folder.

    Parameters
    ----------
    root : Path
        The folder.
    """

    root: Path

    def windows(self, challenge: str) -> Path:
        """Return the file with a challenge's held-out windows."""
        return self.root / "windows" / f"c{challenge}_test.npz"

    def run(self, challenge: str) -> Path:
        """Return a challenge's RUNDIR."""
        return self.root / "training" / f"c{challenge}"

    def checkpoint(self, challenge: str, seed: int) -> Path:
        """Return a member's checkpoint."""
        return self.run(challenge) / f"seed{seed}" / "best.pth"

    def member(self, challenge: str, seed: int) -> Path:
        """Return a member's graph."""
        return self.root / "graphs" / f"c{challenge}_seed{seed}.onnx"

    def fused(self, name: str) -> Path:
        """Return a fused graph."""
        return self.root / "graphs" / f"{name}.onnx"

    def result(self, name: str) -> Path:
        """Return a file of figures."""
        return self.root / "results" / name

    def claim(self, settings: DemoSettings, *, force: bool) -> bool:
        """Take the folder for a demo with these settings; return whether an earlier run of it is there.

        Raises
        ------
        InputError
            Where it holds a demo with other settings, or something else.
        """
        import rtserve

        record = self.root / "settings.json"
        wanted = json.loads(json.dumps(settings.to_dict() | {"rtserve": rtserve.__version__}))
        if record.exists():
            found = json.loads(record.read_text("utf-8"))
            found.pop("schema", None)
            if found == wanted:
                return True
            if not force:
                raise InputError(
                    f"{self.root} holds a demo with other settings: {_differences(found, wanted)}",
                    hint="choose another --output, or pass --force to start it anew",
                )
        elif self.root.exists() and any(self.root.iterdir()):
            raise InputError(f"{self.root} is not empty and holds no demo", hint="choose another --output")
        self._clear()
        text = json.dumps({"schema": "rtserve.demo_settings/1"} | wanted, indent=1) + "\n"
        write_bytes(record, text.encode(), force=True)
        return False

    def _clear(self) -> None:
        """Remove what an earlier demo wrote, and nothing else."""
        import shutil

        for name in ("windows", "training", "graphs", "results"):
            shutil.rmtree(self.root / name, ignore_errors=True)


def _differences(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    keys = [key for key in wanted if found.get(key) != wanted[key]]
    return "; ".join(f"{key}: {found.get(key)} against {wanted[key]}" for key in keys)
