"""Export: what is let through is equal to its network, has a symbolic batch, and is the same bytes every time."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import onnx
import pytest
import torch

from rtserve.errors import CheckpointError, ExportError, InputError, ParityError
from rtserve.graphs.answers import require_engine
from rtserve.graphs.export import export, export_with_report
from rtserve.graphs.export_child import run
from rtserve.graphs.exporter import exporter_file, parse_settings
from rtserve.graphs.graph import IR_VERSION, OPSET, Graph
from rtserve.graphs.runners import OnnxruntimeRunner, ReferenceRunner
from rtserve.training.networks import CompactRT

OWN = "rtserve.training.networks:exporter"


@pytest.fixture(scope="session")
def odd(repo_dir):
    """Reference of an exporter in odd_networks.py by its name."""
    return lambda name: f"{repo_dir / 'tests' / 'graphs' / 'odd_networks.py'}:{name}"


@pytest.fixture(scope="session")
def graph(small_members):
    return Graph.load(small_members[0])


@pytest.fixture
def here(monkeypatch):
    """Let an export do its child's work in this process: what is tested is what it does, not that it is a child."""

    def run_here(folder, job, timeout_s, child):
        (folder / "job.json").write_text(json.dumps(job))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return run(folder)

    monkeypatch.setattr("rtserve.graphs.export._run_child", run_here)


def test_the_graph_gives_the_networks_numbers(graph, small_checkpoints):
    from rtserve.training.networks import CompactRT

    network = CompactRT(6, input_scale=1e5).eval()
    network.load_state_dict(torch.load(small_checkpoints[0], weights_only=True)["model_state_dict"])  # noqa: TID251
    for batch in (1, 2, 5, 17):
        x = (1e-5 * np.random.default_rng(batch).standard_normal((batch, 6, 40))).astype("f4")
        with torch.inference_mode():
            wanted = network.double()(torch.from_numpy(x).double()).numpy()
        assert np.abs(OnnxruntimeRunner(graph).infer(x) - wanted).max() < 1e-6
        assert np.abs(ReferenceRunner(graph).infer(x) - wanted).max() < 1e-6


def test_answers_that_travel_are_of_windows_in_the_unit_that_is_stated(tmp_path, here):
    """An exporter that says no unit: the windows behind the answers have the size of the unit that the user states."""
    net = (
        "from torch import nn\n\ndef net(n_chans, n_times):\n    return nn.Sequential(nn.Flatten(), nn.Linear(60, 1))\n"
    )
    (tmp_path / "net.py").write_text(net)
    shape = {"n_chans": 3, "n_times": 20}
    graph = export(None, exporter=f"{tmp_path / 'net.py'}:net", settings=shape, stated={"unit": "uV"})
    assert graph.input_spec.unit == "uV"
    assert require_engine(graph, OnnxruntimeRunner(graph).infer, engine="onnxruntime", name="it") == ""


def test_versions_names_and_batch_are_ours(graph):
    proto = onnx.load_model_from_string(graph.to_bytes())
    onnx.checker.check_model(proto, full_check=True)
    assert (proto.ir_version, [(o.domain, o.version) for o in proto.opset_import]) == (IR_VERSION, [("", OPSET)])
    assert [(v.name, v.type.tensor_type.shape.dim[0].dim_param) for v in proto.graph.input] == [("x", "batch")]
    assert [v.name for v in proto.graph.output] == ["y"]


def test_batchnorm_and_the_input_scale_are_folded(graph):
    operators = {node.op_type for node in graph.model.graph}
    assert operators == {"Conv", "Relu", "ReduceMean", "Gemm"}
    assert [q["name"] for q in graph.provenance.details["quirks"]] == ["input-scale"]


def test_nothing_of_this_machine_is_in_the_file(graph, repo_dir):
    data = graph.to_bytes()
    for trace in (
        str(repo_dir).encode(),
        sys.prefix.encode(),
        b"site-packages",
        b"stack_trace",
        b"/tmp/",
        b"torch.ops",
    ):
        assert trace not in data


def test_the_ancestry_rides_in_the_file(graph, small_checkpoints, tmp_path):
    again = Graph.load(graph.save(tmp_path / "copy.onnx"))
    assert (again.input_spec, again.output_spec) == (graph.input_spec, graph.output_spec)
    assert again.provenance == graph.provenance
    assert again.digest == graph.digest
    details = again.provenance.details
    assert details["checkpoint"]["name"] == small_checkpoints[0].name
    assert (details["network"], details["n_parameters"]) == ("CompactRT", 47_201)


def test_the_command_writes_the_same_bytes_under_another_hash_seed_and_json_alone(
    small_checkpoints, small_members, tmp_path
):
    output = tmp_path / "new" / "m.onnx"
    command = [sys.executable, "-m", "rtserve", "export", str(small_checkpoints[0]), "--exporter", OWN]
    command += [
        "--set",
        "n_times=40",
        "--set",
        "sfreq=100.0",
        "--set",
        "target=response_time",
        "-o",
        str(output),
        "--json",
    ]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"PYTHONHASHSEED": "1"})
    report = json.loads(done.stdout)
    assert output.read_bytes() == small_members[0].read_bytes()
    assert [path.name for path in output.parent.iterdir()] == ["m.onnx"]
    assert (report["schema"], report["parity"]["passed"]) == ("rtserve.export/1", True)
    assert report["sha256"] == Graph.load(output).digest
    assert "parity" in done.stderr


