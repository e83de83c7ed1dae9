"""What contests rank by is read from their profiles, and every one of those metrics is one of ours."""

import json
from zipfile import ZipFile  # noqa: TID251  (to make a zip that was not built here)

import numpy as np
import pytest
from click.testing import CliRunner

from rtserve.cli.main import cli
from rtserve.errors import InputError
from rtserve.measure.metrics import parse_metric
from rtserve.report.build import make_page
from rtserve.signals.windows import WindowSet, save_windows
from rtserve.submission.profile import load_profile
from rtserve.submission.ranking import built_for, contest_of, named_metrics, weights_of
from tests.measure.conftest import N_TIMES, linear_graph


def test_every_challenge_of_the_profiles_is_ranked_by_a_metric_that_is_offered():
    for name in ("eeg2025", "eeg2026"):
        for challenge in load_profile(name).challenges:
            (found,) = named_metrics(["profile"], f"{name}/{challenge.key}")
            assert found == challenge.metric
            assert parse_metric(found).options is not None
    assert named_metrics(["mae", "profile"], "eeg2025") == ("mae", "nrmse")
    assert named_metrics(["mae"], "no such profile") == ("mae",)
    assert weights_of("eeg2025/1") == (0.3, 0.7)


@pytest.mark.parametrize(
    ("manifest", "name"),
    [
        ({"profile": "eeg2026", "challenges": {"sleep": {}}}, "eeg2026/sleep"),
        ({"profile": "eeg2026/bci:warm-up", "challenges": {"bci": {}}}, "eeg2026/bci:warm-up"),
        ({"profile": "eeg2025", "challenges": {"1": {}, "2": {}}}, "eeg2025"),
        ({"profile": "eeg2026", "challenges": {"nap": {}}}, "eeg2026"),
        ({"profile": "eeg2026/nap", "challenges": {}}, ""),
        ({"profile": "/etc/hosts.toml"}, ""),
        ({"profile": 3, "challenges": []}, ""),
        (None, ""),
    ],
)
def test_a_manifest_names_its_contest_as_far_as_it_is_one_of_ours(manifest, name):
    assert built_for(manifest) == name


def test_the_contest_that_is_named_counts_before_the_manifests(tmp_path):
    with ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("manifest.json", json.dumps({"profile": "eeg2026/bci", "challenges": {"bci": {}}}))
    assert contest_of(tmp_path / "a.zip") == "eeg2026/bci"
    assert contest_of(tmp_path / "a.zip", "eeg2026/sleep") == "eeg2026/sleep"
    assert contest_of(tmp_path / "none.zip") == contest_of("graph.onnx") == contest_of(None) == "eeg2025"


@pytest.mark.parametrize(
    ("profile", "said"),
    [
        ("eeg2026", "ranked by different metrics"),
        ("eeg2026/sleeping", "has no challenge 'sleeping'"),
        ("eeg1999", "no profile 'eeg1999'"),
    ],
)
def test_what_no_profile_says_is_asked_for(profile, said):
    with pytest.raises(InputError, match=said):
        named_metrics(["profile"], profile)


def test_a_hint_names_the_challenge_before_the_phase():
    with pytest.raises(InputError) as caught:
        named_metrics(["profile"], "eeg2026:warm-up")
    names = [word for word in caught.value.hint.split() if word.startswith("eeg2026")]
    assert [load_profile(name).name for name in names] == [
        f"eeg2026/{c.key}:warm-up" for c in load_profile("eeg2026").challenges
    ]


def test_evaluate_takes_the_metric_of_a_track(tmp_path):
    rng = np.random.default_rng(0)
    run = np.repeat(np.arange(24), 6)
    y = rng.uniform(0, 600, len(run)).astype("f4")
    X = np.zeros((len(run), 3, N_TIMES), "f4")
    X[:, 0] = (1e-6 * (y + 80 * rng.standard_normal(len(y))))[:, None]
    windows = WindowSet(
        X=X,
        y=y,
        subject=np.array([f"s{r // 2:02d}" for r in run]),
        run_id=np.array([f"r{r}" for r in run]),
        sfreq=100.0,
        extra={"group": np.where(run < 8, "seen", "unseen")},
    )
    save_windows(tmp_path / "w.npz", windows)
    linear_graph([[1e6], [0.0], [0.0]]).save(tmp_path / "g.onnx")
    command = ["evaluate", str(tmp_path / "g.onnx"), "--data", str(tmp_path / "w.npz"), "--metric", "profile"]
    done = CliRunner().invoke(cli, [*command, "--profile", "eeg2026/sleep", "-o", str(tmp_path / "r.json")])
    assert done.exit_code == 0, done.output
    assert "binned_mae|edges:0,40,90,300,600|weights:10,5,3,1|by:recording|groups:group|keys:" in done.stdout
    stored = json.loads((tmp_path / "r.json").read_bytes())
    assert stored["scores"][0]["value"] < stored["baseline"][0]["value"]
    assert "binned_mae" in make_page([tmp_path / "r.json"]).lead[0]
    assert CliRunner().invoke(cli, [*command, "--profile", "eeg2026"]).exit_code != 0


def test_a_report_shows_classes_and_subjects(tmp_path):
    rng = np.random.default_rng(1)
    y = rng.integers(0, 2, 80).astype("f4")
    X = np.zeros((80, 3, N_TIMES), "f4")
    X[:, 0] = (1e-5 * (2 * y - 1 + rng.standard_normal(80)))[:, None]
    windows = WindowSet(
        X=X,
        y=y,
        subject=np.array([f"s{k % 8}" for k in range(80)]),
        sfreq=100.0,
        target="class",
        classes=("left", "right"),
    )
    save_windows(tmp_path / "w.npz", windows)
    linear_graph([[1e5], [0.0], [0.0]], target="class").save(tmp_path / "g.onnx")
    command = ["evaluate", str(tmp_path / "g.onnx"), "--data", str(tmp_path / "w.npz"), "-o", str(tmp_path / "r.json")]
    assert CliRunner().invoke(cli, command).exit_code == 0
    page = make_page([tmp_path / "r.json"])
    section = next(section for section in page.sections if section.title.startswith("Classes of"))
    confusion, each, subjects = section.tables
    assert confusion.columns == ("there", "decided for left", "decided for right")
    assert sum(sum(row[1:]) for row in confusion.rows) == 80
    assert each.columns[:3] == ("class", "n", "decided for")
    assert len(subjects.rows) == 8
