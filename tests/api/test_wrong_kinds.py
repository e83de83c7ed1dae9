"""An argument of another kind than asked is named with what it should be, never by Python's own error."""

import numpy as np
import pytest
import torch

import rtserve
from rtserve.errors import InputError
from rtserve.spec import InputSpec
from tests.fusion.making import network


@pytest.fixture(scope="module")
def graph():
    return network()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda graph: rtserve.stream(graph, hop="5"), "hop '5' is no whole number of samples"),
        (lambda graph: rtserve.stream(graph, hop=2.5), r"hop 2\.5 is no whole number of samples"),
        (lambda graph: rtserve.bench(graph, rounds="7"), "rounds '7' is no whole number"),
        (lambda graph: rtserve.bench(graph, threads=1.5), r"threads 1\.5 is no whole number"),
        (lambda graph: rtserve.fuse([graph], views=3), "views 3 name no view"),
        (lambda graph: rtserve.fuse([graph], views=["identity", 3]), "view 3 is no view"),
        (lambda graph: rtserve.fuse([graph], merge=3), "merge 3 is no merge"),
    ],
)
def test_it_is_named(graph, call, said):
    with pytest.raises(InputError, match=said) as caught:
        call(graph)
    assert caught.value.hint


@pytest.mark.parametrize("given", [["Cz", "Pz"], ("Cz", "Pz"), "Cz, Pz"])
def test_names_are_names_however_they_are_listed(given):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(2 * 20, 1))
    graph = rtserve.export(
        module, np.zeros((1, 2, 20), np.float32), sfreq=100, unit="uV", ch_names=given, classes=given
    )
    assert graph.input_spec.ch_names == graph.output_spec.classes == ("Cz", "Pz")
    stated = InputSpec(n_chans=2, n_times=20, ch_names=["Cz", "Pz"])
    assert stated == InputSpec(n_chans=2, n_times=20, ch_names=("Cz", "Pz"))
    assert rtserve.fuse([graph], stated={"ch_names": given}).input_spec.ch_names == ("Cz", "Pz")
