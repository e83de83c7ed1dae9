"""Windows as a person has them in Python: each kind is read as it says itself, and nothing that it leaves out is made up."""

from __future__ import annotations

from dataclasses import replace

import mne
import numpy as np
import pytest
import torch

from rtserve.errors import InputError, RtserveError, SpecMismatchError
from rtserve.measure.evaluate import evaluate
from rtserve.measure.predict import predict
from rtserve.signals.given import given_windows
from rtserve.signals.windows import WindowSet, load_windows, save_windows
from rtserve.spec import InputSpec, OutputSpec
from tests.fusion.making import network
from tests.signals.test_epochs_file import epochs

SPEC = InputSpec(n_chans=8, n_times=50, sfreq=100.0, unit="uV")
RNG = np.random.default_rng(3)
X = (10 * RNG.standard_normal((12, 8, 50))).astype(np.float32)
Y = RNG.standard_normal(12).astype(np.float32)


@pytest.fixture(scope="module")
def graph():
    return replace(network(spec=SPEC, target=""), input_spec=SPEC)


@pytest.fixture(scope="module")
def classifier():
    made = network(spec=SPEC, n_outputs=2, target="class")
    return replace(made, output_spec=OutputSpec(n_outputs=2, target="class", classes=("left", "right"), form="logits"))


class Pairs(torch.utils.data.Dataset):
    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, k):
        return self.X[k], self.y[k], [0, 0, 50]


def test_an_array_in_the_unit_of_the_graph_is_not_touched(graph):
    from rtserve.graphs.runners import OnnxruntimeRunner

    own = OnnxruntimeRunner(graph).infer(X)
    for unit in ("uV", "graph", "µV"):
        np.testing.assert_array_equal(predict(graph, X, unit=unit), own)
    np.testing.assert_allclose(predict(graph, 1e-6 * X, unit="V"), own, rtol=1e-4, atol=1e-5)
    assert own.shape == (12, 1)


@pytest.mark.parametrize(
    "turned",
    [
        X.astype(np.float64),
        X.astype(">f4"),
        np.asfortranarray(X),
        torch.from_numpy(X).requires_grad_(),
        torch.from_numpy(X).double(),
        torch.from_numpy(X).to_sparse(),
        Pairs(X, Y),
        torch.utils.data.Subset(Pairs(X, Y), range(12)),
    ],
    ids=["float64", "big-endian", "fortran", "tensor", "double tensor", "sparse", "data set", "subset"],
)
def test_arrays_of_any_make_are_one(graph, turned):
    np.testing.assert_array_equal(predict(graph, turned, unit="uV"), predict(graph, X, unit="uV"))


def test_a_file_a_set_and_a_pair_score_the_same(graph, tmp_path):
    windows = WindowSet(X=X * np.float32(1e-6), y=Y, sfreq=100.0)
    path = save_windows(tmp_path / "w.npz", windows)
    found = [
        evaluate(graph, windows, resamples=0),
        evaluate(graph, path, resamples=0),
        evaluate(graph, (X, Y), unit="uV", resamples=0),
        evaluate(graph, (torch.from_numpy(X), Y.tolist()), unit="uV", resamples=0),
        evaluate(graph, Pairs(X, Y), unit="uV", resamples=0),
    ]
    assert len({(one.data_digest, one["nrmse"].value) for one in found}) == 1


def test_epochs_are_volts_and_their_classes_go_by_name(classifier):
    given = epochs()  # right is code 4 and left 5, so the order of codes is not the graph's
    found = evaluate(classifier, given, resamples=0)
    names = {code: name for name, code in given.event_id.items()}
    assert [("left", "right")[int(k)] for k in found.targets] == [names[code] for code in given.events[:, 2]]
    volts = predict(classifier, given)
    np.testing.assert_allclose(volts, predict(classifier, 1e6 * given.get_data(copy=True), unit="uV"), rtol=1e-4)
    assert not given.info["bads"]
    assert len(given) == 12


