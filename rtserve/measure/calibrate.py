r"""Calibration: the affine map of predictions that fits held-out targets best, as part of the graph.

The scale is a ridge estimate, :math:`s = S_{py} / (S_{pp} (1 + \lambda))` about the means: at :math:`\lambda = 0` least
squares, and the larger :math:`\lambda`, the closer to the mean of the targets. It is fitted on validation windows only:
fitted on the windows it is judged on, it would always look like a gain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import InputError
from rtserve.files import check_writable
from rtserve.fusion.fuse import fuse
from rtserve.fusion.plan import Calibration
from rtserve.measure.decisions import decide
from rtserve.measure.metrics import parse_metric
from rtserve.measure.predict import as_graph, as_windows, predict
from rtserve.measure.statistics import Difference, Units, difference
from rtserve.measure.trained import Part, marks_of, part_to_fit, part_to_score, records_of, untold
from rtserve.signals.membership import training_record
from rtserve.signals.windows import Stated
from rtserve.spec import TRAINED_ON, Provenance

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph
    from rtserve.signals.windows import WindowSet

__all__ = ["RIDGES", "CalibrationReport", "calibrate", "fit_affine"]

RIDGES = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Tried by leaving subjects out where none is given."""
FOLDS = 5
_NOTHING = Stated()


@dataclass(frozen=True, kw_only=True)
class CalibrationReport:
    """A calibration and what it does.

    Parameters
    ----------
    graph : Graph
        The calibrated graph.
    calibration : Calibration
        Scale, offset, clip.
    ridge : float
        The one that was used.
    fitted_on : str
        Split and number of windows and subjects.
    change : Difference or None
        NRMSE before and after on the test windows, paired; None where the file marks none.
    notes : tuple of str
        What a reader must know before believing the difference.
    """

    graph: Graph
    calibration: Calibration
    ridge: float
    fitted_on: str
    change: Difference | None
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {
            "calibration": self.calibration.to_dict(),
            "ridge": self.ridge,
            "fitted_on": self.fitted_on,
            "graph_sha256": self.graph.digest,
            "test": self.change.to_dict() if self.change else None,
            "notes": list(self.notes),
        }

    def lines(self) -> list[str]:
        """Return what a person reads."""
        c = self.calibration
        clip = "" if c.low is None and c.high is None else f", clipped to [{c.low}, {c.high}]"
        out = [f"y = {c.scale:.4f} p + {c.offset:.4f}{clip} (ridge {self.ridge:g}), fitted on {self.fitted_on}"]
        if self.change is None:
            out.append("the file marks no test windows: what it is worth is not known")
        else:
            values = f"test NRMSE {self.change.first:.4f} before, {self.change.second:.4f} after"
            out.append(f"{values}; {self.change.sentence()}")
        return [*out, *(f"note: {note}" for note in self.notes)]


def fit_affine(p: np.ndarray, y: np.ndarray, *, ridge: float = 0.0) -> tuple[float, float]:
    """Return scale and offset that map predictions p (n,) to targets y (n,).

    Raises
    ------
    InputError
        Where the predictions are constant: there is nothing to scale.
    """
    p, y = np.asarray(p, np.float64), np.asarray(y, np.float64)
    spread = float(np.mean((p - p.mean()) ** 2))
    if not spread > 1e-12 * max(1.0, float(p.mean()) ** 2):
        raise InputError(f"the graph answers a constant ({p.mean():.5g})", hint="check the unit of the windows")
    scale = float(np.mean((p - p.mean()) * (y - y.mean()))) / (spread * (1.0 + ridge))
    return scale, float(y.mean() - scale * p.mean())


