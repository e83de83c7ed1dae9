"""Every document that a command prints or writes names its kind, and the reference lists it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import click
import numpy as np
import pytest

from docs.generate import documents
from rtserve.cli.commands import entries
from rtserve.cli.listing import LISTS
from rtserve.cli.main import cli as commands
from rtserve.signals.windows import WindowSet, save_windows
from tests.conftest import ROOT
from tests.submission.small import write_recipe

EXPORTER = "rtserve.training.networks:exporter"
CALLS = {
    "list": ["list views"],
    "doctor": ["doctor"],
    "config": ["config bench"],
    "simulate": ["simulate -o S.npz --windows 8"],
    "annotate": ["annotate W.npz -o W2.npz --target reaction --force"],
    "prepare": ["prepare raw.fif -o P.npz --target class --classes a=1,b=2 --window 0,0.5 --channels all --band 0,0"],
    "inspect": ["inspect M.onnx", "inspect best.pth", "inspect W.npz"],
    "train": ["train W.npz --seeds 1 --max-epochs 1 -o run"],
    "ablate": ["ablate W.npz --change mixup_alpha=0.2 --seeds 1 --max-epochs 1 -o ablation"],
    "soup": [f"soup best.pth other.pth --exporter {EXPORTER} --set n_times=40 --set sfreq=100 -o soup.onnx"],
    "export": [f"export best.pth --exporter {EXPORTER} --set n_times=40 --set sfreq=100 -o E.onnx"],
    "fuse": ["fuse M.onnx --no-optimize -o F.onnx"],
    "compile": ["compile M.onnx -o M.so"],
    "stream": ["stream M.onnx --hop 8 -o S.onnx"],
    "run": ["run M.onnx --hop 8 --source synthetic --for 2 --fast --unit V"],
    "search": ["search M.onnx N.onnx --data W.npz -o plan.toml"],
    "calibrate": ["calibrate M.onnx --data W.npz -o C.onnx"],
    "evaluate": ["evaluate M.onnx --data W.npz -o scores.json", "evaluate --c1 M.onnx W.npz --c2 N.onnx W.npz"],
    "bench": ["bench M.onnx --rounds 2 -o times.json", "bench M.onnx --engine all --rounds 2"],
    "tune": ["tune M.onnx --rounds 2"],
    "compare": ["compare M.onnx N.onnx --data W.npz -o comparison.json"],
    "push": ["push M.onnx -o hub"],
    "report": ["evaluate M.onnx --data W.npz -o mine.json", "report mine.json -o report.html"],
    "build": ["build recipe/submission.toml -o built.zip"],
    "check": ["check Z.zip --no-run"],
    "verify": ["verify Z.zip --no-replay"],
    "attest": ["attest Z.zip -o Z.bundle"],
    "replay": ["simulate -o R.npz --windows 40", "attest Z.zip --data R.npz -o Y.bundle", "replay Y.bundle"],
    "profiles list": ["profiles list"],
    "profiles show": ["profiles show eeg2025"],
}
"""What is called, in one folder; every call prints a document."""
LEFT_OUT = {"demo": "minutes", "env create": "asks a package index", "env try": "needs what env create made"}
NEEDS = {"compile": "gcc"}
OTHERS = (Path("hub/config.json"),)
"""Files whose form is another's."""


def with_json():
    """Yield every command that takes --json, as it is typed."""
    root = click.Context(commands)
    for name in entries():
        command = commands.get_command(root, name)
        below = command.commands.items() if isinstance(command, click.Group) else [("", command)]
        for word, each in below:
            if any("--json" in parameter.opts for parameter in each.params):
                yield f"{name} {word}".strip()


def documented():
    """Return every kind that the page of documents names."""
    return {*documents.kinds(ROOT), *documents.HELD}


def written(folder):
    """Yield the kind of every JSON document that was written; one of another standard names it by a key of its own."""
    for path in folder.rglob("*.json"):
        document = json.loads(path.read_text("utf-8"))
        if isinstance(document, dict) and path.relative_to(folder) not in OTHERS:
            schema = document.get("schema", "")
            assert schema.startswith("rtserve.") or "_type" in document, path
            yield schema.removeprefix("rtserve.").partition("/")[0]


@pytest.fixture(scope="module")
def folder(small_members, small_checkpoints, tmp_path_factory):
    import mne

    from rtserve.submission.bundle import build

    place = tmp_path_factory.mktemp("documents")
    for name, source in zip(
        ("M.onnx", "N.onnx", "best.pth", "other.pth"), [*small_members, *small_checkpoints], strict=True
    ):
        shutil.copyfile(source, place / name)
    rng = np.random.default_rng(0)
    subject = np.repeat([f"S{k:02}" for k in range(12)], 10)
    windows = WindowSet(
        X=(1e-5 * rng.standard_normal((120, 6, 40))).astype("f4"), y=rng.standard_normal(120).astype("f4"), sfreq=100.0,
        subject=subject, unit="V", target="response_time",
        extra={"split": np.repeat(["train"] * 6 + ["valid"] * 3 + ["test"] * 3, 10)},
    )  # fmt: skip
    save_windows(place / "W.npz", windows)
    raw = mne.io.RawArray(1e-5 * rng.standard_normal((6, 2000)), mne.create_info(6, 100.0, "eeg"), verbose="error")
    raw.set_annotations(mne.Annotations(np.arange(1, 19), 0.0, ["a", "b"] * 9))
    raw.save(place / "raw.fif", verbose="error")
    build(write_recipe(place / "recipe"), output=place / "Z.zip")
    with mne.use_log_level("error"):  # under pytest it logs what it warns of as well
        yield place


def test_every_command_with_json_is_called_here():
    assert {*CALLS, *LEFT_OUT} == set(with_json())


@pytest.mark.filterwarnings("ignore:This filename .* does not conform to MNE naming")
@pytest.mark.parametrize("name", CALLS)
def test_what_a_command_prints_names_a_documented_kind(name, folder, cli, monkeypatch):
    if not shutil.which(NEEDS.get(name, "sh")):
        pytest.skip(f"needs {NEEDS[name]}")
    monkeypatch.chdir(folder)
    for call in CALLS[name]:
        code, out, err = cli(*call.split(), "--json", "--quiet")
        assert code in (0, 1, 3), err  # a check that fails, and what is not comparable, is a document too
        kind, _, version = json.loads(out)["schema"].removeprefix("rtserve.").partition("/")
        assert kind in documented()
        assert call.split()[0] in {command.split()[0] for command in documents.kinds(ROOT)[kind]}
        assert version.isdigit()
        assert err == "" or code
    assert {kind for kind in written(folder) if kind} <= documented()


def test_what_a_library_prints_is_no_part_of_a_document(cli, monkeypatch):
    def chatty():
        print("a word of a library")
        return {"name": "what it means"}

    monkeypatch.setitem(LISTS, "views", chatty)
    _, out, err = cli("list", "views", "--json")
    assert json.loads(out)["names"] == {"name": "what it means"}
    assert err == "a word of a library\n"
    _, out, _ = cli("list", "views")
    assert out.startswith("a word of a library\n")


def test_every_kind_in_the_source_is_in_the_page():
    printed = set(documents.kinds(ROOT))
    assert documents.named(ROOT) <= printed | set(documents.HELD) | set(documents.INSIDE)
    assert set(documents.HELD) & printed == set()
    assert set(documents.HELD) | set(documents.INSIDE) <= documents.named(ROOT)