def test_names_of_classes_get_their_numbers_from_the_graph_or_the_caller(classifier, graph):
    y = np.array(["right", "left"] * 6)
    for labels in (y, y.tolist(), y.astype(object)):
        np.testing.assert_array_equal(evaluate(classifier, (X, labels), unit="uV", resamples=0).targets, [1, 0] * 6)
    with pytest.raises(InputError, match="which class number") as caught:
        given_windows((X, y), unit="uV")
    assert 'classes=("left", "right")' in caught.value.hint
    assert given_windows((X, y), unit="uV", classes=("right", "left")).windows.y.tolist() == [0, 1] * 6
    with pytest.raises(InputError, match="'up'"):
        evaluate(classifier, (X, ["up", "left"] * 6), unit="uV")


def test_the_callers_epochs_that_were_not_read_yet_stay_so(graph):
    raw = mne.io.RawArray(1e-5 * RNG.standard_normal((8, 900)), mne.create_info(8, 100.0, "eeg"), verbose="error")
    events = np.array([[100, 0, 1], [300, 0, 1], [890, 0, 1]])  # the last has too few samples
    lazy = mne.Epochs(raw, events, tmin=0, tmax=0.49, baseline=None, preload=False, verbose="error")
    assert predict(graph, lazy).shape == (2, 1)
    assert not lazy.preload
    assert len(lazy.events) == 3
    assert evaluate(graph, (lazy, [0.3, 0.7]), resamples=0).n == 2


def _named():
    one = epochs()
    one.rename_channels(dict(zip(one.ch_names, "abcdefgh", strict=True)))
    return one


def test_channels_that_are_not_the_graphs_are_told_with_the_cure(graph):
    named = replace(graph, input_spec=replace(SPEC, ch_names=tuple("abcdefgh")))
    with pytest.raises(SpecMismatchError, match="n_chans 6 against 8") as caught:
        predict(named, _named().drop_channels(["b", "g"]))
    assert "lack b, g" in caught.value.hint
    with pytest.raises(SpecMismatchError, match="another order") as caught:
        predict(named, _named().reorder_channels(list("bacdefgh")))
    assert "reorder_channels" in caught.value.hint
    with pytest.raises(SpecMismatchError, match="sfreq 250"):
        predict(graph, X, unit="uV", sfreq=250)
    with pytest.raises(SpecMismatchError, match="n_times 40"):
        predict(graph, X[:, :, :40], unit="uV")


