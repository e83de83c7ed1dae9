"""Pipelines of scikit-learn and pyRiemann as graphs, by turns with the library that they come from.

    python benchmarks/pipelines.py prepare FOLDER    fits the pipelines on simulated windows, saves and exports them
    python benchmarks/pipelines.py measure FOLDER    times each in fresh processes; writes results/pipelines.json and .md

Each is timed at batch 1 and 16 on one thread, library and graph by turns in one process, in `PROCESSES` processes. The
library is asked as a user asks it: ``predict_proba`` of the pipeline, or the mean of that of every pipeline of a list.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.files import write_bytes

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "pipelines.json"
CHANS, TIMES, SFREQ, CLASSES = 22, 250, 125.0, 4
MEMBERS = 54
BATCHES = (1, 16)
ENGINES = ("torch", "onnxruntime")
PROCESSES = 3
ROUNDS = 4
BANDS = ((4.0, 8.0), (8.0, 13.0), (13.0, 20.0), (20.0, 30.0))


def windows(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return windows (n, CHANS, TIMES) whose covariance says the class, and the classes."""
    g = np.random.default_rng(seed)
    mix = np.eye(CHANS) + 0.1 * np.random.default_rng(7).standard_normal((CLASSES, CHANS, CHANS))
    y = np.arange(n) % CLASSES
    return mix[y] @ g.standard_normal((n, CHANS, TIMES)), y


def pipelines() -> dict[str, Any]:
    """Return what is fitted: a pipeline, or how a list of `MEMBERS` is made of a part of the windows each."""
    from pyriemann.classification import MDM
    from pyriemann.estimation import Covariances, XdawnCovariances
    from pyriemann.spatialfilters import CSP
    from pyriemann.tangentspace import TangentSpace
    from scipy import signal
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union
    from sklearn.preprocessing import FunctionTransformer, StandardScaler

    def cov() -> Any:
        return Covariances("oas")

    def band(low: float, high: float) -> Any:
        sos = signal.butter(4, [low, high], "bandpass", fs=SFREQ, output="sos")
        return FunctionTransformer(partial(signal.sosfiltfilt, sos))

    def lda(shrinkage: float) -> Any:
        return LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage)

    ldas = [(str(i), lda(s)) for i, s in enumerate(np.linspace(0.01, 0.9, MEMBERS))]
    bank = make_union(*(make_pipeline(band(*one), cov(), TangentSpace()) for one in BANDS))
    return {
        "tangent space, LDA": make_pipeline(cov(), TangentSpace(), LinearDiscriminantAnalysis()),
        "MDM": make_pipeline(cov(), MDM()),
        "CSP, LDA": make_pipeline(cov(), CSP(6), LinearDiscriminantAnalysis()),
        "xDAWN covariances, tangent space, logistic": make_pipeline(
            XdawnCovariances(2, estimator="oas"), TangentSpace(), LogisticRegression(max_iter=1000)
        ),
        "bank of 4 bands, tangent spaces, LDA": make_pipeline(bank, StandardScaler(), lda(0.1)),
        f"tangent space, {MEMBERS} LDAs": make_pipeline(cov(), TangentSpace(), VotingClassifier(ldas, voting="soft")),
        f"{MEMBERS} pipelines, each its tangent space": partial(
            make_pipeline, cov(), TangentSpace(), LinearDiscriminantAnalysis()
        ),
    }


def saved(folder: Path) -> dict[str, dict[str, Any]]:
    """Fit and save every pipeline; return its file, how it is exported, and the shape of its windows."""
    import joblib
    from mne.decoding import Vectorizer
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline

    x, y = windows(4 * MEMBERS, 0)
    found: dict[str, dict[str, Any]] = {}
    for name, model in pipelines().items():
        if isinstance(model, partial):
            one = model()
            folds = [np.arange(len(x)) % MEMBERS != fold for fold in range(MEMBERS)]
            fitted: Any = [clone(one).fit(x[fold], y[fold]) for fold in folds]
        else:
            fitted = model.fit(x, y)
        found[name] = {"fitted": fitted, "shape": (CHANS, TIMES)}
    shared = found[f"tangent space, {MEMBERS} LDAs"]["fitted"]
    features = shared[:-1].transform(x)[:, None]
    alone = make_pipeline(Vectorizer(), clone(shared[-1])).fit(features, y)
    found[f"{MEMBERS} LDAs alone, on features"] = {"fitted": alone, "shape": features.shape[1:]}
    for number, case in enumerate(found.values()):
        fitted = case.pop("fitted")
        case |= {"file": f"p{number}.joblib", "combine": "mean" if isinstance(fitted, list) else ""}
        joblib.dump(fitted, folder / case["file"])
    return found


