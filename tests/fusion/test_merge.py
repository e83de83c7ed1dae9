"""Merges and calibration against numpy, for odd and even numbers of branches and for what is not finite."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from rtserve.errors import InputError
from rtserve.fusion.join import add_calibration, add_merge, empty_model, set_output
from rtserve.fusion.plan import Calibration, FusionPlan, Merge, make_plan, parse_clip, parse_merge
from rtserve.graphs.emit import Emitter

from .making import run_both

MEAN, MEDIAN = Merge(), Merge(kind="median")


def merged(values, merge, calibration=None):
    """Merge branch outputs (batch, n_outputs, branches) in a graph; by onnxruntime and the reference evaluator."""
    values = np.asarray(values, "f4")
    _, n_outputs, branches = values.shape
    model = empty_model(n_outputs, branches)
    emit, x = Emitter(model.graph), model.graph.inputs[0]
    parts = [emit("Squeeze", emit.slice(x, 2, i, i + 1), [2]) for i in range(branches)]
    set_output(
        model.graph, add_calibration(emit, add_merge(emit, parts, merge), calibration or Calibration()), n_outputs
    )
    return run_both(model, values)


def draw(branches, seed=0, batch=3, n_outputs=2):
    return np.random.default_rng(seed).standard_normal((batch, n_outputs, branches)).astype("f4")


@pytest.mark.parametrize("branches", [1, 2, 3, 4, 5, 8, 25])
def test_merges_are_what_numpy_says(branches):
    values = draw(branches)
    double = values.astype("f8")
    weights = np.random.default_rng(1).standard_normal(branches)
    weights /= weights.sum()
    wanted = {
        MEAN: double.mean(-1),
        MEDIAN: np.median(double, -1),
        Merge(kind="trimmed", proportion=0.2): stats.trim_mean(double, 0.2, axis=-1),
        Merge(kind="trimmed", proportion=0.0): double.mean(-1),
        Merge(kind="trimmed", proportion=0.49): stats.trim_mean(double, 0.49, axis=-1),
        Merge(kind="weighted", weights=tuple(weights)): double @ weights,
    }
    for merge, truth in wanted.items():
        for got in merged(values, merge):
            assert np.abs(got - truth).max() <= 1e-6 * max(1.0, np.abs(weights).max())


@settings(max_examples=20)
@given(branches=st.integers(1, 12), proportion=st.floats(0, 0.499), seed=st.integers(0, 99))
def test_trimming_drops_floor_p_n_on_each_side(branches, proportion, seed):
    cut = int(np.floor(proportion * branches + 1e-12))
    values = draw(branches, seed)
    kept = np.sort(values, axis=-1)[:, :, cut : branches - cut]
    for got in merged(values, Merge(kind="trimmed", proportion=proportion)):
        assert np.allclose(got, kept.mean(-1), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "merge", [MEAN, MEDIAN, Merge(kind="trimmed", proportion=0.25), Merge(kind="weighted", weights=(0.25,) * 4)]
)
@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", range(4))
def test_a_branch_that_is_not_finite_is_not_hidden(merge, odd, where):
    values = draw(4)
    values[1, 0, where] = odd
    finite = np.ones((3, 2), bool)
    finite[1, 0] = False
    for got in merged(values, merge):
        assert np.array_equal(np.isfinite(got), finite)


def test_a_weight_of_zero_takes_its_branch_away():
    values = draw(3)
    values[:, :, 1] = np.nan
    for got in merged(values, Merge(kind="weighted", weights=(0.25, 0.0, 0.75))):
        assert np.allclose(got, 0.25 * values[:, :, 0] + 0.75 * values[:, :, 2], atol=1e-6)


CALIBRATIONS = [
    Calibration(scale=2.0, offset=0.5),
    Calibration(scale=2.0, offset=0.5, low=0.0, high=1.0),
    Calibration(low=-0.1),
    Calibration(high=0.1),
    Calibration(offset=-1.0, high=-0.5),
    Calibration(scale=0.0, offset=1.6),
]


@pytest.mark.parametrize("calibration", CALIBRATIONS)
def test_calibration_is_scale_then_offset_then_clip(calibration):
    values = draw(3)
    low = -np.inf if calibration.low is None else calibration.low
    high = np.inf if calibration.high is None else calibration.high
    wanted = np.clip(values.astype("f8").mean(-1) * calibration.scale + calibration.offset, low, high)
    for got in merged(values, MEAN, calibration):
        assert np.allclose(got, wanted, atol=1e-6)


def test_a_neutral_calibration_adds_no_node():
    assert not Calibration()
    model = empty_model(1, 2)
    add_calibration(Emitter(model.graph), model.graph.inputs[0], Calibration())
    assert model.graph.num_nodes() == 0


WEIGHTS = {
    "[1, 2, 3, 4, 5, 5]": (1, 2, 3, 4, 5, 5),
    "1 2 3\n4 5 5": (1, 2, 3, 4, 5, 5),
    '{"members": [1, 3], "views": [2, 1, 1]}': (2, 1, 1, 6, 3, 3),
}


@pytest.mark.parametrize("text", WEIGHTS)
def test_weights_are_read_member_by_member_and_add_up_to_one(tmp_path, text):
    (tmp_path / "w.json").write_text(text)
    merge = parse_merge(f"weighted:{tmp_path / 'w.json'}", members=2, views=3)
    assert np.allclose(merge.weights, np.array(WEIGHTS[text]) / sum(WEIGHTS[text]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "has 2 weights for 6 branches"),
        ("not numbers at all", "cannot be read"),
        ('{"members": [1, 1, 1], "views": [1, 1]}', "3 members x 2 views, not 2 x 3"),
        ('{"members": [1, 1]}', "cannot be read"),
        ("[1, -1, 1, -1, 1, -1]", "add up to 0"),
        ("[1, 1, 1, 1, 1, NaN]", "add up to nan"),
        ('["a", 1, 1, 1, 1, 1]', "cannot be read"),
    ],
)
def test_weights_that_do_not_fit_are_refused(tmp_path, text, message):
    (tmp_path / "w.json").write_text(text)
    with pytest.raises(InputError, match=message):
        parse_merge(f"weighted:{tmp_path / 'w.json'}", members=2, views=3)


@pytest.mark.parametrize(
    "text", ["average", "mean:3", "weighted", "weighted:", "trimmed", "trimmed:0.5", "trimmed:-1", "trimmed:nan"]
)
def test_a_merge_that_cannot_be_read_says_so(text):
    with pytest.raises(InputError) as caught:
        parse_merge(text, members=2, views=3)
    assert caught.value.hint


def test_impossible_merges_and_calibrations_cannot_be_made():
    for wrong in ({"kind": "mode"}, {"kind": "weighted"}, {"kind": "mean", "weights": (1.0,)}, {"proportion": 0.5},
                  {"kind": "weighted", "weights": (0.5, 0.6)}):  # fmt: skip
        with pytest.raises(InputError):
            Merge(**wrong)
    with pytest.raises(InputError, match="2 weights for 3 branches"):
        make_plan(["a"], "identity,roll:+1,roll:-1", Merge(kind="weighted", weights=(0.5, 0.5)), None)
    for wrong in ({"scale": np.nan}, {"low": 1.0, "high": 0.0}, {"offset": np.inf}):
        with pytest.raises(InputError):
            Calibration(**wrong)


def test_a_clip_may_be_open_on_one_side():
    assert parse_clip(None) == (None, None)
    assert parse_clip("0,2.4") == (0.0, 2.4)
    assert parse_clip(",2.4") == (None, 2.4)
    assert parse_clip("0,") == (0.0, None)
    for text in ("0", "a,b", "1,2,3"):
        with pytest.raises(InputError, match="is not low,high"):
            parse_clip(text)


def test_a_plan_comes_back_from_its_json():
    plan = make_plan(["a", "b"], "identity,crop-shift:-2", "trimmed:0.25", Calibration(scale=2.0, high=3.0))
    assert FusionPlan.from_dict(plan.to_dict()) == plan
    assert plan.n_branches == 4
