"""Branches on trial: what each view and each member of a fused graph is worth, and what it costs.

A branch is judged by taking it out: the metric without it against the metric with it, on the same windows and the
same bootstrap draws. Whether it can matter at all is asked first, by intervention: a branch of weight zero or one that
repeats another is structurally inert; a view that can be replaced by the window as it is, or a member that can be taken
out, without moving a prediction, is inert on this data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.fusion.classes import in_form
from rtserve.fusion.plan import FusionPlan, Merge
from rtserve.fusion.views import parse_view
from rtserve.graphs.graph import Graph
from rtserve.measure.branch_report import BranchReport, Trial
from rtserve.measure.columns import columns_of
from rtserve.measure.decisions import Decision, decide, to_answers
from rtserve.measure.folds import held_out_choice
from rtserve.measure.metrics import Metric, parse_metric
from rtserve.measure.outputs import BranchOutputs, branch_outputs, find_members
from rtserve.measure.predict import as_graph, as_windows, predict
from rtserve.measure.statistics import RESAMPLES, Difference, Units, corrected, difference
from rtserve.measure.trained import part_to_score, records_of, untold
from rtserve.signals.windows import WindowSet

__all__ = ["try_branches"]

MOVES = 1e-6
"""Smallest change of a prediction, relative to max(1e-3, the largest prediction), that counts as a move."""
AGREES = 1e-4
"""Largest relative difference of the graph's own predictions from its branches merged by its plan."""


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What all trials share."""

    graph: Graph
    plan: FusionPlan
    members: tuple[Graph, ...]
    outputs: BranchOutputs
    identity: BranchOutputs
    windows: WindowSet
    metric: Metric
    units: Units
    seed: int
    resamples: int
    decision: Decision | None = None

    def predictions(self, members: Sequence[int] | None = None, views: Sequence[int] | None = None) -> np.ndarray:
        merged = self.outputs.merged(members, views, merge=self.plan.merge, calibration=self.plan.calibration)
        return self.answers(merged)

    def answers(self, merged: np.ndarray) -> np.ndarray:
        return to_answers(self.metric, merged, self.windows, name="the merge", decision=self.decision)

    def disabled(self, view: int) -> np.ndarray:
        """Return the predictions with one view put out of action: its branches see the window as it is."""
        values = self.outputs.values.copy()
        values[:, view] = self.identity.values[:, 0]
        merged = replace(self.outputs, values=values).merged(merge=self.plan.merge, calibration=self.plan.calibration)
        return self.answers(merged)

    def difference(self, first: np.ndarray, second: np.ndarray) -> Difference:
        y = self.windows.y
        return difference(self.metric, y, first, second, self.units, resamples=self.resamples, seed=self.seed)


def try_branches(
    graph: Graph | str | Path,
    windows: WindowSet | str | Path,
    *,
    by: Sequence[str] = ("view", "member"),
    members: Sequence[str | Path] | Sequence[Graph] = (),
    metric: str | None = None,
    split: str | None = None,
    cost: bool = True,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> BranchReport:
    """Judge the views and members of a fused graph.

    Parameters
    ----------
    graph : Graph or path
        Made by `rtserve.fusion.fuse`.
    windows : WindowSet or path
        To judge on.
    by : sequence of str
        ``"view"``, ``"member"`` or both.
    members : sequence of path or Graph
        The member graphs; those beside the graph's file are found by their digests.
    metric : str, optional
        NRMSE by default, balanced accuracy for classes.
    split : str, optional
        Judge only on the windows marked so; by default as `rtserve.measure.trained.part_to_score` has it.
    cost : bool
        Also time the graph with and without each, by turns.
    resamples, seed : int
        Of the bootstrap.
    progress : callable, optional
        Called with (graphs timed, graphs to time).

    Raises
    ------
    InputError
        Where the graph was not fused, members are missing, or `by` names something else.
    """
    unknown = [kind for kind in by if kind not in ("view", "member")]
    if unknown or not by:
        raise InputError(f"cannot judge by {', '.join(unknown) or 'nothing'}", hint="use --by view,member")
    case, notes = _case(graph, windows, members, metric=metric, split=split, resamples=resamples, seed=seed)
    counts = {"view": len(case.plan.views), "member": len(case.members)}
    costs = _costs(case, by, progress) if cost else {}
    kinds = [kind for kind in counts if kind in by]
    trials = [_trial(case, kind, k, costs.get((kind, k))) for kind in kinds for k in range(counts[kind])]
    trials, whole = _as_family(trials, _whole(case))
    notes += case.units.caveats()
    return BranchReport(metric=case.metric.name, trials=tuple(trials), whole=tuple(whole), notes=tuple(notes))


def _as_family(
    trials: list[Trial], whole: list[tuple[str, Difference]]
) -> tuple[list[Trial], list[tuple[str, Difference]]]:
    """Return both with the verdicts of the one report corrected for each other."""
    judged = [k for k, trial in enumerate(trials) if trial.change is not None and trial.status == "active"]
    changes = [change for k in judged if (change := trials[k].change) is not None]
    found = corrected([*changes, *(change for _, change in whole)], "the branches of this report")
    for k, change in zip(judged, found, strict=False):
        trials[k] = replace(trials[k], change=change)
    return trials, [(question, change) for (question, _), change in zip(whole, found[len(judged) :], strict=True)]


def _case(
    graph: Graph | str | Path,
    windows: WindowSet | str | Path,
    members: Sequence[Any],
    *,
    metric: str | None,
    split: str | None,
    resamples: int,
    seed: int,
) -> tuple[_Case, list[str]]:
    path = Path(graph) if isinstance(graph, str | Path) else None
    graph = as_graph(graph)
    given = [m for m in members if isinstance(m, Graph)]
    by_name = (
        {f"{k} ({g.digest[:8]})": g for k, g in enumerate(given, start=1)}
        if given
        else find_members(graph, path=path, members=members)
    )
    plan = FusionPlan.from_dict(graph.provenance.details["plan"])
    label = path.name if path else "the graph"
    part = part_to_score(records_of(graph, *by_name.values()), as_windows(windows), split, name=label)
    windows = part.windows
    names, found = list(by_name), [in_form(member, plan.merge.average) for member in by_name.values()]
    outputs = branch_outputs(found, plan.views, windows, names=names)
    where = [view.name for view in plan.views]
    identity = (
        BranchOutputs(values=outputs.values[:, [where.index("identity")]], members=outputs.members, views=("identity",))
        if "identity" in where
        else branch_outputs(found, [parse_view("identity")], windows, names=names)
    )
    decision = decide(graph, windows, [metric] if metric else [], name=label)
    case = _Case(
        graph=graph,
        plan=plan,
        members=tuple(found),
        outputs=outputs,
        identity=identity,
        windows=windows,
        metric=parse_metric(metric or ("balanced_accuracy" if decision else "nrmse")).on(columns_of(windows)),
        units=Units.of(windows.subject, len(windows)),
        seed=seed,
        resamples=resamples,
        decision=decision,
    )
    own = predict(graph, windows)
    merged = outputs.merged(merge=plan.merge, calibration=plan.calibration)
    gap = float(np.abs(own - merged).max()) / max(1e-3, float(np.abs(merged).max()))
    apart = [f"the graph's own answers differ from its branches merged by its plan by {gap:.1e}"]
    return case, [*part.notes, *untold(part, {label: graph}), *(apart if gap > AGREES else [])]


def _without(count: int, index: int) -> list[int]:
    return [k for k in range(count) if k != index]


def _trial(case: _Case, kind: str, index: int, cost: tuple[float, float, float] | None) -> Trial:
    count = len(case.plan.views) if kind == "view" else len(case.members)
    group = kind + "s"
    alone = case.predictions(**{group: [index]})
    rest = _without(count, index)
    trial = Trial(
        kind=kind,
        name=case.plan.views[index].name if kind == "view" else case.outputs.members[index],
        status=_structure(case, kind, index) or "active",
        alone=case.metric(case.windows.y, alone),
        cost=cost,
    )
    if not rest or not _weight(case, **{group: rest}):
        return trial
    others, full = case.predictions(**{group: rest}), case.predictions()
    disabled = others if kind == "member" or trial.name == "identity" else case.disabled(index)
    moves = float(np.abs(full - disabled).max()) > MOVES * max(1e-3, float(np.abs(full).max()))
    status = trial.status if moves or trial.status != "active" else "inert on this data"
    change = case.difference(others, full)
    return replace(trial, status=status, change=change, correlation=_correlation(alone, others))


def _weight(case: _Case, members: Sequence[int] | None = None, views: Sequence[int] | None = None) -> float:
    """Return the total weight of the chosen branches in a weighted merge; 1 in any other."""
    if case.plan.merge.kind != "weighted":
        return 1.0
    table = np.array(case.plan.merge.weights).reshape(len(case.members), len(case.plan.views))
    m = range(len(case.members)) if members is None else members
    v = range(len(case.plan.views)) if views is None else views
    return float(table[np.ix_(list(m), list(v))].sum())


def _structure(case: _Case, kind: str, index: int) -> str:
    """Return why no branch of this view or member can matter whatever the data, or an empty text."""
    removed = {entry["branch"]: entry["why"] for entry in case.graph.provenance.details.get("removed", ())}
    n_views = len(case.plan.views)
    mine = [
        m * n_views + v for m in range(len(case.members)) for v in range(n_views) if (v, m)[kind == "member"] == index
    ]
    if not all(branch in removed for branch in mine):
        return ""
    return f"structurally inert ({', '.join(dict.fromkeys(removed[branch] for branch in mine))})"


def _correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    if np.std(first) == 0 or np.std(second) == 0:
        return None
    return float(np.corrcoef(first.astype(np.float64).ravel(), second.astype(np.float64).ravel())[0, 1])


def _whole(case: _Case) -> list[tuple[str, Difference]]:
    """Return the questions about the whole: are the views worth it, is the ensemble, does it beat the best member."""
    full, out = case.predictions(), []
    plain = [view.name for view in case.plan.views] == ["identity"]
    uniform = replace(case.plan, merge=Merge()) if case.plan.merge.kind == "weighted" else case.plan

    def identity(members: Sequence[int] | None = None) -> np.ndarray:
        merged = case.identity.merged(members, merge=uniform.merge, calibration=case.plan.calibration)
        return case.answers(merged)

    if not plain:
        out.append(("without views -> with views", case.difference(identity(), full)))
    if len(case.members) > 1:
        folds = Units.of(case.windows.subject, len(case.windows), minimum=2)
        singles = np.stack([identity([m]) for m in range(len(case.members))])
        best = held_out_choice(case.metric, case.windows.y, singles, folds, seed=case.seed)
        out.append(("best single member, chosen on other subjects -> whole", case.difference(best, full)))
        with_views = np.stack([case.predictions([m]) for m in range(len(case.members)) if _weight(case, [m])])
        chosen = held_out_choice(case.metric, case.windows.y, with_views, folds, seed=case.seed)
        if not plain:
            out.append(("without the ensemble (best member with its views) -> whole", case.difference(chosen, full)))
    return out


def _costs(
    case: _Case, by: Sequence[str], progress: Callable[[int, int], None] | None
) -> dict[tuple[str, int], tuple[float, float, float]]:
    """Return what each view and member adds to the time of one call, timed by turns with the graph without it."""
    from rtserve.measure.marginal import marginal_cost

    jobs = [("view", v) for v in range(len(case.plan.views)) if "view" in by and len(case.plan.views) > 1]
    jobs += [("member", m) for m in range(len(case.members)) if "member" in by and len(case.members) > 1]
    jobs = [(kind, k) for kind, k in jobs if _can_drop(case, kind, k)]
    out = {}
    for done, (kind, k) in enumerate(jobs, start=1):
        out[kind, k] = marginal_cost(case.graph, case.members, case.plan, **{kind: k})
        if progress:
            progress(done, len(jobs))
    return out


def _can_drop(case: _Case, kind: str, index: int) -> bool:
    rest = _without(len(case.plan.views) if kind == "view" else len(case.members), index)
    return bool(_weight(case, **{kind + "s": rest}))