def prepare(folder: Path) -> None:
    """Fit, save and export."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = saved(folder)
    for name, case in cases.items():
        path = folder / case["file"]
        n_chans, n_times = case["shape"]
        settings = {"n_chans": n_chans, "n_times": n_times} | ({"combine": "mean"} if case["combine"] else {})
        command = ["rtserve", "export", str(path), "--exporter", str(ROOT / "exporters" / "sklearn_pipeline.py")]
        command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
        command += ["--unit", "1", "--trusted", "--force", "-o", str(path.with_suffix(".onnx"))]
        done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True, check=False)
        print(name, done.stdout or done.stderr, flush=True)
        if done.returncode:
            raise SystemExit(done.returncode)
    (folder / "cases.json").write_text(json.dumps(cases, indent=1))


def timed(folder: Path, case: dict[str, Any]) -> dict[str, Any]:
    """Return ratios and times of one case, in this process."""
    import joblib

    from rtserve.graphs.graph import Graph
    from rtserve.graphs.runners import make_runner
    from rtserve.measure.timing import interleave, set_threads

    warnings.simplefilter("ignore")
    set_threads(1)
    path = folder / case["file"]
    loaded = joblib.load(path)
    models = loaded if isinstance(loaded, list) else [loaded]
    graph = Graph.load(path.with_suffix(".onnx"))
    runners = {engine: make_runner(graph, engine) for engine in ENGINES}
    found: dict[str, Any] = {}
    for batch in BATCHES:
        if case["shape"][0] == CHANS:
            x = windows(batch, 3)[0].astype("f4")
        else:
            x = np.random.default_rng(3).standard_normal((batch, *case["shape"])).astype("f4")
        wide = x.astype(float)

        def library(wide: np.ndarray = wide) -> np.ndarray:
            mean: np.ndarray = np.mean([model.predict_proba(wide) for model in models], axis=0)
            return mean

        truth = library()
        calls: dict[str, Any] = {"library": library}
        calls |= {engine: partial(runner.infer, x) for engine, runner in runners.items()}
        times = interleave(calls, rounds=ROUNDS, min_calls=1, warmup_us=1000.0, threads=1)
        found[str(batch)] = {
            "library_us": times.median_us("library"),
            "ratios": {engine: 1.0 / times.ratio(engine, "library")[0] for engine in ENGINES},
            "off": {engine: float(np.abs(runner.infer(x) - truth).max()) for engine, runner in runners.items()},
        }
    return found


def measure(folder: Path, only: str) -> None:
    """Time every case, or one, in fresh processes; what is recorded of the others on this processor stays."""
    from rtserve.measure.results import environment

    cases = json.loads((folder / "cases.json").read_text())
    about = environment(threads=1)
    old = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"environment": None, "rows": []}
    rows = {row["name"]: row for row in old["rows"]} if old["environment"] == about else {}
    for name, case in cases.items():
        if only not in ("", name):
            continue
        command = [sys.executable, __file__, "timed", str(folder), "--case", name]
        runs = [json.loads(subprocess.check_output(command, text=True)) for _ in range(PROCESSES)]
        sizes = {kind: (folder / case["file"]).with_suffix(f".{kind}").stat().st_size for kind in ("joblib", "onnx")}
        rows[name] = {"name": name, "sizes": sizes, "runs": runs}
        print(json.dumps(rows[name]), flush=True)
    document = {"schema": "rtserve.pipelines/1", "environment": about}
    document |= {"library": {name: _version(name) for name in ("scikit-learn", "pyriemann")}}
    document |= {"rows": [rows[name] for name in cases if name in rows]}
    write_bytes(RESULTS, (json.dumps(document, indent=1) + "\n").encode(), force=True)
    write_bytes(RESULTS.with_suffix(".md"), table(document).encode(), force=True)


def _version(name: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(name)


def table(document: dict[str, Any]) -> str:
    """Return the record as a page of Markdown."""
    about, libraries = document["environment"], document["library"]
    named = ", ".join(f"{name} {version}" for name, version in {**libraries, **about["versions"]}.items())
    head = " | ".join(f"{engine}, batch {batch}" for batch in BATCHES for engine in ENGINES)
    lines = [
        "# Pipelines that are no networks",
        "",
        f"How many times faster the graph is than the library, {about['cpu']}, one thread, {CHANS} channels x {TIMES}",
        f"samples, float32 windows; median over {PROCESSES} fresh processes (least to most), by turns in each. The library",
        f"is asked for the probabilities of every pipeline. {named}. Made by benchmarks/pipelines.py.",
        "",
        f"| | library, ms at batch {' and '.join(map(str, BATCHES))} | {head} | joblib, MB | graph, MB | most off |",
        "|--|--|" + "--|" * (len(BATCHES) * len(ENGINES)) + "--|--|--|",
    ]
    for row in document["rows"]:
        runs = row["runs"]
        slow = ", ".join(f"{np.median([run[str(b)]['library_us'] for run in runs]) / 1e3:.2f}" for b in BATCHES)
        cells = [_spread([run[str(b)]["ratios"][engine] for run in runs]) for b in BATCHES for engine in ENGINES]
        sizes = " | ".join(f"{row['sizes'][kind] / 1e6:.3g}" for kind in ("joblib", "onnx"))
        off = max(value for run in runs for b in BATCHES for value in run[str(b)]["off"].values())
        lines.append(f"| {row['name']} | {slow} | {' | '.join(cells)} | {sizes} | {off:.0e} |")
    return "\n".join(lines) + "\n"


def _spread(values: list[float]) -> str:
    low, middle, high = (float(f(values)) for f in (np.min, np.median, np.max))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def main() -> None:
    """Read the arguments and do what was asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("do", choices=("prepare", "measure", "timed"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--case", default="", help="which alone")
    asked = parser.parse_args()
    if asked.do == "timed":
        print(json.dumps(timed(asked.folder, json.loads((asked.folder / "cases.json").read_text())[asked.case])))
        return
    if asked.do == "prepare":
        prepare(asked.folder)
    else:
        measure(asked.folder, asked.case)


if __name__ == "__main__":
    main()
