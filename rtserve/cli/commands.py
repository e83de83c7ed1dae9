"""The commands by name: where each lives, what it does in a line, and how it is called; nothing is imported for that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["GROUPS", "Entry", "entries"]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One command.

    Parameters
    ----------
    place : str
        ``module:object``.
    summary : str
        What it does, in a line that fits beside its name in 80 columns.
    examples : tuple of str
        Calls of it, as one would type them.
    """

    place: str
    summary: str
    examples: tuple[str, ...]


def _entry(place: str, summary: str, *examples: str) -> Entry:
    return Entry(place=f"rtserve.cli.{place}", summary=summary, examples=examples)


GROUPS: Mapping[str, Mapping[str, Entry]] = {
    "Start": {
        "demo": _entry("demo:demo", "The whole path on this machine, no download", "rtserve demo --quick"),
        "doctor": _entry("doctor:doctor", "What this machine has, what is missing, and the cure", "rtserve doctor"),
        "list": _entry(
            "listing:list_names",
            "Views, merges, metrics, engines, exporters, profiles, passes",
            "rtserve list views",
            "rtserve list metrics --json",
        ),
        "config": _entry(
            "config:config", "What options are when not given, and where from", "rtserve config", "rtserve config bench"
        ),
        "completion": _entry(
            "completion:completion", "What a shell completes commands and options with", "rtserve completion bash"
        ),
    },
    "Windows": {
        "simulate": _entry(
            "signals:simulate",
            "EEG windows with a known amount of information",
            "rtserve simulate -o W.npz --windows 2000 --r 0.46 --seed 1",
        ),
        "prepare": _entry(
            "signals:prepare",
            "Cut windows from recordings and BIDS folders",
            "rtserve prepare bids/ -o W.h5 --target response_time",
            "rtserve prepare sub1.edf sub2.edf -o W.npz --target class --classes left=1,right=2",
        ),
        "annotate": _entry(
            "stated:annotate",
            "Write into a file the unit, rate or target it lacks",
            "rtserve annotate W.npz -o W2.npz --unit uV --sfreq 250",
        ),
        "inspect": _entry("graphs:inspect", "What a file holds; nothing in it is run", "rtserve inspect best.pth"),
    },
    "Networks": {
        "train": _entry(
            "training:train",
            "Train networks, one per seed, scored on held-out people",
            "rtserve train W.npz --model compact_rt --seeds 1,2,3 -o run",
        ),
        "ablate": _entry(
            "training:ablate",
            "Is a change of the training worth it?",
            "rtserve ablate W.npz --change mixup_alpha=0.2 -o ablation",
        ),
        "soup": _entry(
            "training:soup",
            "Average weights of one architecture",
            "rtserve soup a.pth b.pth --exporter exporters/compact_rt.py -o soup.onnx",
        ),
    },
    "Graphs": {
        "export": _entry(
            "graphs:export",
            "A checkpoint as an ONNX graph proven equal to it",
            "rtserve export best.pth --exporter exporters/braindecode_models.py:EEGNeX -o M.onnx",
            "rtserve export hf:ORG/NAME -o M.onnx",
        ),
        "fuse": _entry(
            "fusion:fuse",
            "Members and views as one exact, fast graph",
            "rtserve fuse M1.onnx M2.onnx --views identity,roll:+3 -o F.onnx",
        ),
        "compile": _entry(
            "native:compile_native",
            "A graph as native code, for programs without Python",
            "rtserve compile F.onnx -o F.so",
        ),
        "stream": _entry(
            "streaming:stream",
            "A graph as a step, hop after hop, with the window's answers",
            "rtserve stream F.onnx --hop 25 -o S.onnx",
        ),
        "run": _entry(
            "streaming:run",
            "A recording through a step graph, hop after hop",
            "rtserve run S.onnx --source recording.edf -o answers.csv",
        ),
        "search": _entry(
            "search:search",
            "Choose members, views and weights under a budget",
            "rtserve search M1.onnx M2.onnx M3.onnx --data W.npz -o plan.toml",
        ),
        "calibrate": _entry(
            "training:calibrate",
            "Fit scale, offset and clip on validation people",
            "rtserve calibrate F.onnx --data W.npz -o C.onnx",
        ),
    },
    "Measure": {
        "evaluate": _entry(
            "measure:evaluate",
            "Score a graph, with interval, baseline and signature",
            "rtserve evaluate F.onnx --data W.npz",
            "rtserve evaluate F.onnx --data W.npz --by view,member",
        ),
        "bench": _entry(
            "measure:bench",
            "Time a graph, and its ratio to others by turns",
            "rtserve bench F.onnx --against M1.onnx",
        ),
        "tune": _entry(
            "tuning:tune",
            "Which engine is fastest for a graph on this machine",
            "rtserve tune F.onnx",
        ),
        "compare": _entry(
            "compare:compare",
            "Two results, graphs or zips: what differs, who is better",
            "rtserve compare A.onnx B.onnx --data W.npz",
        ),
        "push": _entry(
            "push:push",
            "A graph and its card, as the Hugging Face hub takes them",
            "rtserve push F.onnx -o hub --bench F.json --license mit",
        ),
        "report": _entry(
            "report:report", "A page of results that can be shown", "rtserve report results/ -o report.html"
        ),
    },
    "Submit": {
        "build": _entry(
            "build:build", "The zip that a recipe describes", "rtserve build submission.toml -o submission.zip"
        ),
        "check": _entry(
            "check:check",
            "Check a zip as the contest's scorer would",
            "rtserve check submission.zip --profile eeg2025",
            "rtserve check submission.zip --profile eeg2026/sleep",
        ),
        "verify": _entry(
            "build:verify", "Prove that a zip is what was built and measured", "rtserve verify submission.zip"
        ),
        "attest": _entry(
            "attest:attest",
            "An in-toto statement of what a zip is and scores",
            "rtserve attest submission.zip --data W.npz -o submission.bundle",
        ),
        "replay": _entry(
            "attest:replay", "Recompute the scores that a bundle states", "rtserve replay submission.bundle"
        ),
        "env": _entry(
            "build:env",
            "The environments that contests score in",
            "rtserve env create eeg2025 --path envs",
            "rtserve env try submission.zip --profile eeg2026/bci --path envs",
        ),
        "profiles": _entry(
            "check:profiles", "What each contest asks of a zip, with sources", "rtserve profiles show eeg2026/sleep"
        ),
    },
}
"""In the order of the path of data."""


def entries() -> dict[str, Entry]:
    """Return every command by name."""
    return {name: entry for group in GROUPS.values() for name, entry in group.items()}
