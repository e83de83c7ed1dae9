"""The parts of `coverage.py`: what is simulated, what is counted in it, and which code each table measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from coverage_metrics import METRIC_STUDIES, MetricStudy, one_study, truth
from coverage_search import SEARCHES, one_search
from coverage_sets import SITUATIONS, Situation, family
from measured_code import code_digest

from rtserve.measure.metrics import METRICS
from rtserve.measure.standing import standing
from rtserve.measure.statistics import Difference, Units, corrected, difference, interval

__all__ = [
    "NAMES",
    "Row",
    "against_the_constant",
    "code_of",
    "intervals",
    "metrics",
    "parts",
    "power",
    "reports",
    "searches",
]

HERE = Path(__file__).resolve().parent
NAMES = ("nrmse", "rmse", "mse", "pearson")
BRANCHES = 13
POWER = ((8, 480), (10, 600), (15, 900), (19, 241), (19, 1178), (40, 2400))
"""People and trials; the constants of `rtserve.measure.power` were measured on studies of other seeds."""
Row = dict[str, Any]
_TARGETS = "rtserve.signals.targets"
_OF = {
    "Intervals": (("rtserve.measure.statistics", _TARGETS), "coverage_sets.py"),
    "Other metrics": (("rtserve.measure.statistics", "rtserve.measure.probabilities"), "coverage_metrics.py"),
    "Against the constant": (("rtserve.measure.standing", _TARGETS), "coverage_sets.py"),
    "Reports of null branches": (("rtserve.measure.statistics", _TARGETS), "coverage_sets.py"),
    "Detectable": (("rtserve.measure.statistics", _TARGETS), "coverage_sets.py"),
    "Searches": (("rtserve.measure.told", "rtserve.measure.chooser", _TARGETS), "coverage_search.py"),
}


def code_of(name: str) -> str:
    """Return the digest of the code that a table measures, and of what simulates it."""
    modules, script = _OF[name]
    return code_digest(modules, (HERE / script, HERE / "coverage_parts.py"))


def intervals(situation: Situation, sets: int) -> Row:
    """Return how often each metric's interval holds the truth, and how often equal predictors are told apart."""
    people = situation.population()
    truth = {name: METRICS[name](people.y, people.p[0]) for name in NAMES}
    held: dict[str, list[bool]] = {name: [] for name in NAMES}
    marked, different, around = [], [], []
    for seed in range(sets):
        study = situation.study(seed)
        units = Units.of(study.subject, len(study.y))
        found = {name: interval(METRICS[name], study.y, study.p[0], units) for name in NAMES}
        for name, ends in found.items():
            held[name].append(ends is not None and truth[name] in ends)
        marked.append(any(ends is not None and bool(ends.mark) for ends in found.values()))
        gap = difference(METRICS["nrmse"], study.y, *study.p, units)
        different.append(gap.different)
        around.append(gap.interval is not None and 0.0 in gap.interval)
    return {
        "situation": situation.name,
        "sets": sets,
        **{name: float(np.mean(values)) for name, values in held.items()},
        "marked": float(np.mean(marked)),
        "called different": float(np.mean(different)),
        "difference": float(np.mean(around)),
    }


def against_the_constant(situation: Situation, sets: int) -> Row:
    """Return how often answers that are exactly as good as nothing are called better, and worse.

    Of an NRMSE that is what the constant scores (1 in the population), of Pearson's r unrelated answers (0).
    """
    sides: dict[str, list[int]] = {"nrmse": [], "pearson": []}
    for seed in range(sets):
        study = situation.study(seed)
        units = Units.of(study.subject, len(study.y))
        for name, found in sides.items():
            found.append(standing(METRICS[name], study.y, situation.worthless(study, name), units).side)
    counted = {
        f"{name} {word}": float(np.mean(np.equal(found, side)))
        for name, found in sides.items()
        for word, side in (("better", 1), ("worse", -1))
    }
    return {"situation": situation.name, "sets": sets, **counted}


def metrics(study: MetricStudy, sets: int) -> Row:
    """Return the same of another metric on studies of its own."""
    true = truth(study)
    held, different, around = np.mean([one_study(study, seed, true) for seed in range(sets)], axis=0)
    return {
        "metric and people": study.name,
        "sets": sets,
        "truth": true,
        "holds the truth": float(held),
        "called different": float(different),
        "difference": float(around),
    }


