"""Models of the hub: class and arguments come from the files beside the weights, and nothing of a stranger's is run."""

from __future__ import annotations

import json
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from rtserve.cli.main import cli
from rtserve.errors import CheckpointError, EnvironmentMissingError, InputError, RtserveError
from rtserve.graphs.checkpoint import load_checkpoint
from rtserve.graphs.export import export, export_with_report
from rtserve.graphs.export_child import build
from rtserve.graphs.fit import load_weights
from rtserve.graphs.hub import hub_model
from rtserve.graphs.hub_download import WEIGHTS, downloaded
from rtserve.graphs.hub_network import hub_built
from rtserve.graphs.runners import OnnxruntimeRunner
from tests.graphs.hub_folders import CHANNELS, NETWORKS, card, network, safetensors, save

WRITTEN = Path(__file__).parents[1] / "fixtures" / "hub"
"""What save_pretrained of braindecode 1.8.1 with huggingface_hub 2.4.0 wrote for an EEGNet of 3 channels: no pickle."""
QUICK = ("EEGNet", "ShallowFBCSPNet")
pytestmark = [
    pytest.mark.needs("braindecode.models"),
    pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning"),
]


def built(folder, **more):
    model = hub_model(folder)
    told = {"arguments": dict(model.arguments), "tags": list(model.tags), "network": "", "braindecode": "1.8.1"}
    return hub_built(told | more, {})


class Looked(Exception):  # noqa: N818 -- it carries what was found
    """The child of an export has its network with its weights."""


def looked(source, **more):
    """Return module and facts as the child of an export finds them, in this process and before anything is traced."""

    def child(folder, timeout_s):
        raise Looked(build(json.loads((folder / "job.json").read_text("utf-8"))))

    with pytest.raises(Looked) as caught:
        export_with_report(source, child=child, **({"exporter": ""} | more))
    return caught.value.args[0]


@pytest.fixture
def folder(tmp_path):
    """A folder to spoil."""
    return Path(shutil.copytree(WRITTEN, tmp_path / "EEGNet"))


def change(folder, **more):
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | more), "utf-8")


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_is_built_again_from_what_save_pretrained_wrote(tmp_path, name):
    net = network(name)
    folder = save(net, tmp_path / "saved")
    torch.manual_seed(99)  # other weights than the first had, until they are loaded
    again = built(folder)
    assert type(again.network) is type(net)
    spec = again.input_spec
    assert (spec.n_chans, spec.n_times, spec.sfreq, spec.ch_names, spec.unit) == (8, 400, 100.0, CHANNELS, None)
    load_weights(again.network, load_checkpoint(hub_model(folder).weights).state_dict, name=name)
    x = torch.randn(2, 8, 400, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(again.network.eval()(x), net(x), rtol=0, atol=0)


@pytest.mark.parametrize("name", QUICK)
def test_its_graph_answers_as_the_network(tmp_path, repo_dir, name):
    net = network(name)
    exporter = "" if name == "EEGNet" else str(repo_dir / "exporters" / "braindecode_models.py")
    graph = export(save(net, tmp_path / "saved"), exporter=exporter)
    x = np.random.default_rng(3).standard_normal((4, 8, 400)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(OnnxruntimeRunner(graph).infer(x), net(torch.from_numpy(x)), rtol=1e-4, atol=1e-5)
    told = graph.provenance.details
    assert told["network"] == name
    assert told["hub"]["braindecode"]
    assert "chs_info" not in str(told)


def test_the_command_needs_neither_exporter_nor_settings(tmp_path):
    done = CliRunner().invoke(cli, ["export", str(WRITTEN), "-o", str(tmp_path / "M.onnx"), "--unit", "uV", "--json"])
    assert done.exit_code == 0, done.output
    assert "EEGNet, 1,346 parameters" in done.output
    assert "3 channels x 200 samples at 100 Hz in uV" in done.output


def test_a_class_of_torch_is_taken_and_any_other_is_not_imported(folder, tmp_path, monkeypatch):
    assert any(isinstance(part, torch.nn.ReLU) for part in built(folder).network.modules())
    (tmp_path / "stranger.py").write_text("raise SystemExit('it was imported')\nclass Act: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("stranger.Act", "os.system", "torch.hub.load", "torch.nn.modules.module.Module.apply",
                 "torch.nn.modules.activation.warnings", "braindecode.modules.activation.nn.Module"):  # fmt: skip
        change(folder, activation=name)
        with pytest.raises(InputError, match=r"nothing else is imported"):
            built(folder)
    assert "stranger" not in sys.modules


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        (["MyNet", "braindecode"], r"its card names none \(tags MyNet, braindecode"),
        (["EEGNet", "EEGNeX"], "the card's tags name several networks: EEGNet, EEGNeX"),
        (None, r"its card \(README\.md\) is not there"),
    ],
)
def test_a_class_that_is_not_known_is_asked_for(folder, tags, said):
    if tags is None:
        (folder / "README.md").unlink()
    else:
        (folder / "README.md").write_text(card(tags), "utf-8")
    with pytest.raises(InputError, match=said) as caught:
        built(folder)
    assert "--network" in caught.value.hint
    assert type(built(folder, network="EEGNet").network).__name__ == "EEGNet"
    with pytest.raises(InputError, match=r"braindecode\.models has no network EEGNot"):
        built(folder, network="EEGNot")


