"""Fusing: the graph is the plan, whatever the members, and what does not fit is refused before anything is written."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from rtserve.errors import InputError, ParityError, SpecMismatchError
from rtserve.fusion.fuse import fuse, fuse_with_report
from rtserve.fusion.plan import Calibration
from rtserve.fusion.views import parse_views
from rtserve.graphs.graph import Graph
from rtserve.graphs.parity import relative_error
from rtserve.graphs.runners import OnnxruntimeRunner, PlanRunner, ReferenceRunner
from rtserve.spec import InputSpec, Provenance

from .making import SPEC, constant, foreign, network, windows

A, B, C = network(1), network(2), network(3, kind="mlp")


def infer(graph, x):
    return OnnxruntimeRunner(graph).infer(x)


def by_hand(members, views, x, reduce=lambda y: y.mean(0)):
    """The plan computed member by member and view by view in float64 by onnx's own evaluator."""
    import torch

    seen = [view.bind(SPEC).torch(torch.from_numpy(x)).numpy() for view in parse_views(views)]
    return reduce(np.stack([ReferenceRunner(member).infer(v) for member in members for v in seen]))


def same(got, wanted):
    return relative_error(got, wanted) <= 1e-5


@pytest.mark.parametrize("merge", ["mean", "median", "trimmed:0.3"])
@pytest.mark.parametrize(
    ("members", "views"),
    [
        ((A,), "identity"),
        ((A,), "identity,roll:+3,roll:-3,scale:1.02,scale:0.98"),
        ((A, B), "identity,crop-shift:+2,sign-flip"),
        ((A, B, C), "identity,drop:F3+Pz,mirror"),
    ],
)
def test_the_graph_is_the_plan(members, views, merge):
    reduce = {
        "mean": lambda y: y.mean(0),
        "median": lambda y: np.median(y, 0),
        "trimmed:0.3": lambda y: np.sort(y, 0)[int(0.3 * len(y)) : len(y) - int(0.3 * len(y))].mean(0),
    }[merge]
    fused = fuse(members, views=views, merge=merge)
    for batch in (1, 2, 5):
        x = windows(batch, seed=batch)
        assert infer(fused, x).shape == (batch, 1)
        assert same(infer(fused, x), by_hand(members, views, x, reduce))


@settings(max_examples=8)
@given(data=st.data())
def test_any_views_of_any_members_are_the_plan(data):
    number = st.integers(-25, 25)
    drawn = st.one_of(
        st.builds("crop-shift:{}".format, number.filter(lambda k: abs(k) < 20)),
        st.builds("roll:{}".format, number.filter(lambda k: abs(k) < 20)),
        st.builds("scale:{}".format, st.floats(0.5, 1.5).map(lambda a: round(a, 3))),
        st.sampled_from(["identity", "sign-flip", "mirror", "drop:F4", "drop:Cz+Pz"]),
    )
    views = ",".join(data.draw(st.lists(drawn, min_size=1, max_size=4)))
    members = data.draw(st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=3))
    x = windows(2)
    assert same(infer(fuse(members, views=views), x), by_hand(members, views, x))


def test_fusing_one_member_gives_its_numbers():
    for member in (A, C):
        fused = fuse([member])
        for batch in (1, 4):
            assert same(infer(fused, windows(batch)), ReferenceRunner(member).infer(windows(batch)))
        assert np.array_equal(infer(fuse([member], optimize=False), windows(3)), infer(member, windows(3)))


@pytest.mark.parametrize("merge", ["mean", "median", "trimmed:0.3"])
def test_the_order_of_members_changes_no_byte(merge):
    views = "identity,roll:+1"
    assert fuse([A, B, C], views=views, merge=merge).digest == fuse([C, A, B], views=views, merge=merge).digest


def test_the_same_fusion_is_the_same_bytes():
    assert fuse([A, B], views="identity,roll:+3").to_bytes() == fuse([A, B], views="identity,roll:+3").to_bytes()


def test_a_fused_graph_is_a_graph_and_fuses_again(tmp_path):
    once = Graph.load(fuse([A, B]).save(tmp_path / "ab.onnx"))
    assert (once.input_spec, once.output_spec) == (A.input_spec, A.output_spec)
    twice = fuse([once, C], views="identity,roll:+2")
    x = windows(3)
    wanted = by_hand([once, C], "identity,roll:+2", x)
    assert same(infer(twice, x), wanted)
    assert [m["provenance"]["kind"] for m in twice.provenance.details["members"]].count("fuse") == 1


