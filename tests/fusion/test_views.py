"""Views: the torch face and the ONNX face are one map, whatever the shift and whatever is in the window."""

import json
from dataclasses import replace

import numpy as np
import onnx_ir as ir
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.fusion.ir.conv import ZERO, Conv1d
from rtserve.fusion.ir.linear_view import LinearView
from rtserve.fusion.join import empty_model
from rtserve.fusion.mirror import mirror_order
from rtserve.fusion.program.affine_end import scaled
from rtserve.fusion.program.stage import share_views
from rtserve.fusion.views import KINDS, View, parse_view, parse_views
from rtserve.graphs.emit import Emitter
from rtserve.spec import InputSpec, OutputSpec
from rtserve.training.networks import CONTEST_CHANNELS

from .making import run_both

NET = InputSpec(n_chans=129, n_times=8, sfreq=100.0, ch_names=CONTEST_CHANNELS)
RESPONSE_TIME = OutputSpec(target="response_time")


def spec(n_chans=4, n_times=12, names=("F3", "F4", "Cz", "Pz")):
    return InputSpec(n_chans=n_chans, n_times=n_times, sfreq=100.0, ch_names=names[:n_chans])


def faces(view, x):
    """The view of x by torch, onnxruntime and the reference evaluator."""
    model = empty_model(*x.shape[1:])
    emit = Emitter(model.graph)
    linear = view if isinstance(view, LinearView) else view.linear(*x.shape[1:])
    y = emit("Identity", linear.onnx(emit, model.graph.inputs[0]))
    y.name, y.shape = "y", ir.Shape(["batch", *x.shape[1:]])
    model.graph.outputs.append(y)
    return (linear.torch(torch.from_numpy(x)).numpy(), *run_both(model, x))


def shifted(x, k):
    """x with k samples of zeros coming in, written without any library's roll or pad."""
    y = np.zeros_like(x)
    for t in range(x.shape[2]):
        if 0 <= t - k < x.shape[2]:
            y[:, :, t] = x[:, :, t - k]
    return y


MEANINGS = {
    "identity": lambda x, _: x,
    "roll": lambda x, k: np.stack([x[:, :, (t - k) % x.shape[2]] for t in range(x.shape[2])], axis=2),
    "crop-shift": shifted,
    "scale": lambda x, a: x * np.float32(a),
    "sign-flip": lambda x, _: -x,
    "time-reverse": lambda x, _: x[:, :, ::-1],
}
ARGUMENTS = {"roll": st.integers(-30, 30), "crop-shift": st.integers(-30, 30), "scale": st.floats(-3, 3, width=32)}
BOUND = {"mirror", "permute", "drop"}
"""Kinds that are another map for other channels: held against their meaning once they are bound."""


def test_every_kind_is_held_against_its_meaning():
    assert {*MEANINGS, *BOUND} == set(KINDS)


@pytest.mark.parametrize("kind", MEANINGS)
@settings(max_examples=20)
@given(data=st.data())
def test_both_faces_are_the_map_it_says(kind, data):
    argument = data.draw(ARGUMENTS.get(kind, st.none()))
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 12)))
    view = parse_view(kind if argument is None else f"{kind}:{argument}")
    x = np.random.default_rng(data.draw(st.integers(0, 99))).standard_normal(shape).astype("f4")
    wanted = MEANINGS[kind](x, argument)
    for got in faces(view, x):
        assert got.shape == x.shape
        assert np.array_equal(got, wanted)


@settings(max_examples=15)
@given(data=st.data())
def test_channel_views_have_one_meaning_in_both_faces(data):
    n = data.draw(st.integers(1, 4))
    order = data.draw(st.permutations(range(n)))
    dropped = data.draw(st.sets(st.integers(0, n - 1)))
    x = np.random.default_rng(0).standard_normal((2, n, 5)).astype("f4")
    for got in faces(View(name="permute:o", kind="permute", order=tuple(order)), x):
        assert np.array_equal(got, x[:, order])
    kept = np.ones((n, 1))
    kept[list(dropped)] = 0
    for got in faces(View(name="drop:d", kind="drop", dropped=tuple(sorted(dropped))), x):
        assert np.array_equal(got, (x * kept).astype("f4"))


@pytest.mark.parametrize("name", ["crop-shift:+3", "crop-shift:-20", "drop:F3", "roll:+2", "time-reverse", "sign-flip"])
def test_what_is_not_finite_stays_where_the_view_puts_it(name):
    x = np.ones((1, 4, 12), "f4")
    x[0, 0, 1], x[0, 0, -1], x[0, 1, 5] = np.nan, np.inf, -np.inf
    view = parse_view(name).bind(spec())
    one, two, three = faces(view, x)
    assert np.array_equal(one, two, equal_nan=True)
    assert np.array_equal(one, three, equal_nan=True)
    if name == "drop:F3":
        assert not one[0, 0].any()
    if name == "crop-shift:-20":
        assert not one.any()


