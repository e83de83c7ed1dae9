"""The picture of a graph's stages: readable however large the graph, and safe whatever its texts are."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import onnx_ir as ir
import pytest

from rtserve.graphs.stage_folding import MOST, few
from rtserve.graphs.stage_picture import draw_stages, millions, stages_alt
from rtserve.graphs.stages import Stage, Stages, stages_of
from rtserve.spec import Provenance
from tests.fusion.making import foreign, network

HOSTILE = "<script>alert(1)</script>\"'&\x00\x1b[31m\u202e\n"
"""What a file may call its network."""


def texts(svg: str) -> str:
    return " ".join(one.text or "" for one in ElementTree.fromstring(svg).iter() if one.tag.endswith("text"))


def block(k: int) -> list[Stage]:
    dense = Stage(what="dense layer, 8 -> 8", members=2, views=3, work=3.0, macs=10 + k, loop=20, nodes=2)
    return [Stage(what="layer normalisation", nodes=1), dense, replace(dense, what="attention over 9 tokens", work=1.0)]


def test_a_graph_that_does_not_say_shows_its_layers_and_that_sharing_is_unknown():
    stages = stages_of(foreign())
    assert [one.what for one in stages.stages] == [
        "convolution along time, 3 taps, 4 -> 6, leaky ReLU", "mean over all samples", "dense layer, 6 -> 1",
    ]  # fmt: skip
    assert not stages.recorded
    svg = draw_stages(stages)
    assert "not known: the graph does not say" in texts(svg)
    assert "each view" not in svg
    assert "not known" not in draw_stages(stages_of(network()))  # one network as exported: nothing could be shared


@pytest.mark.parametrize("text", [HOSTILE, "x" * 500, "\u8133" * 200])
def test_what_a_file_says_is_escaped_and_fits(text):
    stages = Stages(stages=(Stage(what=text, network=text), Stage(what="b", network="other", macs=3, loop=9, nodes=1)))
    svg = draw_stages(stages)
    tree = ElementTree.fromstring(svg)
    assert {one.tag.rpartition("}")[2] for one in tree.iter()} <= {"svg", "rect", "path", "text"}
    assert "<script" not in svg
    assert "\x00" not in svg
    assert "\u202e" not in svg
    wide = float(tree.get("viewBox").split()[2])
    for one in tree.iter():
        if one.tag.endswith("text") and "\u8133" in (one.text or ""):
            assert len(one.text) * float(one.get("font-size")) <= 1.15 * wide
    assert "\x00" not in stages_alt(stages)


def test_hostile_nodes_and_names_of_a_graph_leave_the_card_whole():
    graph = foreign()
    for node in graph.model.graph:
        node.name = HOSTILE
        for value in node.outputs[: node.op_type != "MatMul"]:
            value.name = f"{HOSTILE}{value.name}"
    hostile = replace(graph, provenance=Provenance(kind="fuse", details={"members": [{"digest": HOSTILE}]}))
    page = hostile._repr_html_()
    assert "<script" not in page
    ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])


def test_attributes_that_no_operator_has_leave_one_stage():
    graph = foreign()
    next(iter(graph.model.graph)).attributes["group"] = ir.AttrString("group", HOSTILE)
    (stage,) = stages_of(graph).stages
    assert (stage.what, stage.nodes) == ("5 nodes", 5)
    assert "5 nodes" in graph._repr_html_()


def test_a_large_graph_is_drawn_as_few_stages_that_still_add_up():
    front = [Stage(what="convolution", macs=500, loop=900, nodes=1)]
    many = [*front, *(stage for k in range(40) for stage in block(k)), Stage(what="mean of 6 branches", nodes=3)]
    found = few(many)
    assert [one.what for one in found[:3]] == ["convolution", "40 x layer normalisation", "40 x dense layer, 8 -> 8"]
    assert found[3].sharing.endswith("one computation for all views")
    odd = [replace(front[0], what=f"step {k}", macs=k) for k in range(300)]
    for stages in (many, odd, [*many, *odd]):
        shown = few(stages)
        assert len(shown) <= MOST
        for kind in ("macs", "nodes"):
            assert sum(getattr(one, kind) for one in shown) == sum(getattr(one, kind) for one in stages)
        assert sum(one.loop or 0 for one in shown) == sum(one.loop or 0 for one in stages)
    assert "..." in few(odd)[0].what
    assert few(front) == front


def test_costs_read_as_people_write_them():
    assert [millions(n) for n in (0, 320, 999, 81_920, 40_262_720, 999_999_999, 5 * 10**12)] == [
        "0", "320", "999", "81.92 k", "40.26 M", "1.00 G", "5,000 G",
    ]  # fmt: skip
