"""The steps of the demo, each leaving its artefact behind and reusing what an earlier run left."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.demo.notes import make_notes
from rtserve.demo.outcome import DemoOutcome, make_rows, write_summary
from rtserve.demo.settings import FULL, VIEWED, VIEWS, DemoSettings, Folder
from rtserve.demo.timing import time_branches
from rtserve.files import sha256_file, write_bytes
from rtserve.fusion.report import fuse_to_file
from rtserve.graphs.export import export
from rtserve.graphs.graph import Graph
from rtserve.graphs.warm import shared_start
from rtserve.measure.results import load_result, save_result
from rtserve.report.fusion_picture import fusion_section
from rtserve.report.sections import branch_sections
from rtserve.signals.simulate import simulate
from rtserve.signals.splits import Split, make_split
from rtserve.signals.windows import WindowSet, load_windows, save_windows
from rtserve.training.seeds import train

if TYPE_CHECKING:
    from rtserve.measure.branch_report import Judged
    from rtserve.measure.evaluation import Evaluation
    from rtserve.measure.timing import Timings

__all__ = ["run_demo"]

Callback = Callable[[int, int], None]
Bar = Callable[[str], AbstractContextManager[Callback]]
TARGETS = {"1": "response_time", "2": "externalizing"}
EXPORTER = "rtserve.training.networks:exporter"
STEPS = 8


@contextmanager
def _silent(label: str) -> Iterator[Callback]:
    with nullcontext():
        yield lambda done, total: None


@dataclass(kw_only=True)
class _Demo:
    """One run: settings, folder, voices, and what it has so far."""

    settings: DemoSettings
    folder: Folder
    tell: Callable[[str], None]
    bar: Bar
    n_jobs: int
    step_number: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)

    @contextmanager
    def step(self, name: str, label: str) -> Iterator[Callback]:
        """Show a step with its forecast and say afterwards what it took."""
        self.step_number += 1
        head = f"[{self.step_number}/{STEPS}] {label}"
        start = time.perf_counter()
        with self.bar(head) as callback:
            yield callback
        self.seconds[name] = time.perf_counter() - start
        self.tell(f"{head}: {self.seconds[name]:.1f} s")

    def seeds(self, challenge: str) -> tuple[int, ...]:
        """Return the members' seeds of a challenge."""
        return self.settings.seeds if challenge == "1" else self.settings.seeds[:1]

    def members(self, challenge: str) -> list[Path]:
        """Return the files of the members' graphs of a challenge."""
        return [self.folder.member(challenge, seed) for seed in self.seeds(challenge)]


def run_demo(
    output: str | Path = "rtserve-demo",
    *,
    settings: DemoSettings = FULL,
    force: bool = False,
    n_jobs: int | None = None,
    tell: Callable[[str], None] = lambda message: None,
    bar: Bar = _silent,
) -> DemoOutcome:
    """Run the whole path: simulate, train, export, fuse, score, time, build, check.

    Parameters
    ----------
    output : path
        Folder for everything; an interrupted or finished demo in it is gone on with.
    settings : DemoSettings
        Size.
    force : bool
        Start anew where the folder holds a demo with other settings.
    n_jobs : int, optional
        Seeds trained at a time; 2 where there are two cores.
    tell : callable
        Called with each line of talk.
    bar : callable
        ``bar(label)`` gives a context manager of a callback ``(done, total)``.

    Returns
    -------
    DemoOutcome

    Raises
    ------
    InputError
        Where the folder holds something else, or a demo with other settings.
    """
    import joblib

    folder = Folder(root=Path(output))
    demo = _Demo(
        settings=settings,
        folder=folder,
        tell=tell,
        bar=bar,
        n_jobs=n_jobs or min(2, joblib.cpu_count(only_physical_cores=False)),
    )
    if folder.claim(settings, force=force):
        tell(f"going on with the demo in {folder.root}")
    _simulate_and_train(demo)
    members = _export(demo)
    graphs = _fuse(demo)
    evaluations, judged = _score(demo, graphs)
    timings = _time(demo, members, graphs)
    built = _build(demo)
    verdict = _check(demo, built)
    return _finish(demo, graphs, evaluations, judged, timings, built, verdict)


def _simulate_and_train(demo: _Demo) -> None:
    """Simulate and train; where everything is there already, do neither."""
    need = [c for c in TARGETS if not _trained(demo, c)]
    data: dict[str, tuple[WindowSet, Split]] = {}
    with demo.step("simulate", f"simulating {demo.settings.windows} windows per challenge") as progress:
        for k, challenge in enumerate(need):
            data[challenge] = _simulated(demo, challenge, _part(progress, k, len(need)))
    total = sum(len(demo.seeds(c)) for c in need) * demo.settings.max_epochs
    done_before = 0
    with demo.step("train", f"training {sum(len(demo.seeds(c)) for c in TARGETS)} members (epochs)") as progress:
        for challenge, (windows, split) in data.items():
            run = train(
                windows,
                split,
                recipe=demo.settings.recipe(),
                seeds=demo.seeds(challenge),
                output=demo.folder.run(challenge),
                resume=True,
                n_jobs=min(demo.n_jobs, len(demo.seeds(challenge))),
                progress=_after(progress, done_before, total),
            )
            demo.reused += [f"C{challenge} seed {seed}" for seed in run.reused]
            done_before += len(demo.seeds(challenge)) * demo.settings.max_epochs
    demo.reused += [f"the windows and members of C{c}" for c in TARGETS if c not in need]


