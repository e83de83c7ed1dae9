"""Tables behind a score: which class was taken for which, what each class gets, and what each subject gets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rtserve.errors import InputError
from rtserve.measure.cases import Cases
from rtserve.measure.metric import Metric
from rtserve.tables import aligned

__all__ = ["class_tables", "one_class_text", "subject_rows", "table_lines"]

NEARLY_ALL = 0.99
"""The part of all decisions from which on a classifier is said to decide for one class alone."""

Array = np.ndarray


def class_tables(y: Array, p: Array, classes: Sequence[str]) -> dict[str, Any]:
    """Return the confusion matrix (rows: the class that is there), each class's recall, precision and F1, and `one_class`.

    The last is the class that nearly everything is decided for while more than so few cases are of another, or None.

    Parameters
    ----------
    y, p : ndarray, (n,)
        Class numbers: there, and decided for.
    classes : sequence of str
        Names of the classes 0, 1, ...; where they have none, how many there are is read off y and p.
    """
    true, called = np.asarray(y, np.int64), np.asarray(p, np.int64)
    count = max(len(classes), int(max(true.max(), called.max())) + 1)
    names = [*classes, *(str(k) for k in range(len(classes), count))]
    table = np.zeros((count, count), np.int64)
    np.add.at(table, (true, called), 1)
    right, there, said = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    rows = [
        {
            "class": names[k],
            "n": int(there[k]),
            "decided_for": int(said[k]),
            "recall": _share(right[k], there[k]),
            "precision": _share(right[k], said[k]),
            "f1": _share(2 * right[k], there[k] + said[k]),
        }
        for k in range(count)
    ]
    most, least = int(said.argmax()), NEARLY_ALL * len(called)
    one = rows[most] if said[most] >= least and there[most] < least else None
    return {"confusion": {"classes": names, "counts": table.tolist()}, "per_class": rows, "one_class": one}


def one_class_text(tables: Mapping[str, Any]) -> str:
    """Return what there is to say of `one_class` in an evaluation's tables; nothing where a classifier does decide."""
    one = tables.get("one_class")
    if not one:
        return ""
    n = sum(row["n"] for row in tables["per_class"])
    return f"decides for {one['class']} in {one['decided_for']} of {n}, whatever is there ({one['n']} are of it)"


def _share(part: int, whole: int) -> float | None:
    return float(part / whole) if whole else None


def subject_rows(cases: Cases, metrics: Mapping[str, Metric]) -> list[dict[str, Any]]:
    """Return for each subject how many cases it has and each metric over them alone, None where that is not defined."""
    if not cases.subject.size:
        return []
    names, index = np.unique(cases.subject, return_inverse=True)
    parts = np.split(np.argsort(index.ravel(), kind="stable"), np.cumsum(np.bincount(index.ravel()))[:-1])
    found = {key: _values(metric, cases, parts) for key, metric in metrics.items()}
    return [
        {"subject": str(name), "n": len(part), **{key: values[k] for key, values in found.items()}}
        for k, (name, part) in enumerate(zip(names.tolist(), parts, strict=True))
    ]


def _values(metric: Metric, cases: Cases, parts: Sequence[Array]) -> list[float | None]:
    """Return the metric of each part; of answers that are looked for among all targets, among the same targets."""
    if metric.reads == "vector":
        bound = metric.on(cases.columns)
        statistics = bound.statistics(cases.y, np.asarray(cases.read(bound), np.float64))
        return [float(bound.of_sums(statistics[part].sum(axis=0))) for part in parts]
    return [_value(metric, cases.take(part)) for part in parts]


def _value(metric: Metric, cases: Cases) -> float | None:
    try:
        return metric.on(cases.columns)(cases.y, cases.read(metric))
    except InputError:
        return None


def table_lines(tables: Mapping[str, Any], width: int | None = None) -> list[str]:
    """Return the tables of an evaluation as lines for people, for a terminal of so many columns where one is given."""
    out: list[str] = []
    if "confusion" in tables:
        names = tables["confusion"]["classes"]
        counts = list(zip(names, tables["confusion"]["counts"], strict=True))
        out += _grid("there \\ decided", names, counts, width, title="there {}, decided")
        keys = ("n", "decided_for", "recall", "precision", "f1")
        rows = [(row["class"], [row[key] for key in keys]) for row in tables["per_class"]]
        out += _grid("class", [key.replace("_", " ") for key in keys], rows, width)
    subjects = tables.get("per_subject") or []
    if subjects:
        keys = tuple(key for key in subjects[0] if key != "subject")
        rows = [(row["subject"], [row[key] for key in keys]) for row in subjects]
        out += _grid("subject", list(keys), rows, width)
    return out


def _grid(
    corner: str,
    columns: Sequence[str],
    rows: Sequence[tuple[str, Sequence[Any]]],
    width: int | None,
    *,
    title: str = "",
) -> list[str]:
    cells = [[name, *map(_cell, values)] for name, values in rows]
    return aligned([corner, *columns], cells, width, right=range(1, len(columns) + 1), indent=2, title=title)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4g}"
