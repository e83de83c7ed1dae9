"""An argument of another kind than asked is named with what it should be, never by Python's own error."""

import pytest

import rtserve
from rtserve.errors import InputError
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
