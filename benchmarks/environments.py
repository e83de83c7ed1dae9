"""`make test-envs`: zips built here, checked and verified in the contest's pinned environments; the result is recorded.

    python benchmarks/environments.py --envs .envs [--recipe submissions/v8_views5/submission.toml --root DIR]

Runs the tests marked ``envs``, then builds the recipe where its members are at hand, drives it in every environment,
and writes ``benchmarks/results/environments.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rtserve.submission.bundle import build
from rtserve.submission.custody import verify
from rtserve.submission.profile import load_profile
from rtserve.submission.recipe import load_recipe
from rtserve.submission.validate import check

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "environments.json"
PACKAGES = ("torch", "torchaudio", "numpy", "scipy", "scikit-learn", "braindecode", "einops", "mne", "lightning")


def drive_in(zip_path: Path, folder: Path, profile: str) -> dict[str, Any]:
    """Return what the check and the verification of a zip say in one environment."""
    record = json.loads((folder / "environment.json").read_text("utf-8"))["report"]
    report = check(zip_path, profile=profile, env=folder)
    proof = verify(zip_path, env=folder)
    failed = [result.rule.code for result in report.results if result.status == "failed"]
    return {
        "environment": folder.name,
        "packages": {name: record["versions"].get(name) for name in PACKAGES},
        "slim": record["slim"],
        "megabytes": record["megabytes"],
        "verdict": report.verdict,
        "counts": report.counts(),
        "failed": failed,
        "verified": proof.passed,
        "routes": proof.routes,
    }


def main() -> int:
    """Run the tests and the recipe; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--envs", type=Path, required=True)
    parser.add_argument("--recipe", type=Path, default=HERE.parent / "submissions/v8_views5/submission.toml")
    parser.add_argument(
        "--root", type=Path, default=Path(os.environ.get("RTSERVE_SHARED", HERE.parent.parent / "shared"))
    )
    parser.add_argument("--zip", type=Path, help="a zip of the recipe, built already")
    parser.add_argument("--no-tests", action="store_true", help="only the recipe")
    arguments = parser.parse_args()
    environment = {**os.environ, "RTSERVE_ENVS": str(arguments.envs.resolve())}
    tests = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-m",
        "envs",
        str(HERE.parent / "tests/submission/test_environments.py"),
    ]
    code = 0 if arguments.no_tests else subprocess.run(tests, env=environment, check=False, cwd=HERE.parent).returncode
    rows = []
    if arguments.zip is not None or (arguments.root / "checkpoints").is_dir():
        with tempfile.TemporaryDirectory() as folder:
            zip_path = arguments.zip or Path(folder) / "submission.zip"
            recipe = load_recipe(arguments.recipe)
            if arguments.zip is None:
                build(recipe, root=arguments.root, output=zip_path)
            for spec in load_profile(recipe.profile).environments:
                if (arguments.envs / spec.name / "environment.json").exists():
                    rows.append(drive_in(zip_path, arguments.envs / spec.name, recipe.profile))
        payload = {"schema": "rtserve.environments/1", "recipe": arguments.recipe.parent.name, "rows": rows}
        RESULTS.write_text(json.dumps(payload, indent=1) + "\n")
        for row in rows:
            print(f"{row['environment']}: {row['packages']['torch']}, {row['verdict']}, verified {row['verified']}")
    return code or int(any(row["verdict"] == "failed" or not row["verified"] for row in rows))


if __name__ == "__main__":
    sys.exit(main())
