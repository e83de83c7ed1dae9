"""What the demo's figures mean, said from the figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rtserve.demo.settings import VIEWED, DemoSettings
from rtserve.demo.timing import EAGER, SESSIONS

if TYPE_CHECKING:
    from rtserve.measure.branch_report import BranchReport
    from rtserve.measure.evaluation import Evaluation
    from rtserve.measure.timing import Timings

__all__ = ["make_notes", "roughness", "rounded"]


def roughness(timings: Timings, *names: str) -> str:
    """Return why times of these are rough, the first reason found, or an empty text."""
    reasons = [reason for name in names for reason in timings.unstable(name)]
    return reasons[0] if reasons else ""


def rounded(value: float) -> str:
    """Return a rough number to two significant digits: 35.2 is 35, 1,013 is 1,000 and 0.02841 is 0.028."""
    short = float(f"{value:.2g}")
    return f"{short:,.0f}" if short >= 10 else f"{value:.2g}"


def make_notes(
    settings: DemoSettings,
    evaluations: dict[str, Evaluation],
    branches: BranchReport,
    timings: Timings,
    verdict: Any,
    *,
    reused: Sequence[str],
) -> tuple[str, ...]:
    """Say what the figures mean, from the figures.

    Parameters
    ----------
    settings : DemoSettings
        Its planted information says what can be reached at best.
    evaluations : dict of str to Evaluation
        Graph name to its score.
    branches : BranchReport
        Views and members on trial.
    timings : Timings
        Of the graph with views and of both loops.
    verdict : ValidationReport
        What `rtserve.submission.validate.check` found.
    reused : sequence of str
        What an earlier run left.
    """
    limits = {c: math.sqrt(1 - r * r) for c, r in (("1", settings.r1), ("2", settings.r2))}
    notes = [
        "simulated windows: scores show that the path works, not how a network does on real EEG;"
        f" the best that can be expected is {limits['1']:.3f} on C1 and {limits['2']:.3f} on C2",
        _speed(timings),
        *_views(branches),
        f"check says {verdict.verdict}: {', '.join(f'{n} {kind}' for kind, n in verdict.counts().items() if n)}",
    ]
    for name, evaluation in evaluations.items():
        notes += [f"{name}: {note}" for note in evaluation.notes]
    notes += [f"reused: {', '.join(reused)}"] if reused else []
    return tuple(notes)


def _speed(timings: Timings) -> str:
    """Say how much faster the fused graph is: with its interval, or as rough with what makes it so."""
    rough = roughness(timings, VIEWED, EAGER, SESSIONS)
    said = []
    for name, what in ((EAGER, "the eager loop"), (SESSIONS, "the loop of sessions")):
        value, low, high = timings.ratio(name, VIEWED)
        factor = f"about {rounded(value)} times" if rough else f"{value:.1f} times [{low:.1f}, {high:.1f}]"
        said.append(f"{factor} less than {what}")
    end = f"; rough, because {rough}" if rough else ""
    return f"the fused graph takes {' and '.join(said)}, each over the same branches (one thread, batch 1){end}"


def _views(branches: BranchReport) -> list[str]:
    """Say each view's verdict in a word or two; the summary has the numbers."""
    found: dict[str, list[str]] = {}
    for trial in branches.trials:
        if trial.kind == "view":
            word = trial.change.verdict if trial.change and trial.status == "active" else trial.status
            found.setdefault(word, []).append(trial.name)
    listed = "; ".join(f"{word}: {', '.join(names)}" for word, names in found.items())
    return [f"views on trial, each with it against without it: {listed}"] if found else []
