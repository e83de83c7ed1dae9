"""Merging classifiers: of logits or of probabilities, as asked for; the two differ, and neither is guessed."""

from dataclasses import replace

import numpy as np
import pytest

from rtserve.errors import InputError, SpecMismatchError
from rtserve.fusion.classes import in_form
from rtserve.fusion.fuse import fuse, fuse_with_report
from rtserve.fusion.join import set_output
from rtserve.fusion.plan import Calibration, FusionPlan, Merge, parse_merge
from rtserve.fusion.report import fuse_text, fuse_to_file
from rtserve.graphs.emit import Emitter
from rtserve.graphs.graph import Graph
from rtserve.graphs.heads import classifies, form_of, output_form
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner
from rtserve.measure.decisions import Decision, decide, to_answers, to_cases
from rtserve.measure.metrics import parse_metric
from rtserve.signals.windows import WindowSet
from rtserve.spec import OutputSpec

from .making import constant, network, windows


def classifier(seed, *, n_outputs=3, head="", target="class", scale=2.0):
    """A seeded network whose numbers are logits, or go through a softmax, sigmoid or log-softmax."""
    made = network(seed, n_outputs=n_outputs, target=target)
    model = made.clone_model()
    value = model.graph.outputs[0]
    value.name = "before"
    emit = Emitter(model.graph, prefix="h")
    value = emit("Mul", value, np.float32(scale))
    if head:
        value = emit(head, value, axis=1) if head != "Sigmoid" else emit("Sigmoid", value)
    set_output(model.graph, value, n_outputs)
    return replace(made, model=model)


def softmax(z, axis=1):
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def answers(graph, x):
    return OnnxruntimeRunner(graph).infer(x).astype("f8")


X = windows(40, seed=3)
THREE = [classifier(s) for s in range(3)]


def test_a_merge_of_classifiers_must_say_what_it_is_of():
    for merge in ("mean", "median", "trimmed:0.2"):
        kind = merge.partition(":")[0]
        with pytest.raises(InputError, match=f"member 1 is a classifier: the {kind} of its branches") as caught:
            fuse(THREE, merge=merge)
        assert f"{kind}-logits" in caught.value.hint
        assert f"{kind}-probabilities" in caught.value.hint
    with pytest.raises(InputError, match="is a classifier"):
        fuse(THREE[:1], views="identity,scale:1.1")
    alone = fuse(THREE[:1])
    assert alone.output_spec.form == "logits"


@pytest.mark.parametrize(("merge", "n_outputs"), [("mean", 3), ("mean", 1), ("median", 3)])
def test_logits_and_probabilities_are_averaged_as_asked(merge, n_outputs):
    members = [classifier(s, n_outputs=n_outputs) for s in range(3)]
    middle = {"mean": np.mean, "median": np.median}[merge]
    each = np.stack([answers(member, X) for member in members])
    of_logits, of_probabilities = fuse(members, merge=f"{merge}-logits"), fuse(members, merge=f"{merge}-probabilities")
    assert (of_logits.output_spec.form, of_probabilities.output_spec.form) == ("logits", "probabilities")
    inside = softmax(each, axis=2) if n_outputs > 1 else sigmoid(each)
    for fused, wanted in ((of_logits, middle(each, axis=0)), (of_probabilities, middle(inside, axis=0))):
        for runner in (OnnxruntimeRunner(fused), PlanRunner(fused)):
            np.testing.assert_allclose(runner.infer(X), wanted, rtol=2e-5, atol=2e-5)


def test_the_two_averages_can_name_different_classes():
    spec = OutputSpec(n_outputs=2, target="class")
    members = [replace(constant(logits), output_spec=spec) for logits in ([10.0, 0.0], [0.0, 3.0], [0.1, 3.1])]
    named = [answers(fuse(members, merge=f"mean-{of}"), X[:1]).argmax() for of in ("logits", "probabilities")]
    assert named == [0, 1]


