"""What a checkpoint holds besides plain tensors with names: it is refused with the cure, or read for what it is."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from rtserve.errors import CheckpointError
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.graphs.export_child import without_parametrizations
from rtserve.graphs.fit import load_weights


class Net(nn.Module):
    def __init__(self, conv=None, head=None):
        super().__init__()
        self.conv, self.bn, self.fc = conv or nn.Conv1d(4, 8, 7), nn.BatchNorm1d(8), head or nn.Linear(8, 1)

    def forward(self, x):
        return self.fc(torch.relu(self.bn(self.conv(x))).mean(-1))


class Keeping(Net):
    def get_extra_state(self):
        return {"scale": 2.0}

    def set_extra_state(self, state):
        self.scale = state["scale"]


STATE = Net().state_dict()
AVERAGE = {"decay": 0.99, "num_updates": 3, "shadow_params": list(Net().parameters()), "collected_params": None}


@pytest.mark.parametrize("kind", ["beside", "alone"])
def test_an_average_without_names_is_asked_about(tmp_path, kind):
    torch.save({"model": STATE, "ema": AVERAGE} if kind == "beside" else AVERAGE, tmp_path / "c.pth")
    place = "ema.shadow_params), beside model" if kind == "beside" else "(shadow_params)"
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "c.pth")
    assert place in caught.value.message
    assert "ema.copy_to(model.parameters())" in caught.value.hint
    assert ("--weights model" in caught.value.hint) == (kind == "beside")
    if kind == "beside":
        assert load_checkpoint(tmp_path / "c.pth", weights="model").state_dict.keys() == STATE.keys()
        assert load_checkpoint(tmp_path / "c.pth", first=True).found_at == "model"


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [("fc.weight", lambda w: torch.complex(w, torch.ones_like(w)), "fc.weight is complex64.*is float32"),
     ("conv.weight", lambda w: (w * 100).to(torch.int8), "conv.weight is int8.*is float32"),
     ("fc.bias", lambda w: w > 0, "fc.bias is bool.*is float32"),
     ("bn.num_batches_tracked", lambda n: n + 0.5, "num_batches_tracked is float32.*is int64")],
    ids=["complex", "codes", "truth", "broken"],
)  # fmt: skip
def test_numbers_of_another_kind_are_not_turned_in_silence(key, change, said):
    with pytest.raises(CheckpointError, match=said):
        load_weights(Net(), {**STATE, key: change(STATE[key])}, name="Net")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_another_width_are(dtype):
    network = Net()
    load_weights(network, {key: value.to(dtype) for key, value in STATE.items()}, name="Net")  # the counter too
    assert all(torch.equal(value, STATE[key].to(dtype).to(value.dtype)) for key, value in network.state_dict().items())


def test_state_that_is_no_tensor_is_named():
    with pytest.raises(CheckpointError, match=r"keeps state that is no tensor \(_extra_state\)"):
        load_weights(Keeping(), STATE, name="Keeping")


@pytest.mark.parametrize("kind", ["meta", "sparse", "numpy", "lazy"])
def test_what_is_no_plain_tensor_is_named(tmp_path, kind):
    weight = STATE["fc.weight"]
    odd = {"meta": weight.to("meta"), "sparse": weight.to_sparse(), "numpy": weight.numpy()}
    state = nn.LazyLinear(1).state_dict(prefix="fc.") if kind == "lazy" else STATE | {"fc.weight": odd[kind]}
    torch.save(dict(state), tmp_path / "c.pth")
    with pytest.raises(CheckpointError, match=r"has fc.weight.* as no plain tensors \("):
        load_checkpoint(tmp_path / "c.pth")


@pytest.mark.parametrize(
    ("trained", "built", "cure"),
    [(parametrizations.weight_norm, None, "weight_norm, which the network does not have"),
     (None, parametrizations.weight_norm, "weight_norm, with which the checkpoint was not trained"),
     (None, parametrizations.spectral_norm, "spectral_norm, with which the checkpoint was not trained"),
     (lambda conv: prune.l1_unstructured(conv, "weight", 0.5), None, "prune.remove")],
    ids=["norm-lacks", "norm-more", "spectral-more", "pruned"],
)  # fmt: skip
def test_a_layer_that_torch_rewrote_is_recognised_by_its_keys(trained, built, cure):
    state = Net(trained(nn.Conv1d(4, 8, 7)) if trained else None).state_dict()
    network = Net(built(nn.Conv1d(4, 8, 7)) if built else None)
    with pytest.raises(CheckpointError, match="does not fit") as caught:
        load_weights(network, state, name="Net")
    assert cure in caught.value.hint


def test_parametrized_tensors_are_written_out_with_the_same_numbers():
    conv, head = parametrizations.spectral_norm(nn.Conv1d(4, 8, 7)), parametrizations.orthogonal(nn.Linear(8, 1))
    network = Net(conv, head).eval()
    x = torch.randn(3, 4, 40, generator=torch.Generator().manual_seed(0))
    plain = without_parametrizations(network)
    assert plain.state_dict().keys() == STATE.keys()
    assert torch.equal(plain(x), network(x))
    assert hasattr(network.fc, "parametrizations")
    assert without_parametrizations(Net()) is None