def _part(progress: Callback, k: int, parts: int) -> Callback:
    """Return the callback of the k-th of several equal parts."""
    return lambda done, total: progress(k * total + done, parts * total)


def _after(progress: Callback, before: int, total: int) -> Callback:
    """Return the callback of a part that begins when `before` of `total` are done."""
    return lambda done, _: progress(before + done, total)


def _trained(demo: _Demo, challenge: str) -> bool:
    results = [demo.folder.run(challenge) / f"seed{seed}" / "result.json" for seed in demo.seeds(challenge)]
    return demo.folder.windows(challenge).exists() and all(result.exists() for result in results)


def _simulated(demo: _Demo, challenge: str, progress: Callback) -> tuple[WindowSet, Split]:
    """Simulate a challenge's windows and keep the held-out ones, so that every figure can be made again."""
    settings = demo.settings
    windows = simulate(
        settings.windows,
        r=settings.r1 if challenge == "1" else settings.r2,
        seed=int(challenge),
        target=TARGETS[challenge],
        n_subjects=settings.subjects,
        progress=progress,
    )
    split = make_split(windows, fractions=(0.62, 0.12, 0.26))
    windows = replace(windows, extra=windows.extra | {"split": split.marks})
    save_windows(demo.folder.windows(challenge), windows.take(split.part("test")), force=True)
    return windows, split


def _export(demo: _Demo) -> dict[str, dict[Path, Graph]]:
    """Export every member that has no graph of its very checkpoint yet."""
    jobs = [(challenge, seed) for challenge in TARGETS for seed in demo.seeds(challenge)]
    done = 0

    def one(job: tuple[str, int]) -> Graph:
        nonlocal done
        graph = _member_graph(demo, *job)
        done += 1
        progress(done, len(jobs))
        return graph

    label = f"exporting {len(jobs)} members"
    with demo.step("export", label) as progress, ThreadPoolExecutor(demo.n_jobs) as pool, shared_start():
        graphs = list(pool.map(one, jobs))
    members: dict[str, dict[Path, Graph]] = {}
    for (challenge, seed), graph in zip(jobs, graphs, strict=True):
        members.setdefault(challenge, {})[demo.folder.checkpoint(challenge, seed)] = graph
    return members


def _member_graph(demo: _Demo, challenge: str, seed: int) -> Graph:
    checkpoint, path = demo.folder.checkpoint(challenge, seed), demo.folder.member(challenge, seed)
    if path.exists():
        graph = Graph.load(path)
        source = graph.provenance.details.get("checkpoint") or {}
        if source.get("sha256") == sha256_file(checkpoint):
            demo.reused.append(path.name)
            return graph
    graph = export(checkpoint, exporter=EXPORTER, settings={"target": TARGETS[challenge]})
    graph.save(path, force=True)
    return graph


def _fuse(demo: _Demo) -> dict[str, Graph]:
    """Fuse what the table compares: one member, the ensemble, the ensemble with views, and challenge 2's."""
    first, second = (demo.members(challenge) for challenge in TARGETS)
    wanted: dict[str, tuple[list[Path], tuple[str, ...]]] = {
        "c1_single": (first[:1], VIEWS[:1]),
        "c1_ensemble": (first, VIEWS[:1]),
        VIEWED: (first, VIEWS),
        "c2_single": (second, VIEWS[:1]),
    }
    graphs = {}
    with demo.step("fuse", f"fusing {len(first)} members x {len(VIEWS)} views") as progress:
        for done, (name, (parts, views)) in enumerate(wanted.items(), start=1):
            graphs[name] = _fused(demo, name, parts, views)
            progress(done, len(wanted))
    return graphs


def _fused(demo: _Demo, name: str, parts: list[Path], views: tuple[str, ...]) -> Graph:
    """Fuse to a file with its report beside the results, or take both from an earlier run where they belong together."""
    path, record = demo.folder.fused(name), demo.folder.result(f"{name}_fusion.json")
    if path.exists() and record.exists():
        graph = Graph.load(path)
        had = sorted(member["digest"] for member in graph.provenance.details.get("members", ()))
        if had == sorted(map(sha256_file, parts)) and load_result(record, "fuse")["sha256"] == graph.digest:
            demo.reused.append(path.name)
            return graph
    # What is scored and timed is what the zip will carry, so it is laid out for torch.
    report = fuse_to_file(parts, path, views=",".join(views), engine="torch", force=True)
    save_result(record, "fuse", report | {"output": path.name}, force=True)
    return Graph.load(path)