def ended(seed, end, n_outputs=3, target="class"):
    """A seeded network whose logits go through what `end` makes of them."""
    made = network(seed, n_outputs=n_outputs, target=target)
    model = made.clone_model()
    value = model.graph.outputs[0]
    value.name = "before"
    set_output(model.graph, end(Emitter(model.graph, prefix="h"), value), n_outputs)
    return replace(made, model=model)


def written_out(emit, z):
    e = emit("Exp", z)
    return emit("Div", e, emit("ReduceSum", e, np.array([1]), keepdims=1))


def heads(emit, z):
    other = emit("Softmax", emit("Mul", z, np.float32(3.0)), axis=1)
    return emit("Mul", emit("Add", emit("Softmax", z, axis=1), other), np.float32(0.5))


ENDS = {
    "clamped": (lambda emit, z: emit("Clip", emit("Softmax", z, axis=1), np.float32(1e-7), np.float32(1.0)), 3),
    "raised": (lambda emit, z: emit("Add", emit("Softmax", z, axis=1), np.float32(1e-8)), 3),
    "written out": (written_out, 3),
    "mean of heads": (heads, 3),
    "clamped sigmoid": (lambda emit, z: emit("Clip", emit("Sigmoid", z), np.float32(1e-6), np.float32(1 - 1e-6)), 1),
}


@pytest.mark.parametrize("kind", ENDS)
def test_probabilities_are_known_as_such_however_the_graph_ends(kind):
    end, n_outputs = ENDS[kind]
    graph = ended(0, end, n_outputs)
    assert form_of(graph) == "probabilities"
    with pytest.raises(InputError, match="from which its logits cannot be had"):
        fuse([graph], views="identity,scale:0.9", merge="mean-logits")
    fused = fuse([graph], views="identity,scale:0.9", merge="mean-probabilities")
    parts = [answers(graph, x.astype("f4")) for x in (X, np.float32(0.9) * X)]
    np.testing.assert_allclose(answers(fused, X), np.mean(parts, axis=0), rtol=2e-5, atol=2e-6)


def test_the_probability_of_the_second_class_alone_has_its_threshold_at_one_half():
    def second(emit, z):
        return emit("Slice", emit("Softmax", z, axis=1), np.array([1]), np.array([2]), np.array([1]))

    made = network(0, n_outputs=2, target="class")
    model = made.clone_model()
    value = model.graph.outputs[0]
    value.name = "before"
    set_output(model.graph, second(Emitter(model.graph, prefix="h"), value), 1)
    graph = replace(made, model=model, output_spec=replace(made.output_spec, n_outputs=1))
    labels = np.arange(len(X)) % 2
    decided = decide(graph, WindowSet(X=X, y=labels.astype("f4"), target="class", unit="1"), (), name="g")
    assert str(decided) == "probability > 0.5"


def test_what_bounds_its_numbers_otherwise_is_no_probability():
    for low, high in ((-1.0, 1.0), (0.2, 0.8)):
        graph = ended(0, lambda e, z, a=low, b=high: e("Clip", e("Sigmoid", z), np.float32(a), np.float32(b)), 1)
        assert form_of(graph) == ("probabilities" if low < 0 else "logits")
    assert form_of(ended(0, lambda emit, z: emit("Add", emit("Softmax", z, axis=1), np.float32(0.5)))) == "logits"
    assert form_of(ended(0, lambda emit, z: emit("Tanh", z))) == "logits"


def test_probabilities_taken_for_logits_are_not_scored():
    probabilities = softmax(np.random.default_rng(0).standard_normal((20, 3)))
    labels = WindowSet(X=np.zeros((20, 1, 4), "f4"), y=np.arange(20, dtype="f4") % 3, target="class", unit="1")
    log_loss, logits = parse_metric("log_loss"), Decision(n_outputs=3, form="logits")
    with pytest.raises(InputError, match="taken for logits, and every one of its 20 answers adds up to 1"):
        to_answers(log_loss, probabilities, labels, name="g", decision=logits)
    assert to_cases(probabilities, labels, name="g", decision=logits).probabilities is None
    assert to_answers(log_loss, np.log(probabilities), labels, name="g", decision=logits) == pytest.approx(
        probabilities
    )