def calibrate(
    graph: Graph | str | Path,
    windows: WindowSet | str | Path,
    *,
    output: str | Path | None = None,
    split: str = "valid",
    ridge: float | None = None,
    clip: Sequence[float] = (),
    threads: int = 1,
    stated: Stated = _NOTHING,
    force: bool = False,
) -> CalibrationReport:
    """Fit a calibration on validation windows and put it into the graph.

    Parameters
    ----------
    graph : Graph or path
        With one output.
    windows : WindowSet or path
        Marked train, valid and test.
    output : path, optional
        Where the calibrated graph goes.
    split : str
        Windows to fit on.
    ridge : float, optional
        Chosen by leaving subjects out where not given.
    clip : sequence of 2 float
        Lower and upper bound after the map; empty for none.
    threads : int
        Of the engine.
    stated : Stated
        What the file of the windows does not say.
    force : bool
        Replace an existing output.

    Raises
    ------
    InputError
        Where the graph is a classifier or gives several numbers, the file marks no such windows, subjects are in both
        parts, the graph was trained on all of them or on test windows, or the predictions are constant.
    """
    if ridge is not None and not (np.isfinite(ridge) and ridge >= 0):
        raise InputError(f"ridge {ridge} is impossible", hint="0 or more")
    if split in ("train", "test"):
        raise InputError(
            f"calibrating on the {split} windows would flatter the graph", hint="fit on --split valid; test judges"
        )
    output = None if output is None else check_writable(output, force=force)
    source = as_graph(graph)
    data = as_windows(windows, stated=stated)
    records, name = records_of(source), Path(graph).name if isinstance(graph, str | Path) else "the graph"
    _require_numbers(source, data, name)
    part = part_to_fit(records, as_windows(data, split=split), split, name=name)
    fitted = part.windows
    said = fitted.require_spec(source.input_spec, name=name)
    p = predict(source, fitted, threads=threads, name=name)[:, 0]
    chosen = _choose_ridge(p, fitted) if ridge is None else ridge
    scale, offset = fit_affine(p, fitted.y, ridge=chosen)
    low, high = (float(clip[0]), float(clip[1])) if len(clip) == 2 else (None, None)
    calibration = Calibration(scale=scale, offset=offset, low=low, high=high)
    calibrated = _recorded(fuse([source], calibration=calibration), fitted)
    test = _test(records, data, name)
    change, notes = _judge(source, calibrated, test.windows, fitted, threads) if test else (None, ())
    if output is not None:
        calibrated.save(output, force=force)
    people = f" of {len(set(fitted.subject.tolist()))} subjects" if fitted.subject.size else ""
    return CalibrationReport(
        graph=calibrated,
        calibration=calibration,
        ridge=chosen,
        fitted_on=f"{len(fitted)} {'' if split == 'all' else split + ' '}windows{people}",
        change=change,
        notes=(
            *part.notes,
            *untold(part, {name: source}),
            *([said] if said else []),
            *(test.notes if test else ()),
            *notes,
        ),
    )


def _require_numbers(graph: Graph, windows: WindowSet, name: str) -> None:
    """Raise `InputError` where a graph is a classifier, or gives several numbers: nothing is fitted to class numbers."""
    if decide(graph, windows, [], name=name) is not None:
        raise InputError(
            f"{name} is a classifier, or the windows' y are classes: what fits their numbers moves its threshold",
            hint="leave calibration out; `rtserve fuse --scale S` sets a temperature of logits, which changes no class",
        )
    if graph.output_spec.n_outputs != 1:
        raise InputError(f"{name} gives {graph.output_spec.n_outputs} numbers per window", hint="one is calibrated")


def _recorded(graph: Graph, fitted: WindowSet) -> Graph:
    """Return the graph with a record of what its calibration was fitted on: no score on that is one on new windows."""
    record = training_record(fitted, np.full(len(fitted), "valid"))
    details = graph.provenance.details | {TRAINED_ON: record}
    return replace(graph, provenance=Provenance(kind=graph.provenance.kind, details=details))


def _test(records: Sequence[Mapping[str, Any]], data: WindowSet, name: str) -> Part | None:
    """Return the test windows that the graph was not trained on, or None where the file marks none."""
    if "test" not in marks_of(data):
        return None
    return part_to_score(records, data, "test", name=name)


def _choose_ridge(p: np.ndarray, windows: WindowSet) -> float:
    """Return the ridge with the least squared error on subjects (else windows) left out; ties go to the larger."""
    units = Units.of(windows.subject, len(windows))
    folds = units.index % min(FOLDS, units.count)
    y = windows.y.astype(np.float64)

    def error(ridge: float) -> float:
        total = 0.0
        for fold in np.unique(folds):
            scale, offset = fit_affine(p[folds != fold], y[folds != fold], ridge=ridge)
            total += float(np.sum((scale * p[folds == fold] + offset - y[folds == fold]) ** 2))
        return total

    return min(reversed(RIDGES), key=error)


def _judge(
    before: Graph, after: Graph, test: WindowSet, fitted: WindowSet, threads: int
) -> tuple[Difference | None, tuple[str, ...]]:
    shared = sorted(set(test.subject.tolist()) & set(fitted.subject.tolist()))
    if shared:
        raise InputError(
            f"{len(shared)} subjects are in both the fitted and the test windows (first: {shared[0]})",
            hint="split by subject, or the calibration is judged on people it knows",
        )
    first, second = (predict(graph, test, threads=threads)[:, 0] for graph in (before, after))
    units = Units.of(test.subject, len(test))
    return difference(parse_metric("nrmse"), test.y, first, second, units), units.caveats()
