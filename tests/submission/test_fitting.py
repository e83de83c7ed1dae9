"""What a graph says of its windows and target is compared with what the contest gives and scores; unknown is asked for."""

import json
from dataclasses import replace

import pytest

from rtserve.errors import InputError, SpecMismatchError
from rtserve.files import sha256_bytes
from rtserve.spec import InputSpec, OutputSpec
from rtserve.submission.archive import read_zip, zip_bytes
from rtserve.submission.build_report import build_text
from rtserve.submission.bundle import build
from rtserve.submission.custody import verify
from rtserve.submission.fitting import differences
from rtserve.submission.manifest import seal
from rtserve.submission.profile import load_profile
from rtserve.submission.validate import check
from tests.submission.small import small_graph, write_recipe
from tests.submission.zips import good, write_zip

UNKNOWN = {"members": 1, "views": ("identity",), "unit": None, "sfreq": 0.0}


@pytest.fixture(scope="module")
def stated(tmp_path_factory):
    """A zip of members that say neither unit nor rate, stated by the command."""
    folder = tmp_path_factory.mktemp("stated")
    return build(write_recipe(folder / "recipe", **UNKNOWN), output=folder / "s.zip", unit="V", sfreq=100.0)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"unit": "uV"}, "unit V against uV"),
        ({"unit": "1"}, "unit V against 1"),
        ({"sfreq": 128.0}, "sfreq 100.0 against 128.0"),
        ({"target": "age"}, "scores response_time, the graph predicts age"),
    ],
)
def test_what_a_member_states_and_the_contest_does_not_give_is_refused(spec, words, tmp_path):
    recipe = write_recipe(tmp_path / "r", members=1, views=("identity",), **spec)
    with pytest.raises(SpecMismatchError, match=words):
        build(recipe, output=tmp_path / "s.zip")
    assert not (tmp_path / "s.zip").exists()


@pytest.mark.parametrize("missing", [("unit",), ("sfreq",), ("unit", "sfreq")])
def test_what_nobody_states_is_asked_for(missing, tmp_path):
    recipe = write_recipe(
        tmp_path / "r", **(UNKNOWN | {"unit": "V", "sfreq": 100.0} | {k: UNKNOWN[k] for k in missing})
    )
    with pytest.raises(InputError, match="does not state its " + " and its ".join(missing)) as caught:
        build(recipe, output=tmp_path / "s.zip")
    assert all(f"--{key}" in caught.value.hint for key in missing)
    assert "at 100 Hz in V" in caught.value.hint


def test_what_the_recipe_states_is_said_and_kept(stated, tmp_path):
    assert stated.manifest["challenges"]["1"]["stated"] == {"unit": "V", "sfreq": 100.0, "target": "response_time"}
    assert "stated by the recipe, not by its members: sfreq 100.0, target response_time, unit V" in build_text(stated)
    recipe = write_recipe(tmp_path / "r", **UNKNOWN, head='unit = "V"\nsfreq = 100\n')
    assert build(recipe, output=tmp_path / "s.zip").path.read_bytes() == stated.path.read_bytes()
    assert verify(stated.path, replay=False).passed


def test_a_statement_that_another_contradicts_is_refused(tmp_path):
    recipe = write_recipe(tmp_path / "r", **UNKNOWN, head='unit = "V"\nsfreq = 100\n')
    with pytest.raises(SpecMismatchError, match="--unit says uV, the recipe says V"):
        build(recipe, output=tmp_path / "s.zip", unit="uV")
    known = write_recipe(tmp_path / "known", members=1, views=("identity",))
    with pytest.raises(SpecMismatchError, match="--unit says uV, the graph of challenge 1 says V"):
        build(known, output=tmp_path / "s.zip", unit="uV")
    with pytest.raises(SpecMismatchError, match="unit V against uV"):
        build(write_recipe(tmp_path / "u", **UNKNOWN), output=tmp_path / "s.zip", unit="uV", sfreq=100.0)


def judged(path, code="RT405"):
    report = check(path, select=(code,), run=False)
    return next(r for r in report.results if r.code == code)


