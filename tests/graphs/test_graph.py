"""`Graph`: what it reads of others, what it refuses, and what it says about itself."""

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtserve.errors import InputError
from rtserve.graphs.double import evaluated, to_float64
from rtserve.graphs.graph import Graph
from rtserve.graphs.macs import count_macs
from rtserve.graphs.runners import OnnxruntimeRunner, ReferenceRunner, make_runner
from tests.fusion.making import foreign


def model(*, inputs=("batch", 3, 16), outputs=("batch", 2), opset=20, double=False):
    """A convolution and a dense layer, made by hand as others make theirs."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((4, 3, 5)), "b": rng.standard_normal(4), "d": rng.standard_normal((4, 2))}
    kind = TensorProto.DOUBLE if double else TensorProto.FLOAT
    nodes = [
        helper.make_node("Conv", ["eeg", "w", "b"], ["c"], pads=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["g"]),
        helper.make_node("Flatten", ["g"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes, "theirs",
        [helper.make_tensor_value_info("eeg", kind, inputs)],
        [helper.make_tensor_value_info("score", kind, outputs)],
        [numpy_helper.from_array(w.astype("f8" if double else "f4"), name) for name, w in weights.items()],
    )  # fmt: skip
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    made.producer_name = "theirs"
    return made


def test_a_foreign_graph_is_read_by_its_shapes(tmp_path):
    onnx.save(model(), tmp_path / "m.onnx")
    graph = Graph.load(tmp_path / "m.onnx")
    spec = graph.input_spec
    assert (spec.n_chans, spec.n_times, spec.sfreq, graph.output_spec.n_outputs) == (3, 16, 0.0, 2)
    assert str(spec) == "3 channels x 16 samples at an unknown rate in an unknown unit"
    assert graph.provenance.kind == "foreign"
    assert graph.provenance.details == {"producer": "theirs"}


def test_weights_beside_the_file_are_brought_in(tmp_path):
    onnx.save(model(), tmp_path / "m.onnx", save_as_external_data=True, location="m.onnx.data", size_threshold=0)
    onnx.save(model(), tmp_path / "whole.onnx")
    x = np.random.default_rng(0).standard_normal((2, 3, 16)).astype("f4")
    got, wanted = (OnnxruntimeRunner(Graph.load(tmp_path / name)).infer(x) for name in ("m.onnx", "whole.onnx"))
    assert np.array_equal(got, wanted)
    (tmp_path / "m.onnx.data").unlink()
    with pytest.raises(InputError, match=r"m\.onnx is not an ONNX model .*m\.onnx\.data"):
        Graph.load(tmp_path / "m.onnx")


WRONG = {
    "two inputs": (lambda m: m.graph.input.add().CopyFrom(helper.make_tensor_value_info("z", 1, [1])), "2 inputs"),
    "rank 4 in": (lambda m: None, "not 3 dimensions"),
    "rank 1 out": (lambda m: None, "not 2 dimensions"),
    "any length": (lambda m: None, "not 3 dimensions known"),
}
SHAPES = {
    "rank 4 in": {"inputs": ("batch", 1, 3, 16)},
    "rank 1 out": {"outputs": ("batch",)},
    "any length": {"inputs": ("batch", 3, "time")},
}


@pytest.mark.parametrize("what", WRONG)
def test_a_graph_of_another_shape_is_refused(tmp_path, what):
    change, message = WRONG[what]
    made = model(**SHAPES.get(what, {}))
    change(made)
    (tmp_path / "m.onnx").write_bytes(made.SerializeToString())
    with pytest.raises(InputError, match=message) as caught:
        Graph.load(tmp_path / "m.onnx")
    assert "(batch, n_chans, n_times)" in caught.value.hint


@pytest.mark.parametrize("data", [b"", b"not onnx\n", b"PK\x03\x04 and more", b"\x08\x0a"])
def test_what_is_no_onnx_is_refused_in_one_line(tmp_path, data):
    (tmp_path / "m.onnx").write_bytes(data)
    with pytest.raises(InputError, match="is not an ONNX model") as caught:
        Graph.load(tmp_path / "m.onnx")
    assert "\n" not in caught.value.message


DAMAGED = {
    "rtserve.input": ["{", "[]", '{"n_chans": 3}', '{"n_chans": 4, "n_times": 16, "sfreq": 100.0}',
                      '{"n_chans": "3", "n_times": 16, "sfreq": 100.0}',
                      '{"n_chans": 3, "n_times": 16, "sfreq": 100.0, "ch_names": 3}',
                      '{"n_chans": 3, "n_times": 16, "sfreq": -1.0}'],
    "rtserve.output": ["", "3", '{"n_outputs": 0}', '{"n_outputs": 1}', '{"outputs": 2}'],
    "rtserve.provenance": ["null", '{"kind": "export"', '{"kind": 3}', '{"details": {}}'],
}  # fmt: skip


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, texts in DAMAGED.items() for text in texts])
def test_damaged_metadata_is_bad_input_and_names_the_file(tmp_path, key, text):
    made = model()
    made.metadata_props.add(key=key, value=text)
    onnx.save(made, tmp_path / "m.onnx")
    with pytest.raises(InputError, match=r"m\.onnx"):
        Graph.load(tmp_path / "m.onnx")


def test_the_digest_is_the_files(small_members, tmp_path):
    from rtserve.files import sha256_file

    assert Graph.load(small_members[0]).digest == sha256_file(small_members[0])


def test_multiply_adds_are_counted():
    graph = Graph.from_bytes(model().SerializeToString())
    assert count_macs(graph.model) == 4 * 16 * 3 * 5 + 4 * 2


def test_float64_is_what_the_reference_runs():
    graph = Graph.from_bytes(model().SerializeToString())
    proto = to_float64(graph)
    assert {t.data_type for t in proto.graph.initializer} == {TensorProto.DOUBLE}
    x = np.random.default_rng(1).standard_normal((3, 3, 16)).astype("f4")
    y = ReferenceRunner(graph).infer(x)
    assert y.dtype == np.float64
    assert 0 < np.abs(y - OnnxruntimeRunner(graph).infer(x)).max() < 1e-5


@pytest.mark.parametrize("last", ["Neg", "Det"])  # the executor has no determinant
def test_a_part_of_a_graph_is_evaluated_in_float64(last):
    text = f"""<ir_version: 10, opset_import: ["" : 20]> g (float[b, 3, 3] x) => (float[b, 3, 3] y)
    <float[3, 3] w> {{ a = MatMul (x, w)  y = {last} (a) }}"""
    made, rng = onnx.parser.parse_model(text), np.random.default_rng(0)
    made.graph.ClearField("initializer")
    weight = rng.standard_normal((3, 3)).astype("f4")
    made.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    x = rng.standard_normal((2, 3, 3))
    y = evaluated(ir.serde.deserialize_model(made), x)
    product = x @ weight.astype("f8")
    assert y.dtype == np.float64
    np.testing.assert_allclose(y, -product if last == "Neg" else np.linalg.det(product), rtol=1e-14)


def test_a_graph_that_takes_another_type_is_refused_before_an_engine_sees_it():
    text = '<ir_version: 9, opset_import: ["" : 20]> g (double[b, 2, 3] x) => (double[b, 6] y) { y = Flatten (x) }'
    graph = Graph.from_bytes(onnx.parser.parse_model(text).SerializeToString())
    for engine in ("onnxruntime", "torch", "reference"):
        with pytest.raises(InputError, match="takes DOUBLE, not float32"):
            make_runner(graph, engine)


def test_where_an_engine_fails_the_hint_says_what_does_not_fit():
    graph, fixed = foreign(), foreign(batch=2)
    assert "4 channels and 20 samples" in graph.hint_for((1, 5, 20))
    assert "takes 2 windows" in fixed.hint_for((3, 4, 20))
    assert all("the windows fit" in one.hint_for((2, 4, 20)) for one in (graph, fixed))
