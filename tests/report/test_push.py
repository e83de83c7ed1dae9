"""`rtserve push`: a card says what the file says, what was measured, and what nobody knows; an upload is asked for."""

from __future__ import annotations

import dataclasses
import json
import sys
import types

import onnx
import pytest

from rtserve.errors import EnvironmentMissingError, InputError, ParityError
from rtserve.graphs.graph import Graph
from rtserve.measure.bench import bench
from rtserve.report.hub_card import Told, hub_card
from rtserve.report.push import push
from rtserve.spec import InputSpec, OutputSpec, Provenance


@pytest.fixture
def graph(small_members):
    return Graph.load(small_members[0])


@pytest.fixture
def hub(monkeypatch):
    """A hub that keeps what was done to it; ``there`` are its models."""
    kept = types.SimpleNamespace(there=set(), done=[])

    class HfApi:
        def repo_exists(self, name):
            return name in kept.there

        def create_repo(self, name, *, private, exist_ok):
            kept.done.append(("create", name, private, exist_ok))

        def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
            kept.done.append(("upload", repo_id, tuple(allow_patterns)))

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(HfApi=HfApi))
    return kept


def fused(graph, *members, views=("identity", "roll:+3"), calibration=None, **merge):
    """A graph whose provenance says that it was fused of these."""
    held = [{"digest": one.digest, "provenance": dataclasses.asdict(one.provenance)} for one in members]
    plan = {"views": [{"name": name} for name in views], "merge": {"kind": "mean", **merge}}
    plan |= {"calibration": calibration} if calibration else {}
    details = {"members": held, "plan": plan, "passes": ["stack"]}
    return dataclasses.replace(graph, provenance=Provenance(kind="fuse", details=details))


def test_the_folder_holds_the_graph_as_it_is_and_its_card(small_members, tmp_path, cli):
    code, out, said = cli("push", small_members[0], "-o", tmp_path / "hub", "--license", "mit", "--json")
    assert code == 0, said
    assert (tmp_path / "hub" / "model.onnx").read_bytes() == small_members[0].read_bytes()
    card = (tmp_path / "hub" / "README.md").read_text("utf-8")
    assert card.startswith('---\nlibrary_name: onnx\nlicense: "mit"\ntags:\n- "eeg"\n')
    proven = "reference answers that travel in it"
    for line in ("# CompactRT", "| which is | response\\_time |", "| sampling rate | 100 Hz |", "No views:", proven,
                 "## Latency\n\nNot measured.", "Not known: nobody has said it"):  # fmt: skip
        assert line in card
    assert json.loads(out)["files"] == ["model.onnx", "README.md"]
    assert "not uploaded" in said
    push(small_members[0], tmp_path / "again", licence="mit")
    assert (tmp_path / "again" / "README.md").read_text("utf-8") == card
    code, _, said = cli("push", small_members[0], "-o", tmp_path / "hub")
    assert code == 2
    assert "exists already" in said


def test_times_are_of_exactly_this_graph_and_name_the_processor(small_members, tmp_path):
    report = bench(small_members[0], rounds=2, engine="torch")
    report.save(tmp_path / "b.json")
    push(small_members[0], tmp_path / "hub", bench=[tmp_path / "b.json"])
    values = report.to_dict(raw=False)
    card = (tmp_path / "hub" / "README.md").read_text("utf-8")
    assert f"| torch | 1 | 1 | {values['contenders'][0]['latency_us']['p50']:,.0f} |" in card
    assert values["environment"]["cpu"] in card
    assert all(note.split(":")[0] in card for note in values["notes"])
    with pytest.raises(InputError, match=r"b\.json timed .* not "):
        push(small_members[1], tmp_path / "other", bench=[tmp_path / "b.json"])
    assert not (tmp_path / "other").exists()


def test_members_views_and_merge_are_named(graph, small_members):
    card = hub_card(fused(graph, graph, Graph.load(small_members[1]), average="logits"), Told())
    assert "# 2 x CompactRT, 2 views" in card
    assert "Views (test-time augmentation): identity, roll:+3; merged by mean of logits." in card
    fitted = hub_card(fused(graph, graph, calibration={"scale": 0.5, "offset": 0.0, "low": 0.1, "high": None}), Told())
    assert "merged by mean; then scale 0.5, low 0.1." in fitted
    assert card.count("| CompactRT |") == 2
    assert "small1.pth" in card
    assert "small2.pth" in card
    nested = hub_card(fused(graph, fused(graph, graph), graph), Told(title="Both", use="A clinic's *trial*."))
    assert nested.count("| CompactRT |") == 2
    assert "# Both\n" in nested
    assert "A clinic's *trial*." in nested