def test_weights_follow_the_members_order(tmp_path):
    (tmp_path / "w.json").write_text("[0.5, 0.25, 0.125, 0.125]")
    x = windows(3)
    for members in ((A, B), (B, A)):
        fused = fuse(members, views="identity,roll:+2", merge=f"weighted:{tmp_path / 'w.json'}")
        wanted = by_hand(members, "identity,roll:+2", x, lambda y: np.tensordot([0.5, 0.25, 0.125, 0.125], y, 1))
        assert same(infer(fused, x), wanted)


def test_calibration_is_part_of_the_graph():
    raw = by_hand([A, B], "identity", windows(5))
    fused = fuse([A, B], calibration=Calibration(scale=0.5, offset=0.1, low=0.2, high=1.4))
    assert same(infer(fused, windows(5)), np.clip(0.5 * raw + 0.1, 0.2, 1.4))


@pytest.mark.parametrize("odd", [np.nan, np.inf])
@pytest.mark.parametrize("merge", ["mean", "median", "trimmed:0.4"])
def test_a_member_that_is_not_finite_is_not_outvoted(odd, merge):
    y = infer(fuse([A, B, constant(odd)], merge=merge, parity=False), windows(2))
    assert not np.isfinite(y).any()


@pytest.mark.parametrize("members", [0, 1])
def test_a_plan_that_has_no_number_is_equal_to_nothing(members):
    with pytest.raises(ParityError, match=r"answers NaN or Inf to every window.*NaN or Inf in ") as caught:
        fuse([*[A, B][:members], constant(np.nan)])
    assert "leave out the member" in caught.value.hint


@pytest.mark.needs("openvino")
def test_one_graph_runs_in_every_engine():
    fused = fuse([A, B, C], views="identity,roll:+3,drop:F3,crop-shift:-1", merge="median")
    onnx.checker.check_model(onnx.load_model_from_string(fused.to_bytes()), full_check=True)
    wanted = ReferenceRunner(fused).infer(windows(4))
    runners = [OnnxruntimeRunner(fused), PlanRunner(fused)]
    from rtserve.graphs.runners import OpenvinoRunner

    for runner in [*runners, OpenvinoRunner(fused)]:
        assert same(runner.infer(windows(4)), wanted), runner.name


def test_weights_are_shared_between_branches():
    one, five = fuse([A], optimize=False), fuse([A], views="identity,roll:+1,roll:-1,scale:2,sign-flip", optimize=False)
    assert one.n_parameters == A.n_parameters
    assert five.n_parameters <= A.n_parameters + 2


def test_repeated_branches_and_weightless_ones_are_recorded(tmp_path):
    (tmp_path / "w.json").write_text("[1, 0, 1, 1]")
    fused, _, parity = fuse_with_report([A, B], views="identity,roll:+1", merge=f"weighted:{tmp_path / 'w.json'}")
    assert parity.passed
    assert fused.provenance.details["removed"] == [{"branch": 1, "member": 0, "view": "roll:+1", "why": "weight zero"}]
    again = fuse([A, A], views="identity")
    assert [r["why"] for r in again.provenance.details["removed"]] == ["duplicate of branch 0"]
    assert same(infer(again, windows(2)), infer(A, windows(2)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_times": 24}, "n_times 20 against 24"),
        ({"n_chans": 5, "ch_names": ()}, "n_chans 4 against 5"),
        ({"sfreq": 128.0}, "sfreq 100.0 against 128.0"),
        ({"unit": "uV"}, "unit V against uV"),
        ({"ch_names": ("F4", "F3", "Cz", "Pz")}, "channel 0 is F3 against F4"),
        ({"n_times": 24, "sfreq": 128.0}, "n_times 20 against 24; sfreq 100.0 against 128.0"),
    ],
)
def test_members_for_other_windows_are_refused_with_both_values(change, message):
    spec = InputSpec(**{"n_chans": 4, "n_times": 20, "sfreq": 100.0, "ch_names": SPEC.ch_names, "unit": "V"} | change)
    with pytest.raises(SpecMismatchError, match=f"member 1 and member 2 take different input: {message}"):
        fuse([A, network(5, spec=spec)])


def test_members_with_another_output_are_refused_with_both_values():
    with pytest.raises(SpecMismatchError, match="member 1 gives 1 numbers per window, member 2 gives 3"):
        fuse([A, network(5, n_outputs=3)])
    with pytest.raises(SpecMismatchError, match="predicts response_time, member 2 predicts externalizing"):
        fuse([A, network(5, target="externalizing")])
    assert fuse([network(5, target=""), A]).output_spec.target == "response_time"