def test_softmax_inside_and_outside_are_averaged_together_as_probabilities():
    outside, inside, logs = classifier(0), classifier(1, head="Softmax"), classifier(2, head="LogSoftmax")
    assert [form_of(graph) for graph in (outside, inside, logs)] == ["logits", "probabilities", "log-probabilities"]
    fused = fuse([outside, inside, logs], merge="mean-probabilities", views="identity,scale:0.9")
    parts = [
        f(answers(g, x.astype("f4")))
        for g, f in ((outside, softmax), (inside, np.asarray), (logs, np.exp))
        for x in (X, np.float32(0.9) * X)
    ]
    np.testing.assert_allclose(answers(fused, X), np.mean(parts, axis=0), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(answers(fused, X).sum(axis=1), 1.0, rtol=1e-5)
    with pytest.raises(InputError, match=r"gives probabilities .*from which its logits cannot be had"):
        fuse([outside, inside], merge="mean-logits")


def test_weights_go_with_what_is_averaged(tmp_path):
    (tmp_path / "w.json").write_text("[0.5, 0.3, 0.2]")
    fused = fuse(THREE, merge=f"weighted-probabilities:{tmp_path / 'w.json'}")
    each = softmax(np.stack([answers(member, X) for member in THREE]), axis=2)
    np.testing.assert_allclose(answers(fused, X), np.tensordot([0.5, 0.3, 0.2], each, 1), rtol=2e-5, atol=2e-6)
    plan = FusionPlan.from_dict(fused.provenance.details["plan"])
    assert (plan.merge.kind, plan.merge.average, str(plan.merge)) == (
        "weighted", "probabilities", "weighted of probabilities",
    )  # fmt: skip


def test_a_fused_classifier_can_be_fused_again():
    pair = fuse(THREE[:2], merge="mean-probabilities")
    whole = fuse([pair, THREE[2]], merge="mean-probabilities")
    each = softmax(np.stack([answers(member, X) for member in THREE]), axis=2)
    np.testing.assert_allclose(answers(whole, X), (each[:2].mean(0) + each[2]) / 2, rtol=2e-5, atol=2e-6)
    with pytest.raises(InputError, match="cannot be had"):
        fuse([pair, THREE[2]], merge="mean-logits")


def test_what_has_no_classes_has_no_logits():
    with pytest.raises(InputError, match="predicts response_time, which has no logits"):
        fuse([network(0), network(1)], merge="mean-logits")
    embeddings = [network(s, n_outputs=2, target="embedding") for s in range(2)]
    assert not classifies(embeddings[0])
    assert fuse(embeddings).output_spec.form == ""


def test_several_numbers_of_unknown_meaning_are_not_merged_before_it_is_said():
    plain = [network(s, n_outputs=2, target="") for s in range(2)]
    with pytest.raises(
        InputError, match="member 1 gives 2 numbers per window and does not state what they are"
    ) as told:
        fuse(plain)
    assert all(word in told.value.hint for word in ("mean-logits", "mean-probabilities", "--target NAME"))
    with pytest.raises(InputError, match="does not state what they are"):
        fuse(plain[:1], views=["identity", "roll:+1"], merge="median")
    assert fuse(plain, merge="mean-probabilities").output_spec.form == "probabilities"
    assert fuse(plain[:1]).output_spec.target == ""  # one branch: nothing is merged
    assert fuse([network(s, target="") for s in range(2)]).output_spec.target == ""
    named = [plain[0], network(1, n_outputs=2, target="embedding")]
    assert fuse(named).output_spec.target == "embedding"


def test_what_the_command_states_of_the_members_is_said_and_kept(tmp_path):
    plain = [network(s, n_outputs=2, target="") for s in range(2)]
    paths = [graph.save(tmp_path / f"{k}.onnx") for k, graph in enumerate(plain)]
    report = fuse_to_file(paths, tmp_path / "f.onnx", stated={"target": "embedding"})
    assert "assumed target embedding of 0.onnx, which does not state it: as the command states it" in fuse_text(
        report, explain=False
    )
    fused = Graph.load(tmp_path / "f.onnx")
    assert fused.output_spec.target == "embedding"
    assert fused.provenance.details["stated"] == {"target": "embedding"}
    with pytest.raises(SpecMismatchError, match="--target says embedding, a member says age"):
        fuse([network(0, n_outputs=2, target="age")], stated={"target": "embedding"})
    with pytest.raises(InputError, match="is a classifier"):
        fuse(plain, stated={"target": "class"})


def test_a_graph_that_ends_in_a_softmax_is_a_classifier_without_a_word():
    silent = [classifier(s, head="Softmax", target="") for s in range(2)]
    assert output_form(silent[0].model) == "probabilities"
    with pytest.raises(InputError, match="is a classifier"):
        fuse(silent)
    assert not classifies(classifier(0, n_outputs=1, head="Sigmoid", target=""))


@pytest.mark.parametrize("text", ["mean-odds", "mean-", "average", "logits", "weighted-logits"])
def test_a_merge_that_is_none_is_refused(text):
    if text == "mean-":
        assert parse_merge(text, members=1, views=1) == Merge()
        return
    with pytest.raises(InputError):
        parse_merge(text, members=1, views=1)


def test_a_merge_and_an_average_that_contradict_each_other_are_refused():
    with pytest.raises(InputError, match="contradict"):
        fuse(THREE, merge="mean-logits", average="probabilities")


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize(
    ("average", "calibration"),
    [("probabilities", Calibration(scale=2.0)), ("probabilities", Calibration(offset=0.1)),
     ("logits", Calibration(scale=-1.0)), ("logits", Calibration(scale=0.0)), ("logits", Calibration(low=0.0))],
)  # fmt: skip
def test_a_calibration_that_would_change_what_a_classifier_says_is_refused(average, calibration, n_outputs):
    members = [classifier(s, n_outputs=n_outputs) for s in range(2)]
    with pytest.raises(InputError, match=f"a calibration .* of the {average} of a classifier would change"):
        fuse(members, merge="mean", average=average, calibration=calibration)
    odd = classifier(0, n_outputs=n_outputs, head="Softmax" if n_outputs > 1 else "Sigmoid")
    with pytest.raises(InputError, match="of the probabilities of a classifier"):
        fuse([odd], calibration=calibration)


def test_a_temperature_of_logits_changes_no_class():
    warm = fuse(THREE, merge="mean-logits", calibration=Calibration(scale=0.5))
    assert np.allclose(answers(warm, X), 0.5 * answers(fuse(THREE, merge="mean-logits"), X), atol=1e-6)


def test_members_are_called_by_their_files_in_every_merge(tmp_path):
    files = [graph.save(tmp_path / f"{name}.onnx") for name, graph in zip("cab", THREE, strict=True)]
    (tmp_path / "w.json").write_text("[0, 0.5, 0.5]")
    for merge in ("mean-logits", f"weighted-logits:{tmp_path / 'w.json'}"):
        report = fuse_to_file([*files, files[0]][: 4 if merge == "mean-logits" else 3], tmp_path / "f.onnx",
                              merge=merge, force=True)  # fmt: skip
        names = {Graph.load(file).digest: file.name for file in files}
        plan = Graph.load(tmp_path / "f.onnx").provenance.details["plan"]["members"]
        assert report["member_names"] == [names[digest] for digest in plan]
        removed = [entry["member_name"] for entry in report["removed"]]
        assert removed == ["c.onnx"]
        assert "(c.onnx, identity)" in fuse_text(report, explain=True)
        assert "member " not in fuse_text(report, explain=True).replace("member's", "")
    with pytest.raises(InputError, match=r"c\.onnx is a classifier"):
        fuse_with_report(files)


def test_a_member_in_another_form_has_no_record_of_stages_that_it_has_not():
    fused_member = fuse([THREE[0]], views="identity,roll:+3", merge="mean-logits")
    assert fused_member.stages is not None
    found = in_form(fused_member, "probabilities")
    assert found.stages is None
    np.testing.assert_allclose(answers(found, X), softmax(answers(fused_member, X)), rtol=1e-5)