@pytest.mark.parametrize("text", ["roll:+3", "crop-shift:-2", "scale:1.02", "sign-flip", "drop:E1+E2", "mirror"])
def test_names_are_canonical_and_come_back_from_json(text):
    view = parse_view(f" {text} ").bind(NET)
    assert view.name == text
    assert View.from_dict(json.loads(json.dumps(view.to_dict()))).bind(NET) == view


def test_a_list_of_views_is_read():
    assert [v.name for v in parse_views("identity,roll:3, scale:1.0200")] == ["identity", "roll:+3", "scale:1.02"]
    with pytest.raises(InputError, match="no view given"):
        parse_views("")


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("rol:+3", "unknown view 'rol:\\+3'", "did you mean roll"),
        ("blur", "unknown view", "views are identity, roll"),
        ("roll", "needs an argument", "roll:\\+3"),
        ("roll:", "needs an argument", "roll:\\+3"),
        ("roll:1.5", "'1.5' is not a whole number", "roll"),
        ("scale:much", "'much' is not a finite number", "scale"),
        ("scale:nan", "not a finite number", "scale"),
        ("scale:1e39", "not a finite number", "scale"),
        ("identity:3", "takes no argument", "roll"),
    ],
)
def test_a_view_that_cannot_be_read_says_why(text, message, hint):
    with pytest.raises(InputError, match=message) as caught:
        parse_view(text)
    assert __import__("re").search(hint, caught.value.hint)


def test_channels_are_found_by_name_number_and_both_names_of_the_vertex():
    assert parse_view("drop:Pz+F3").bind(spec()).dropped == (0, 3)
    assert parse_view("drop:2").bind(spec(names=())).dropped == (2,)
    assert parse_view("drop:E129+E1").bind(NET).dropped == (0, 128)
    with pytest.raises(InputError, match="no channel Oz; the windows have F3, F4"):
        parse_view("drop:F3+Oz").bind(spec())
    with pytest.raises(InputError, match="no channel 4"):
        parse_view("drop:4").bind(spec(names=()))


def test_an_order_is_read_by_name_or_index(tmp_path):
    for text in ('["F4", "F3", "Cz", "Pz"]', "1\n0\n2\n3\n", "F4 F3 2 3"):
        (tmp_path / "order.txt").write_text(text)
        view = parse_view(f"permute:{tmp_path / 'order.txt'}").bind(spec())
        assert (view.name, view.order) == ("permute:order.txt", (1, 0, 2, 3))
    for text, message in (("0 1 2", "no permutation: 3 entries"), ("0 0 1 2", "3 different"), ("a b c d", "invalid")):
        (tmp_path / "order.txt").write_text(text)
        with pytest.raises(InputError, match=message):
            parse_view(f"permute:{tmp_path / 'order.txt'}").bind(spec())
    with pytest.raises(InputError, match="does not exist"):
        parse_view("permute:nowhere.txt").bind(spec())


def test_mirror_goes_by_positions_not_by_numbers():
    order = mirror_order(NET)
    assert np.array_equal(np.array(order)[list(order)], np.arange(129))
    assert order[128] == 128
    mne = pytest.importorskip("mne")
    positions = mne.channels.make_standard_montage("GSN-HydroCel-129").get_positions()["ch_pos"]
    xyz = np.array([positions[name] for name in CONTEST_CHANNELS])
    distance = np.linalg.norm(xyz[list(order)] * [-1, 1, 1] - xyz, axis=1)
    assert distance.max() < 0.012
    odd_even = [min(i + 1, 128) if i % 2 == 0 else i - 1 for i in range(129)]
    assert list(order) != odd_even
    assert mirror_order(spec()) == (1, 0, 2, 3)


def test_mirror_of_what_has_no_mirror_is_refused():
    for names, message in (((), "no names"), (("F3", "C3", "P3", "O1"), "no partner"), (("a", "b", "c", "d"), "a, b")):
        with pytest.raises(InputError, match=message) as caught:
            mirror_order(spec(names=names))
        assert "permute:FILE" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "output", "forceable"),
    [
        ("time-reverse", RESPONSE_TIME, True),
        ("mirror", OutputSpec(n_outputs=4, target="class"), True),
        ("roll:+12", RESPONSE_TIME, True),
        ("crop-shift:-12", RESPONSE_TIME, False),
        ("drop:F3+F4+Cz+Pz", RESPONSE_TIME, True),
    ],
)
def test_a_view_that_breaks_the_target_is_refused_with_a_reason(text, output, forceable):
    refusal = parse_view(text).bind(spec()).valid_for(spec(), output)
    assert refusal is not None
    assert refusal.forceable is forceable
    assert refusal.reason


@pytest.mark.parametrize(
    "text", ["identity", "roll:+11", "crop-shift:-11", "scale:0.98", "sign-flip", "mirror", "drop:F3"]
)
def test_a_view_that_keeps_the_target_is_not(text):
    assert parse_view(text).bind(spec()).valid_for(spec(), RESPONSE_TIME) is None
    assert parse_view("time-reverse").valid_for(spec(), OutputSpec(target="externalizing")) is None


