"""One list of engines for all commands, and passes whose conditions of order hold."""

import pytest
from click.testing import CliRunner

from rtserve.cli.main import cli
from rtserve.errors import InputError
from rtserve.fusion.engines import ENGINES
from rtserve.fusion.fuse import fuse
from rtserve.fusion.run.order import PASSES, PORTABLE, passes_for
from rtserve.graphs.engines import ENGINES as NAMES
from rtserve.graphs.engines import LAYOUTS, engine_called
from rtserve.graphs.plan import graph_to_plan
from rtserve.graphs.runners import make_runner
from tests.fusion.local.test_attention import multihead
from tests.fusion.making import network
from tests.fusion.networks import attention, conv_net, eegnet
from tests.fusion.networks import network as small


def test_every_engine_has_one_name():
    assert tuple(ENGINES) == LAYOUTS
    assert set(LAYOUTS) < set(NAMES)
    assert all(engine.name == name for name, engine in ENGINES.items())
    assert [make_runner(network(), name).name for name in ("onnxruntime", "torch", "reference")] == [
        "onnxruntime", "torch", "reference"
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["fuse", "evaluate", "bench"])
def test_commands_offer_the_same_names(command):
    text = CliRunner().invoke(cli, [command, "--help"]).output.replace("\n", "").replace(" ", "")
    assert "|".join(LAYOUTS) in text or "|".join(NAMES) in text
    assert "torch_plan" not in text


def test_names_of_version_0_1_are_taken(tmp_path):
    assert engine_called("torch_plan") == "torch"
    assert make_runner(network(), "torch_plan").name == "torch"
    assert fuse([network()], engine="torch_plan").provenance.details["engine"] == "torch"
    path = tmp_path / "a.onnx"
    network().save(path)
    told = CliRunner().invoke(cli, ["bench", str(path), "--engine", "torch_plan", "--rounds", "1"])
    assert told.exit_code == 0, told.output
    assert "[torch]" in told.output
    refused = CliRunner().invoke(cli, ["bench", str(path), "--engine", "torch_plans"])
    assert refused.exit_code == 2


def test_passes_run_behind_those_they_need():
    names = [one.name for one in PASSES]
    assert len(set(names)) == len(names)
    for place, one in enumerate(PASSES):
        assert set(one.after) <= set(names[:place])
        assert set(one.engines) <= set(ENGINES)
        assert one.scope in ("member", "whole")
        assert one.why
    assert all(passes_for(engine, "member") for engine in ENGINES)
    assert passes_for("onnxruntime", "whole")


@pytest.mark.parametrize(
    ("members", "views"),
    [(1, "identity"), (3, "identity"), (3, "identity,roll:+3,roll:-3,scale:1.02")],
)
@pytest.mark.parametrize("body", [conv_net, eegnet, attention, multihead])
def test_torch_is_given_no_more_nodes_than_the_plain_graph_has(body, members, views):
    graphs = [small(body, seed=seed) for seed in range(members)]
    plain, ours = (fuse(graphs, views=views, engine="torch", optimize=optimize) for optimize in (False, True))
    before, after = (len(graph_to_plan(graph)[0]["nodes"]) for graph in (plain, ours))
    assert after <= before


def test_a_graph_for_either_engine_has_nothing_for_blocks_alone():
    graph = fuse([small(conv_net)], views="identity,roll:+3,roll:-3", passes=PORTABLE)
    applied = graph.provenance.details["passes"]
    assert "layout" in applied
    assert not {one.name for one in PASSES if one.blocked} & set(applied)


@pytest.mark.parametrize("name", ["reference", "auto", "all"])
def test_an_engine_for_measuring_is_no_layout_and_it_is_said_where_it_is_one(name, tmp_path):
    with pytest.raises(InputError) as caught:
        fuse([network()], engine=name)
    said = CliRunner().invoke(cli, ["fuse", str(network().save(tmp_path / "m.onnx")), "-o", "f.onnx", "--engine", name])
    assert said.exit_code == 2
    for text in (caught.value.hint, " ".join(said.output.split())):
        assert f"rtserve bench GRAPH --engine {name}" in text
        assert "laid out for onnxruntime or openvino" in text


def test_an_engine_that_one_command_does_not_take_is_no_matter_of_layouts():
    said = CliRunner().invoke(cli, ["evaluate", "f.onnx", "--engine", "all"]).output
    assert "is not one of" in said
    assert "laid out" not in said
