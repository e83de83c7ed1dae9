"""Which class was taken for which, what each class gets and what each subject gets, for evaluations of classes."""

from __future__ import annotations

from collections.abc import Sequence

from rtserve.report.collect import Document
from rtserve.report.page import Section, Table

__all__ = ["class_sections"]


def class_sections(evaluations: Sequence[Document]) -> list[Section]:
    """Return a folded part for each evaluation of classes."""
    out = []
    for name, document in evaluations:
        if "confusion" not in document:
            continue
        names = document["confusion"]["classes"]
        counts = [
            {"there": one, **{f"decided for {each}": n for each, n in zip(names, row, strict=True)}}
            for one, row in zip(names, document["confusion"]["counts"], strict=True)
        ]
        what = document.get("agg", "windows").partition(" ")[0]
        tables = [Table.of(counts, caption=f"{what} of each class, by the class that was decided for")]
        tables.append(Table.of([{key.replace("_", " "): v for key, v in row.items()} for row in document["per_class"]]))
        if document["per_subject"]:
            tables.append(Table.of(document["per_subject"], caption="each subject alone"))
        out.append(Section(title=f"Classes of {name}", tables=tuple(tables), folded=True))
    return out
