"""The record of a fusion by stages: it adds up, says what is shared, and changes nothing but metadata."""

from __future__ import annotations

import onnx_ir as ir
import pytest

from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.plan import Merge
from rtserve.fusion.run import pipeline
from rtserve.graphs.graph import Graph
from rtserve.graphs.stages import Stages, stages_of
from tests.fusion.networks import attention, conv_net, eegnet, network

VIEWS = "identity,roll:+4,scale:1.5,drop:2"


def fused(bodies, views=VIEWS, **options):
    graphs = [network(body, seed=seed) for seed, body in enumerate(bodies)]
    graph, report, _ = fuse_with_report(graphs, views=views, parity=False, **options)
    return graph, report


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("body", [conv_net, eegnet, attention])
def test_the_stages_add_up_to_the_graph_and_to_the_loop(body, optimize, engine):
    graph, report = fused([body, body], optimize=optimize, engine=engine)
    stages = graph.stages
    assert stages.nodes == graph.model.graph.num_nodes()
    assert stages.macs == report.macs_after
    assert stages.loop == report.macs_before
    heavy = [one for one in stages.stages if one.loop]
    assert {(one.members, one.views) for one in heavy} == {(2, 4)}
    if not optimize:
        assert all(one.loop == one.macs and one.sharing.endswith("each view by itself") for one in heavy)


def test_what_views_share_is_said_of_the_stage_that_shares_it():
    graph, _ = fused([conv_net], "identity,scale:1.5,sign-flip", engine="torch")
    first, second, *_, last = [one for one in graph.stages.stages if one.loop]
    assert first.what.startswith("convolution along time, 7 taps, 6 -> 8, stride 2")
    assert first.sharing == "1 member x 3 views: one computation for all views"
    assert 3 * first.macs == first.loop
    assert second.sharing == "1 member x 3 views: each view by itself"
    assert second.macs == second.loop
    assert last.shared  # the mean over views is taken in front of it
    assert last.what == "dense layer, 5 -> 1 + mean of 3 branches"
    assert not any(one.shared for one in fused([conv_net], "identity")[0].stages.stages)


def test_windows_across_the_joints_of_a_roll_are_a_stage_of_their_own():
    graph, _ = fused([conv_net], "identity,roll:+4", engine="native")
    (seams,) = [one for one in graph.stages.stages if one.what.startswith("view seams")]
    assert seams.macs > 0
    assert not any(one.what.startswith("view seams") for one in fused([conv_net], "identity,scale:2")[0].stages.stages)


def test_layers_that_became_one_are_one_stage():
    graph, _ = fused([eegnet], "identity", engine="torch")
    (stage,) = [one for one in graph.stages.stages if "batch normalisation" in one.what]
    assert "1 x 9" in stage.what
    assert "depthwise convolution 6 x 1, 3 -> 6" in stage.what
    assert stage.macs < stage.loop


def test_networks_of_two_kinds_keep_their_own_stages_and_a_branch_of_no_weight_is_left_out():
    both, report = fused([conv_net, attention], "identity")
    assert {one.members for one in both.stages.stages if one.loop} == {1}
    assert any(one.what.startswith("attention") for one in both.stages.stages)
    one, _ = fused([conv_net, attention], "identity", merge=Merge(kind="weighted", weights=(1.0, 0.0)))
    gone = one.stages.stages[-1]
    assert gone.what == "left out: its branches weigh nothing"
    assert (gone.macs, gone.nodes) == (0, 0)
    assert one.stages.loop == both.stages.loop == report.macs_before


def test_the_record_changes_no_byte_of_the_graph_but_metadata(monkeypatch):
    def bare(graph: Graph) -> bytes:
        proto = ir.serde.serialize_model(graph.model)
        del proto.metadata_props[:]
        return proto.SerializeToString(deterministic=True)

    told, _ = fused([conv_net, conv_net])
    monkeypatch.setattr(pipeline, "mark_layers", lambda model, member: model)
    monkeypatch.setattr(pipeline, "recorded", lambda model, networks: None)
    silent, _ = fused([conv_net, conv_net])
    assert silent.stages is None
    assert bare(silent) == bare(told)


def test_a_record_is_read_back_and_is_not_believed_of_another_graph():
    graph, _ = fused([conv_net, conv_net])
    again = Graph.from_bytes(graph.to_bytes())
    assert again.stages == graph.stages
    assert again.digest == graph.digest
    other = again.clone_model()
    output = other.graph.outputs[0]
    twice = ir.node("Add", [output, output])
    other.graph.append(twice)
    other.graph.outputs[0] = twice.outputs[0]
    twice.outputs[0].name, twice.outputs[0].shape, twice.outputs[0].type = "twice", output.shape, output.type
    other.metadata_props.update(graph.metadata())
    changed = Graph.from_model(other)
    assert changed.stages is not None
    assert not stages_of(changed).recorded
    assert stages_of(changed).nodes == graph.model.graph.num_nodes() + 1


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"schema": 2}', "[" * 100_000, '{"schema": 1, "columns": [], "rows": []}']
)
def test_a_record_that_cannot_be_read_is_none(text):
    assert Stages.from_json(text) is None
    graph, _ = fused([conv_net], "identity")
    told = graph.stages.to_dict()
    for place, value in ((2, -1), (2, "2"), (4, float("nan")), (5, None), (6, True), (7, 1.5)):
        assert (
            Stages.from_dict(told | {"rows": [[*row[:place], value, *row[place + 1 :]] for row in told["rows"]]})
            is None
        )
