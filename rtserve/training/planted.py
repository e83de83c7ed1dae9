"""What simulated windows can teach at best: the oracle's score beside the constant's."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rtserve.files import check_writable
from rtserve.measure.evaluation import Evaluation, score_predictions
from rtserve.measure.signature import Score
from rtserve.measure.standing import standing_of
from rtserve.signals.options import require_window_name
from rtserve.signals.simulate import Progress, oracle_prediction, simulate
from rtserve.signals.splits import make_split
from rtserve.signals.windows import WindowSet, save_windows

__all__ = ["PlantedReport", "planted_report", "simulate_to_file", "with_split"]


@dataclass(frozen=True, kw_only=True)
class PlantedReport:
    """The planted information and how much of it the oracle finds in the windows.

    Parameters
    ----------
    r : float
        Planted correlation.
    expected : float
        NRMSE of a calibrated predictor with that correlation, ``sqrt(1 - r^2)``.
    oracle : Evaluation
        The oracle's scores with intervals, and the constant's.
    correlation : Score
        Correlation of the oracle's reading of the windows with the target; unlike the calibrated prediction it is no
        constant at r = 0.
    """

    r: float
    expected: float
    oracle: Evaluation
    correlation: Score

    @property
    def reached(self) -> bool:
        """Whether the planted r lies in the interval of what the oracle finds."""
        return self.correlation.interval is None or self.r in self.correlation.interval

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "simulated": True,
            "planted_r": self.r,
            "expected_nrmse": self.expected,
            "reached": self.reached,
            "oracle_r": self.correlation.to_dict(),
            "oracle": self.oracle.to_dict(raw=False),
        }

    def lines(self) -> list[str]:
        """Return what a person reads."""
        score, constant = self.oracle["nrmse"], self.oracle.baseline[0]
        where = standing_of(score) if self.r == 0 else None
        canary = [f"nothing was planted: {where.sentence()}"] if where else []
        return [
            f"planted r = {self.r:g}: a calibrated predictor can reach NRMSE {self.expected:.3f} (simulated)",
            f"the oracle finds r = {_with_ends(self.correlation)} and scores {_with_ends(score)},"
            f" the constant {constant.value if constant else 1.0:.3f}",
            *canary,
        ]


def _with_ends(score: Score) -> str:
    ends = f" {score.interval.text('.3f')}" if score.interval else ""
    return f"{score.value:.3f}{ends}"


def planted_report(windows: WindowSet) -> PlantedReport:
    """Score the generator's oracle on simulated windows.

    Raises
    ------
    InputError
        Where the windows were not simulated.
    """
    r = float(windows.extra.get("planted_r", 0.0))
    prediction, reading = oracle_prediction(windows)
    evaluation = score_predictions(prediction, windows, metrics=("nrmse",), name="oracle")
    correlation = score_predictions(reading, windows, metrics=("pearson",), name="oracle")["pearson"]
    return PlantedReport(r=r, expected=math.sqrt(1.0 - r * r), oracle=evaluation, correlation=correlation)


def with_split(windows: WindowSet, *, by: str = "subject", seed: int = 0) -> WindowSet:
    """Return the windows marked train, valid and test, or as they are where they are too few subjects to be split."""
    if len(set(windows.subject.tolist())) < 3:
        return windows
    return replace(windows, extra=windows.extra | {"split": make_split(windows, by=by, seed=seed).marks})


def simulate_to_file(
    path: str | Path,
    n_windows: int,
    *,
    r: float,
    seed: int = 0,
    target: str = "response_time",
    n_subjects: int | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> PlantedReport:
    """Simulate windows, mark train, valid and test by subject, and write them; arguments as `simulate`.

    Raises
    ------
    InputError
        Where an argument is impossible or the file may not be written.
    """
    require_window_name(check_writable(path, force=force))
    windows = with_split(simulate(n_windows, r=r, seed=seed, target=target, n_subjects=n_subjects, progress=progress))
    save_windows(path, windows, force=force)
    return planted_report(windows)
