"""`make test-lowest`: the tests with the oldest versions that pyproject.toml allows; the outcome is recorded.

    python benchmarks/lowest.py [--folder .lowest] [PYTEST ARGUMENTS]

A virtual environment gets every dependency at its lower bound, and what those and the tests need as pip finds it, but
for `COMPANIONS` and `BY_THEMSELVES`. Optional extras are left out: their tests are skipped. A test that ends its
process is a failure, and the run goes on. Writes ``benchmarks/results/lowest.md``; exit 1 where one fails.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "lowest.md"
COMPANIONS = ("pyparsing<3.3",)
"""What an old version needs old, and does not say: matplotlib 3.8 calls pyparsing as it was before 3.3."""
BY_THEMSELVES = ("pyriemann==0.10", "mne-bids==0.16")
"""What the tests use in the version of those days: newer ones call NumPy 2 and MNE 1.11, and do not say so."""


def lowest(requirements: Sequence[str]) -> list[str]:
    """Return requirements at their lower bounds: ``torch>=2.8,<2.14`` is ``torch==2.8``; what has none stays."""
    return [re.sub(r"^([A-Za-z0-9_.\[\]-]+)>=([^,;]+).*$", r"\1==\2", one) for one in requirements]


def pins() -> list[str]:
    """Return the dependencies at their lower bounds, from pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return lowest(project["dependencies"])


def install(folder: Path) -> Path:
    """Make the environment where it is not there yet, bring it to the pins, and return its Python."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(python), "-m", "pip", "install", "-q"]
    subprocess.run([*pip, *pins(), *COMPANIONS, "-e", f"{ROOT}[test]"], check=True)
    subprocess.run([*pip, "--no-deps", *BY_THEMSELVES], check=True)
    return python


def versions(python: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the versions that an environment has of packages."""
    code = (
        "import importlib.metadata as m, json, sys; print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", code, *names], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def outcome(path: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Return how many tests ended how, and which failed with the first line of why, from a JUnit file."""
    counts, failed = dict.fromkeys(("passed", "failed", "skipped"), 0), []
    for case in ElementTree.parse(path).iter("testcase"):
        wrong = next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)
        if wrong is not None:
            why = (wrong.get("message") or "").strip().splitlines()
            failed.append((f"{case.get('classname')}::{case.get('name')}", why[0][:160] if why else ""))
        kind = "failed" if wrong is not None else "skipped" if case.find("skipped") is not None else "passed"
        counts[kind] += 1
    return counts, failed


def page(found: dict[str, str], counts: dict[str, int], failed: list[tuple[str, str]]) -> str:
    """Return the outcome as Markdown."""
    lines = [
        "# The oldest versions allowed",
        "",
        "Written by `make test-lowest`: the tests with every lower bound of pyproject.toml, in an environment of its own.",
        "",
        f"Python {platform.python_version()}: " + ", ".join(f"{n} {count}" for n, count in counts.items()) + ".",
        "",
        "| package | version |",
        "|--|--|",
        *(f"| {name} | {version} |" for name, version in found.items()),
        "",
    ]
    if failed:
        lines += ["| failed | why |", "|--|--|"]
        lines += [f"| {name.replace('|', '/')} | {why.replace('|', '/')} |" for name, why in failed]
    return "\n".join(lines).rstrip() + "\n"


def main() -> int:
    """Install, test, record; return 1 where a test failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=ROOT / ".lowest")
    arguments, more = parser.parse_known_args()
    python = install(arguments.folder)
    report = arguments.folder / "junit.xml"
    report.unlink(missing_ok=True)
    command = [str(python), "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", "--max-worker-restart", "50"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, "--junitxml", str(report), *more], cwd=ROOT, env=environment, check=False)
    counts, failed = outcome(report)
    names = [pin.partition("==")[0] for pin in pins()]
    RESULTS.write_text(page(versions(python, names), counts, failed))
    print(f"{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
