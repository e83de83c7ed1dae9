"""The recorded results as pages: the records' own tables, which a script in the page lets readers sort and filter."""

from __future__ import annotations

import re
from pathlib import Path

from docs.generate.markdown import definition, fence

__all__ = ["FIRST", "RECORDS", "results_index"]

RECORDS = "benchmarks/results"
FIRST = ("zoo", "workloads", "gpu", "coverage")
"""What most readers look for; the other records follow by name."""
OPENING = """# Results

What was measured, as the scripts in `benchmarks/` recorded it: every page here is a record of `benchmarks/results/`, word
for word. Times depend on the machine, ratios less so. Tables of more than a few rows can be sorted by a click on a column's
head and filtered by a word.
"""


def results_index(root: Path) -> str:
    """Return the page that leads to the records, each with its own title and first sentence."""
    names = sorted(path.stem for path in (root / RECORDS).glob("*.md"))
    names = [*(name for name in FIRST if name in names), *(name for name in names if name not in FIRST)]
    entries = [_entry(name, (root / RECORDS / f"{name}.md").read_text("utf-8")) for name in names]
    return "\n".join([OPENING, *entries, fence(":maxdepth: 1\n:hidden:\n\n" + "\n".join(names), "{toctree}")])


def _entry(name: str, text: str) -> str:
    title, _, rest = text.partition("\n")
    prose = next((block for block in re.split(r"\n\s*\n", rest) if re.match(r"\s*[`A-Za-z]", block)), "")
    return definition(f"[{title.lstrip('# ')}]({name}.md)", " ".join(prose.split()))