def reports(people: int, trials: int, sets: int) -> Row:
    """Return how often a report of null branches holds a false verdict, and one verdict alone does."""
    any_of, each = [], []
    for seed in range(sets):
        study = family(np.random.default_rng(7000 + seed), people, trials, BRANCHES)
        units = Units.of(study.subject, len(study.y))
        found = [difference(METRICS["nrmse"], study.y, study.p[0], p, units) for p in study.p[1:]]
        each.append(np.mean([d.different for d in found]))
        any_of.append(any(d.different for d in corrected(found, "branches")))
    return {
        "people": people,
        "trials": trials,
        "branches": BRANCHES,
        "sets": sets,
        "each alone": float(np.mean(each)),
        "reports with a false verdict": float(np.mean(any_of)),
    }


def power(people: int, trials: int, sets: int) -> Row:
    """Return the median size that is stated as detectable, and how often a difference is found that is as large.

    And how often one as large as another single study states, which may be far from the median.
    """
    stated = [_gap(people, trials, seed=8000 + seed).detectable for seed in range(sets)]
    size = float(np.median(stated))
    gaps = [_gap(people, trials, seed=9000 + seed, better=size) for seed in range(sets)]
    own = [_gap(people, trials, seed=9000 + sets + k, better=each) for k, each in enumerate(stated)]
    return {
        "people": people,
        "trials": trials,
        "sets": sets,
        "stated as detectable": size,
        "true gain seen": -float(np.mean([gap.value for gap in gaps])),
        "found": float(np.mean([gap.verdict == "helps" for gap in gaps])),
        "found, as large as one study states": float(np.mean([gap.verdict == "helps" for gap in own])),
    }


def _gap(people: int, trials: int, *, seed: int, better: float = 0.0) -> Difference:
    study = family(np.random.default_rng(seed), people, trials, 1, better=better)
    units = Units.of(study.subject, len(study.y))
    return difference(METRICS["nrmse"], study.y, study.p[0], study.p[1], units)


def searches(index: int, sets: int) -> Row:
    """Return how often the interval of a search's gain holds the gain on new people, and the verdicts."""
    made = SEARCHES[index]
    rows = [one_search(made, seed) for seed in range(sets)]
    told = [row for row in rows if row["low"] is not None]
    verdicts = [row["verdict"] for row in rows]
    wrong = [(r["verdict"] == "helps" and r["true"] >= 0) or (r["verdict"] == "hurts" and r["true"] <= 0) for r in rows]
    return {
        "search": made.name,
        "sets": sets,
        "with an interval": len(told),
        "holds the true gain": float(np.mean([row["low"] <= row["true"] <= row["high"] for row in told])),
        "helps": verdicts.count("helps") / sets,
        "hurts": verdicts.count("hurts") / sets,
        "false verdicts": float(np.mean(wrong)),
        "mean true gain": -float(np.mean([row["true"] for row in rows])),
    }


def parts(sets: int) -> dict[str, list[tuple[str, Callable[[], Row]]]]:
    """Return every part of the run by its table, each with a key of its own."""
    more = max(sets, 500)
    sizes = ((19, 241), (60, 3700))
    return {
        "Intervals": [(f"{s.name} x {sets}", lambda s=s: intervals(s, sets)) for s in SITUATIONS],
        "Against the constant": [(f"{s.name} x {sets}", lambda s=s: against_the_constant(s, sets)) for s in SITUATIONS],
        "Other metrics": [(f"{s.name} x {sets}", lambda s=s: metrics(s, sets)) for s in METRIC_STUDIES],
        "Reports of null branches": [(f"{p}, {n} x {more}", lambda p=p, n=n: reports(p, n, more)) for p, n in sizes],
        "Detectable": [(f"{p}, {n} x {sets}", lambda p=p, n=n: power(p, n, sets)) for p, n in POWER],
        "Searches": [(f"{s.name} x {sets}", lambda k=k: searches(k, sets)) for k, s in enumerate(SEARCHES)],
    }
