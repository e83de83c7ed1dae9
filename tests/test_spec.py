"""What a spec says, what it leaves unknown, and when two of them fit."""

import json

import pytest

from rtserve.errors import InputError, SpecMismatchError
from rtserve.spec import (
    InputSpec,
    OutputSpec,
    require_known,
    require_same_input,
    require_same_output,
    require_same_target,
    unit_factor,
)

NAMES = ("one.onnx", "two.onnx")


def spec(**more):
    return InputSpec(**({"n_chans": 2, "n_times": 50} | more))


def test_what_is_not_stated_is_unknown_and_said_to_be():
    assert spec().unknown == ("unit", "sfreq")
    assert str(spec()) == "2 channels x 50 samples at an unknown rate in an unknown unit"
    assert str(spec(sfreq=100.0, unit="uV")) == "2 channels x 50 samples at 100 Hz in uV"
    assert "standardised" in str(spec(unit="1"))
    assert OutputSpec().target == OutputSpec().form == ""
    with pytest.raises(InputError, match=r"a\.onnx does not state its unit"):
        require_known(spec(sfreq=100.0), ["unit", "sfreq"], name="a.onnx", hint="--unit")
    require_known(spec(sfreq=100.0, unit="1"), ["unit", "sfreq"], name="a.onnx", hint="")


@pytest.mark.parametrize(
    "made",
    [
        spec(),
        spec(unit="1", sfreq=128.0, ch_names=("A", "B")),
        spec(unit="V", preprocessing=(("highpass_hz", "0.5"), ("standardised", "window"))),
    ],
)
def test_an_input_spec_comes_back_from_json(made):
    assert InputSpec.from_json(made.to_json()) == made


@pytest.mark.parametrize(
    "made", [OutputSpec(), OutputSpec(n_outputs=3, target="class", classes=("a", "b", "c"), form="logits")]
)
def test_an_output_spec_comes_back_from_json(made):
    assert OutputSpec.from_json(made.to_json()) == made


def test_a_spec_of_version_0_1_is_read_and_written_as_it_was():
    old = '{"ch_names":[],"n_chans":2,"n_times":50,"sfreq":100.0,"unit":"V"}'
    assert json.loads(InputSpec.from_json(old).to_json()) == json.loads(old)
    old = '{"n_outputs":1,"target":"response_time"}'
    assert json.loads(OutputSpec.from_json(old).to_json()) == json.loads(old)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"n_chans": 2, "n_times": 50, "preprocessing": [1]}', "preprocessing"),
        ('{"n_chans": 2, "n_times": 50, "unit": "kg"}', "unknown unit 'kg'"),
        ('{"n_chans": "2", "n_times": 50}', "does not fit"),
    ],
)
def test_an_edited_spec_is_an_error_of_one_line(text, said):
    with pytest.raises(InputError, match=said):
        InputSpec.from_json(text)


@pytest.mark.parametrize(
    "change",
    [{"classes": ("a",)}, {"classes": ("a", "b"), "target": "age"}, {"form": "odds"}, {"classes": ("a", "b", "c")}],
)
def test_an_impossible_output_is_refused(change):
    with pytest.raises(InputError):
        OutputSpec(**change)


def test_two_specs_are_compared_where_both_say_something():
    require_same_input(spec(unit="V"), spec(), names=NAMES)
    require_same_input(spec(preprocessing=(("a", "1"),)), spec(preprocessing=(("b", "2"),)), names=NAMES)
    for first, second in [
        ({"unit": "V"}, {"unit": "uV"}),
        ({"unit": "V"}, {"unit": "1"}),
        ({"sfreq": 100.0}, {"sfreq": 128.0}),
        ({"preprocessing": (("highpass_hz", "0.5"),)}, {"preprocessing": (("highpass_hz", "1"),)}),
    ]:
        with pytest.raises(SpecMismatchError, match=r"one\.onnx and two\.onnx take different input"):
            require_same_input(spec(**first), spec(**second), names=NAMES)


def test_outputs_are_compared_where_both_say_something():
    named = OutputSpec(n_outputs=2, target="class", classes=("left", "right"))
    require_same_output(named, OutputSpec(n_outputs=2), names=NAMES)
    with pytest.raises(SpecMismatchError, match="the classes left, right"):
        require_same_output(named, OutputSpec(n_outputs=2, classes=("right", "left")), names=NAMES)
    require_same_target("", "age", names=NAMES, hint="")
    with pytest.raises(SpecMismatchError, match=r"one\.onnx predicts response_time, two\.onnx age"):
        require_same_target("response_time", "age", names=NAMES, hint="")


def test_a_unit_becomes_another_by_a_factor_and_never_by_a_guess():
    assert unit_factor("V", "uV", names=NAMES) == pytest.approx(1e6)
    assert unit_factor("1", "1", names=NAMES) == unit_factor(None, "uV", names=NAMES) == 1.0
    for of, into in [("1", "uV"), ("V", "1")]:
        with pytest.raises(SpecMismatchError, match="standardised"):
            unit_factor(of, into, names=NAMES)


def test_one_output_of_a_classifier_has_a_threshold():
    assert OutputSpec(target="class").threshold == 0.0
    assert OutputSpec(target="class", form="probabilities").threshold == 0.5
    assert OutputSpec(target="class").classifies
    assert not OutputSpec(target="age").classifies


def test_what_one_leaves_unknown_the_other_completes():
    known = spec(unit="uV", sfreq=250.0, ch_names=("A", "B"))
    assert spec().completed_by(known) == known
    assert known.completed_by(spec(unit="V")).unit == "uV"
    assert OutputSpec(n_outputs=2).completed_by(OutputSpec(n_outputs=2, target="class")).target == "class"
