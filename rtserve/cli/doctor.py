"""Command `doctor`: what this machine has of what rtserve can use, what is missing, and how to get it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import click

from rtserve.cli.output import emit_json, json_option, show

__all__ = ["Finding", "doctor", "examine"]

OK, MISSING, BROKEN = "ok", "missing", "broken"
CORE = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy", "scipy", "scikit-learn", "mne", "h5py")
EXTRAS = {
    "openvino": ("openvino", "the engine openvino"),
    "braindecode": ("braindecode", "networks of braindecode, augmentation"),
    "dask": ("dask", "seeds and searches on a cluster"),
    "eeglab": ("pymatreader", ".set files of MATLAB's v7.3"),
    "xdf": ("pyxdf", ".xdf recordings"),
    "egi": ("mffpy", ".mff recordings of EGI"),
    "tensorboard": ("tensorboard", "training curves in TensorBoard"),
    "live": ("pylsl", "live streams of devices (Lab Streaming Layer)"),
    "pyriemann": ("pyriemann", "pipelines that are no networks (export of a .joblib)"),
    "hub": ("huggingface_hub", "models of the Hugging Face hub, by name"),
}
"""Extra to the package that it brings and what for."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked for: what, whether it is there, what was found, and the cure where it is not."""

    part: str
    what: str
    state: str
    found: str = ""
    cure: str = ""


def examine() -> Iterator[Finding]:
    """Yield what was found, part by part; nothing raises and nothing is changed."""
    yield from _machine()
    yield from _packages()
    yield from _tools()
    yield from _scorers()


def _machine() -> Iterator[Finding]:
    import rtserve

    yield Finding(part="this", what="rtserve", state=OK, found=rtserve.__version__)
    yield Finding(part="this", what="Python", state=OK, found=f"{platform.python_version()} ({sys.executable})")
    yield Finding(part="this", what="system", state=OK, found=platform.platform())
    threads = os.environ.get("OMP_NUM_THREADS", "")
    said = f", OMP_NUM_THREADS={threads}" if threads else ""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding(part="this", what="processor", state=OK, found=f"{usable} cores to use{said}")


def _packages() -> Iterator[Finding]:
    for name in CORE:
        yield _package("core", name, name, "pip install --force-reinstall rtserve")
    for extra, (name, purpose) in EXTRAS.items():
        finding = _package("extras", name, f"{name} ({purpose})", f'pip install "rtserve[{extra}]"')
        yield finding
        if name == "braindecode" and finding.state == OK:
            yield _braindecode_models()


def _package(part: str, name: str, what: str, cure: str) -> Finding:
    try:
        return Finding(part=part, what=what, state=OK, found=importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(part=part, what=what, state=MISSING, cure=cure)


def _braindecode_models() -> Finding:
    from rtserve.graphs.braindecode import braindecode_models

    try:
        braindecode_models()
    except Exception as error:  # whatever a foreign package raises while it is imported
        said = " ".join(str(error).split())[:160]
        return Finding(
            part="extras", what="braindecode.models", state=BROKEN, found=said, cure="pip install -U braindecode"
        )
    return Finding(part="extras", what="braindecode.models", state=OK, found="can be imported")


def _tools() -> Iterator[Finding]:
    from rtserve.submission.sandbox import best_kind

    kind = best_kind()
    yield Finding(
        part="tools",
        what="sandbox of `rtserve check`",
        state=OK if kind != "plain" else MISSING,
        found=kind if kind != "plain" else "limits only: the same file system, and Python's own refusals",
        cure="" if kind != "plain" else "apt-get install bubblewrap, or allow unprivileged user namespaces",
    )
    compiler = next((path for path in map(shutil.which, ("gcc", "clang", "cc")) if path), None)
    yield Finding(
        part="tools",
        what="C compiler (`rtserve compile`, stub libraries of `rtserve env create`)",
        state=OK if compiler else MISSING,
        found=compiler or "",
        cure="" if compiler else "apt-get install gcc, or `rtserve env create --full`",
    )
    yield _gpu()


def _gpu() -> Finding:
    try:
        import torch

        if torch.cuda.is_available():
            return Finding(part="tools", what="CUDA device", state=OK, found=torch.cuda.get_device_name(0))
        build = torch.__version__
    except Exception as error:  # a broken torch is what a doctor is asked about
        return Finding(part="tools", what="CUDA device", state=BROKEN, found=" ".join(str(error).split())[:160])
    return Finding(part="tools", what="CUDA device", state=MISSING, found=f"torch {build} sees none; none is needed")


def _scorers() -> Iterator[Finding]:
    from rtserve.errors import EnvironmentMissingError
    from rtserve.submission.environments import find_python
    from rtserve.submission.profile import load_profile, profile_names

    for name in profile_names():
        version = load_profile(name).primary.python
        try:
            found, state, cure = str(find_python(version)), OK, ""
        except EnvironmentMissingError as error:
            found, state, cure = "", MISSING, error.hint or ""
        yield Finding(
            part="scorers", what=f"Python {version}, which {name} scores in", state=state, found=found, cure=cure
        )


TITLES = {"this": "this machine", "core": "what it needs", "extras": "extras", "tools": "tools", "scorers": "contests"}
MARKS = {OK: "✓", MISSING: "-", BROKEN: "✗"}


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Say what this machine has of what rtserve can use, what is missing, and how to get it; always exit 0."""
    findings = list(examine())
    if as_json:
        emit_json("doctor", {"findings": [asdict(finding) for finding in findings]})
        return
    part = ""
    for finding in findings:
        if finding.part != part:
            part = finding.part
            click.echo(TITLES[part])
        said = f": {finding.found}" if finding.found else ""
        absent = " (missing)" if finding.state == MISSING and not finding.found else ""
        show(f"  {MARKS[finding.state]} {finding.what}{said}{absent}")
        if finding.cure:
            show(f"      {finding.cure}")