def test_tags_in_brackets_are_read_as_a_list(folder):
    (folder / "README.md").write_text("---\ntags: [eeg, 'EEGNet']\n---\n", "utf-8")
    assert hub_model(folder).tags == ("eeg", "EEGNet")


def test_an_argument_that_the_class_does_not_take_is_named_with_both_versions(folder):
    change(folder, n_heads=3)
    with pytest.raises(InputError, match=r"EEGNet takes no argument n_heads \(config\.json is of braindecode 1\.8\.1"):
        built(folder)


def test_windows_that_nobody_states_are_asked_for(folder):
    change(folder, n_times=None)
    with pytest.raises(RtserveError, match="n_times"):
        looked(folder)
    assert looked(folder, settings={"n_times": 200})[1].input_spec.n_times == 200


def test_missing_and_broken_files_are_named(folder, tmp_path):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[:-40])
    with pytest.raises(CheckpointError, match="cut short"):
        looked(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"has a config\.json and no weights .* it holds README\.md, config\.json"
    ):
        looked(folder)
    (folder / "config.json").write_text("{", "utf-8")
    with pytest.raises(InputError, match="is not JSON"):
        looked(folder)
    (folder / "config.json").write_text("[1]", "utf-8")
    with pytest.raises(InputError, match="holds a list"):
        looked(folder)


def test_a_pickle_instead_is_read_without_running_it(folder):
    net = built(folder).network
    (folder / "model.safetensors").unlink()
    torch.save(net.state_dict(), folder / "pytorch_model.bin")
    for key, value in looked(folder)[0].state_dict().items():
        torch.testing.assert_close(value, net.state_dict()[key], rtol=0, atol=0)


class Runs:
    """What runs code where it is unpickled."""

    def __reduce__(self):
        return exec, ("raise SystemExit('it was run')",)


def test_a_pickle_that_wants_to_run_code_is_refused(folder):
    (folder / "model.safetensors").unlink()
    torch.save({"a.weight": torch.zeros(2), "x": Runs()}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="exec"):
        looked(folder)


def test_weights_of_another_network_are_refused(folder):
    change(folder, F1=16)
    with pytest.raises(CheckpointError, match="EEGNet built by"):
        looked(folder)


def test_a_tensor_under_two_keys_is_stored_once_and_comes_back_twice(tmp_path):
    shared = torch.arange(3.0)
    (tmp_path / "m.safetensors").write_bytes(safetensors({"a": shared, "b": shared}))
    state = load_checkpoint(tmp_path / "m.safetensors").state_dict
    assert sorted(state) == ["a", "b"]
    assert torch.equal(state["b"], shared)


