"""`make test-install`: the wheel in clean environments, alone, with each extra and with all; the result is recorded.

    python benchmarks/installs.py [--python python3.12 ...] [--extras alone,braindecode]

For every Python that is there a new virtual environment is made, ``pip install`` brings the wheel with its extras and
what the index gives for them (no constraints file), and commands are run from an empty folder as a user would. Writes
``benchmarks/results/installs.json`` and ``installs.md``; a run that names Pythons or extras replaces their rows alone.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "installs.json"
PYTHONS = ("python3.11", "python3.12", "python3.13")
EXTRAS: Mapping[str, tuple[str, ...]] = {
    "alone": (),
    "braindecode": ("braindecode",),
    "openvino": ("openvino",),
    "dask": ("dask",),
    "all": ("braindecode", "openvino", "dask"),
}
SHOWN = ("torch", "onnx", "onnxruntime", "numpy", "mne", "braindecode", "torchaudio", "openvino", "dask")
"""Packages whose versions are recorded."""

WEIGHTS = """
import torch
from rtserve.training.networks import CompactRT
for seed in (1, 2):
    torch.manual_seed(seed)
    torch.save(CompactRT(129, input_scale=1e5).state_dict(), f"seed{seed}.pth")
"""
EEGNET = """
import torch
from rtserve.graphs.braindecode import braindecode_models
torch.save(braindecode_models().EEGNet(n_chans=8, n_outputs=1, n_times=200).state_dict(), "eegnet.pth")
"""
OWN = "rtserve.training.networks:exporter"
PROBES: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "alone": (
        ("rtserve", "--version"),
        ("python", "-c", WEIGHTS),
        ("rtserve", "export", "seed1.pth", "--exporter", OWN, "-o", "m1.onnx"),
        ("rtserve", "export", "seed2.pth", "--exporter", OWN, "-o", "m2.onnx"),
        ("rtserve", "fuse", "m1.onnx", "m2.onnx", "--views", "identity,roll:+3", "-o", "f.onnx"),
        ("rtserve", "simulate", "-o", "w.npz", "--windows", "400", "--seed", "1"),
        ("rtserve", "evaluate", "f.onnx", "--data", "w.npz"),
    ),
    "braindecode": (
        ("python", "-c", EEGNET),
        (
            "rtserve", "export", "eegnet.pth", "--exporter", f"{ROOT}/exporters/braindecode_models.py:EEGNet",
            "--set", "n_chans=8", "-o", "eegnet.onnx",
        ),
    ),
    "openvino": (
        ("rtserve", "fuse", "m1.onnx", "m2.onnx", "--engine", "openvino", "-o", "o.onnx"),
        ("rtserve", "bench", "o.onnx", "--engine", "openvino", "--rounds", "3"),
    ),
    "dask": (
        ("rtserve", "search", "m1.onnx", "m2.onnx", "--data", "w.npz", "--jobs", "2", "--backend", "dask", "-o", "s.toml"),
    ),
}  # fmt: skip
"""What is run for each extra, after what is run for none."""


def interpreter(name: str) -> str | None:
    """Return the path of a Python that starts, or None: a name may be a shim that starts nothing."""
    try:
        done = subprocess.run(
            [name, "-c", "import sys, venv, ensurepip; print(sys.executable)"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout into `folder` and return its path."""
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True
    )
    return next(folder.glob("*.whl"))


def versions(python: Path) -> dict[str, str]:
    """Return the versions of the packages in `SHOWN` that an environment has."""
    code = (
        "import importlib.metadata as m, json, sys\nfound = {}\n"
        "for name in sys.argv[1:]:\n    try:\n        found[name] = m.version(name)\n"
        "    except m.PackageNotFoundError:\n        pass\nprint(json.dumps(found))"
    )
    done = subprocess.run([python, "-c", code, *SHOWN], capture_output=True, text=True, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Return the last lines that a failed command said."""
    return " | ".join((done.stdout + done.stderr).strip().splitlines()[-3:])[-600:]


def try_one(python: str, wheel: Path, label: str) -> dict[str, Any]:
    """Install the wheel with the extras of `label` for `python` and run what they promise; return the row."""
    extras = EXTRAS[label]
    row: dict[str, Any] = {"extras": label, "failed": ""}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="rtserve-install-") as name:
        venv, empty = Path(name) / "venv", Path(name) / "empty"
        empty.mkdir()
        subprocess.run([python, "-m", "venv", str(venv)], check=True)
        wanted = f"{wheel}[{','.join(extras)}]" if extras else str(wheel)
        install = [venv / "bin/python", "-m", "pip", "install", "-q", "--no-compile", wanted]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        row["install_s"] = round(time.perf_counter() - start)
        if done.returncode:
            return row | {"failed": f"pip install: {last_words(done)}"}
        row["versions"] = versions(venv / "bin/python")
        environment = os.environ | {"PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        row["passed"] = 0
        for command in (probe for part in ("alone", *extras) for probe in PROBES[part]):
            done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                return row | {"failed": f"{' '.join(command)[:120]}: exit {done.returncode}: {last_words(done)}"}
            row["passed"] += 1
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a page of Markdown."""
    lines = [
        "# Clean environments",
        "",
        "Written by `make test-install`: a new virtual environment each, the wheel with the extras by pip alone, and the",
        "commands a user would run first, from an empty folder.",
        "",
        "| Python | extras | commands that passed | failed | versions |",
        "|--|--|--|--|--|",
    ]
    for row in rows:
        packages = ", ".join(f"{name} {version}" for name, version in row.get("versions", {}).items())
        failed = row["failed"].replace("|", "/")
        lines.append(f"| {row['python']} | {row['extras']} | {row.get('passed', 0)} | {failed or '-'} | {packages} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Try what was asked for, record it, and return 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="*", default=list(PYTHONS))
    parser.add_argument("--extras", default=",".join(EXTRAS))
    arguments = parser.parse_args()
    labels = arguments.extras.split(",")
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    tried = []
    with tempfile.TemporaryDirectory(prefix="rtserve-wheel-") as name:
        wheel = build_wheel(Path(name))
        for python in arguments.python:
            path = interpreter(python)
            if path is None:
                print(f"{python}: not on this machine, not tried")
                continue
            code = "import platform; print(platform.python_version())"
            version = subprocess.run([path, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
            for label in labels:
                row = {"python": version, **try_one(path, wheel, label)}
                print(
                    f"Python {version}, {label}: {row['failed'] or str(row['passed']) + ' commands passed'}", flush=True
                )
                rows = [old for old in rows if (old["python"], old["extras"]) != (version, label)] + [row]
                tried.append(row)
    rows.sort(key=lambda row: (row["python"], list(EXTRAS).index(row["extras"])))
    RESULTS.write_text(json.dumps({"schema": "rtserve.installs/1", "rows": rows}, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(table(rows))
    return int(not tried or any(row["failed"] for row in tried))


if __name__ == "__main__":
    sys.exit(main())
