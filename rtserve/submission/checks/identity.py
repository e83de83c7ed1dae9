"""RT4: for zips that rtserve built: what is inside is what was measured, and gives the same numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from rtserve.errors import RtserveError
from rtserve.files import sha256_file
from rtserve.submission.checks.rule import WARN, Case, Finding, Rule, Skip
from rtserve.submission.company import calls, calls_for
from rtserve.submission.drive import windows_of
from rtserve.submission.profile_parts import STYLES

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph

__all__ = ["MANIFEST", "RULES"]

MANIFEST = "manifest.json"
SCHEMA = "rtserve.manifest/"
HEARD = 4
"""Windows of the drive on which the graph is asked in float64 where onnxruntime does not give the numbers."""


def challenges_of(case: Case) -> dict[str, Mapping[str, Any]]:
    """Return what the manifest says of each challenge."""
    listed = (case.manifest or {}).get("challenges")
    return {str(k): v for k, v in listed.items() if isinstance(v, dict)} if isinstance(listed, dict) else {}


class SameBytes(Rule):
    """Every file has the digest that the manifest gives it, and no file is missing or added."""

    code = "RT401"
    styles = STYLES
    requires = ("RT004",)
    cause = "A file was edited, swapped or added after the zip was built: what is in it is not what was measured."
    cure = "Build the zip again with `rtserve build`; do not edit it by hand."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        if case.manifest is None:
            yield Skip(reason="the zip was not built by rtserve")
            return
        files = case.manifest.get("files")
        folder = case.unpacked.folder
        if not isinstance(files, dict) or folder is None:
            yield Finding(message="the manifest lists no files", where=MANIFEST)
            return
        for name in case.unpacked.files():
            if name == MANIFEST:
                continue
            if name not in files:
                yield Finding(message=f"{name} is in the zip but not in the manifest", where=name)
                continue
            digest = sha256_file(folder / name)
            if digest != files[name]:
                yield Finding(
                    message=f"{name} has sha256 {digest[:16]}..., the manifest says {str(files[name])[:16]}...",
                    where=name,
                )
        for name in sorted(set(files) - set(case.unpacked.names)):
            yield Finding(message=f"{name} is in the manifest but not in the zip", where=name)


class SameGraph(Rule):
    """The graph of each challenge is the one that was benchmarked and scored."""

    code = "RT402"
    styles = STYLES
    requires = ("RT004",)
    cause = "The graph was exchanged after the manifest was written."
    cure = "Build the zip again from the recipe."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        if case.manifest is None or case.unpacked.folder is None:
            yield Skip(reason="the zip was not built by rtserve")
            return
        for key, entry in challenges_of(case).items():
            name, expected = str(entry.get("graph", "")), entry.get("graph_sha256")
            if name not in case.unpacked.names:
                if expected:
                    message = f"challenge {key}: its graph {name or '(none)'} is not in the zip"
                    yield Finding(message=message, where=name, challenge=key, severity=WARN)
                continue
            digest = sha256_file(case.unpacked.folder / name)
            if digest != expected:
                yield Finding(
                    message=f"{name} has sha256 {digest[:16]}..., {str(expected)[:16]}... was measured",
                    where=name,
                    challenge=key,
                )


class SameNumbers(Rule):
    """The running submission gives the numbers of the graph in the zip."""

    code = "RT403"
    requires = ("RT301",)
    after = "windows"
    cause = "The script, the plan or the tensors do not compute what the graph computes."
    cure = "Build the zip again; if it persists, report the graph to rtserve's issue tracker."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        graphs = {k: str(e.get("graph", "")) for k, e in challenges_of(case).items()}
        graphs = {key: name for key, name in graphs.items() if name in case.unpacked.names}
        if not graphs or case.drive is None:
            yield Skip(reason="the zip was not built by rtserve")
            return
        for key, name in graphs.items():
            event = case.drive.first("windows", key)
            if event is None or not event.get("ok"):
                continue
            try:
                yield from compare(case, key, name, np.asarray(event["values"]))
            except RtserveError as error:
                yield Finding(message=f"{name}: {error.message}", where=name, challenge=key)


def compare(case: Case, key: str, name: str, got: np.ndarray) -> Iterator[Finding]:
    """Yield a finding where the drive's numbers are not those of a graph.

    The graph runs in onnxruntime on the very windows of the drive. Where the two differ by more than one engine's
    allowance, what float32 costs on them is found and counted in, as `rtserve.graphs.parity` defines it.
    """
    from rtserve.graphs.graph import Graph
    from rtserve.graphs.parity import compare_outputs
    from rtserve.graphs.runners import OnnxruntimeRunner
    from rtserve.graphs.witness import hear

    assert case.unpacked.folder is not None
    graph = Graph.load(case.unpacked.folder / name)
    windows = windows_of(case.profile.signal_of(key))
    got = got[: len(windows)]
    size, runner = case.profile.challenge(key).size, OnnxruntimeRunner(graph)
    rows = np.concatenate([runner.infer(x) for x in calls(windows, size, len(got))])[: len(got)]
    classes = case.profile.challenge(key).target == "class" and rows.shape[1] > 1
    expected = rows.argmax(axis=1).astype(np.float64) if classes else rows[:, 0]
    found = compare_outputs(name, got, expected)
    if not found.passed and found.finite and not classes:
        asked = calls_for(graph, size, windows, min(HEARD, len(got)))
        answers = hear(graph, [(name, x) for x in asked]).answers
        truth = np.concatenate([answer.truth[:, 0] for answer in answers])[: len(got)]
        found = compare_outputs(name, got[: len(truth)], truth, rounding=max(a.rounding for a in answers))
    if not found.passed:
        detail = (
            f"{found.error:.2e}, {found.allowed:.1e} is allowed" if found.finite else "one is finite, the other is not"
        )
        index = int(np.nanargmax(np.abs(got - expected))) if np.isfinite(got - expected).any() else 0
        yield Finding(
            message=f"on window {index} the submission gives {got[index]:.7g}, {name} {expected[index]:.7g}"
            f" (difference {detail})",
            where=name,
            challenge=key,
        )


class LiveBranches(Rule):
    """Every member and view that the manifest names moves the output of the graph."""

    code = "RT404"
    styles = STYLES
    severity = WARN
    requires = ("RT402",)
    cause = "A branch has weight zero or never speaks: it is named, costs time, and changes nothing."
    cure = "Leave it out of the recipe, or give it a weight."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        from rtserve.submission.reachability_graph import inert_branches

        if case.manifest is None or case.unpacked.folder is None:
            yield Skip(reason="the zip was not built by rtserve")
            return
        for key, entry in challenges_of(case).items():
            name = str(entry.get("graph", ""))
            if name not in case.unpacked.names or key not in {challenge.key for challenge in case.challenges}:
                continue
            try:
                for text in inert_branches(case.unpacked.folder / name, case.profile.signal_of(key).scale):
                    yield Finding(message=text, where=name, challenge=key)
            except RtserveError as error:
                yield Finding(message=f"{name}: {error.message}", where=name, challenge=key)


class SameMeaning(Rule):
    """The graphs inside state the windows that the contest gives and the target that it scores."""

    code = "RT405"
    styles = STYLES
    requires = ("RT004",)
    cause = "The graph was trained on windows in another unit, at another rate or of other channels, or for a target."
    cure = "Use members for this contest, or scale and resample in the script; say what a graph takes with rtserve annotate."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        graphs = list(stating_graphs(case))
        if not graphs:
            yield Skip(reason="no graph in the zip states what it takes")
        for name, key, graph in graphs:
            yield from self._judge(case, name, key, graph)

    def _judge(self, case: Case, name: str, key: str, graph: Graph) -> Iterator[Finding]:
        from rtserve.submission.fitting import differences

        # What rtserve built hands the windows on as they are; a stranger's script may turn them into what it needs.
        severity = "" if key else WARN
        challenges = [c for c in case.challenges if c.key == key] or case.challenges
        found = [differences(graph, case.profile, challenge) for challenge in challenges]
        least = min(found, key=len)
        if least:
            yield Finding(
                message="; ".join(least),
                where=name,
                challenge=key,
                severity=severity,
            )
        told = challenges_of(case).get(key, {}).get("stated", {})
        unknown = [word for word in graph.input_spec.unknown if word not in told]
        if key and unknown:
            gives = case.profile.signal_of(challenges[0].key)
            message = f"neither {name} nor the recipe states its {' and its '.join(unknown)}; the contest gives {gives}"
            yield Finding(message=message, where=name, challenge=key, severity=WARN)


def stating_graphs(case: Case) -> Iterator[tuple[str, str, Graph]]:
    """Yield (file, challenge, graph) of every graph that states what it takes; no challenge where the zip is not ours.

    A graph that nobody described states nothing, and may be for something else altogether.
    """
    from rtserve.graphs.graph import Graph

    keys = {str(entry.get("graph", "")): key for key, entry in challenges_of(case).items()}
    for name in case.unpacked.files():
        if case.unpacked.folder is None or not name.lower().endswith(".onnx"):
            continue
        try:
            graph = Graph.load(case.unpacked.folder / name)
        except RtserveError:  # whether it can be read is asked by the other rules
            continue
        if name in keys or graph.input_spec.unit or graph.input_spec.sfreq or graph.output_spec.target:
            yield name, keys.get(name, ""), graph


RULES: tuple[type[Rule], ...] = (SameBytes, SameGraph, SameNumbers, LiveBranches, SameMeaning)
