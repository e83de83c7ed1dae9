"""Quirks of braindecode's networks: exact, applied where they belong and nowhere else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from rtserve.errors import ExportError, InputError
from rtserve.graphs.export import export

pytestmark = [
    pytest.mark.needs("braindecode.models"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning"),
]
Load = Callable[[str], ModuleType]
SMALL_CODEBRAIN = {"n_chans": 4, "ch_names": ["Fz", "Cz", "Pz", "Oz"], "num_res_layers": 1, "s4_lmax": 16}
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "ATCNet": ({}, "attention-heads"),
    "SignalJEPA_Contextual": ({}, "position-table"),
    "LUNA": ({}, "spectrum-angle"),
    "SyncNet": ({}, "frozen-decay"),
    "EEGMiner": ({"n_chans": 9}, "frozen-filters"),
    "CodeBrain": (SMALL_CODEBRAIN, "global-convolution"),
}


def windows(batch: int, n_chans: int) -> torch.Tensor:
    x = torch.randn(batch, n_chans, 200, generator=torch.Generator().manual_seed(batch))
    x[0, 0] = 0.0
    return x


@pytest.mark.parametrize("name", CASES)
def test_a_quirk_changes_no_number(family: Load, name: str) -> None:
    settings, quirk = CASES[name]
    torch.manual_seed(1)
    built = getattr(family("braindecode_models"), name)({}, settings)
    assert quirk in [q.name for q in built.quirks]
    network = built.network.eval()
    before = copy.deepcopy(network.state_dict())
    changed = built.wrap(network)
    for batch in (1, 2, 5):
        x = windows(batch, built.input_spec.n_chans)
        with torch.no_grad():
            torch.testing.assert_close(changed(x), network(x).flatten(1), rtol=1e-4, atol=2e-6)
    for key, value in network.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)


@pytest.mark.parametrize("n_times", [200, 201])
@pytest.mark.parametrize("method", ["plv", "corr", "mag"])
def test_the_miners_filters_are_held_in_their_ranges_and_not_written(family: Load, method: str, n_times: int) -> None:
    torch.manual_seed(1)
    settings = {"n_chans": 5, "n_times": n_times, "method": method}
    built = family("braindecode_models").EEGMiner({}, settings)
    network = built.network.double().eval()
    filters = network.filter
    with torch.no_grad():  # some of them out of range: the network itself moves these when it is called
        filters.f_mean.copy_(torch.linspace(-0.2, 1.4, filters.f_mean.numel()))
        filters.bandwidth.copy_(torch.linspace(1.2, 0.001, filters.bandwidth.numel()))
        filters.shape.copy_(torch.linspace(1.5, 3.5, filters.shape.numel()))
        filters.group_delay.copy_(torch.linspace(0.0, 0.07, filters.group_delay.numel()))
    changed = built.wrap(network)
    before = copy.deepcopy(changed.state_dict())
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 5, n_times, generator=generator, dtype=torch.float64)
    x[0, 0], x[1, 1] = 0.0, 3.0
    with torch.no_grad():
        for scale in (1e-5, 1.0, 100.0):
            torch.testing.assert_close(changed(scale * x), network(scale * x), rtol=1e-9, atol=1e-14)
    for key, value in changed.state_dict().items():
        torch.testing.assert_close(value, before[key], rtol=0, atol=0)
    assert not torch.equal(network.state_dict()["filter.shape"], before["filter.shape"])


def test_prototypes_are_shortened_and_not_written(family: Load) -> None:
    torch.manual_seed(1)
    settings = {"n_chans": 4, "mvp_kernel_sizes": [20, 40, 80], "spt_attn_global_context_kernel": 100, "n_outputs": 3}
    built = family("braindecode_models").SSTDPN({}, settings)
    assert {quirk.name for quirk in built.quirks} == {"frozen-prototypes", "centred-variance"}
    network = built.network.double().eval()
    with torch.no_grad():  # one prototype too long, one at the limit, one short
        lengths = torch.tensor([[7.0], [1.0], [0.3]], dtype=torch.float64)
        network.proto_sep.div_(network.proto_sep.norm(dim=1, keepdim=True)).mul_(lengths)
    changed = built.wrap(network)
    before = changed.proto_sep.clone()
    x = windows(3, 4).double()
    with torch.no_grad():
        for _ in range(2):
            torch.testing.assert_close(changed(x), network(x), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(changed.proto_sep, before, rtol=0, atol=0)
    assert not torch.equal(network.proto_sep, before)


def test_a_variance_beside_a_bias_keeps_its_digits(family: Load) -> None:
    torch.manual_seed(1)
    settings = {"n_chans": 4, "mvp_kernel_sizes": [20, 40, 80], "spt_attn_global_context_kernel": 100}
    built = family("braindecode_models").SSTDPN({}, settings)
    network = built.network.eval()
    torch.nn.init.constant_(network.encoder.chan_conv[0].bias, 0.5)
    x = 1e-2 * windows(3, 4)

    def off(module: torch.nn.Module) -> float:
        return float((module(x).double() - truth).abs().max() / truth.abs().max())

    with torch.no_grad():
        truth = copy.deepcopy(network).double()(x.double())
        assert off(built.wrap(network)) < 1e-5
        assert off(network) > 1e-3


def test_a_network_without_a_quirk_is_left_alone(family: Load) -> None:
    built = family("braindecode_models").EEGNet({}, {})
    assert built.quirks == ()
    assert built.wrap is None


def test_outputs_with_more_axes_are_laid_out_as_one(family: Load) -> None:
    built = family("braindecode_models").TCN({}, {})
    x = windows(2, 129)
    with torch.no_grad():
        y = built.network.eval()(x)
        assert y.ndim == 3
        torch.testing.assert_close(built.wrap(built.network)(x), y.flatten(1))
    assert [quirk.name for quirk in built.quirks] == ["flatten"]
    assert built.output_spec.n_outputs == y[0].numel()


def test_a_checkpoint_saved_before_any_call_is_refused_where_the_first_call_matters(family: Load) -> None:
    built = family("braindecode_models").CodeBrain({}, SMALL_CODEBRAIN)
    state = built.network.state_dict()
    key = next(k for k in state if k.endswith("kernel_norm_initialized"))
    state[key] = torch.zeros_like(state[key])
    built.network.load_state_dict(state)
    with pytest.raises(ExportError, match="kernel norm"):
        built.wrap(built.network)


def test_names_and_settings_that_do_not_exist_are_named(family: Load) -> None:
    module = family("braindecode_models")
    with pytest.raises(InputError) as caught:
        module.EEGNt({}, {})
    assert "did you mean EEGNet" in caught.value.hint
    with pytest.raises(InputError, match="takes no setting depht"):
        module.EEGNet({}, {"depht": 3})


def test_the_angle_is_torchs_and_finite_everywhere(family: Load) -> None:
    family("braindecode_models")
    from braindecode_quirks.spectra import angle

    values = torch.tensor([-2.0, -1e-20, 0.0, 1e-20, 0.5, 3.0])
    real, imag = (part.flatten() for part in torch.meshgrid(values, values, indexing="ij"))
    got = angle(real.double(), imag.double())
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got, torch.atan2(imag.double(), real.double()), rtol=1e-14, atol=1e-14)


def test_the_angle_chooses_nothing_number_by_number_and_keeps_what_is_no_number(family: Load) -> None:
    family("braindecode_models")
    from braindecode_quirks.spectra import angle

    assert not [node for node in torch.fx.symbolic_trace(angle).graph.nodes if "where" in str(node.target)]
    inf, nan = torch.inf, torch.nan
    real, imag = torch.tensor([inf, -inf, 1.0, 1.0, nan, 1.0, 0.0]), torch.tensor([1.0, 1.0, inf, -inf, 1.0, nan, nan])
    torch.testing.assert_close(angle(real, imag), torch.atan2(imag, real), equal_nan=True)


@pytest.mark.parametrize("size", [7, 8, 40])
def test_the_spectrum_is_numpys_and_real_where_it_must_be(family: Load, size: int) -> None:
    family("braindecode_models")
    from braindecode_quirks.spectra import spectrum

    x = torch.randn(3, size, dtype=torch.float64)
    real, imag = spectrum(x)
    np.testing.assert_allclose((real + 1j * imag).numpy(), np.fft.rfft(x.numpy()), atol=1e-12)
    assert (imag[:, 0] == 0).all()
    assert size % 2 or bool((imag[:, -1] == 0).all())


def test_a_network_that_branched_on_its_batch_exports(repo_dir: Path) -> None:
    exporter = f"{repo_dir / 'exporters' / 'braindecode_models.py'}:ATCNet"
    graph = export(None, exporter=exporter, settings={})
    assert [quirk["name"] for quirk in graph.provenance.details["quirks"]] == ["attention-heads"]