@st.composite
def linear_views(draw, n_chans, n_times):
    """Return any view: any sample and any channel, or zeros, in the place of each."""
    index = [st.lists(st.integers(ZERO, n - 1), min_size=n, max_size=n) for n in (n_times, n_chans)]
    times = draw(st.one_of(index[0], st.just(list(range(n_times))), st.just(list(range(n_times))[::-1])))
    channels = draw(st.one_of(index[1], st.just(list(range(n_chans)))))
    factor = draw(st.sampled_from((1.0, -1.0, 0.5)))
    return LinearView(times=np.array(times), channels=np.array(channels), factor=factor)


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [("roll:+3", "roll:-7", True), ("scale:1", "identity", True), ("sign-flip", "scale:-1", True),
     ("crop-shift:+0", "roll:+10", True), ("crop-shift:+3", "roll:+3", False), ("scale:2", "scale:3", False)],
)  # fmt: skip
def test_one_map_under_two_names_is_one_view(one, other, equal):
    assert (parse_view(one).linear(2, 10).key == parse_view(other).linear(2, 10).key) == equal


def taken(view, x):
    """What its three fields say, one number at a time."""
    y = np.zeros_like(x)
    for c, channel in enumerate(view.channels):
        for t, time in enumerate(view.times):
            if channel != ZERO and time != ZERO:
                y[:, c, t] = view.factor * x[:, channel, time]
    return y


@settings(max_examples=40)
@given(data=st.data())
def test_any_linear_view_is_its_three_fields_and_one_of_another_is_a_view(data):
    shape = data.draw(st.tuples(st.just(2), st.integers(1, 3), st.integers(1, 7)))
    first, second = (data.draw(linear_views(*shape[1:])) for _ in range(2))
    x = np.random.default_rng(3).integers(-9, 10, shape).astype("f4")
    x[0, 0, 0] = np.inf
    with np.errstate(invalid="ignore"):
        for got in faces(first, x):
            np.testing.assert_array_equal(got, taken(first, x))
        np.testing.assert_array_equal(taken(first.then(second), x), taken(second, taken(first, x)))


@settings(max_examples=40)
@given(data=st.data())
def test_views_of_any_kinds_share_a_stage(data):
    n_chans, n_times, taps = 3, 9, data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 9)))
    weight = rng.integers(-3, 4, (2, n_chans, taps)).astype("f4")
    left, right = data.draw(st.integers(0, 2)), data.draw(st.integers(0, 2))
    stage = Conv1d(weight=weight, bias=np.array([1, -2], "f4"), stride=data.draw(st.integers(1, 3)), left=left, right=right,
                   n_in=n_times, rows=0, axis=2)  # fmt: skip
    named = [
        parse_view(name).linear(n_chans, n_times) for name in ("roll:+2", "scale:-2", "time-reverse", "crop-shift:-1")
    ]
    kinds = st.one_of(linear_views(n_chans, n_times), st.sampled_from(named))
    views = [a.then(b) for a, b in data.draw(st.lists(st.tuples(kinds, kinds), min_size=1, max_size=4))]
    x = rng.integers(-4, 5, (2, n_chans, n_times)).astype("f4")
    model = empty_model(n_chans, n_times)
    emit = Emitter(model.graph)
    shared = share_views(emit, model.graph.inputs[0], stage, [replace(view, factor=1.0) for view in views])
    bias = stage.bias[:, None].astype("f8")
    parts = [scaled(emit, signal, view.factor, bias).value for signal, view in zip(shared, views, strict=True)]
    y = emit("Concat", *parts, axis=1) if len(parts) > 1 else emit("Identity", parts[0])
    y.name, y.shape = "y", ir.Shape(["batch", 2 * len(views), stage.n_out])
    model.graph.outputs.append(y)
    kernel, bias = torch.from_numpy(weight), torch.tensor([1.0, -2.0])
    wanted = [
        torch.nn.functional.conv1d(
            torch.nn.functional.pad(torch.from_numpy(taken(view, x)), (left, right)), kernel, bias, stride=stage.stride
        ).numpy()
        for view in views
    ]
    for got in run_both(model, x):
        np.testing.assert_allclose(got, np.concatenate(wanted, axis=1), atol=1e-4)


@pytest.mark.parametrize("without", ["channels", "times"])
def test_views_that_read_nothing_share_a_stage_of_zeros(without):
    stage = Conv1d(weight=np.ones((2, 3, 2), "f4"), bias=np.array([1, -2], "f4"), stride=1, n_in=9, rows=0, axis=2)
    whole = LinearView(times=np.arange(9), channels=np.arange(3))
    none = replace(whole, **{without: np.full_like(getattr(whole, without), ZERO)})
    model = empty_model(3, 9)
    emit = Emitter(model.graph)
    signals = share_views(emit, model.graph.inputs[0], stage, [none, replace(none, times=np.roll(none.times, 2))])
    y = emit("Concat", *(signal.value for signal in signals), axis=1)
    y.name, y.shape = "y", ir.Shape(["batch", 4, stage.n_out])
    model.graph.outputs.append(y)
    x = np.full((2, 3, 9), np.nan, "f4")
    for got in run_both(model, x):
        np.testing.assert_array_equal(got, np.tile(np.float32([1, -2, 1, -2])[:, None], (2, 1, stage.n_out)))
