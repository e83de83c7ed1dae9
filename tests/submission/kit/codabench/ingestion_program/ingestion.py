"""A small kit, written from the contract of the contest of 2026: called as the organisers' own is, and dies where it dies.

Every script at the root of a submission is run; one that raises is passed over; those with a named ``Solver`` are run once
more, from a copy among the benchmark's solvers, and their networks get the track's windows as the platform gives them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(path: Path, name: str):
    """Run a script as a module and return it."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def solvers(submission: Path) -> list[Path]:
    """Return the scripts that hold a solver. Raises `SystemExit` where none does, `TypeError` where one has no name."""
    found, names = [], []
    for path in sorted(submission.glob("*.py")):
        try:
            module = run(path, f"_sub_{path.stem}")
        except Exception as error:
            print(f"{path.name} is passed over: {error!r}")
            continue
        solver = getattr(module, "Solver", None)
        if solver is not None and getattr(solver, "name", None):
            found.append(path)
            names.append(solver.name)
    if not names:
        raise SystemExit("no class Solver in the submission")
    print("evaluating", ", ".join(names))
    return found


def main() -> None:
    """Score a submission and write ``results.json``."""
    parser = argparse.ArgumentParser()
    for name in ("submission-dir", "output-dir", "input-data", "benchmark-dir"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    given = parser.parse_args()
    asked = (given.input_data / "config.yaml").read_text("utf-8")
    sizes = {key: float(value) for key, value in re.findall(r"(\w+)=([\d.]+)", asked)}
    sys.path[:0] = [str(ROOT)]
    track = run(given.benchmark_dir / "objective.py", "objective")
    copies = Path(tempfile.mkdtemp(prefix="benchmark_"))
    for path in solvers(given.submission_dir):
        copy = copies / f"_submission_{path.name}"
        shutil.copyfile(path, copy)
        solver = run(copy, copy.stem).Solver()
        meta = track.meta(sizes) | {"submission_dir": given.submission_dir, "device": "cpu"}
        scores = track.score(solver.load_model(meta), sizes)
    given.output_dir.mkdir(parents=True, exist_ok=True)
    named = {f"objective_{name}": value for name, value in scores.items()}
    (given.output_dir / "results.json").write_text(json.dumps(named), "utf-8")


if __name__ == "__main__":
    main()