@pytest.mark.parametrize("where", [0, 1])
@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20, 21])
def test_graphs_of_others_fuse_whatever_their_opset_and_names(opset, where):
    theirs = foreign(opset=opset, names=("eeg:0", "Identity:0"))
    members = [A]
    members.insert(where, theirs)
    fused = fuse(members, views="identity,roll:+3")
    assert fused.input_spec == A.input_spec
    x = windows(4)
    assert same(infer(fused, x), by_hand(members, "identity,roll:+3", x))
    model = onnx.load_model_from_string(fused.to_bytes())
    assert ([o.version for o in model.opset_import], model.ir_version) == ([20], 9)


def test_what_a_member_does_not_state_is_taken_from_the_others_and_recorded():
    theirs = foreign()
    taken = fuse([A, theirs]).provenance.details["assumed"]
    assert taken == [{"member": theirs.digest, "unit": "V", "sfreq": "100.0", "target": "response_time"}]
    assert "assumed" not in fuse([A, A]).provenance.details


def test_graphs_of_others_alone_fuse_at_a_rate_and_in_a_unit_not_known():
    fused = fuse([foreign(), foreign(opset=17)])
    assert fused.input_spec.unknown == ("unit", "sfreq")
    assert "assumed" not in fused.provenance.details
    assert same(infer(fused, windows(2)), infer(foreign(), windows(2)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 1}, r"the batch of member 2 is fixed: its input has shape \[1,4,20\]"),
        ({"shape": (4, 21)}, "n_times 20 against 21"),
        ({"shape": (5, 20)}, "n_chans 4 against 5"),
        ({"dtype": TensorProto.DOUBLE}, "the input of member 2 is DOUBLE, not float32"),
        (
            {"node": helper.make_node("FusedMatMul", ["f", "d"], ["score"], domain="com.microsoft")},
            "member 2 uses operators outside the standard: com.microsoft.FusedMatMul",
        ),
    ],
)
def test_graphs_of_others_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        fuse([A, foreign(**wrong)])


def test_nothing_to_fuse_is_refused():
    with pytest.raises(InputError, match="no member given"):
        fuse([])


def test_a_view_that_breaks_a_response_time_needs_force():
    with pytest.raises(InputError, match="view time-reverse is refused: time-reverse breaks a response time"):
        fuse([A], views="identity,time-reverse")
    forced = fuse([A], views="identity,time-reverse", force=True)
    assert same(infer(forced, windows(2)), by_hand([A], "identity,time-reverse", windows(2)))
    assert fuse([network(1, target="externalizing")], views="time-reverse").output_spec.target == "externalizing"


@pytest.fixture
def files(tmp_path):
    return [member.save(tmp_path / f"{name}.onnx") for name, member in (("a", A), ("b", B))]


def test_the_command_fuses_and_writes_json_alone_on_stdout(cli, files, tmp_path):
    output = tmp_path / "new" / "f.onnx"
    code, out, err = cli("fuse", *files, "--views", "identity,roll:+3", "-o", output, "--json", "--explain")
    report = json.loads(out)
    assert (code, report["schema"], report["views"]) == (0, "rtserve.fuse/1", ["identity", "roll:+3"])
    assert report["sha256"] == Graph.load(output).digest
    assert report["parity"]["passed"] is True
    assert "2 members x 2 views" in err
    assert same(infer(Graph.load(output), windows(2)), by_hand([A, B], "identity,roll:+3", windows(2)))


def test_the_command_calibrates_and_merges_as_told(cli, files, tmp_path):
    output = tmp_path / "f.onnx"
    code, _, _ = cli(
        "fuse", *files, "--merge", "median", "--scale", "2", "--offset", "-1", "--clip", "0,", "-o", output
    )
    wanted = np.maximum(2 * by_hand([A, B], "identity", windows(5), lambda y: np.median(y, 0)) - 1, 0)
    assert code == 0
    assert same(infer(Graph.load(output), windows(5)), wanted)


def test_one_network_in_two_sizes_is_asked_about(cli, tmp_path):
    def told(name, network, size):
        details = {"network": network, "n_parameters": size, "architecture": f"{network} {size}"}
        graph = network_of[name]
        made = replace(graph, provenance=Provenance(kind="export", details=details))
        return made.save(tmp_path / f"{name}.onnx")

    network_of = {"a": A, "b": B, "c": C}
    files = [told("a", "CompactRT", 74_753), told("b", "CompactRT", 53_025), told("c", "EEGNeX", 62_353)]
    code, _, err = cli("fuse", *files, "-o", tmp_path / "f.onnx")
    assert code == 0
    assert "1 x CompactRT (74,753 parameters)" in err
    assert "CompactRT comes in 2 architectures: is one a mistake?" in err
    assert "EEGNeX comes" not in err
    _, _, err = cli("fuse", files[0], files[2], "-o", tmp_path / "g.onnx")
    assert "is one a mistake" not in err


