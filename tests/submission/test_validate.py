"""`check` as a command and as a function: selection, ignoring, outcomes, reports, bad input."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import pickle  # noqa: TID251 - writes a file as another version would

import numpy as np
import pytest
from broken import BROKEN, FINE
from click.testing import CliRunner
from zips import edited, good, saved, write_zip

from rtserve.cli.check import check as command
from rtserve.cli.check import profiles
from rtserve.errors import EnvironmentMissingError, InputError
from rtserve.submission import report as shapes
from rtserve.submission.profile import load_profile
from rtserve.submission.validate import check


def codes(report, status):
    return {result.code for result in report.results if result.status == status}


def test_ignored_rules_print_their_reason_and_do_not_count(quick_check):
    report = quick_check(BROKEN["metadata"][0], ignore={"RT005": "the organisers said so"})
    assert report.exit_code == 0
    assert codes(report, "ignored") == {"RT005"}
    assert "the organisers said so" in shapes.tick_list(report)


def test_selection_keeps_families(tmp_path):
    report = check(write_zip(tmp_path / "x.zip", good()), select=("RT0", "RT104"))
    assert {result.code[:3] for result in report.results} == {"RT0", "RT1"}
    assert report.sandbox == ""
    assert report.static_seconds < 10


@pytest.mark.parametrize(
    "options", [{"select": ("RT9",)}, {"ignore": {"RT999": "no"}}, {"ignore": {"RT005": " "}}, {"shape": "129"}]
)
def test_unknown_codes_and_shapes_are_usage_errors(tmp_path, options):
    with pytest.raises(InputError):
        check(write_zip(tmp_path / "x.zip", good()), run=False, **options)


def test_paths_that_do_not_exist_are_usage_errors(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        check(tmp_path / "none.zip")


def test_an_environment_that_is_none_is_missing(tmp_path):
    with pytest.raises(EnvironmentMissingError):
        check(write_zip(tmp_path / "x.zip", good()), env=tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"PK\x03\x04", b"\x1f\x8b\x08\0", b"7z\xbc\xaf\x27\x1c", b"PK\x05\x06" + bytes(18)]
)
def test_anything_readable_ends_in_a_report(tmp_path, content):
    path = tmp_path / "x.zip"
    path.write_bytes(content)
    report = check(path)
    assert codes(report, "failed") == {"RT001"}
    assert report.exit_code == 1


def test_a_full_disk_is_this_machines_fault(tmp_path, monkeypatch):
    import errno

    from rtserve.submission.checks import unpack

    def full(source):
        raise OSError(errno.ENOSPC, "no space")
        yield

    monkeypatch.setattr(unpack, "_blocks", full)
    report = check(write_zip(tmp_path / "x.zip", good()))
    assert (report.verdict, report.exit_code) == ("incomplete", 0)
    assert "TMPDIR" in report.results[0].reason


def test_a_folder_is_no_zip(tmp_path):
    assert codes(check(tmp_path), "failed") == {"RT001"}


def test_an_encrypted_member_is_named(tmp_path):
    path = write_zip(tmp_path / "x.zip", {"submission.py": "1"})
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    report = check(path)
    assert "encrypted" in report.results[0].findings[0].message


class _OtherVersion:
    """Pickles as a tree of scikit-learn whose nodes lack a field, as those of versions before 1.3 do."""

    def __init__(self, tree):
        self.tree = tree

    def __reduce__(self):
        kind, arguments, state = self.tree.__reduce__()
        nodes = state["nodes"]
        kept = list(nodes.dtype.names)[:-1]
        state["nodes"] = nodes[kept].astype([(name, nodes.dtype[name]) for name in kept])
        return kind, arguments, state


def test_a_pickle_of_another_version_is_incomplete_where_that_version_may_be_the_scorers(quick_check):
    from sklearn.tree import DecisionTreeRegressor

    tree = DecisionTreeRegressor().fit(np.arange(8.0)[:, None], np.arange(8.0)).tree_
    load = (
        "model.load_state_dict",
        "import pickle; pickle.load(open(path.parent / 't.pkl', 'rb')); model.load_state_dict",
    )
    content, named = edited(load, **{"t.pkl": pickle.dumps(_OtherVersion(tree))}), load_profile("eeg2025")

    def scored_with(version):
        packages = {**named.primary.packages, "scikit-learn": version}
        return dataclasses.replace(named, environments=(dataclasses.replace(named.primary, packages=packages),))

    report = quick_check(content, profile=scored_with("0.24.2"))
    assert report.verdict == "incomplete", shapes.tick_list(report)
    assert "scikit-learn" in shapes.tick_list(report)
    report = quick_check(content, profile=scored_with(importlib.metadata.version("scikit-learn")))
    assert report.verdict == "failed", shapes.tick_list(report)


def test_a_package_that_is_promised_but_missing_here_is_incomplete(quick_check):
    files = good(**{"submission.py": "import lightning_fabric_of_nobody\n" + str(good()["submission.py"])})
    profile = load_profile("eeg2025")
    promised = dataclasses.replace(profile, modules=(*profile.modules, "lightning_fabric_of_nobody"))
    report = quick_check(files, profile=promised)
    assert report.verdict == "incomplete", shapes.tick_list(report)
    assert report.exit_code == 0
    assert "--env" in shapes.next_command(report)
    strict = quick_check(files, profile=promised, strict=True)
    assert strict.exit_code == 4
    refused = quick_check(files)
    assert codes(refused, "failed") == {"RT105", "RT303"}


def test_a_library_that_changed_between_versions_is_no_failure(quick_check):
    script = str(good()["submission.py"])
    for line in (
        "from braindecode.models import NetworkOfNobody",
        "import numpy; numpy.function_of_nobody()",
        "from mne.module_of_nobody import x",
    ):
        report = quick_check(good(**{"submission.py": f"{line}\n{script}"}))
        assert report.verdict == "incomplete", shapes.tick_list(report)
    report = quick_check(good(**{"submission.py": f"import torch; torch.function_of_nobody()\n{script}"}))
    assert report.verdict == "failed"


LIBRARY = """
import torch
from pathlib import Path
from braindecode.models import ShallowFBCSPNet


