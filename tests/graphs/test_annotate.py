"""What a graph does not say can be written into it, and a frozen batch opened without changing an answer."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from rtserve.errors import InputError, SpecMismatchError
from rtserve.graphs.annotate import annotate_graph
from rtserve.graphs.graph import Graph
from rtserve.graphs.runners import OnnxruntimeRunner


def foreign(path, *, shape=(4, 2, 30), out=(4, 3), reshape=(4, -1), mixed=False):
    """A dense network as somebody's exporter writes it: the example's batch in its shapes."""
    weights = np.random.default_rng(0).standard_normal((60, 3)).astype("f4")
    nodes = [helper.make_node("Reshape", ["x", "s"], ["r"]), helper.make_node("MatMul", ["r", "w"], ["m"])]
    if mixed:
        nodes += [
            helper.make_node("ReduceMean", ["m", "a"], ["c"], keepdims=1),
            helper.make_node("Sub", ["m", "c"], ["y"]),
        ]
    else:
        nodes.append(helper.make_node("Tanh", ["m"], ["y"]))
    graph = helper.make_graph(
        nodes, "theirs",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(np.array(reshape), "s"), numpy_helper.from_array(weights, "w"),
         numpy_helper.from_array(np.array([0]), "a")],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)
    return path, weights


def right(path, weights, batch=5):
    x = np.random.default_rng(1).standard_normal((batch, 2, 30)).astype("f4")
    got = OnnxruntimeRunner(Graph.load(path)).infer(x)
    return np.allclose(got, np.tanh(x.reshape(batch, -1) @ weights), atol=1e-5)


def test_what_a_graph_does_not_say_is_written_into_it(tmp_path):
    path, weights = foreign(tmp_path / "m.onnx", shape=("n", 2, 30), out=("n", 3), reshape=(0, -1))
    annotate_graph(path, {"unit": "uV", "sfreq": 100.0, "classes": ("a", "b", "c")})
    graph = Graph.load(path)
    assert (graph.input_spec.unit, graph.input_spec.sfreq) == ("uV", 100.0)
    assert (graph.output_spec.target, graph.output_spec.classes) == ("class", ("a", "b", "c"))
    assert right(path, weights)
    with pytest.raises(SpecMismatchError, match=r"--unit says V, m\.onnx says uV"):
        annotate_graph(path, {"unit": "V"})
    annotate_graph(path, {"unit": "V"}, output=tmp_path / "n.onnx", force=True)
    assert Graph.load(tmp_path / "n.onnx").input_spec.unit == "V"
    assert Graph.load(path).input_spec.unit == "uV"


@pytest.mark.parametrize("reshape", [(4, -1), (4, 60), (-1, 60)])
def test_a_frozen_batch_is_opened(tmp_path, reshape):
    path, weights = foreign(tmp_path / "m.onnx", reshape=reshape)
    report = annotate_graph(path, {})
    assert report["changes"] == ["input 4x2x30 is now batch x 2 x 30"]
    assert right(path, weights)
    assert right(path, weights, batch=1)


def test_open_sizes_are_given(tmp_path):
    path, weights = foreign(tmp_path / "m.onnx", shape=("b", "c", "t"), out=("b", "k"), reshape=(0, -1))
    with pytest.raises(InputError, match="leaves the sizes of its windows open") as caught:
        annotate_graph(path, {})
    assert "--n-chans" in caught.value.hint
    annotate_graph(path, {"sfreq": 50.0}, n_chans=2, n_times=30)
    assert right(path, weights)
    with pytest.raises(InputError, match="takes 2, not --n-chans 3"):
        annotate_graph(path, {}, n_chans=3)


def test_a_batch_that_is_part_of_the_answer_stays_frozen(tmp_path):
    path, _ = foreign(tmp_path / "m.onnx", mixed=True)
    before = path.read_bytes()
    with pytest.raises(InputError, match="its batch is part of what it computes"):
        annotate_graph(path, {})
    assert path.read_bytes() == before


def test_the_command_annotates_graphs(tmp_path, cli):
    path, _ = foreign(tmp_path / "m.onnx")
    code, out, _ = cli("annotate", path, "--unit", "V", "--sfreq", "100", "-o", tmp_path / "n.onnx")
    assert code == 0
    assert "2 channels x 30 samples at 100 Hz in V" in out
    (tmp_path / "no.onnx").write_bytes(b"x")
    code, _, err = cli("annotate", tmp_path / "no.onnx", "--unit", "V")
    assert code == 2
    assert "Traceback" not in err


def test_open_sizes_are_refused_with_the_cure(tmp_path):
    path, _ = foreign(tmp_path / "open.onnx", shape=("n", 2, "t"), out=("n", 3))
    with pytest.raises(InputError, match="not 3 dimensions known") as caught:
        Graph.load(path)
    assert f"rtserve annotate {path} --n-chans C --n-times T" in caught.value.hint