def test_an_existing_output_needs_force(cli, files, tmp_path):
    output = tmp_path / "f.onnx"
    output.write_text("mine")
    code, out, err = cli("fuse", *files, "-o", output)
    assert (code, out, output.read_text()) == (2, "", "mine")
    assert "exists already" in err
    assert "--force" in err
    assert cli("fuse", *files, "-o", output, "--force")[0] == 0
    assert Graph.load(output).provenance.kind == "fuse"


BAD = {
    "a missing member": (["nowhere.onnx"], "does not exist"),
    "a view unknown": (["--views", "identity,rol:+3"], "unknown view 'rol:\\+3'.*\n.*did you mean roll"),
    "a view refused": (["--views", "time-reverse"], "is refused.*\n.*--force-views"),
    "a merge unknown": (["--merge", "average"], "unknown merge"),
    "a clip unread": (["--clip", "3"], "is not low,high"),
    "a pass unknown": (["--passes", "nonsense"], "nonsense"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_two_lines_exit_2_and_nothing_written(cli, files, tmp_path, what):
    arguments, message = BAD[what]
    output = tmp_path / "new" / "f.onnx"
    code, out, err = cli("fuse", *files, *arguments, "-o", output)
    assert (code, out) == (2, "")
    assert __import__("re").search(message, err)
    assert len(err.splitlines()) == 2
    assert not output.parent.exists()


def test_an_output_that_cannot_be_written_is_told_before_the_work(cli, files, tmp_path):
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file" / "f.onnx", tmp_path, tmp_path / ("x" * 300 + ".onnx")):
        code, _, err = cli("fuse", *files, "-o", output)
        assert code == 2
        assert err.startswith("error: output ")
        assert "hint: " in err
    assert cli("fuse", *files, "-o", files[0], "--force")[0] == 2
    assert Graph.load(files[0]).digest == A.digest


ISLANDS = {
    "a double factor": "d = Cast <to = 11> (c)  e = Mul (d, k)  m = Cast <to = 1> (e)",
    "a z-score in double": "d = Cast <to = 11> (c)  u = ReduceMean (d, time)  e = Sub (d, u)  q = Mul (e, e)"
    "  v = ReduceMean (q, time)  w = Add (v, tiny)  s = Sqrt (w)  z = Div (e, s)  m = Cast <to = 1> (z)",
    "an integer factor": "f = Cast <to = 1> (three)  m = Mul (c, f)",
    "nothing": "m = Identity (c)",
}


@pytest.mark.parametrize("island", [name for name in ISLANDS if name != "nothing"])
@pytest.mark.parametrize("views", ["identity", "identity,roll:+2,scale:1.1"])
def test_islands_of_doubles_and_integers_survive_and_stop_no_rewrite(island, views):
    def fused(body):
        rng = np.random.default_rng(0)
        text = f"""<ir_version: 9, opset_import: ["" : 20]>
        net (float[batch, 4, 20] x) => (float[batch, 1] y)
        <int64[1] one = {{1}}, int64[1] time = {{3}}, int64[2] both = {{2, 3}}, double k = {{1.1}}, double tiny = {{1e-12}},
         int64 three = {{3}}> {{ u1 = Unsqueeze (x, one) c1 = Conv <pads = [0, 2, 0, 2]> (u1, w1)
          c = Conv <group = 4> (c1, w2) {body} a = Elu (m) r = ReduceMean <keepdims = 0> (a, both) y = MatMul (r, h) }}"""
        proto = onnx.parser.parse_model(text)
        for name, shape in (("w1", (4, 1, 1, 5)), ("w2", (8, 1, 4, 1)), ("h", (8, 1))):
            tensor = onnx.numpy_helper.from_array((0.4 * rng.standard_normal(shape)).astype("f4"), name)
            proto.graph.initializer.append(tensor)
        one = Graph.from_bytes(proto.SerializeToString())
        proto.graph.initializer[-1].CopyFrom(onnx.numpy_helper.from_array(np.full((8, 1), 0.25, "f4"), "h"))
        return fuse_with_report([one, Graph.from_bytes(proto.SerializeToString())], views=views)

    graph, report, parity = fused(ISLANDS[island])
    _, plain, _ = fused(ISLANDS["nothing"])
    assert parity.verdict == "equal"
    assert report.macs_after == plain.macs_after < plain.macs_before
    assert not [outcome for outcome in report.outcomes if outcome.status == "undone"]
    if "double" in island:
        assert any(node.attributes.get_int("to", 0) == 11 for node in graph.model.graph if node.op_type == "Cast")