class Submission:
    def __init__(self, SFREQ, DEVICE):
        self.device = DEVICE

    def get_model_challenge_1(self):
        model = ShallowFBCSPNet(n_chans=129, n_outputs=1, n_times=200, sfreq=100)
        model.load_state_dict(torch.load(Path(__file__).parent / "weights.pt", map_location=self.device))
        return model

    get_model_challenge_2 = get_model_challenge_1
"""


@pytest.mark.needs("braindecode.models")
def test_weights_that_do_not_fit_a_library_network_known_to_be_stable_fail(quick_check):
    from braindecode import models

    state = models.ShallowFBCSPNet(n_chans=129, n_outputs=1, n_times=200, sfreq=100).state_dict()
    fits = quick_check({"submission.py": LIBRARY, "weights.pt": saved(state)})
    assert fits.verdict == "passed", shapes.tick_list(fits)
    lost = next(iter(state))
    lacking = quick_check(
        {"submission.py": LIBRARY, "weights.pt": saved({k: v for k, v in state.items() if k != lost})}
    )
    assert codes(lacking, "failed") == {"RT305"}
    assert lost in next(r for r in lacking.results if r.code == "RT305").findings[0].message


def test_reports_agree_in_every_shape(quick_check):
    report = quick_check(BROKEN["squeeze"][0])
    data = shapes.to_dict(report)
    assert json.loads(json.dumps(data))["verdict"] == "failed"
    broken = {entry["code"] for entry in data["results"] if entry["status"] == "failed"}
    assert broken == {"RT312"}
    sarif = json.loads(shapes.sarif(report))
    run = sarif["runs"][0]
    assert sarif["version"] == "2.1.0"
    assert {r["ruleId"] for r in run["results"] if r["level"] == "error"} == broken
    assert {r["ruleId"] for r in run["results"]} <= {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    text = shapes.markdown(report)
    assert "RT312" in text
    assert "0-d" in text
    assert data["next"] in shapes.tick_list(report)


def test_sarif_points_at_the_line(quick_check):
    report = quick_check(BROKEN["misspelt getter"][0])
    results = json.loads(shapes.sarif(report))["runs"][0]["results"]
    place = next(r for r in results if r["ruleId"] == "RT104")["locations"][0]["physicalLocation"]
    line = place["region"]["startLine"]
    assert place["artifactLocation"]["uri"] == "submission.py"
    assert "get_models_challenge_1" in str(BROKEN["misspelt getter"][0]["submission.py"]).splitlines()[line - 1]


def run_command(*arguments):
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_the_command_exits_as_it_found(tmp_path):
    path = write_zip(tmp_path / "x.zip", BROKEN["metadata"][0])
    assert run_command(path, "--no-run").exit_code == 1
    fine = write_zip(tmp_path / "y.zip", FINE["good"])
    assert run_command(fine, "--no-run").exit_code == 0
    assert run_command(fine, "--no-run", "--strict").exit_code == 4
    assert run_command(path, "--no-run", "--ignore", "RT005=known").exit_code == 0
    assert run_command(path, "--no-run", "--ignore", "RT005").exit_code == 2


def test_machine_output_is_one_document(tmp_path):
    path = write_zip(tmp_path / "x.zip", FINE["good"])
    out = run_command(path, "--no-run", "--json")
    assert json.loads(out.stdout)["schema"] == "rtserve.check/1"
    assert json.loads(run_command(path, "--no-run", "--sarif").stdout)["version"] == "2.1.0"
    assert run_command(path, "--no-run", "--markdown").stdout.startswith("### x.zip")


def test_profiles_are_listed_and_shown():
    runner = CliRunner()
    assert "eeg2026" in runner.invoke(profiles, ["list"]).stdout
    assert "contradictions" in runner.invoke(profiles, ["show", "eeg2025"]).stdout
    assert json.loads(runner.invoke(profiles, ["show", "eeg2025", "--json"]).stdout)["name"] == "eeg2025"
