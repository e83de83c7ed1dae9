"""Running passes over one graph: each on a copy, kept where the numbers hold, undone where they do not."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir

from rtserve.fusion.ir.clean import cleaned
from rtserve.fusion.ir.passes import Pass
from rtserve.fusion.run.outcome import Outcome

__all__ = ["DEFECTS", "STRICT", "Checker", "failed", "holds", "judged", "run_passes"]

Checker = Callable[["ir.Model"], str]
"""Returns why a rewritten model is not the same, or an empty text where it is."""


DEFECTS = (ValueError, TypeError, KeyError, IndexError, AttributeError, np.linalg.LinAlgError)
"""What a rewrite raises on a graph that it did not foresee: it is undone then, and the graph stays as it was."""
STRICT = "RTSERVE_STRICT"
"""Environment variable: where it is set, a rewrite that raises is raised. The tests and the zoo set it: what a user is
spared is a defect all the same."""


def failed(error: Exception) -> str:
    """Return the reason for which a rewrite that raised is undone; with `STRICT` raise it instead."""
    if os.environ.get(STRICT):
        raise error
    return f"failed: {type(error).__name__}: {error}"


def holds(check: Checker, model: ir.Model) -> bool:
    """Whether a model is found the same; one that cannot be asked is not."""
    try:
        return not check(model)
    except DEFECTS:
        return False


def run_passes(
    model: ir.Model, passes: Sequence[Pass], *, subject: str, check: Checker | None = None
) -> tuple[ir.Model, list[Outcome]]:
    """Run passes in order and keep those that leave the numbers as they are.

    What all of them make of the model is checked. Where the numbers changed, they are run again, each checked by itself:
    what changed them is undone, and the reason is in its outcome.

    Parameters
    ----------
    model : onnx_ir.Model
        Tidied, otherwise not changed.
    passes : sequence of Pass
        What to run.
    subject : str
        What the outcomes call the model.
    check : callable, optional
        The exactness check; without it every change is kept.
    """
    tidy, macs = cleaned(model)

    def in_order(check: Checker | None) -> tuple[ir.Model, list[Outcome]]:
        done, before, outcomes = tidy, macs, []
        for one in passes:
            done, outcome = _one(done, one, subject, check, before)
            before = outcome.macs_after
            outcomes.append(outcome)
        return done, outcomes

    done, outcomes = in_order(None)
    if check is None or all(outcome.status != "applied" for outcome in outcomes) or holds(check, done):
        return done, outcomes
    return in_order(check)


def _one(model: ir.Model, one: Pass, subject: str, check: Checker | None, before: int) -> tuple[ir.Model, Outcome]:
    """Run one pass on a copy; return that, or the model where nothing was changed or the numbers were."""
    outcome = partial(Outcome, name=one.name, subject=subject, macs_before=before, macs_after=before)
    trial = model.clone()
    try:
        result = one.run(trial)
        refused = tuple(result.refused)
        why = list(dict.fromkeys(map(str, refused)))
        if not result.changed:
            status = "refused" if refused else "nothing"
            return model, outcome(status=status, reason="; ".join(why) or "there is nothing it is for", refused=refused)
        trial, macs = cleaned(trial)
        kept, said = judged(
            trial, check, outcome, reason="; ".join((result.did, *why)), macs_after=macs, refused=refused
        )
    except DEFECTS as error:
        return model, outcome(status="undone", reason=failed(error))
    return kept or model, said


def judged(
    model: ir.Model, check: Checker | None, outcome: Callable[..., Outcome], **applied: Any
) -> tuple[ir.Model | None, Outcome]:
    """Return a model that is found the same, None for another, and the outcome, with what to say where it is applied."""
    wrong = check(model) if check is not None else ""
    if wrong:
        return None, outcome(status="undone", reason=f"the numbers changed: {wrong}")
    return model, outcome(status="applied", **applied)