REFUSED = {
    "no unit": (X, {}, 'unit="uV"'),
    "a set without a unit": (WindowSet(X=X, y=Y, unit=None), {}, 'unit="graph"'),
    "a set in volts said to be in microvolt": (WindowSet(X=X * 1e-6, y=Y), {"unit": "uV"}, "leave unit= out"),
    "epochs said to be in microvolt": (epochs(), {"unit": "uV"}, "get_data"),
    "a data set without a unit": (Pairs(X, Y), {}, 'unit="graph"'),
    "an unknown unit": (X, {"unit": "parsec"}, "use one of"),
    "a unit that is a number": (X, {"unit": 1e-6}, 'unit="uV"'),
    "volts that are none": (X, {"unit": "V"}, "uV"),
    "a rate that is none": (X, {"unit": "uV", "sfreq": "fast"}, "Hz"),
    "one window": (X[0], {"unit": "uV"}, "X[None]"),
    "a list": (list(X), {"unit": "uV"}, "numpy.stack"),
    "a pair": ((X, Y), {"unit": "uV"}, "X alone"),
    "a triple": ((X, Y, Y), {"unit": "uV"}, "(X, y)"),
    "a state_dict": (torch.nn.Linear(2, 2).state_dict(), {}, "rtserve.export"),
    "a module": (torch.nn.Linear(2, 2), {}, "MNE Epochs"),
    "nothing": (None, {}, "MNE Epochs"),
    "objects": (np.array([x for x in X] + [None], dtype=object), {"unit": "uV"}, "numpy.stack"),
    "texts": (np.full((2, 8, 50), "a"), {"unit": "uV"}, "numbers"),
    "complex": (X.astype(complex), {"unit": "uV"}, "numbers"),
    "no window": (X[:0], {"unit": "uV"}, "at least one"),
    "NaN": (np.where(X > 20, np.nan, X), {"unit": "uV"}, "drop or repair"),
    "too large for float32": (X.astype(float) * 1e39, {"unit": "uV"}, "drop or repair"),
    "masked": (np.ma.masked_greater(X, 10), {"unit": "uV"}, "drop or repair"),
    "no file": (b"w.npz", {"unit": "uV"}, "MNE Epochs"),
    "no epoch": (epochs()[[]], {}, "drop_log"),
    "an evoked": (epochs().average(), {}, "mne.Epochs"),
    "a tensor without numbers": (torch.empty(2, 8, 50, device="meta"), {"unit": "uV"}, "numbers"),
    "a data set of other lengths": (Pairs([X[0], X[1][:, :9]], Y), {"unit": "uV"}, "one length"),
    "no such file": ("nowhere.npz", {}, ""),
    "no batch": (X, {"unit": "uV", "batch": 0}, "at least 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_windows_is_refused_with_what_to_do(graph, case):
    windows, options, cure = REFUSED[case]
    with pytest.raises(RtserveError) as caught:
        predict(graph, windows, **options)
    assert cure in caught.value.hint
    assert caught.value.hint in str(caught.value)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (Y[:5], "for 12 windows"),
        (np.where(Y > 0, np.nan, Y), "targets do"),
        ([None] * 12, "object"),
        ([[1], [1, 2]] * 6, "cannot be read"),
        (3.0, "for 12 windows"),
        (Y.astype("datetime64[s]"), "datetime64"),
    ],
)
def test_targets_that_are_none_are_refused(graph, y, said):
    with pytest.raises(InputError, match=said):
        evaluate(graph, (X, y), unit="uV")


def test_what_is_no_path_and_no_name_is_told(graph):
    for wrong in (None, 3, X):
        with pytest.raises(InputError, match="is no path of a"):
            load_windows(wrong)
    with pytest.raises(InputError, match="are no names"):
        evaluate(graph, (X, Y), unit="uV", classes=3)
    assert evaluate(graph, (X, Y), unit="uV", metrics="rmse", resamples=0)["rmse"].value > 0


def test_an_array_alone_cannot_be_scored_and_a_dict_is_no_graph(graph):
    with pytest.raises(InputError, match="no targets") as caught:
        evaluate(graph, X, unit="uV")
    assert "(X, y)" in caught.value.hint
    for wrong in ({}, None, torch.nn.Linear(2, 2), X):
        with pytest.raises(InputError, match="is no graph") as caught:
            predict(wrong, X)
        assert "rtserve.export(module, example)" in caught.value.hint


@pytest.mark.needs("braindecode")
def test_a_braindecode_set_says_its_rate_its_channels_and_whose_windows_they_are(graph):
    from braindecode.datasets import create_from_X_y

    made = create_from_X_y(
        X, Y.astype(int), drop_last_window=False, sfreq=100.0, ch_names=list("abcdefgh"), window_size_samples=50,
        window_stride_samples=50,
    )  # fmt: skip
    found = given_windows(made, unit="uV")
    assert (found.windows.sfreq, found.windows.ch_names) == (100.0, tuple("abcdefgh"))
    np.testing.assert_allclose(found.X, X, rtol=1e-6)
    with pytest.raises(InputError, match="does not say the unit"):
        given_windows(made)
    with pytest.raises(SpecMismatchError, match=r"sfreq 100\.0 against 200"):
        predict(replace(graph, input_spec=replace(SPEC, sfreq=200.0)), made, unit="uV")
