"""What a network's windows and answers mean comes from who knows it, and stays unknown where nobody does."""

from dataclasses import replace

import numpy as np
import onnx.parser
import pytest
from torch import nn

from rtserve.errors import InputError, SpecMismatchError
from rtserve.graphs.exporter import Built
from rtserve.graphs.graph import Graph
from rtserve.graphs.meaning import completed, scaling_beside, training_of
from rtserve.graphs.proof import _with_form
from rtserve.spec import InputSpec, OutputSpec

SPEC = InputSpec(n_chans=3, n_times=40)
TRAINED = {
    "schema": "rtserve.training_checkpoint/1",
    "input": {"n_chans": 3, "n_times": 50, "sfreq": 250.0, "ch_names": ["A", "B", "C"], "unit": "V"},
    "target": "response_time",
    "data": {"sha256": "ab", "n_windows": 7},
    "split": {"by": "subject", "sha256": "cd"},
    "trained_on": {"schema": "rtserve.training_record/1"},
    "settings": {"monitor": "nrmse"},
    "valid": {"nrmse|norm:std|n:3": 0.9},
    "model_state_dict": {},
}


def built(inputs=SPEC, outputs=None):
    return Built(network=nn.Identity(), input_spec=inputs, output_spec=outputs or OutputSpec())


def test_what_nobody_says_stays_unknown():
    inputs, outputs = completed(built(), {"unit": "V", "sfreq": 100.0}, {})
    assert inputs.unknown == ("unit", "sfreq")
    assert outputs == OutputSpec()
    assert training_of({"data": {"sha256": "ab"}}) == {}


def test_a_checkpoint_of_a_training_says_what_it_was_trained_on():
    inputs, outputs = completed(built(), TRAINED, {})
    assert (inputs.sfreq, inputs.unit, inputs.ch_names, inputs.n_times) == (250.0, "V", ("A", "B", "C"), 40)
    assert outputs.target == "response_time"
    kept = training_of(TRAINED)
    assert kept["data"]["sha256"] == "ab"
    assert kept["split"]["by"] == "subject"
    assert kept["chosen_by"] == "nrmse"
    assert list(kept["valid"]) == ["nrmse|norm:std|n:3"]
    assert "trained_on" in kept
    assert "model_state_dict" not in kept


def test_the_user_says_what_is_missing():
    stated = {"unit": "1", "sfreq": 128.0, "classes": "left, right"}
    inputs, outputs = completed(built(outputs=OutputSpec(n_outputs=2)), {}, stated)
    assert (inputs.unit, inputs.sfreq) == ("1", 128.0)
    assert (outputs.target, outputs.classes) == ("class", ("left", "right"))


@pytest.mark.parametrize(
    ("inputs", "content", "stated", "said"),
    [
        (InputSpec(n_chans=3, n_times=40, unit="uV"), TRAINED, {}, "unit V against uV"),
        (InputSpec(n_chans=3, n_times=40, unit="uV"), {}, {"unit": "V"}, "--unit says V, .* says uV"),
        (SPEC, TRAINED, {"sfreq": 100.0}, "--sfreq says 100, .* says 250"),
        (SPEC, TRAINED, {"target": "age"}, "--target says age, .* says response_time"),
    ],
)
def test_two_that_contradict_each_other_are_refused(inputs, content, stated, said):
    with pytest.raises(SpecMismatchError, match=said):
        completed(built(inputs), content, stated)


def test_an_impossible_statement_is_refused():
    with pytest.raises(InputError, match="cannot be stated"):
        completed(built(), {}, {"colour": "red"})
    with pytest.raises(InputError, match="unknown unit 'kg'"):
        completed(built(), {}, {"unit": "kg"})


@pytest.mark.parametrize(
    ("riders", "told"),
    [
        (["mean", "std", "epoch"], ["mean", "std"]),
        (["scaler.mean_", "scaler.scale_"], ["scaler.mean_", "scaler.scale_"]),
        (["y_mean", "y_std", "x_mean"], ["y_mean", "y_std"]),
        (["val_mean", "config.scale", "history"], []),
        (["ema.norm.running_mean", "ema.norm.running_var"], []),
    ],
)
def test_what_may_have_scaled_windows_or_answers_is_told(riders, told):
    assert scaling_beside(riders) == told


@pytest.mark.parametrize(
    ("answers", "said", "form"),
    [
        ([[0.2, 0.8], [0.5, 0.5]], "add up to 1", "probabilities"),
        ([[0.2, 0.9], [0.5, 0.5]], "", "logits"),
        ([[0.2], [0.9]], "say --form probabilities", "logits"),
        ([[-0.2], [0.9]], "", "logits"),
    ],
)
def test_answers_say_what_the_end_of_a_graph_does_not(answers, said, form, tmp_path):
    n = len(answers[0])
    text = f"""<ir_version: 9, opset_import: ["" : 20]> net (float[batch, {n}, 4] x) => (float[batch, {n}] y)
    <int64[1] time = {{2}}> {{ y = ReduceMean <keepdims = 0> (x, time) }}"""
    classes = OutputSpec(n_outputs=n, target="class")
    graph = Graph.from_bytes(onnx.parser.parse_model(text).SerializeToString())
    graph = replace(graph, output_spec=replace(classes, form="logits"))
    np.savez(tmp_path / "probes.npz", names=np.array(["noise"]), y0=np.array(answers))
    made, why = _with_form(graph, classes, tmp_path / "probes.npz")
    assert made.output_spec.form == form
    assert said in why
    assert bool(said) == bool(why)
    assert _with_form(graph, replace(classes, form="logits"), tmp_path / "probes.npz") == (graph, "")
