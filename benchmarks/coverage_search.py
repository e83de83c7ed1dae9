"""Simulated searches: members and views whose true worth is known, chosen among and told as `rtserve search` does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rtserve.measure.candidates import Pool
from rtserve.measure.chooser import Chooser
from rtserve.measure.metrics import METRICS
from rtserve.measure.outputs import BranchOutputs
from rtserve.measure.statistics import Units
from rtserve.measure.told import tell
from rtserve.measure.untouched import set_aside
from rtserve.signals import hbn
from rtserve.signals.targets import draw_trials
from rtserve.signals.windows import WindowSet

__all__ = ["SEARCHES", "Searched", "one_search"]

Array = np.ndarray
MEMBERS, VIEWS = 4, 3
TRUTH_PEOPLE, TRUTH_TRIALS = 1200, 40_000


@dataclass(frozen=True, kw_only=True)
class Searched:
    """How members are made: correlation with the target, error of their own and shared, and what may be fitted."""

    name: str
    r: float
    own: float
    shared: float
    fitted: bool
    people: int = 19
    trials: int = 241


SEARCHES = (
    Searched(name="no information", r=1e-4, own=0.3, shared=0.95, fitted=True),
    Searched(name="alike members", r=0.46, own=0.3, shared=0.95, fitted=False),
    Searched(name="diverse members", r=0.46, own=0.9, shared=0.5, fitted=False),
    Searched(name="diverse, weights + calibration", r=0.46, own=0.9, shared=0.5, fitted=True),
    Searched(name="alike, weights + calibration", r=0.46, own=0.3, shared=0.95, fitted=True),
    Searched(name="alike members, 60 people", r=0.46, own=0.3, shared=0.95, fitted=False, people=60, trials=3700),
)


def draw_pool(rng: np.random.Generator, made: Searched, people: int, trials: int) -> Pool:
    """Return members and views of equally good calibrated predictors."""
    drawn = draw_trials(rng, trials, people, "response_time")
    standard = (drawn.y - hbn.MEAN["response_time"]) / hbn.SD["response_time"]

    def noise() -> Array:
        each: Array = rng.standard_normal(trials) + 0.7 * rng.standard_normal(people)[drawn.subject]
        return each

    shared, size = noise(), np.sqrt((made.shared**2 + made.own**2) * 1.49 + 0.15**2)
    values = np.empty((MEMBERS, VIEWS, trials, 1), np.float32)
    for m in range(MEMBERS):
        own = noise()
        for v in range(VIEWS):
            error = (made.shared * shared + made.own * own + 0.15 * rng.standard_normal(trials)) / size
            p = made.r**2 * standard + made.r * np.sqrt(1 - made.r**2) * error
            values[m, v, :, 0] = hbn.MEAN["response_time"] + hbn.SD["response_time"] * p
    outputs = BranchOutputs(
        values=values,
        members=tuple(f"m{m}" for m in range(MEMBERS)),
        views=("identity", *(f"v{v}" for v in range(1, VIEWS))),
    )
    windows = WindowSet(
        X=np.zeros((trials, 1, 1), np.float32),
        y=drawn.y.astype(np.float32),
        subject=np.char.add("s", drawn.subject.astype("U")),
    )
    return Pool(outputs=outputs, wholes={}, windows=windows, cost=lambda c: float(len(c.members) * len(c.views)))


def one_search(made: Searched, seed: int) -> dict[str, Any]:
    """Return what a search on one set says of its gain, and what the gain is on new people."""
    metric = METRICS["nrmse"]
    pool = draw_pool(np.random.default_rng(seed), made, made.people, made.trials)
    parts = set_aside(pool.windows, seed=seed)
    chooser = Chooser(
        pool=pool,
        metric=metric,
        units=Units.of(pool.windows.subject, len(pool.windows)),
        budget_us=1e9,
        weights=made.fitted,
        calibrate=made.fitted,
        seed=seed,
    )
    best, single = chooser.choose(parts.chosen_on), chooser.best_single(parts.chosen_on)
    gain = tell(chooser, best, single, parts).gain
    people = draw_pool(np.random.default_rng([seed, 1]), made, TRUTH_PEOPLE, TRUTH_TRIALS)
    y = people.windows.y.astype(np.float64)
    true = metric(y, people.predict(best)) - metric(y, people.predict(single))
    ends = gain.interval
    return {
        "value": gain.value,
        "true": true,
        "low": ends.low if ends else None,
        "high": ends.high if ends else None,
        "verdict": gain.verdict,
        "p": gain.p,
    }
