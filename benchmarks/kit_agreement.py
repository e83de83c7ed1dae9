"""Both verdicts on every variant of a submission and every track: a kit's and rtserve's, and where they disagree.

    python benchmarks/kit_agreement.py [--kit FOLDER] [-o benchmarks/results/kit_agreement]

Without --kit it is the small one of the tests, which is written from the contest's contract; the record says which. What
runs is what the sandbox runs, in forks of one Python that has torch loaded.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SMALL = "tests/submission/kit"
AT_THE_DOOR = ("RT0", "RT1", *(f"RT3{number:02d}" for number in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 23)))
"""Rules that say that the scorer ends without a score: what a kit sees as well."""
DOOR_S = 0.05
"""Seconds for probes of how a network behaves: this study is about who comes through the door."""


def forked() -> None:
    """Let every sandboxed run be a fork, as the tests do."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "submission"), str(ROOT / "benchmarks")]
    import quick

    from rtserve.submission import sandbox, validate

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["torch", "torch._dynamo", "torch._refs", "torch._decomp", "sklearn.metrics", "quick"]
    )
    sandbox.run = quick.forked_run
    sandbox.best_kind = lambda: "plain"
    validate.drive = functools.partial(validate.drive, budget_s=DOOR_S, n_windows=3)


def judge(kit: dict[str, Any], failed: list[str]) -> str:
    """Return how two verdicts stand to each other."""
    if kit["why_not"]:
        return "not run"
    door = [code for code in failed if code.startswith(AT_THE_DOOR)]
    if kit["scored"]:
        return "refused" if door else "stricter" if failed else "both pass"
    return "both fail" if failed else "missed"


def row(name: str, track: str, files: dict[str, Any], kit: Path, folder: Path) -> dict[str, Any]:
    """Return both verdicts on one submission."""
    from zips import write_zip

    from rtserve.submission.kit import KitRun
    from rtserve.submission.validate import check

    path = write_zip(folder / "x.zip", files)
    report = check(path, profile=f"eeg2026/{track}", kind="plain", against=kit)
    run = report.kits[0] if report.kits else KitRun(kit=kit.name, challenge=track, died="no script to score")
    failed = [r.code for r in report.results if r.status == "failed" and not r.rule.with_kit]
    told = run.to_dict() | {"died": run.died.partition("\n")[0][:160], "seconds": None}
    return {"variant": name, "track": track, "kit": told, "failed": failed, "verdict": judge(told, failed)}


def page(rows: list[dict[str, Any]], kit: str) -> str:
    """Return the record as Markdown."""
    counts = Counter(r["verdict"] for r in rows)
    variants = list(dict.fromkeys(r["variant"] for r in rows))
    tracks = list(dict.fromkeys(r["track"] for r in rows))
    by = {(r["variant"], r["track"]): r for r in rows}
    lines = [
        "# A kit's verdict beside rtserve's",
        "",
        f"`python benchmarks/kit_agreement.py`: {len(variants)} variants of a submission (`benchmarks/kit_zips.py`) on"
        f" {len(tracks)} tracks of eeg2026, each scored by {kit} and checked by rtserve.",
        "",
        f"{counts['both pass']} pass both, {counts['both fail']} fail both, {counts['stricter']} fail in rtserve alone, by"
        f" what a kit does not look at. Disagreements: {counts['missed']} that the kit dies of and rtserve passes,"
        f" {counts['refused']} that the kit scores and rtserve refuses at the door; {counts['not run']} were not run.",
        "",
        f"| variant | {' | '.join(tracks)} |",
        f"|--|{'--|' * len(tracks)}",
    ]
    for name in variants:
        cells = [_cell(by[name, track]) for track in tracks]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _cell(found: dict[str, Any]) -> str:
    codes = ", ".join(found["failed"])
    return found["verdict"] + (f" ({codes})" if codes else "")


def main() -> None:
    """Run the study and write its record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kit", type=Path, default=ROOT / SMALL)
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "benchmarks" / "results" / "kit_agreement")
    given = parser.parse_args()
    forked()
    from kit_zips import VARIANTS, files_of
    from solvers import ANSWERS

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, variant in VARIANTS.items():
            for track in ANSWERS:
                rows.append(row(name, track, files_of(variant, track), given.kit, Path(folder)))
                print(name, track, rows[-1]["verdict"], *rows[-1]["failed"], file=sys.stderr)
    kit = "the small kit of the tests" if given.kit == ROOT / SMALL else f"the kit in {given.kit.name}"
    given.output.with_suffix(".json").write_text(json.dumps({"kit": kit, "rows": rows}, indent=1) + "\n", "utf-8")
    given.output.with_suffix(".md").write_text(page(rows, kit), "utf-8")


if __name__ == "__main__":
    main()
