"""A search for members, views and weights under a latency budget, with an honest estimate of what it gained.

Every candidate is scored on cached branch predictions. What is best on the windows it was chosen on looks better than
it is, so the gain is told on people who had no say (`rtserve.measure.untouched`). Where they are too few to set any
aside, the whole search, fitting included, is repeated without each fold and scored on it: an estimate without interval
or verdict, because folds share the people they choose on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import file_names
from rtserve.fusion.classes import in_form, require_average, require_meant
from rtserve.fusion.plan import make_plan
from rtserve.fusion.views import View, parse_views
from rtserve.graphs.graph import Graph
from rtserve.measure.candidates import EXACT_LIMIT, Candidate, Pool, combinations_of, explore
from rtserve.measure.chooser import Chooser
from rtserve.measure.cost_model import CostModel, measure_costs, time_graphs
from rtserve.measure.decisions import decide, to_answers
from rtserve.measure.folds import FOLDS
from rtserve.measure.metrics import Metric, parse_metric
from rtserve.measure.outputs import branch_outputs
from rtserve.measure.predict import as_graph, as_windows, predict
from rtserve.measure.search_report import Option, SearchReport
from rtserve.measure.standing import Standing, standing
from rtserve.measure.statistics import RESAMPLES, Units, interval
from rtserve.measure.told import tell
from rtserve.measure.trained import part_to_fit, records_of, untold
from rtserve.measure.untouched import HOLD_OUT, Untouched, set_aside
from rtserve.signals.given import given_windows
from rtserve.signals.windows import WindowSet
from rtserve.spec import require_same_input, require_same_output

__all__ = ["search"]

ATTEMPTS = 3
"""How often the budget is tightened when what was chosen measures dearer than it was predicted."""
Cost = tuple[float, float, float]


def search(
    members: Sequence[Graph | str | Path] | Graph | str | Path,
    windows: Any,
    *,
    unit: str | None = None,
    sfreq: float = 0.0,
    views: str | Sequence[str] = ("identity",),
    also: Sequence[str | Path] = (),
    budget_us: float = float("inf"),
    average: str = "",
    weights: bool = True,
    calibrate: bool = True,
    metric: str | None = None,
    split: str = "all",
    hold_out: float = HOLD_OUT,
    jobs: int = 1,
    backend: str = "loky",
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> SearchReport:
    """Search members, views and weights under a latency budget.

    Parameters
    ----------
    members : sequence of Graph or path
        To choose from.
    windows : WindowSet, path, (X, y), mne.Epochs or data set
        Validation windows, as `rtserve.evaluate` takes them; those that a member was trained on are left out, and that is
        said.
    unit, sfreq : str, float
        What the windows do not say.
    views : str or sequence of str
        To choose from.
    also : sequence of path
        Graphs that compete as they are: a soup, a calibrated one.
    budget_us : float
        Most microseconds per window on this machine (onnxruntime, batch 1, one thread).
    average : str
        Of classifiers: what a merge is of, ``logits`` or ``probabilities``.
    weights, calibrate : bool
        Whether weights of branches, and a scale and offset, may be fitted.
    metric, split : str
        What is to be best, as `rtserve.measure.metrics.parse_metric` reads it: NRMSE by default, balanced accuracy for
        classes; the part of the windows to choose on. ``"train"`` alone
        chooses on training windows, and the signature says so.
    hold_out : float
        Share of subjects that the search does not touch and tells its gain on, where the file marks no test windows;
        with 0 it chooses on all and tells no interval.
    jobs, backend : int, str
        joblib's, for the branch predictions.
    resamples, seed : int
        Of bootstrap, folds and timing.
    progress : callable, optional
        Called with (graphs fused, graphs to fuse).

    Raises
    ------
    InputError
        Where nothing fits the budget, or members, views or windows are wrong.
    """
    if not budget_us > 0:
        raise InputError(f"a budget of {budget_us} us", hint="give microseconds above 0")
    members = [members] if isinstance(members, Graph | str | Path) else list(members)
    graphs = [as_graph(member) for member in members]
    named = iter(file_names([one for one in (*members, *also) if isinstance(one, str | Path)]))
    names = [next(named) if isinstance(m, str | Path) else f"member {k}" for k, m in enumerate(members, start=1)]
    if not 0 <= hold_out < 1:
        raise InputError(f"a share of {hold_out:g} cannot be set aside", hint="give --hold-out from 0 to under 1")
    whole = {next(named): as_graph(path) for path in also}
    _require_alike(graphs, names, whole)
    given = given_windows(
        windows, unit=unit, sfreq=sfreq, spec=graphs[0].input_spec, output=graphs[0].output_spec, name=names[0]
    ).windows
    new = part_to_fit(records_of(*graphs, *whole.values()), as_windows(given), split, name="a member")
    parts = set_aside(new.windows, split=new.marked, share=hold_out, seed=seed, chose=new.chosen)
    windows = parts.windows
    bound = [view.bind(graphs[0].input_spec) for view in parse_views(views)]
    plan = make_plan([graph.digest for graph in graphs], bound, "mean", None, average)
    outputs = graphs[0].output_spec
    if windows.predicts == "class" and not outputs.target:
        outputs = replace(outputs, target="class")
    require_average(outputs, graphs, plan, names)
    if np.ndim(windows.y) == 1:  # what is scored on vectors are no classes
        require_meant(outputs, graphs, plan, names)
    asked = [metric] if metric else []
    decision = decide(in_form(graphs[0], average), windows, asked, name=names[0])
    chosen = parse_metric(metric or ("balanced_accuracy" if decision else "nrmse"))
    fitted = graphs[0].output_spec.n_outputs == 1 and decision is None
    model = measure_costs(graphs, bound, whole, average=average, seed=seed, progress=progress)
    alike = [in_form(graph, average) for graph in graphs]
    pool = Pool(
        outputs=branch_outputs(alike, bound, windows, names=names, jobs=jobs, backend=backend),
        wholes={name: _whole(name, graph, windows, chosen, asked) for name, graph in whole.items()},
        windows=windows,
        cost=_cost_of(model),
        decision=decision,
        average=average,
        metric=chosen,
    )
    chooser = Chooser(
        pool=pool,
        metric=chosen,
        units=Units.of(windows.subject, len(windows), minimum=2),
        budget_us=budget_us,
        weights=weights and fitted,
        calibrate=calibrate and fitted,
        seed=seed,
    )
    chooser, front, costs = _fit_budget(chooser, graphs, bound, whole, parts.chosen_on)
    found = _report(chooser, parts, front, costs, budget_us=budget_us, resamples=resamples, split=new.split)
    said = windows.require_spec(graphs[0].input_spec, name=names[0])
    told = [*untold(new, dict(zip(names, graphs, strict=True)) | whole), *([said] if said else [])]
    return replace(found, notes=(*new.notes, *told, *found.notes), trained_on=new.trained)


def _require_alike(graphs: Sequence[Graph], names: Sequence[str], whole: dict[str, Graph]) -> None:
    if not graphs:
        raise InputError("no member to choose from", hint="name at least one graph made by `rtserve export`")
    for name, graph in [*zip(names, graphs, strict=True), *whole.items()]:
        require_same_input(graphs[0].input_spec, graph.input_spec, names=(names[0], name))
        require_same_output(graphs[0].output_spec, graph.output_spec, names=(names[0], name))


def _whole(name: str, graph: Graph, windows: WindowSet, metric: Metric, asked: Sequence[str]) -> np.ndarray:
    """Return the answers (n_windows, ...) of a graph that competes as it is."""
    decision = decide(graph, windows, asked, name=name)
    return to_answers(metric, predict(graph, windows, name=name), windows, name=name, decision=decision)


def _cost_of(model: CostModel) -> Callable[[Candidate], float]:
    return lambda c: model.whole[c.whole] if c.whole else model.predict(c.members, c.views)


def _fit_budget(
    chooser: Chooser, graphs: Sequence[Graph], views: Sequence[View], whole: dict[str, Graph], every: np.ndarray
) -> tuple[Chooser, list[Candidate], dict[Candidate, Cost]]:
    """Choose, fuse and time; where the choice measures over the budget, tighten the prediction and repeat."""
    budget = chooser.budget_us
    for _ in range(ATTEMPTS):
        ranked = chooser.ranked(every)
        if not ranked:
            cheapest = min(map(chooser.pool.cost, explore(chooser.pool, chooser.metric, every, float("inf"))))
            raise InputError(
                f"nothing fits {budget:g} us: the cheapest takes about {cheapest:.0f} us on this machine",
                hint="raise --budget-us, or bring a smaller member",
            )
        best = chooser.choose(every)
        front = chooser.front(ranked, best, every)
        costs = _timed(chooser.pool, front, graphs, views, whole)
        if costs[best][0] <= budget:
            break
        chooser = replace(chooser, budget_us=chooser.budget_us * budget / costs[best][0] * 0.98)
    return chooser, front, costs


def _timed(
    pool: Pool, front: Sequence[Candidate], graphs: Sequence[Graph], views: Sequence[View], whole: dict[str, Graph]
) -> dict[Candidate, Cost]:
    """Fuse candidates, each proven equal to its plan, and time them by turns: microseconds with intervals."""
    from rtserve.fusion.fuse import fuse

    def built(c: Candidate) -> Graph:
        if c.whole:
            return whole[c.whole]
        chosen, seen = [graphs[m] for m in c.members], [views[v] for v in c.views]
        return fuse(
            chosen, views=seen, merge=c.merge, calibration=pool.calibration(c), average=pool.average, force=True
        )

    timings = time_graphs({str(k): built(c) for k, c in enumerate(front)})
    base = timings.median_us("0")
    costs = {}
    for k, candidate in enumerate(front):
        ratio, low, high = timings.ratio(str(k), "0")
        costs[candidate] = (base * ratio, base * low, base * high)
    return costs


def _stands(chooser: Chooser, best: Candidate, parts: Untouched, resamples: int) -> Standing | None:
    """Return where the choice stands against the constant on the untouched windows; None where there are none."""
    index, pool = parts.told_on, chooser.pool
    if not len(index):
        return None
    y, p = pool.windows.y[index], pool.predict(best)[index]
    return standing(pool.on(chooser.metric, index), y, p, parts.units, resamples=resamples, seed=chooser.seed)


def _report(
    chooser: Chooser,
    parts: Untouched,
    front: Sequence[Candidate],
    costs: dict[Candidate, Cost],
    *,
    budget_us: float,
    resamples: int,
    split: str,
) -> SearchReport:
    pool, seed = chooser.pool, chooser.seed
    subject, every = pool.windows.subject, parts.chosen_on
    y = pool.windows.y[every].astype(np.float64)
    metric = pool.on(chooser.metric, every)
    chosen_split, told_split = parts.splits(split)
    units = Units.of(subject[every] if len(subject) == len(pool.windows) else subject, len(every))
    best, single = chooser.choose(every), chooser.best_single(every)
    told = tell(chooser, best, single, parts, split=told_split, resamples=resamples)

    def option(c: Candidate) -> Option:
        p = pool.predict(c)[every]
        return Option(
            label=pool.label(c),
            members=tuple(pool.outputs.members[m] for m in c.members),
            views=tuple(pool.outputs.views[v] for v in c.views),
            weights=c.weights,
            scale=c.scale,
            offset=c.offset,
            whole=c.whole,
            average=pool.average,
            value=metric(y, p),
            interval=interval(metric, y, p, units, resamples=resamples, seed=seed),
            cost_us=costs[c],
            predicted_us=pool.cost(c),
            chosen=c == best,
            single=c == single,
        )

    return SearchReport(
        signature=metric.signature(n=len(y), data=pool.windows.take(every).digest, split=chosen_split),
        told=told.signature,
        higher_is_better=metric.higher_is_better,
        budget_us=budget_us,
        options=tuple(option(c) for c in front),
        gain=told.gain,
        nested=told.value,
        nested_interval=told.interval,
        candidates=len(pool.wholes) + combinations_of(pool),
        exact=combinations_of(pool) <= EXACT_LIMIT,
        folds=0 if parts.where else min(FOLDS, chooser.units.count),
        over=parts.where or chooser.units.over,
        notes=told.notes,
        standing=_stands(chooser, best, parts, resamples),
    )