def test_a_snapshot_links_to_files_without_a_name_and_a_model_may_have_several(folder, tmp_path):
    state = load_checkpoint(folder / "model.safetensors").state_dict
    (folder / "model.safetensors").unlink()
    parts = {"model-1.safetensors": list(state)[:5], "model-2.safetensors": list(state)[5:]}
    blobs = {name: safetensors({key: state[key] for key in keys}) for name, keys in parts.items()}
    index = {"weight_map": {key: name for name, keys in parts.items() for key in keys}}
    blobs["model.safetensors.index.json"] = json.dumps(index).encode()
    for number, (name, data) in enumerate(blobs.items()):
        (tmp_path / f"blob{number}").write_bytes(data)
        (folder / name).symlink_to(tmp_path / f"blob{number}")
    for key, value in looked(folder)[0].state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)


def test_an_exporter_of_one_network_and_a_class_without_a_config_are_refused(folder, repo_dir):
    with pytest.raises(InputError, match=r"does not read a config\.json"):
        looked(folder, exporter=f"{repo_dir / 'exporters' / 'braindecode_models.py'}:EEGNet")
    with pytest.raises(InputError, match="is of a model of the hub"):
        looked(folder / "model.safetensors", exporter="rtserve.graphs.hub_network:exporter", network="EEGNet")
    with pytest.raises(InputError, match="none is there"):
        looked(folder / "model.safetensors", exporter="rtserve.graphs.hub_network:exporter")


def test_a_checkpoint_still_needs_an_exporter(folder, tmp_path):
    done = CliRunner().invoke(cli, ["export", str(folder / "model.safetensors"), "-o", str(tmp_path / "M.onnx")])
    assert isinstance(done.exception, InputError)
    assert "no exporter is named" in str(done.exception)


def test_names_that_are_none_and_an_absent_extra(monkeypatch):
    for name in ("hf:one", "hf:../../etc", "hf:a/b/c", "hf:a/b@", "hf:-a/b"):
        with pytest.raises(InputError, match="is no name of a model"):
            downloaded(name)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(EnvironmentMissingError, match="huggingface_hub is not installed") as caught:
        downloaded("hf:a/b")
    assert 'pip install "rtserve[hub]"' in caught.value.hint


def test_a_model_is_fetched_by_name_and_revision_and_its_pickle_only_where_there_is_nothing_else(monkeypatch, tmp_path):
    asked = []

    def snapshot_download(name, *, revision, allow_patterns):
        asked.append((name, revision, tuple(allow_patterns)))
        kept = Path(shutil.copytree(WRITTEN, tmp_path / ("0" * 40), dirs_exist_ok=True))
        if "pytorch_model.bin" in allow_patterns:
            torch.save({}, kept / "pytorch_model.bin")
        if name == "a/pickled":
            (kept / "model.safetensors").unlink()
        return str(kept)

    monkeypatch.setitem(sys.modules, "huggingface_hub", types.SimpleNamespace(snapshot_download=snapshot_download))
    assert looked("hf:a/b@v1")[2]["network"] == "EEGNet"
    told = hub_model("hf:a/b@v1").provenance
    assert (told["source"], told["revision"]) == ("hf:a/b@v1", "0" * 40)
    assert [(name, revision) for name, revision, _ in asked] == [("a/b", "v1")] * 2
    assert not any("pytorch_model.bin" in patterns for _, _, patterns in asked)
    assert hub_model("hf:a/pickled").weights.name == WEIGHTS[-1]

    def offline(*args, **more):
        raise OSError("no route to host")

    monkeypatch.setattr(sys.modules["huggingface_hub"], "snapshot_download", offline)
    with pytest.raises(InputError, match="hf:a/b could not be fetched: OSError: no route"):
        downloaded("hf:a/b")


@pytest.mark.needs("huggingface_hub")
def test_what_huggingface_hub_keeps_is_found_without_a_network(repo_dir, tmp_path, monkeypatch):
    import subprocess

    monkeypatch.syspath_prepend(repo_dir / "benchmarks")
    from installs import HUB

    done = subprocess.run([sys.executable, "-c", HUB], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
