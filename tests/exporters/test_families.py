"""The three families of exporters/: structure read from weights, their laws, and their export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

from rtserve.errors import CheckpointError, InputError
from rtserve.graphs.export import export

Load = Callable[[str], ModuleType]
FAMILIES = {
    "depthwise_tcn": ("DepthwiseTCN", {"width": 12, "kernel": 5, "depth": 3}),
    "unet_1d": ("UNet1d", {"width": 6, "depth": 2, "kernel": 3}),
    "inception": ("InceptionRegressor", {"width": 5, "kernels": (3, 7), "depth": 3}),
}


def network(load: Load, stem: str, n_chans: int = 9, n_outputs: int = 2, **more: object) -> torch.nn.Module:
    name, structure = FAMILIES[stem]
    torch.manual_seed(3)
    built = getattr(load(stem), name)(n_chans, n_outputs, **(structure | more))
    for module in built.modules():
        if isinstance(module, torch.nn.BatchNorm1d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.5, 2.0)
    return built.eval()


def shapes(module: torch.nn.Module) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in module.state_dict().items()}


@pytest.mark.parametrize("stem", FAMILIES)
def test_structure_is_read_from_the_weights(family: Load, stem: str) -> None:
    module = network(family, stem)
    built = family(stem).exporter(shapes(module), {"n_times": 50, "sfreq": 25})
    built.network.load_state_dict(module.state_dict(), strict=True)
    assert (built.input_spec.n_chans, built.output_spec.n_outputs) == (9, 2)
    x = 1e-5 * torch.randn(3, 9, 50)
    exported = (built.wrap(built.network) if built.wrap else built.network).eval()
    with torch.no_grad():
        torch.testing.assert_close(exported(x), module(x), rtol=1e-5, atol=1e-6)
    assert module(x).shape == (3, 2)


@pytest.mark.parametrize("stem", FAMILIES)
def test_another_familys_checkpoint_is_refused(family: Load, stem: str) -> None:
    other = next(name for name in FAMILIES if name != stem)
    foreign = {key: value for key, value in shapes(network(family, other)).items() if not key.startswith("stem")}
    with pytest.raises(CheckpointError, match="missing"):
        family(stem).exporter(foreign, {})


def test_a_setting_that_contradicts_the_weights_is_refused(family: Load) -> None:
    module = network(family, "depthwise_tcn")
    with pytest.raises(InputError, match="width=99 contradicts the checkpoint, which has width=12"):
        family("depthwise_tcn").exporter(shapes(module), {"width": 99})
    assert family("depthwise_tcn").exporter(shapes(module), {"width": 12}).network is not None


def test_an_unknown_setting_names_the_nearest(family: Load) -> None:
    with pytest.raises(InputError) as caught:
        family("inception").exporter({}, {"kernel": [3]})
    assert "kernels" in caught.value.hint


def test_the_tcn_does_not_see_amplitude_nor_offset_of_a_channel(family: Load) -> None:
    module = network(family, "depthwise_tcn")
    x = torch.randn(2, 9, 60, generator=torch.Generator().manual_seed(0))
    factor, shift = torch.rand(1, 9, 1) * 4 + 0.1, torch.randn(1, 9, 1)
    with torch.no_grad():
        torch.testing.assert_close(module(1e-5 * factor * x + 1e-5 * shift), module(x), rtol=1e-3, atol=1e-4)


def test_the_tcn_answers_within_the_window_and_stays_finite_on_a_flat_one(family: Load) -> None:
    module = network(family, "depthwise_tcn")
    with torch.no_grad():
        module.scale.fill_(2.0)
        module.offset.fill_(0.5)
        y = module(torch.cat([torch.zeros(1, 9, 60), torch.randn(4, 9, 60)]))
    assert torch.isfinite(y).all()
    assert y.min() >= 0.5
    assert y.max() <= 2.5


@pytest.mark.parametrize("n_times", [40, 41, 43])
def test_the_unet_takes_lengths_that_do_not_halve(family: Load, n_times: int) -> None:
    with torch.no_grad():
        assert network(family, "unet_1d")(torch.randn(2, 9, n_times)).shape == (2, 2)


@pytest.mark.parametrize("stem", FAMILIES)
def test_export_from_a_checkpoint(family: Load, stem: str, tmp_path: Path, repo_dir: Path) -> None:
    module = network(family, stem, n_outputs=1)
    torch.save({"model_state_dict": module.state_dict(), "epoch": 3}, tmp_path / "w.pth")
    graph = export(tmp_path / "w.pth", exporter=str(repo_dir / "exporters" / f"{stem}.py"), settings={"n_times": 64})
    assert (graph.input_spec.n_chans, graph.input_spec.n_times, graph.output_spec.n_outputs) == (9, 64, 1)
    names = [quirk["name"] for quirk in graph.provenance.details["quirks"]]
    assert names == ([] if stem == "depthwise_tcn" else ["input-scale"])
