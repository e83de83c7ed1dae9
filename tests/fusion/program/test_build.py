"""Members stacked, views shared, tails merged: always the plan's numbers, with the work that was promised."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtserve.errors import InputError
from rtserve.fusion.fuse import fuse_with_report
from rtserve.fusion.plan import Calibration
from rtserve.fusion.program import affine_end, stage
from rtserve.graphs.runners import OnnxruntimeRunner, OpenvinoRunner, PlanRunner, ReferenceRunner
from rtserve.spec import Provenance
from tests.fusion.networks import N_CHANS, N_TIMES, attention, conv_net, eegnet, head, network

VIEWS = "identity,roll:+3,roll:-3,scale:1.02,scale:0.98"


def status(report, name):
    """Return what became of a pass."""
    return next(o.status for o in report.outcomes if o.name == name)


@pytest.mark.parametrize("body", [conv_net, eegnet, attention])
@pytest.mark.parametrize("members", [1, 3])
def test_members_and_views_of_any_architecture(body, members):
    graphs = [network(body, seed=seed) for seed in range(members)]
    _, report, parity = fuse_with_report(graphs, views=VIEWS)
    assert status(report, "stack") == "applied"
    assert parity.passed


@pytest.mark.parametrize("body", [conv_net, eegnet])
@pytest.mark.parametrize("views", ["drop:0", "drop:0,drop:4+0"])
def test_what_is_in_a_channel_that_every_view_drops_is_not_read(body, views):
    graphs = [network(body, seed=seed) for seed in range(2)]
    fused, report, _ = fuse_with_report(graphs, views=views)
    plain, _, _ = fuse_with_report(graphs, views=views, optimize=False)
    x = np.random.default_rng(0).standard_normal((3, N_CHANS, N_TIMES)).astype(np.float32)
    x[0, 0], x[1, 0, 5] = np.nan, np.inf
    got, expected = OnnxruntimeRunner(fused).infer(x), OnnxruntimeRunner(plain).infer(x)
    assert status(report, "stack") == "applied"
    assert np.isfinite(expected).all()
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def filtered_one_by_one(emit, x, weights):
    """Electrodes are filtered on the batch, squared and averaged."""
    y = emit("Conv", emit("Reshape", x, [-1, 1, N_TIMES]), weights(1, 1, 3), pads=[1, 1])
    y = emit("Reshape", y, [-1, N_CHANS, N_TIMES])
    return head(emit, emit("Mul", y, y), weights, N_CHANS, axes=(2,))


def test_members_that_lay_electrodes_on_the_batch_are_not_stacked():
    graphs = [network(filtered_one_by_one, seed=seed) for seed in range(2)]
    fused, report, _ = fuse_with_report(graphs, parity=False)
    stack = next(o for o in report.outcomes if o.name == "stack")
    assert (stack.status, "it lays an axis on the batch" in stack.reason) == ("refused", True)
    x = np.random.default_rng(0).standard_normal((3, N_CHANS, N_TIMES)).astype(np.float32)
    expected = np.mean([OnnxruntimeRunner(graph).infer(x) for graph in graphs], axis=0)
    np.testing.assert_allclose(OnnxruntimeRunner(fused).infer(x), expected, rtol=1e-5)


views = st.one_of(
    st.just("identity"),
    st.just("sign-flip"),
    st.just("time-reverse"),
    st.integers(-45, 45).map(lambda k: f"roll:{k:+d}"),
    st.integers(-39, 39).map(lambda k: f"crop-shift:{k:+d}"),
    st.floats(-2, 2).filter(lambda a: abs(a) > 1e-3).map(lambda a: f"scale:{a!r}"),
    st.sampled_from(["drop:0", "drop:1+4"]),
)


@settings(max_examples=15)
@given(
    names=st.lists(views, min_size=1, max_size=5),
    taps=st.integers(1, 8),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    seed=st.integers(0, 5),
)
def test_views_share_any_first_stage(names, taps, stride, dilation, pads, seed):
    def body(emit, x, weights):
        h = emit(
            "Conv", x, weights(4, N_CHANS, taps), weights(4), strides=[stride], dilations=[dilation], pads=list(pads)
        )
        return head(emit, emit("Relu", h), weights, 4, axes=(2,))

    _, report, parity = fuse_with_report([network(body, seed=seed)], views=names, force=True)
    assert status(report, "stack") == "applied"
    assert parity.passed


def test_two_rolls_cost_little_more_than_two_convolutions():
    one = fuse_with_report([network(conv_net)])[1].macs_after
    five, report, _ = fuse_with_report([network(conv_net)], views=VIEWS)
    rest = one - 20 * 8 * N_CHANS * 7
    shared = report.macs_after - 5 * rest
    assert shared < 2.8 * 20 * 8 * N_CHANS * 7
    assert not [node for node in five.model.graph if node.op_type == "Mul" and 129 in list(node.outputs[0].shape or [])]


def strided(emit, x, weights):
    h = emit("Conv", x, weights(4, N_CHANS, 8), weights(4), strides=[4], pads=[4, 4])
    return head(emit, emit("Relu", h), weights, 4, axes=(2,))


@pytest.mark.parametrize("views", ["crop-shift:+5", "identity,roll:+18", "time-reverse,crop-shift:+38"])
@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_views_that_read_no_windows_in_common_share_nothing(views, engine, monkeypatch):
    graphs = [network(strided)]
    _, report, parity = fuse_with_report(graphs, views=views, engine=engine)
    stack = next(o for o in report.outcomes if o.name == "stack")
    assert parity.passed
    assert "views share" not in stack.reason
    assert report.macs_after <= report.macs_before
    monkeypatch.setattr(stage, "COSTS", replace(stage.COSTS, placed_us=1.0))  # a window that is dear to copy
    _, report, parity = fuse_with_report(graphs, views=views, engine=engine)
    assert parity.passed
    assert "views share" in next(o for o in report.outcomes if o.name == "stack").reason


@pytest.mark.parametrize("views", ["identity,roll:+4", "identity,scale:1.1", "scale:1.1", "identity,roll:+2,scale:1.1"])
def test_views_that_read_the_same_windows_share_them(views):
    _, report, _ = fuse_with_report([network(strided)], views=views)
    assert "views share" in next(o for o in report.outcomes if o.name == "stack").reason


@pytest.mark.parametrize("views", ["identity", "scale:1.1,identity"])
def test_dense_layers_that_read_the_same_are_one(views):
    def body(emit, x, weights):
        h = emit("Gemm", emit("Flatten", x), weights(N_CHANS * N_TIMES, 32), weights(32))
        return emit("Gemm", emit("Relu", h), weights(32, 1), weights(1))

    graphs = [network(body, seed=seed) for seed in range(3)]
    fused, _, parity = fuse_with_report(graphs, views=views)
    assert parity.passed
    dense = [list(node.inputs[1].shape) for node in fused.model.graph if node.op_type == "Gemm"]
    assert (max(dense[0]), min(dense[0])) == (N_CHANS * N_TIMES, 96)
    assert len(dense) == 2


def test_permutations_go_into_the_weights(tmp_path):
    path = tmp_path / "order.json"
    path.write_text(json.dumps([3, 1, 2, 0, 5, 4]))
    fused, report, parity = fuse_with_report([network(conv_net)], views=["identity", f"permute:{path}"])
    assert parity.passed
    assert not [node for node in fused.model.graph if node.op_type == "Gather"]
    assert status(report, "stack") == "applied"


def test_first_convolution_of_members_is_one_convolution():
    fused, _, _ = fuse_with_report([network(conv_net, seed=s) for s in range(4)])
    first = next(node for node in fused.model.graph if node.op_type == "Conv")
    assert first.outputs[0].shape[1] == 4 * 8
    grouped = [node.attributes.get_int("group", 1) for node in fused.model.graph if node.op_type == "Conv"]
    assert 4 in grouped


def test_alike_members_stack_within_a_mixed_ensemble():
    graphs = [network(conv_net, seed=0), network(eegnet, seed=1), network(conv_net, seed=2)]
    fused, report, parity = fuse_with_report(graphs, views="identity,scale:0.9")
    assert parity.passed
    assert status(report, "stack") == "applied"
    assert 16 in [node.outputs[0].shape[1] for node in fused.model.graph if node.op_type == "Conv"]


@pytest.mark.parametrize("merge", ["mean", "median", "trimmed:0.2"])
def test_merges_and_calibration(merge):
    graphs = [network(conv_net, seed=s) for s in range(3)]
    _, _, parity = fuse_with_report(
        graphs,
        views="identity,roll:+2",
        merge=merge,
        calibration=Calibration(scale=1.1, offset=-0.2, low=-1.0, high=2.0),
    )
    assert parity.passed


def test_weights_that_are_no_product_of_members_and_views(tmp_path):
    path = tmp_path / "w.json"
    path.write_text(json.dumps([0.5, 0.0, 0.1, 0.4]))
    graphs = [network(conv_net, seed=s) for s in range(2)]
    fused, _, parity = fuse_with_report(graphs, views="identity,roll:+2", merge=f"weighted:{path}")
    assert parity.passed
    assert fused.provenance.details["removed"] == [{"branch": 1, "member": 0, "view": "roll:+2", "why": "weight zero"}]


def test_a_member_of_weight_zero_is_not_computed(tmp_path):
    path = tmp_path / "w.json"
    path.write_text(json.dumps([1.0, 0.0]))
    graphs = [network(conv_net, seed=s) for s in range(2)]
    _fused, report, parity = fuse_with_report(graphs, merge=f"weighted:{path}")
    assert parity.passed
    assert report.macs_after <= report.macs_before / 2


def test_repeated_branches_are_computed_once_and_counted_twice():
    graph = network(conv_net)
    fused, _report, parity = fuse_with_report([graph, graph], views="identity,identity,roll:+1", merge="median")
    assert parity.passed
    assert len(fused.provenance.details["removed"]) == 4


def test_several_outputs():
    def body(emit, x, weights):
        h = emit("ReduceMean", emit("Relu", emit("Conv", x, weights(4, N_CHANS, 3), weights(4))), [2], keepdims=0)
        return emit("Gemm", h, weights(3, 4), weights(3), transB=1)

    graphs = [network(body, seed=s, n_outputs=3) for s in range(3)]
    for merge in ("mean", "median"):
        _, _, parity = fuse_with_report(graphs, views="identity,sign-flip", merge=merge)
        assert parity.passed


@pytest.mark.needs("openvino")
def test_every_engine_runs_the_result():
    fused, _, _ = fuse_with_report([network(eegnet, seed=s) for s in range(2)], views=VIEWS)
    proto = onnx.load_model_from_string(fused.to_bytes())
    onnx.checker.check_model(proto, full_check=True)
    assert proto.ir_version == 9
    assert {o.domain: o.version for o in proto.opset_import} == {"": 20}
    x = np.random.default_rng(0).standard_normal((5, N_CHANS, N_TIMES)).astype(np.float32)
    results = [
        r.infer(x) for r in (OnnxruntimeRunner(fused), OpenvinoRunner(fused), ReferenceRunner(fused), PlanRunner(fused))
    ]
    for one, two in pairwise(results):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6)


def test_same_inputs_same_bytes():
    graphs = [network(conv_net, seed=s) for s in range(2)]
    first, second = (fuse_with_report(graphs, views=VIEWS)[0].to_bytes() for _ in range(2))
    assert first == second


def test_tuning_keeps_the_numbers_and_says_what_it_chose():
    fused, report, parity = fuse_with_report([network(conv_net)], views="identity,roll:+1", tune=True)
    assert parity.passed
    assert report.timings["chosen"] in report.timings["median_us"]
    assert any(name.startswith("tune=") for name in fused.provenance.details["passes"])


def dense_net(emit, x, weights):
    """A network whose last layer is a product and a sum, not a Gemm."""
    h = emit("Relu", emit("MatMul", emit("Reshape", x, [0, N_CHANS * N_TIMES]), weights(N_CHANS * N_TIMES, 3)))
    return emit("Add", emit("MatMul", h, weights(3, 1)), weights(1))


@pytest.mark.parametrize("body", [conv_net, dense_net])
def test_members_of_equal_weights_but_different_names(body):
    graphs = [replace(network(body), provenance=Provenance(kind="foreign", details={"n": n})) for n in range(2)]
    assert graphs[0].digest != graphs[1].digest
    _, report, parity = fuse_with_report(graphs, views="identity,roll:+1")
    assert status(report, "stack") == "applied"
    assert parity.passed


@pytest.mark.needs("openvino")
def test_a_graph_for_openvino_is_the_same_plan_without_what_onnxruntime_likes():
    graphs = [network(conv_net, seed=seed) for seed in range(3)]
    usual, _, _ = fuse_with_report(graphs, views=VIEWS)
    fused, report, parity = fuse_with_report(graphs, views=VIEWS, engine="openvino")
    assert parity.passed
    layout = [(o.name, o.status) for o in report.outcomes if o.subject == "whole"]
    assert layout == [("openvino-forms", "nothing"), ("openvino-rank", "nothing"), ("openvino-window", "nothing")]
    assert (fused.provenance.details["engine"], "engine" in usual.provenance.details) == ("openvino", False)
    x = np.random.default_rng(0).standard_normal((2, N_CHANS, N_TIMES)).astype(np.float32)
    expected = OnnxruntimeRunner(usual).infer(x)
    for runner in (OnnxruntimeRunner, OpenvinoRunner, PlanRunner):
        np.testing.assert_allclose(runner(fused).infer(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.needs("openvino")
def test_tuning_for_openvino_times_openvino():
    _, report, parity = fuse_with_report([network(conv_net)], engine="openvino", tune=True)
    assert parity.passed
    assert report.timings["engine"] == "openvino"


def test_an_unknown_engine_is_named():
    with pytest.raises(InputError, match="unknown engine 'tensorrt'"):
        fuse_with_report([network(conv_net)], engine="tensorrt")


def test_moving_views_share_the_filter_behind_the_spatial_step(monkeypatch):
    monkeypatch.setattr(affine_end, "_pays", lambda tap, extended, moves: any(shift for shift, _ in moves))
    names = "identity,roll:+3,roll:-2,scale:1.02"
    for members in (1, 3):
        graphs = [network(eegnet, seed=seed) for seed in range(members)]
        fused, report, parity = fuse_with_report(graphs, views=names)
        assert parity.passed
        assert "views share the filter" in next(o.reason for o in report.outcomes if o.name == "stack")
        assert (
            sum(node.op_type == "Conv" and node.attributes.get_int("group", 1) > 1 for node in fused.model.graph) == 1
        )


def no_bias(emit, x, weights):
    h = emit("Unsqueeze", emit("Conv", x, weights(4, N_CHANS, 1)), [2])
    h = emit("Conv", h, weights(4, 1, 1, 11), weights(4), group=4, pads=[0, 6, 0, 2])
    return head(emit, emit("Elu", h), weights, 4, axes=(2, 3))


@settings(max_examples=12)
@given(
    moved=st.lists(
        st.tuples(st.sampled_from(["roll", "crop-shift"]), st.integers(-9, 9).filter(bool)), min_size=1, max_size=4
    ),
    seed=st.integers(0, 3),
)
def test_any_shift_of_a_shared_filter_is_exact(moved, seed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(affine_end, "_pays", lambda tap, extended, moves: any(shift for shift, _ in moves))
        names = ["identity", *dict.fromkeys(f"{kind}:{k:+d}" for kind, k in moved)]
        _, report, parity = fuse_with_report([network(no_bias, seed=seed)], views=names)
    assert "views share the filter" in next(o.reason for o in report.outcomes if o.name == "stack")
    assert parity.passed


def test_corrections_grow_with_the_shifts_not_with_shifts_times_views(monkeypatch):
    monkeypatch.setattr(affine_end, "_pays", lambda tap, extended, moves: any(shift for shift, _ in moves))
    graph = network(no_bias)
    sizes = []
    for names in ("identity,roll:+9,roll:-9", "identity,roll:+9,roll:-9,roll:+7,roll:-7,roll:+5,roll:-5,roll:+3"):
        fused, _, parity = fuse_with_report([graph], views=names)
        assert parity.passed
        sizes.append(len(fused.to_bytes()))
    assert sizes[1] < 1.2 * sizes[0]


def test_a_short_filter_is_not_shared():
    _, report, _ = fuse_with_report([network(no_bias)], views="identity,roll:+3")
    assert "views share the filter" not in next(o.reason for o in report.outcomes if o.name == "stack")


def test_members_that_take_from_tables_of_their_own_stay_side_by_side():
    def body(emit, x, weights):
        index = emit("ArgMax", emit("ReduceMean", x, [2], keepdims=0), axis=1, keepdims=0)
        return head(emit, emit("Gather", weights(N_CHANS, 4, 5), index, axis=0), weights, 4, axes=(2,))

    _, report, parity = fuse_with_report([network(body, seed=seed) for seed in range(2)])
    assert status(report, "stack") == "refused"
    assert parity.passed


def test_many_rolls_cut_their_seams_by_one_split():
    def body(emit, x, weights):
        h = emit("Relu", emit("Conv", x, weights(8, N_CHANS, 7), weights(8), strides=[2], pads=[3, 3]))
        return head(emit, h, weights, 8, axes=(2,))

    views = "identity,roll:+3,roll:-3,roll:+5,roll:+7,roll:+9"
    fused, _, parity = fuse_with_report([network(body)], views=views, passes=["stack"])
    assert parity.passed
    (split,) = [node for node in fused.model.graph if node.op_type == "Split"]
    assert len(split.outputs) > 5
    products = [node for node in fused.model.graph if node.op_type == "Gemm"]
    assert len(products) == 3  # the seams of all views, and the two layers of the head


def merged_step(emit, x, weights):
    """Electrodes and time in one convolution over a rearranged window, as an exporter writes it."""
    h = emit("Unsqueeze", emit("Transpose", x, perm=[0, 2, 1]), [1])
    h = emit("Squeeze", emit("Conv", h, weights(8, 1, 5, N_CHANS), weights(8)), [3])
    return head(emit, emit("Relu", h), weights, 8, axes=(2,))


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("views", ["identity", "identity,roll:+3"])
def test_a_merged_step_is_written_on_the_window_as_it_is(engine, views):
    fused, report, parity = fuse_with_report(
        [network(merged_step)], views=views, engine=engine, passes=["linear-prefix", "stack"]
    )
    assert parity.passed
    first = next(node for node in fused.model.graph if node.op_type == "Conv")
    assert len(first.inputs[1].shape) == 3


def test_seam_windows_are_turned_straight_to_rank_four():
    def body(emit, x, weights):
        h = emit("Relu", emit("Conv", x, weights(16, N_CHANS, 7), weights(16), strides=[2], pads=[3, 3]))
        h = emit("Relu", emit("Conv", h, weights(16, 16, 3), weights(16), strides=[2]))
        return head(emit, h, weights, 16, axes=(2,))

    fused, _, parity = fuse_with_report([network(body)], views="identity,roll:+3,roll:-3", passes=["stack", "layout"])
    assert parity.passed
    turns = [node for node in fused.model.graph if node.op_type == "Transpose"]
    assert any(tuple(node.attributes.get_ints("perm")) == (0, 3, 1, 2) for node in turns)
    assert not [reader for node in turns for reader in node.outputs[0].consumers() if reader.op_type == "Unsqueeze"]


@pytest.mark.parametrize(
    ("wanted", "n_times", "size"),
    [
        ([*range(8), *range(191, 200)], 200, 10),  # 20 rows for 17 samples
        ([*range(14), *range(191, 200)], 200, 10),  # 30 rows in 3 pieces, not 25 in 5
        ([0, 199], 200, 0),  # 8 rows for 2
        ([*range(8), *range(190, 199)], 199, 0),  # a prime
        ([*range(4), *range(36, 40)], 40, 4),
    ],
)
def test_seam_samples_are_taken_in_pieces_where_few_are_idle(wanted, n_times, size):
    assert stage._piece(np.array(wanted), n_times) == size