def _score(demo: _Demo, graphs: dict[str, Graph]) -> tuple[dict[str, Evaluation], Judged]:
    """Score each graph on its challenge's held-out windows, and try each view and member of the one with views."""
    from rtserve.measure.branch_report import Judged
    from rtserve.measure.branches import try_branches
    from rtserve.measure.evaluate import evaluate

    evaluations = {}
    held_out = {challenge: load_windows(demo.folder.windows(challenge)) for challenge in TARGETS}
    n = sum(len(windows) for windows in held_out.values())
    with demo.step("score", f"scoring on {n} held-out windows") as progress:
        for done, (name, graph) in enumerate(graphs.items(), start=1):
            evaluations[name] = evaluate(graph, held_out[name[1]], split="test", name=name)
            if name != VIEWED:
                evaluations[name].save(demo.folder.result(f"{name}_evaluation.json"), force=True)
            progress(done, len(graphs) + 1)
        branches = try_branches(graphs[VIEWED], held_out["1"], members=demo.members("1"), split="test", cost=False)
        judged = Judged(evaluation=evaluations[VIEWED], branches=branches)
        judged.save(demo.folder.result(f"{VIEWED}_evaluation.json"), force=True)
    return evaluations, judged


def _time(demo: _Demo, members: dict[str, dict[Path, Graph]], graphs: dict[str, Graph]) -> Timings:
    first = {name: graph for name, graph in graphs.items() if name.startswith("c1")}
    branches = len(members["1"]) * len(VIEWS)
    with demo.step("time", f"timing {branches} branches three ways") as progress:
        timings = time_branches(members["1"], first, views=VIEWS, rounds=demo.settings.rounds, progress=progress)
    text = json.dumps({"schema": "rtserve.demo_timing/1"} | timings.to_dict()) + "\n"
    write_bytes(demo.folder.result("timing.json"), text.encode(), force=True)
    return timings


def _build(demo: _Demo) -> Any:
    """Write the recipe and build the zip from it."""
    from rtserve.submission.bundle import build

    recipe = demo.folder.root / "submission.toml"
    write_bytes(recipe, _recipe_text(demo).encode(), force=True)
    output = demo.folder.root / "submission.zip"
    before = sha256_file(output) if output.exists() else ""
    with demo.step("build", "building the submission") as progress:
        built = build(recipe, output=output, force=True, progress=progress)
    if before:
        demo.tell("the zip has the same bytes as before" if before == built.sha256 else "the zip differs from before")
    return built


def _recipe_text(demo: _Demo) -> str:
    lines = ['profile = "eeg2025"', 'runtime = "torch"', 'windows = "windows/c1_test.npz"', ""]
    for challenge in TARGETS:
        views = VIEWS if challenge == "1" else VIEWS[:1]
        lines += [f"[challenges.{challenge}]", f"views = {json.dumps(list(views))}", 'merge = "mean"', ""]
        for seed in demo.seeds(challenge):
            path = demo.folder.member(challenge, seed)
            lines += [f"[[challenges.{challenge}.members]]", f'graph = "graphs/{path.name}"']
            lines += [f'sha256 = "{sha256_file(path)}"', ""]
    return "\n".join(lines)


def _check(demo: _Demo, built: Any) -> Any:
    from rtserve.submission.validate import check

    with demo.step("check", "checking the zip as the scorer would run it"):
        report = check(built.path)
    return report


def _finish(
    demo: _Demo,
    graphs: dict[str, Graph],
    evaluations: dict[str, Evaluation],
    judged: Judged,
    timings: Timings,
    built: Any,
    verdict: Any,
) -> DemoOutcome:
    """Join everything to the table and write the summary."""
    n = len(demo.settings.seeds)
    labels = {
        "c1_single": "C1 one member",
        "c1_ensemble": f"C1 ensemble of {n}",
        VIEWED: f"C1 ensemble of {n} x {len(VIEWS)} views",
        "c2_single": "C2 one member",
    }
    rows = make_rows(evaluations, timings, c2="c2_single", labels=labels)
    notes = make_notes(demo.settings, evaluations, judged.branches, timings, verdict, reused=demo.reused)
    sections = [
        fusion_section([(labels[VIEWED], load_result(demo.folder.result(f"{VIEWED}_fusion.json"), "fuse"))]),
        *branch_sections([(labels[VIEWED], judged.to_dict(raw=False))]),
    ]
    html, markdown = write_summary(
        demo.folder, demo.settings, rows, notes, timings, sections=[part for part in sections if part]
    )
    facts = {
        "graphs": {name: graph.digest for name, graph in graphs.items()},
        "signatures": {name: str(e["nrmse"].signature) for name, e in evaluations.items()},
        "branches": judged.branches.to_dict(),
        "zip_sha256": built.sha256,
        "verdict": verdict.verdict,
        "rules": verdict.counts(),
        "reused": demo.reused,
        "seconds": {name: round(value, 2) for name, value in demo.seconds.items()},
    }
    outcome = DemoOutcome(
        settings=demo.settings, rows=rows, facts=facts, notes=notes, zip=built.path, html=html, markdown=markdown
    )
    text = json.dumps({"schema": "rtserve.demo/1"} | outcome.to_dict(), indent=1) + "\n"
    write_bytes(demo.folder.root / "demo.json", text.encode(), force=True)
    return outcome