def exchanged(path, target, change):
    """Write a zip whose graphs and manifest were changed, every digest made right again."""
    files = read_zip(path)
    manifest = json.loads(files.pop("manifest.json"))
    change(files, manifest)
    manifest["files"] = {name: sha256_bytes(data) for name, data in files.items()}
    target.write_bytes(zip_bytes(files | {"manifest.json": json.dumps(seal(manifest)).encode()}))
    return target


def test_a_built_zip_is_asked_what_its_graphs_take(stated, tmp_path):
    assert judged(stated.path).status == "passed"

    def forget(_, manifest):
        for entry in manifest["challenges"].values():
            del entry["stated"]

    unsaid = judged(exchanged(stated.path, tmp_path / "unsaid.zip", forget))
    assert unsaid.status == "warned"
    assert (
        "states its unit and its sfreq; the contest gives 129 channels x 200 samples at 100 Hz in V"
        in unsaid.findings[0].message
    )

    def microvolts(files, _):
        files["challenge_1.onnx"] = small_graph(0, unit="uV").to_bytes()

    wrong = judged(exchanged(stated.path, tmp_path / "wrong.zip", microvolts))
    assert wrong.status == "failed"
    assert "unit V against uV" in wrong.findings[0].message


def test_a_strangers_graph_is_a_warning_and_an_undescribed_one_nothing(tmp_path):
    other = write_zip(tmp_path / "x.zip", good(**{"net.onnx": small_graph(0, unit="uV").to_bytes()}))
    assert judged(other).status == "warned"  # the script may turn volts into microvolts itself
    plain = write_zip(tmp_path / "y.zip", good(**{"net.onnx": small_graph(0, unit=None, sfreq=0.0).to_bytes()}))
    assert judged(plain).status == "skipped"
    fits = write_zip(tmp_path / "z.zip", good(**{"net.onnx": small_graph(0).to_bytes()}))
    assert judged(fits).status == "passed"


def test_what_a_track_states_is_compared_and_what_it_leaves_open_is_not():
    profile = load_profile("eeg2026/sleep")
    (sleep,) = profile.challenges
    size = {"n_chans": 4, "n_times": 640, "sfreq": 128.0}
    fits = InputSpec(**size, unit="uV")
    graph = replace(small_graph(0), input_spec=fits, output_spec=OutputSpec(n_outputs=1, target="seconds"))
    assert differences(graph, profile, sleep) == []
    assert "unit uV against V" in differences(replace(graph, input_spec=InputSpec(**size, unit="V")), profile, sleep)[0]
    smaller = replace(graph, input_spec=replace(fits, n_chans=2))
    assert "n_chans 4 against 2" in differences(smaller, profile, sleep)[0]
    pose = load_profile("eeg2026/pose")
    signal = pose.signal_of("pose")
    volts = replace(graph, input_spec=replace(signal.spec, unit="V"), output_spec=OutputSpec(n_outputs=20 * 10000))
    assert differences(volts, pose, pose.challenge("pose")) == []


def test_a_graph_of_another_number_of_classes_is_none_for_the_track():
    profile = load_profile("eeg2026/bci")
    graph = replace(
        small_graph(0), input_spec=profile.signal_of("bci").spec, output_spec=OutputSpec(n_outputs=4, target="class")
    )
    assert differences(graph, profile, profile.challenge("bci")) == [
        "challenge bci has 3 classes, the graph gives 4 numbers"
    ]


def test_the_contests_channels_in_another_order_are_refused_and_other_names_are_not():
    profile = load_profile("eeg2025")
    order = [f"E{k}" for k in range(1, 129)]
    swapped = (order[1], order[0], *order[2:])

    def said(*ch_names):
        graph = small_graph(0)
        graph = replace(graph, input_spec=replace(graph.input_spec, ch_names=ch_names))
        return differences(graph, profile, profile.challenges[0])

    assert said(*order, "Cz") == said(*order, "E129") == said() == said(*(f"EEG{k}" for k in range(129))) == []
    (found,) = said(*swapped, "Cz")
    assert "channel 0 is E1 against E2, the same names in another order" in found
    assert said("Cz", *order)
