"""CONTRIBUTING's recipe for a contest that runs containers, tried on one that nobody holds: two files, and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

import rtserve.submission
from rtserve.errors import ProfileError
from rtserve.spec import InputSpec
from rtserve.submission import container_drills, profile, sandbox
from rtserve.submission import report as shapes
from rtserve.submission.archive import read_zip
from rtserve.submission.bundle import build
from rtserve.submission.custody import verify
from rtserve.submission.profile import load_profile, parse_profile
from rtserve.submission.validate import check
from tests.submission.containers import loud, network, write_recipe

PROFILE = """
name = "bouts"
title = "Bouts of chewing, a contest that nobody holds"
template = "bouts.jinja"

[entry]
file = "Containerfile"
style = "container"
upload = "send {path} to nobody"

[layout]
submission = "/opt/bouts"
cwd = "/opt/bouts"

[signal]
n_chans = 4
n_times = 200
sfreq = 100.0
unit = "mV"
scale = 0.02
assumed = true

[container]
data = "/mnt/in"
output = "/mnt/out"
input_variable = "RECORDING"
output_variable = "BOUTS"

[container.recordings]
electrodes = ["A1", "A2", "B1", "B2"]
reference = ""
averages = ["mean"]
prefixes = ["EMG"]
unit = "mV"
hours = 2.0

[container.events]
hop_s = 0.5
threshold = 0.6
merge_s = 3.0
min_s = 2.0
classes = ["chewing"]

[container.table]
event = "chew"
background = "rest"
kinds = "chew"
separator = ";"

[container.table.columns]
what = "{event}"
from = "{onset:.1f}"
for = "{duration:.1f}"
of = "{recording:.1f}"
begun = "{start:%d.%m.%Y}"
by = "rtserve"

[[challenges]]
key = "chewing"
call = "ENTRYPOINT"
target = "class"
output = ["B", "2"]
coupling = "fail"

[[environments]]
name = "primary"
python = "3.12"

[environments.packages]
edfio = "0.4.18"
numpy = "2.4.6"
onnxruntime = "1.32.0"
scipy = "1.17.1"

[[clauses]]
id = "table"
text = "separated by semicolons"
source = "nobody's page"
confidence = "certain"
"""
TEMPLATE = """\
# {{ title }}, rtserve {{ version }}
FROM python:{{ python }}
WORKDIR {{ folder }}
COPY requirements.txt detector model ./copied/
RUN pip install -r ./copied/requirements.txt
COPY detector detector/
COPY model model
VOLUME {{ data }} {{ output }}
ENV {{ input_variable }}=none {{ output_variable }}=none
ENTRYPOINT ["/bin/sh", "-c", "exec python3 -m detector {{ data }}/$RECORDING {{ output }}/$BOUTS"]
"""
SPEC = InputSpec(n_chans=4, n_times=200, sfreq=100.0, unit="mV")
isolated = pytest.mark.skipif(sandbox.best_kind() == "plain", reason="neither bubblewrap nor unshare works here")


@pytest.fixture
def contest(tmp_path, monkeypatch):
    """Put the two files where CONTRIBUTING says; everything else is as it is."""
    here = Path(rtserve.submission.__file__).parent
    for folder in ("profiles", "templates"):
        shutil.copytree(here / folder, tmp_path / "data" / folder)
    (tmp_path / "data" / "profiles" / "bouts.toml").write_text(PROFILE, "utf-8")
    (tmp_path / "data" / "templates" / "bouts.jinja").write_text(TEMPLATE, "utf-8")
    monkeypatch.setattr(profile, "data_folder", lambda: tmp_path / "data")
    monkeypatch.setattr(container_drills, "LONG", container_drills.SHORT)
    return load_profile("bouts")


@pytest.fixture
def built(contest, tmp_path):
    graph = network(lambda emit, x: loud(emit, x, limit=0.0256, pool=10), SPEC, classes=("resting", "chewing"))
    recipe = write_recipe(
        tmp_path / "recipe", graph, profile="bouts", key="chewing", events="events = { threshold = 0.55 }"
    )
    return build(recipe, output=tmp_path / "s.zip")


@isolated
def test_two_files_make_a_contest_that_is_built_checked_and_verified(built, contest):
    files = read_zip(built.path)
    table = files["reference/table.tsv"].decode()
    header, *rows = table.splitlines()
    assert header == "what;from;for;of;begun;by"
    assert len(rows) == 2
    assert all(row.startswith("chew;") and row.endswith(";60.0;29.02.2024;rtserve") for row in rows)
    assert files["Containerfile"].startswith(b"# Bouts of chewing")
    assert built.manifest["challenges"]["chewing"]["container"]["events"] == {
        "threshold": 0.55,
        "merge_s": 3.0,
        "min_s": 2.0,
    }
    report = check(built.path, profile="bouts")
    assert report.verdict == "passed", shapes.tick_list(report)
    assert {result.status for result in report.results} == {"passed"}
    assert shapes.next_command(report) == f"send {built.path} to nobody"
    result = verify(built.path)
    assert result.passed, result.steps
    assert "bipolar" not in "\n".join(report.notes)


@isolated
def test_its_zip_is_none_of_another_contest(built, contest):
    report = check(built.path, profile="szcore")
    assert report.verdict == "failed"
    assert any("bouts" in note for note in report.notes)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"{event}"', '"chew"', "lack 'event'"),
        ("{onset:.1f}", "{start_s:.1f}", "name 'start_s'"),
        ('kinds = "chew"', 'kinds = "(bite"', "unterminated subpattern"),
        ('kinds = "chew"', 'kinds = "bite"', "does not fit 'chew'"),
        ('style = "container"', 'style = "getters"', "has the table container"),
        ('style = "container"', 'style = "image"', "entry.style is 'image'"),
        ("threshold = 0.6", "threshold = 1.6", "threshold is 1.6"),
        ("hours = 2.0", "ours = 2.0", "unknown key 'ours'"),
        ('reference = ""', 'aliases = { C1 = ["D1"] }\nreference = ""', "aliases names 'C1'"),
    ],
)
def test_a_profile_that_contradicts_itself_is_refused(old, new, said):
    assert old in PROFILE
    with pytest.raises(ProfileError, match=said.replace("(", r"\(")):
        parse_profile(PROFILE.replace(old, new), where="bouts.toml")


def test_no_contest_is_known_by_name_outside_its_files():
    """The names of contests that run containers stand in no module: what is special about one is data."""
    root = Path(rtserve.submission.__file__).parent.parent
    modules = [Path(folder) / name for folder, _, names in os.walk(root) for name in names if name.endswith(".py")]
    assert len(modules) > 400
    assert [path.name for path in modules if "szcore" in path.read_text("utf-8").casefold()] == []
