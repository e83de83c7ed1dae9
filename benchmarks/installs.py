"""`make test-install`: the wheel in clean environments, alone, with each extra and with all; the result is recorded.

    python benchmarks/installs.py [--python python3.12 ...] [--extras alone,braindecode]

For every Python that is there a new virtual environment is made, ``pip install`` brings the wheel with its extras and
what the index gives for them (no constraints file), and commands are run from an empty folder as a user would. The
extras are those of pyproject.toml, but for `OURS`. Writes ``benchmarks/results/installs.json`` and ``installs.md``; a
run that names Pythons or extras replaces their rows alone.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
RESULTS = HERE / "results" / "installs.json"
PYTHONS = ("python3.11", "python3.12", "python3.13")
OURS = ("test", "dev", "docs")
"""Extras for who works on rtserve; `make install` brings them."""
SHOWN = ("torch", "onnx", "onnxruntime", "numpy", "mne", "braindecode", "torchaudio", "openvino", "dask")
SHOWN += ("pymatreader", "mffpy", "pyxdf", "tensorboard", "pylsl", "pyriemann", "huggingface_hub")
"""Packages whose versions are recorded."""
RECORDINGS = {"EEGLAB, MATLAB v7.3": "x.set", "EGI MFF": "x.mff", "XDF": "x.xdf"}
"""Recordings that are laid into the empty folder, by their name in tests/signals/formats.py."""


def extras() -> dict[str, tuple[str, ...]]:
    """Return what is installed for each row: nothing, each extra of pyproject.toml by itself, all of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    each = tuple(name for name in project["optional-dependencies"] if name not in OURS)
    return {"alone": (), **{name: (name,) for name in each}, "all": each}


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
PIPELINE = """
import joblib, numpy as np
from pyriemann.classification import MDM
from pyriemann.estimation import Covariances
from sklearn.pipeline import make_pipeline
x = np.random.default_rng(0).standard_normal((40, 8, 100))
joblib.dump(make_pipeline(Covariances("oas"), MDM()).fit(x, np.arange(40) % 2), "mdm.joblib")
"""
OWN = "rtserve.training.networks:exporter"


def cut(recording: str) -> tuple[str, ...]:
    """Return the command that cuts windows from one of `RECORDINGS`."""
    marks = ("--stimulus", "stim", "--response", "resp", "--window", "-0.5,0.5", "--band", "0,0", "--sfreq", "0")
    return ("rtserve", "prepare", recording, *marks, "-o", f"{recording}.npz")


HUB = """
import os, pathlib
home, named = pathlib.Path("cache").resolve(), "0" * 40
os.environ |= {"HF_HUB_CACHE": str(home), "HF_HUB_OFFLINE": "1"}
kept = home / "models--a--b" / "snapshots" / named
kept.mkdir(parents=True)
(home / "models--a--b" / "refs").mkdir()
(home / "models--a--b" / "refs" / "main").write_text(named)
(kept / "config.json").write_text("{}")
(kept / "model.safetensors").write_bytes(bytes(8))
from rtserve.graphs.hub_download import downloaded
assert downloaded("hf:a/b") == kept
"""
"""A model in the hub's cache is found as huggingface_hub keeps it, without a network."""
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
    "eeglab": (cut("x.set"),),
    "egi": (cut("x.mff"),),
    "xdf": (cut("x.xdf"),),
    "tensorboard": (
        ("rtserve", "simulate", "-o", "w.npz", "--windows", "400", "--seed", "1", "--force"),
        ("rtserve", "train", "w.npz", "--seeds", "1", "--max-epochs", "1", "--log", "tensorboard", "-o", "run"),
    ),
    "live": (
        ("python", "-c", WEIGHTS),
        ("rtserve", "export", "seed1.pth", "--exporter", OWN, "-o", "m1.onnx", "--force"),
        ("rtserve", "run", "m1.onnx", "--hop", "8", "--source", "synthetic", "--for", "3", "--outlet", "answers"),
    ),
    "pyriemann": (
        ("python", "-c", PIPELINE),
        (
            "rtserve", "export", "mdm.joblib", "--exporter", f"{ROOT}/exporters/sklearn_pipeline.py", "--set", "n_chans=8",
            "--set", "n_times=100", "--unit", "V", "--trusted", "-o", "mdm.onnx",
        ),
        ("rtserve", "bench", "mdm.onnx", "--engine", "torch", "--rounds", "3"),
    ),
    "hub": (("python", "-c", HUB),),
}  # fmt: skip
"""What is run for each extra, after what is run for none, or after its first alone for those in `APART`."""
APART = ("eeglab", "egi", "xdf", "tensorboard", "live", "pyriemann", "hub")
"""Extras that bring nothing which the path of a network touches; with all extras everything is run."""
REFUSED = ("dask", "eeglab", "egi", "xdf", "tensorboard", "live")
"""Extras without which the last of their commands must say what to install: it is tried where there is none."""


