"""CompactRT: the size the contest's has, and an exporter that says what it baked out."""

from __future__ import annotations

import pytest
import torch

from rtserve.errors import CheckpointError, InputError
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.graphs.export import export
from rtserve.graphs.exporter import resolve_exporter
from rtserve.graphs.runners import OnnxruntimeRunner
from rtserve.training.networks import CompactRT, count_parameters, exporter, fold_input_scale

KEYS = {"features.0", "features.1", "features.4", "features.5", "features.8", "features.9"} | {
    "regressor.0", "regressor.3", "regressor.6",
}  # fmt: skip


def shapes_of(network):
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


def test_parameters_are_counted():
    assert count_parameters(CompactRT(129)) == 74_753
    assert count_parameters(CompactRT(129, input_scale=1e5)) == 74_753
    assert {key.rpartition(".")[0] for key in CompactRT(129).state_dict()} == KEYS


def test_output_keeps_its_axis_at_batch_one():
    assert CompactRT(5).eval()(torch.zeros(1, 5, 200)).shape == (1, 1)


def test_the_folded_scale_is_the_same_function():
    torch.manual_seed(0)
    network = CompactRT(7, input_scale=1e5).eval().double()
    x = 1e-5 * torch.randn(4, 7, 100, dtype=torch.float64)
    folded = fold_input_scale(network)
    assert "input_scale" not in folded.state_dict()
    assert torch.allclose(network(x), folded(x), rtol=1e-12, atol=0)
    assert float(network.input_scale) == 1e5  # the original is left alone


def test_the_exporter_reads_the_shape_from_the_weights():
    built = exporter(shapes_of(CompactRT(21, input_scale=1e5)), {"n_times": 300, "ch_names": "", "sfreq": 128})
    assert (built.input_spec.n_chans, built.input_spec.n_times, built.input_spec.sfreq) == (21, 300, 128.0)
    assert built.input_spec.ch_names == ()
    assert [quirk.name for quirk in built.quirks] == ["input-scale"]
    contest = exporter(shapes_of(CompactRT(129)), {})
    assert contest.input_spec.ch_names[-1] == "Cz"
    assert contest.quirks == ()


def test_another_architecture_is_named():
    with pytest.raises(CheckpointError, match=r"features\.0\.weight is missing"):
        exporter({"conv.weight": (3, 3)}, {})
    with pytest.raises(InputError, match="n_time") as caught:
        exporter(shapes_of(CompactRT(129)), {"n_time": 3})
    assert "n_times" in caught.value.hint


@pytest.mark.parametrize("rates", [(0.1, 0.2), (0.1, 0.2, 1.0), (0.1, -0.2, 0.3)])
def test_dropout_rates_are_rates(rates):
    with pytest.raises(InputError, match="dropout"):
        CompactRT(3, dropout=rates)


def test_an_export_of_a_scaled_network_answers_on_volts(tmp_path):
    torch.manual_seed(1)
    network = CompactRT(4, input_scale=1e5).train()
    with torch.no_grad():
        for _ in range(20):
            network(1e-5 * torch.randn(16, 4, 50))
    network.eval()
    torch.save(network.state_dict(), tmp_path / "w.pth")
    settings = {"n_times": 50, "ch_names": ["A", "B", "C", "D"]}
    graph = export(tmp_path / "w.pth", exporter="rtserve.training.networks:exporter", settings=settings)
    x = 1e-5 * torch.randn(3, 4, 50)
    with torch.inference_mode():
        assert OnnxruntimeRunner(graph).infer(x.numpy()) == pytest.approx(network(x).numpy(), rel=1e-5, abs=1e-6)
    assert graph.input_spec.ch_names == ("A", "B", "C", "D")
    assert not any(node.op_type == "Mul" for node in graph.model.graph)


@pytest.mark.shared
def test_contest_checkpoints_fit(shared_dir, repo_dir):
    contest = resolve_exporter(str(repo_dir / "exporters/compact_rt.py"))
    files = sorted((shared_dir / "checkpoints/compact_rt").glob("*.pt*"))
    assert len(files) == 6
    for file in files:
        state = load_checkpoint(file).state_dict
        built = contest({key: tuple(value.shape) for key, value in state.items()}, {})
        built.network.load_state_dict(state, strict=True)
        assert count_parameters(built.network) == 74_753
        assert [quirk.name for quirk in built.quirks] == ["squeeze"]


@pytest.mark.needs("braindecode.models")
def test_a_braindecode_network_trains_and_exports_with_its_scale(tmp_path, repo_dir):
    from rtserve.measure.predict import predict
    from rtserve.signals.splits import make_split
    from rtserve.training.recipe import Recipe
    from rtserve.training.seeds import train

    from .conftest import small_windows

    windows = small_windows(n=60, n_chans=4, n_times=200, subjects=10)
    recipe = Recipe(model="braindecode:EEGNeX", max_epochs=1, batch_size=16)
    split = make_split(windows)
    run = train(windows, split, recipe=recipe, seeds=[1], output=tmp_path / "run")
    exporter = f"{repo_dir}/{run.about['exporter']}"
    settings = {"n_chans": 4, "n_times": 200, "sfreq": 100, "n_outputs": 1, "target": "response_time"}
    graph = export(run.checkpoints()[0], exporter=exporter, settings=settings)
    expected = run.results[0]["test"]["raw"]["predictions"]
    assert predict(graph, windows.take(split.part("test")))[:, 0] == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert [quirk["name"] for quirk in graph.provenance.details["quirks"]][-1] == "input-scale"
