"""Peak memory of each command on a small and on a large window set: what is read in blocks does not grow with the set.

A set of noise with a weak trend in it is written block by block (.h5), each command runs on it in a process of its own,
and the most memory that this process or any child of it held is what the system reports when it ends. The bar: on the
large set at most 1.3 batches above the same command on the small one, and under 2 GB. A batch is 256 windows, the most
that any command gives a network at once.

    python benchmarks/memory.py --folder /tmp/memory --windows 60000 -o benchmarks/results/memory.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from rtserve.signals.electrodes import CHANNELS
from rtserve.signals.hdf5 import write_hdf5
from rtserve.signals.stored import StoredArray

N_CHANS, N_TIMES, SFREQ = 129, 200, 100.0
BATCH_BYTES = 256 * 4 * N_CHANS * N_TIMES
ALLOWED, LIMIT = 1.3, 2_000_000_000
MIB = 1 << 20


class Drawn:
    """Rows of noise in volts, each from its own seed; the mean of the first ten channels carries the target."""

    random_access = True

    def __init__(self, y: np.ndarray) -> None:
        self.shape = (len(y), N_CHANS, N_TIMES)
        self.y = y

    def read_into(self, start: int, out: np.ndarray) -> None:
        """Draw the rows from `start` on."""
        for row, window in enumerate(out, start=start):
            np.random.default_rng(row).standard_normal(out=window, dtype=np.float32)
        out *= np.float32(1e-5)
        out[:, :10] += np.float32(2e-6) * (self.y[start : start + len(out)] - 1.6)[:, None, None]


def make_set(path: Path, n: int, subjects: int) -> Path:
    """Write `n` windows of `subjects` people, marked train, valid and test by person."""
    rng = np.random.default_rng(n)
    who = np.arange(n) % subjects
    y = (1.6 + 0.4 * rng.standard_normal(n)).astype("f4")
    part = np.array(["train", "valid", "test", "train", "train"])[who % 5]
    write_hdf5(
        path,
        {
            "X": StoredArray(Drawn(y)),
            "y": y,
            "subject": np.char.add("sub-", who.astype("U")),
            "run_id": np.char.add(np.char.add("sub-", who.astype("U")), "_run-1"),
            "ch_names": np.array(CHANNELS),
            "sfreq": np.float64(SFREQ),
            "t0": np.float64(0.5),
            "unit": np.array("V"),
            "target": np.array("response_time"),
            "split": part,
        },
    )
    return path


def peak_of(arguments: list[str], cwd: Path) -> tuple[float, int, int]:
    """Run ``rtserve ARGUMENTS``; return its seconds, exit code, and the bytes at most held by it or a child of it."""
    begun = time.perf_counter_ns()
    with open(cwd / "last.log", "wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "rtserve", *arguments],
            cwd=cwd,
            stdout=log,
            stderr=log,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    kib = 1 if platform.system() == "Darwin" else 1024
    return (time.perf_counter_ns() - begun) * 1e-9, process.returncode, usage.ru_maxrss * kib


def commands(data: str, tag: str) -> dict[str, list[str]]:
    """Return each command on the set `data`; the graphs a.onnx and b.onnx are beside it."""
    return {
        "inspect": ["inspect", data],
        "evaluate": ["evaluate", "a.onnx", "--data", data, "-o", f"{tag}.evaluate.json", "--force"],
        "search": ["search", "a.onnx", "b.onnx", "--data", data, "--views", "identity,roll:+2", "--split", "valid"],
        "calibrate": ["calibrate", "a.onnx", "--data", data, "-o", f"{tag}.calibrated.onnx", "--force"],
        "compare": ["compare", "a.onnx", "b.onnx", "--data", data, "--split", "test"],
        "train": ["train", data, "-o", f"{tag}.run", "--seeds", "1", "--max-epochs", "1", "--split", "file"],
        "annotate": ["annotate", data, "-o", f"{tag}.copy.h5", "--force"],
    }


def make_graphs(folder: Path, data: str) -> None:
    """Train two networks for one epoch on the small set and export them."""
    for name, seed in (("a", "1"), ("b", "2")):
        run = f"{name}.run"
        steps = [
            ["train", data, "-o", run, "--seeds", seed, "--max-epochs", "1", "--split", "file"],
            ["export", f"{run}/seed{seed}/best.pth", "--exporter", "rtserve.training.networks:exporter",
             "-o", f"{name}.onnx", "--force"],
        ]  # fmt: skip
        for step in steps:
            if peak_of(step, folder)[1]:
                raise SystemExit((folder / "last.log").read_text())


def measure(folder: Path, sizes: tuple[int, int], only: list[str]) -> dict[str, object]:
    """Return the peaks of every command on both sets."""
    names = [make_set(folder / f"w{n}.h5", n, subjects).name for n, subjects in zip(sizes, (60, 960), strict=True)]
    make_graphs(folder, names[0])
    rows = {}
    for command in only or list(commands("", "")):
        row: dict[str, object] = {}
        for size, name in zip(sizes, names, strict=True):
            seconds, code, peak = peak_of(commands(name, f"{command}{size}")[command], folder)
            if code:
                raise SystemExit(f"{command} on {name} ended with {code}:\n{(folder / 'last.log').read_text()}")
            row[str(size)] = {"peak_bytes": peak, "seconds": round(seconds, 1)}
            print(f"{command:<10} {size:>7} windows  {peak / MIB:8.1f} MiB  {seconds:8.1f} s", flush=True)
        small, large = (row[str(size)]["peak_bytes"] for size in sizes)  # type: ignore[index]
        row["growth_batches"] = round((large - small) / BATCH_BYTES, 3)
        row["within"] = (large - small) <= ALLOWED * BATCH_BYTES and large < LIMIT
        rows[command] = row
    return {
        "schema": "rtserve.memory/1",
        "windows": list(sizes),
        "shape": [N_CHANS, N_TIMES],
        "set_bytes": 4 * sizes[1] * N_CHANS * N_TIMES,
        "batch_bytes": BATCH_BYTES,
        "allowed_batches": ALLOWED,
        "limit_bytes": LIMIT,
        "python": platform.python_version(),
        "commands": rows,
    }


def as_markdown(result: dict[str, object]) -> str:
    """Return the table of the peaks."""
    small, large = result["windows"]  # type: ignore[misc]
    batch = int(result["batch_bytes"]) / MIB  # type: ignore[call-overload]
    out = [
        "# Peak memory of a command, by the size of its window set",
        "",
        f"Windows of {N_CHANS} x {N_TIMES}, float32, .h5 chunked by window; {large:,} windows are"
        f" {int(result['set_bytes']) / 1e9:.1f} GB."  # type: ignore[call-overload]
        f" A batch of 256 windows is {batch:.0f} MiB; the bar is {ALLOWED} batches of growth and {LIMIT / 1e9:.0f} GB.",
        "",
        f"| command | {small:,} windows | {large:,} windows | growth in batches | within |",
        "|---|---:|---:|---:|---|",
    ]
    for name, row in result["commands"].items():  # type: ignore[attr-defined]
        peaks = [row[str(size)]["peak_bytes"] / MIB for size in (small, large)]
        growth, within = row["growth_batches"], "yes" if row["within"] else "NO"
        out.append(f"| {name} | {peaks[0]:.0f} MiB | {peaks[1]:.0f} MiB | {growth:.2f} | {within} |")
    return "\n".join(out) + "\n"


def main() -> int:
    """Measure, write, and say whether the bar is met."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="Where the sets are written (and removed again).")
    parser.add_argument("--small", type=int, default=600)
    parser.add_argument("--windows", type=int, default=60_000)
    parser.add_argument("--only", action="append", default=[], help="A command; may be repeated.")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    sizes = (arguments.small, arguments.windows)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        result = measure(Path(folder), sizes, arguments.only)
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")
        arguments.output.with_suffix(".md").write_text(as_markdown(result))
    print(as_markdown(result))
    return 0 if all(row["within"] for row in result["commands"].values()) else 1  # type: ignore[attr-defined]


if __name__ == "__main__":
    sys.exit(main())
