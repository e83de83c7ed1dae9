"""A contest of recordings: what `build` writes, `check` runs without docker, and `verify` proves."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from rtserve.errors import InputError, ProfileError, SpecMismatchError
from rtserve.files import sha256_bytes
from rtserve.signals.windows import WindowSet
from rtserve.submission import report as shapes
from rtserve.submission import sandbox
from rtserve.submission.archive import read_zip, zip_bytes
from rtserve.submission.build_report import build_text
from rtserve.submission.bundle import build
from rtserve.submission.container_run import NO_SANDBOX
from rtserve.submission.container_table import faults, read_rows
from rtserve.submission.custody import verify
from rtserve.submission.dockerfile import read_dockerfile
from rtserve.submission.manifest import seal
from rtserve.submission.profile import load_profile
from rtserve.submission.scoring import predict_zip
from rtserve.submission.validate import check
from tests.submission.containers import SPEC, centred, named, network, write_recipe

isolated = pytest.mark.skipif(sandbox.best_kind() == "plain", reason="neither bubblewrap nor unshare works here")
TABLE = load_profile("szcore").container.table


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("container")
    return build(write_recipe(folder / "recipe", network()), output=folder / "s.zip")


def entry(built):
    return built.manifest["challenges"]["seizures"]["container"]


def events(files):
    return [(row.onset, row.end) for row in read_rows(files["reference/table.tsv"].decode(), TABLE)]


def test_the_zip_holds_all_that_an_image_needs(built):
    files = read_zip(built.path)
    image = read_dockerfile(files["Dockerfile"].decode())
    copied = [source.rstrip("/") for copy in image.copies for source in copy.sources]
    assert copied == ["requirements.txt", "detector", "model"]
    assert all(any(name == one or name.startswith(f"{one}/") for name in files) for one in copied)
    pins = dict(line.split("==") for line in files["requirements.txt"].decode().splitlines())
    assert pins == load_profile("szcore").primary.packages
    assert image.runs == ("/bin/sh", "-c", 'python3 -m detector "/data/${INPUT}" "/output/${OUTPUT}"')
    assert entry(built)["route"] == "stream"
    assert "model/challenge_seizures.step.onnx" in files
    assert "by the step of a stream" in build_text(built)


def test_the_reference_answer_is_the_planted_bursts(built):
    files = read_zip(built.path)
    assert faults(files["reference/table.tsv"].decode(), TABLE, seconds=60.0) == []
    (first, second) = events(files)
    assert 9 < first[0] < 16 < 21 < first[1] < 28  # planted from 12 to 24 s and from 42 to 54 s, in windows of 4 s
    assert 39 < second[0] < 46 < 51 < second[1] < 58
    (report,) = built.agreement["seizures"].values()
    assert report.verdict == "equal"


def test_what_shares_nothing_runs_window_by_window_and_says_why(tmp_path):
    other = build(write_recipe(tmp_path, network(centred)), output=tmp_path / "w.zip")
    assert entry(other)["route"] == "windows"
    assert "share nothing" in entry(other)["why"]
    assert entry(other)["why"] in build_text(other)
    assert not any(name.endswith(".step.onnx") for name in read_zip(other.path))
    apart = build(write_recipe(tmp_path, network(), events="events = { hop_s = 4.0 }"), output=tmp_path / "a.zip")
    assert "share no sample" in entry(apart)["why"]
    for one in (other, apart):
        assert one.agreement["seizures"]["windows"].verdict == "equal"


def test_the_same_inputs_give_the_same_bytes_and_events_are_data(tmp_path, built):
    again = build(write_recipe(tmp_path / "a", network()), output=tmp_path / "again.zip")
    assert again.sha256 == built.sha256
    text = "events = { merge_s = 20.0, min_s = 30.0, hop_s = 2.0 }"
    joined = build(write_recipe(tmp_path / "b", network(), events=text), output=tmp_path / "joined.zip")
    ((begin, end),) = events(read_zip(joined.path))
    assert begin < 16
    assert end > 51
    assert entry(joined)["hop"] == 512


@pytest.mark.parametrize(
    ("graph", "said", "error"),
    [
        (network(spec=replace(SPEC, unit="1")), "standardised", InputError),
        (network(spec=replace(SPEC, sfreq=0.0)), "does not state its sfreq", InputError),
        (network(spec=replace(SPEC, n_chans=18)), "takes 18 channels and names none", SpecMismatchError),
        (network(spec=named("Fp1-F3", "Oz")), "takes Oz, which is no electrode", SpecMismatchError),
        (network(spec=replace(SPEC, preprocessing=(("notch_hz", "50"),))), "had notch_hz 50", SpecMismatchError),
        (network(classes=()), "names no classes", InputError),
        (network(classes=("a", "b")), "classes a, b", InputError),
        (network(target="seconds", classes=()), "scores class, the graph predicts seconds", SpecMismatchError),
    ],
)
def test_what_cannot_be_had_from_a_recording_is_refused_with_both_values(tmp_path, graph, said, error):
    with pytest.raises(error, match=said):
        build(write_recipe(tmp_path, graph), output=tmp_path / "s.zip")
    assert not (tmp_path / "s.zip").exists()


@pytest.mark.parametrize(
    ("head", "events", "said"),
    [
        ('runtime = "torch"', "", "runtime = 'torch'"),
        ('precision = "tf32"', "", "precision = 'tf32'"),
        ('windows = "w.npz"', "", "windows"),
        ("", "events = { treshold = 0.3 }", "unknown key 'treshold'"),
        ("", "events = { threshold = 1.5 }", "threshold is 1.5"),
        ("", "events = { hop_s = 0.0 }", "hop_s is 0.0"),
    ],
)
def test_a_recipe_that_says_what_no_container_does_is_refused(tmp_path, head, events, said):
    with pytest.raises(ProfileError, match=said):
        build(write_recipe(tmp_path, network(), head=head, events=events), output=tmp_path / "s.zip")


def test_a_hop_that_is_no_sample_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"hop_s = 0\.1 s is 25\.6 samples"):
        build(write_recipe(tmp_path, network(), events="events = { hop_s = 0.1 }"), output=tmp_path / "s.zip")


@isolated
def test_check_runs_the_command_of_the_image_and_passes(built):
    report = check(built.path, profile="szcore")
    assert report.verdict == "passed", shapes.tick_list(report)
    assert {result.status for result in report.results} == {"passed"}
    notes = "\n".join(report.notes)
    assert "stated.edf (as the contest states it): 2 events, 2 of 2 planted bursts touched" in notes
    assert "flat.edf (without any signal): 0 events, nothing planted" in notes
    assert "bipolar.edf (of bipolar channels alone): 0 events" in notes
    assert "19 of the network's 19 channels do not follow" in notes
    assert "by that 24 hours take about" in notes
    assert "docker build" in shapes.next_command(report)


def test_without_isolation_nothing_is_run_and_nothing_is_passed(built):
    report = check(built.path, profile="szcore", kind="plain")
    assert report.verdict == "incomplete"
    told = {result.code: result for result in report.results}
    assert told["RT503"].reason == NO_SANDBOX
    assert all(told[code].incomplete for code in ("RT503", "RT504", "RT505", "RT506", "RT507", "RT508", "RT509"))
    assert told["RT401"].status == "passed"
    with pytest.raises(InputError, match="gives recordings, not windows"):
        check(built.path, profile="szcore", shape="19x512@256")
    static = check(built.path, profile="szcore", run=False)
    assert "the submission was not run" in {result.reason for result in static.results}


@isolated
def test_verify_replays_the_reference_recording(built):
    result = verify(built.path)
    assert result.passed, result.steps
    assert {step.status for step in result.steps} == {"ok"}
    assert result.routes["seizures"].startswith("its command, in ")


def resealed(built, folder, name, change):
    """Write the zip with a file changed and every digest made right again."""
    files = read_zip(built.path)
    files[name] = change(files[name])
    manifest = json.loads(files["manifest.json"])
    listed = {name: sha256_bytes(data) for name, data in files.items() if name != "manifest.json"}
    files["manifest.json"] = json.dumps(seal({**manifest, "files": listed}), indent=1, sort_keys=True).encode()
    path = folder / "changed.zip"
    path.write_bytes(zip_bytes(files))
    return path


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("Dockerfile", lambda data: data.replace(b"USER appuser", b"USER root"), "Dockerfile: is not what rtserve"),
        ("detector/events.py", lambda data: data + b"\n", "detector/events.py: is not what rtserve"),
        ("model/detector.json", lambda data: data.replace(b'"merge_s": 10.0', b'"merge_s": 30.0'), "the manifest says"),
        ("reference/table.tsv", lambda data: data.replace(b"\tsz\t", b"\tsz_foc\t"), "is not what the detector writes"),
    ],
)
def test_what_was_changed_and_sealed_again_is_found(built, tmp_path, name, change, said):
    result = verify(resealed(built, tmp_path, name, change), replay=False)
    found = [text for step in result.steps if step.status == "failed" for text in step.findings]
    assert any(said in text and text.startswith(name) for text in found), found


def test_a_container_is_not_asked_for_answers_to_windows(built):
    with pytest.raises(InputError, match="answer recordings, not windows"):
        predict_zip(built.path, WindowSet(X=np.zeros((2, 19, 1024), np.float32), y=np.zeros(2), sfreq=256.0, unit="V"))