def commands(chosen: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return what is run where these extras were installed."""
    first = PROBES["alone"][:1] if chosen and set(chosen) <= set(APART) else PROBES["alone"]
    return [*first, *(command for name in chosen for command in PROBES[name])]


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


def lay_recordings(folder: Path) -> None:
    """Write `RECORDINGS`; this Python has what writes them, the environments that are tried need not."""
    sys.path.insert(0, str(ROOT))
    from tests.signals.formats import MAKERS

    for name in RECORDINGS:
        MAKERS[name](folder)


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


def try_one(python: str, wheel: Path, label: str, recordings: Path) -> dict[str, Any]:
    """Install the wheel with the extras of `label` for `python` and run what they promise; return the row."""
    chosen = extras()[label]
    row: dict[str, Any] = {"extras": label, "failed": ""}
    start = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="rtserve-install-") as name:
        venv, empty = Path(name) / "venv", Path(name) / "empty"
        shutil.copytree(recordings, empty)
        subprocess.run([python, "-m", "venv", str(venv)], check=True)
        wanted = f"{wheel}[{','.join(chosen)}]" if chosen else str(wheel)
        install = [venv / "bin/python", "-m", "pip", "install", "-q", "--no-compile", wanted]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        row["install_s"] = round(time.perf_counter() - start)
        if done.returncode:
            return row | {"failed": f"pip install: {last_words(done)}"}
        row["versions"] = versions(venv / "bin/python")
        environment = os.environ | {"PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
        environment.pop("PYTHONPATH", None)
        row["passed"] = 0
        for command in commands(chosen):
            done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                return row | {"failed": f"{' '.join(command)[:120]}: exit {done.returncode}: {last_words(done)}"}
            row["passed"] += 1
        for command in () if chosen else (PROBES[part][-1] for part in REFUSED):
            done = subprocess.run(command, cwd=empty, env=environment, capture_output=True, text=True, check=False)
            if not done.returncode or "pip install" not in done.stderr:
                return row | {"failed": f"{' '.join(command)[:120]} was not refused: {last_words(done)}"}
            row["refused"] = row.get("refused", 0) + 1
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a page of Markdown."""
    lines = [
        "# Clean environments",
        "",
        "Written by `make test-install`: a new virtual environment each, the wheel with the extras by pip alone, and the",
        "commands a user would run first, from a folder that holds no more than three small recordings.",
        "",
        "| Python | extras | commands that passed | refused, as they must be without an extra | failed | versions |",
        "|--|--|--|--|--|--|",
    ]
    for row in rows:
        packages = ", ".join(f"{name} {version}" for name, version in row.get("versions", {}).items())
        failed = row["failed"].replace("|", "/")
        counts = f"{row.get('passed', 0)} | {row.get('refused', '-')}"
        lines.append(f"| {row['python']} | {row['extras']} | {counts} | {failed or '-'} | {packages} |")
    return "\n".join(lines) + "\n"


def record(rows: list[dict[str, Any]]) -> None:
    """Write the rows, those of each Python in the order of the extras."""
    rows.sort(key=lambda row: (row["python"], list(extras()).index(row["extras"])))
    RESULTS.write_text(json.dumps({"schema": "rtserve.installs/1", "rows": rows}, indent=1) + "\n")
    RESULTS.with_suffix(".md").write_text(table(rows))


def main() -> int:
    """Try what was asked for, record it, and return 1 where something failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", nargs="*", default=list(PYTHONS))
    parser.add_argument("--extras", default=",".join(extras()))
    arguments = parser.parse_args()
    labels = arguments.extras.split(",")
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    tried = []
    with tempfile.TemporaryDirectory(prefix="rtserve-wheel-") as name:
        wheel, recordings = build_wheel(Path(name)), Path(name) / "recordings"
        recordings.mkdir()
        lay_recordings(recordings)
        for python in arguments.python:
            path = interpreter(python)
            if path is None:
                print(f"{python}: not on this machine, not tried")
                continue
            code = "import platform; print(platform.python_version())"
            version = subprocess.run([path, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
            for label in labels:
                row = {"python": version, **try_one(path, wheel, label, recordings)}
                print(
                    f"Python {version}, {label}: {row['failed'] or str(row['passed']) + ' commands passed'}", flush=True
                )
                rows = [old for old in rows if (old["python"], old["extras"]) != (version, label)] + [row]
                tried.append(row)
                record(rows)
    return int(not tried or any(row["failed"] for row in tried))


if __name__ == "__main__":
    sys.exit(main())