def test_a_wrap_is_exported_and_its_quirk_told(odd, here):
    graph, report, _ = export_with_report(None, exporter=odd("wrapped"), seed=3)
    assert report.passed
    assert len(report.cases) >= 10
    assert {case.name.split()[-1] for case in report.cases} >= {"1", "2", "5"}
    assert OnnxruntimeRunner(graph).infer(np.zeros((2, 3, 16), "f4")).shape == (2, 1)
    assert graph.provenance.details["quirks"] == [{"name": "squeeze", "reason": "its forward ends in squeeze(-1)"}]
    assert graph.provenance.details["exporter"] == "graphs/odd_networks.py:wrapped"


def test_a_parametrization_that_cannot_be_exported_is_written_out(odd, here):
    graph, report, _ = export_with_report(None, exporter=odd("orthogonal"), seed=3)
    assert report.verdict == "equal"
    assert [quirk["name"] for quirk in graph.provenance.details["quirks"]] == ["parametrizations"]


def test_transforms_that_onnxruntime_gets_wrong_are_written_as_products(odd, here, monkeypatch):
    graph, report, _ = export_with_report(None, exporter=odd("spectral"), seed=3)
    assert report.verdict == "equal"
    (note,) = report.notes
    assert note.startswith("1 Fourier transforms are written as matrix products: with onnxruntime's own DFT")
    assert not {node.op_type for node in graph.model.graph} & {"DFT", "STFT"}
    monkeypatch.setattr("rtserve.graphs.transforms.LARGEST", 1000)
    with pytest.raises(ParityError, match="NOT EQUAL"):
        export(None, exporter=odd("spectral"), seed=3)


REFUSED = {
    "squeezed": (ExportError, r"gives \(3,\) for 3 windows, not \(3, 1\)"),
    "stubborn": (ExportError, r"parts stay in training mode after eval\(\): Stubborn"),
    "broken": (InputError, r"cannot build its network: KeyError: 'nonsense' \(odd_networks.py, line \d+\)"),
    "wordless": (InputError, "gives a Plain, not a Built"),
    "not_callable": (InputError, "is a int, not callable"),
    "no_such_name": (InputError, "no_such_name"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_exporter_that_is_wrong_is_told_where(odd, name, tmp_path):
    kind, message = REFUSED[name]
    job = {"checkpoint": "", "exporter": odd(name), "exporter_name": name, "settings": {}, "seed": 0}
    (tmp_path / "job.json").write_text(json.dumps(job))
    with pytest.raises(kind, match=message) as caught:
        run(tmp_path)
    assert caught.value.hint
    assert "\n" not in caught.value.message


def test_an_exporter_that_takes_its_process_down_does_not_take_ours(odd):
    with pytest.raises(ExportError, match=r"died \(signal SIGKILL\)"):
        export(None, exporter=odd("dying"))


def test_a_static_batch_is_refused(odd, here):
    with pytest.raises(ExportError, match=r"fixed the batch|does not run on|exporter failed") as caught:
        export(None, exporter=odd("one_by_one"))
    assert "quirk" in caught.value.hint


def test_nan_is_no_parity(odd, here):
    with pytest.raises(
        ParityError, match=r"NOT EQUAL.*the network itself answers NaN or Inf.*no tolerance passes"
    ) as caught:
        export(None, exporter=odd("root"))
    assert not caught.value.report.passed
    assert caught.value.exit_code == 1


def test_an_export_that_hangs_is_stopped(odd):
    with pytest.raises(ExportError, match=r"took longer than 0\.5 s and was stopped"):
        export(None, exporter=odd("sleeping"), timeout_s=0.5)


def test_a_checkpoint_of_another_architecture_names_its_keys(odd, small_checkpoints):
    with pytest.raises(
        CheckpointError, match=r"does not fit Plain built by .*missing 8: conv.weight.*unexpected 28: input_scale"
    ):
        export(small_checkpoints[0], exporter=odd("exporter"))


def test_settings_are_toml_values_or_text():
    assert parse_settings(["a=3", "b=1e-3", "c=true", "d=[1, 2]", "e=relu", "f=a=b"]) == {
        "a": 3, "b": 1e-3, "c": True, "d": [1, 2], "e": "relu", "f": "a=b",
    }  # fmt: skip
    for bad in ("a", "=3"):
        with pytest.raises(InputError, match="is not key=value"):
            parse_settings([bad])


def test_a_reference_is_a_file_or_an_object():
    assert exporter_file(OWN) is None
    with pytest.raises(InputError, match=r"nowhere/x.py does not exist"):
        exporter_file("nowhere/x.py:net")


def test_a_module_that_is_not_installed_is_told():
    with pytest.raises(InputError, match="No module named 'nowhere'"):
        export(None, exporter="nowhere:exporter")


def test_no_value_is_called_by_what_the_tracer_did(tmp_path):
    torch.manual_seed(0)
    torch.save(CompactRT(8).state_dict(), tmp_path / "a.pth")
    graph = export(tmp_path / "a.pth", exporter="rtserve.training.networks:exporter", settings={"n_times": 100})
    names = [value.name for node in graph.model.graph for value in node.outputs]
    assert not any(name.startswith("getitem") for name in names)
    assert names[0] == "conv"
    assert len(set(names)) == len(names)