def test_a_model_of_the_hub_is_named_as_what_it_is_based_on(graph):
    details = dict(graph.provenance.details) | {"hub": {"source": "hf:a/b@v1", "revision": "0" * 40}}
    card = hub_card(dataclasses.replace(graph, provenance=Provenance(kind="export", details=details)), Told())
    assert 'base_model:\n- "a/b"\n' in card
    assert f"hf:a/b@v1 {'0' * 40}" in card


def test_what_a_file_says_stays_words_in_the_card(graph):
    odd = "x\n---\nlicense: mit\n# Best | <script>[a](http://b)"
    details = {"network": odd, "checkpoint": {"name": odd, "sha256": odd}, "quirks": [odd], "hub": odd}
    spec = dataclasses.replace(graph.output_spec, target=odd)
    card = hub_card(
        dataclasses.replace(graph, output_spec=spec, provenance=Provenance(kind="export", details=details)), Told()
    )
    front = card.split("\n---\n")[0]
    assert "license: mit" not in front.splitlines()
    assert 'license: "unknown"' in front
    assert "\n# Best" not in card
    assert "<script>" not in card.split("\n---\n", 1)[1].replace("\\<script\\>", "")


def test_a_graph_made_elsewhere_claims_nothing(tmp_path):
    node = onnx.helper.make_node("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0)
    x = onnx.helper.make_tensor_value_info("x", 1, ["batch", 2, 4])
    y = onnx.helper.make_tensor_value_info("y", 1, ["batch", 4])
    made = onnx.helper.make_model(
        onnx.helper.make_graph([node], "g", [x], [y]), opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8
    )
    onnx.save(made, tmp_path / "m.onnx")
    push(tmp_path / "m.onnx", tmp_path / "hub")
    card = (tmp_path / "hub" / "README.md").read_text("utf-8")
    assert "made elsewhere, and compared with nothing here" in card
    assert "carries no reference answers" in card
    assert "| unit | not known |" in card
    assert "| sampling rate | not known |" in card


def test_a_graph_that_answers_otherwise_than_it_says_is_not_written(graph, tmp_path):
    values = tuple(tuple(value + 1 for value in row) for row in graph.answers.values)
    path = dataclasses.replace(graph, answers=dataclasses.replace(graph.answers, values=values)).save(
        tmp_path / "b.onnx"
    )
    with pytest.raises(ParityError):
        push(path, tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


def test_an_upload_needs_the_extra_and_a_name_before_anything_is_written(small_members, tmp_path, monkeypatch):
    for name in ("b", "a/b@v1", "../b", "hf:"):
        with pytest.raises(InputError, match=r"no name of a model|names a revision"):
            push(small_members[0], tmp_path / "hub", upload=name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EnvironmentMissingError, match="huggingface_hub is not installed"):
        push(small_members[0], tmp_path / "hub", upload="a/b")
    assert not (tmp_path / "hub").exists()


def test_an_upload_sends_two_files_and_replaces_nothing_unasked(small_members, tmp_path, hub, monkeypatch):
    told = push(small_members[0], tmp_path / "hub", upload="a/b", private=True)
    assert told["uploaded"] == "https://huggingface.co/a/b"
    assert hub.done == [("create", "a/b", True, False), ("upload", "a/b", ("model.onnx", "README.md"))]
    hub.there.add("a/b")
    with pytest.raises(InputError, match="has a model a/b already"):
        push(small_members[0], tmp_path / "two", upload="a/b")
    assert len(hub.done) == 2
    push(small_members[0], tmp_path / "two", upload="a/b", force=True)
    assert hub.done[2:] == [("create", "a/b", False, True), ("upload", "a/b", ("model.onnx", "README.md"))]

    def refused(self, name):
        raise PermissionError("401 Unauthorized")

    monkeypatch.setattr(sys.modules["huggingface_hub"].HfApi, "repo_exists", refused)
    with pytest.raises(InputError, match="a/b could not be uploaded: PermissionError: 401"):
        push(small_members[0], tmp_path / "three", upload="a/b")


@pytest.mark.needs("yaml")
def test_the_front_matter_is_yaml(graph):
    import yaml

    front = yaml.safe_load(hub_card(graph, Told(licence="cc-by-4.0")).split("---\n")[1])
    assert front == {
        "library_name": "onnx", "license": "cc-by-4.0", "tags": ["eeg", "onnx", "rtserve", "CompactRT"],
    }  # fmt: skip


def test_specs_that_say_all_are_in_the_table(graph):
    spec = InputSpec(n_chans=6, n_times=40, unit="1", preprocessing=(("highpass_hz", "0.5"),), ch_names=tuple("abcdef"))
    said = OutputSpec(n_outputs=1, classes=("left", "right"), form="logits", coupled=True)
    card = hub_card(dataclasses.replace(graph, input_spec=spec, output_spec=said), Told())
    for line in ("| unit | standardised |", "| preprocessing | highpass\\_hz 0.5 |", "| classes | left, right |",
                 "| channels | a, b, c, d, e, f |", "depends on the others in its batch"):  # fmt: skip
        assert line in card
