"""Folders as braindecode's save_pretrained writes them, for networks made here."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path
from typing import Any

CHANNELS = ("C3", "Cz", "C4", "Fz", "Pz", "O1", "O2", "F3")
NETWORKS: dict[str, dict[str, Any]] = {
    "ATCNet": {},
    "AttentionBaseNet": {},
    "BDTCN": {},
    "CTNet": {},
    "ContraWR": {},
    "EEGConformer": {"activation": "GELU"},
    "EEGITNet": {},
    "EEGInceptionERP": {"drop_prob": 0.1},
    "EEGNeX": {"filter_1": 4},
    "EEGNet": {"F1": 4, "D": 1, "activation": "ReLU"},
    "EEGTCNet": {},
    "FBCNet": {},
    "FBMSNet": {},
    "IFNet": {},
    "TIDNet": {},
    "SCCNet": {},
    "ShallowFBCSPNet": {"n_filters_time": 8},
    "SincShallowNet": {},
    "DGCNN": {},
    "TSception": {},
}
"""Twenty networks of braindecode with arguments of their own; ``activation`` is a class of torch.nn."""


def network(name: str) -> Any:
    """Build one of `NETWORKS` with weights that were drawn, and running statistics that are not those it began with."""
    import mne
    import torch

    from rtserve.graphs.braindecode import braindecode_models

    given = dict(NETWORKS[name])
    if "activation" in given:
        given["activation"] = getattr(torch.nn, given["activation"])
    info = mne.create_info(list(CHANNELS), 100.0, "eeg").set_montage("colin27_1005", verbose="error")
    torch.manual_seed(len(name))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cls = getattr(braindecode_models(), name)
        return cls(n_chans=8, n_times=400, n_outputs=3, sfreq=100.0, chs_info=list(info["chs"]), **given).eval()


def save(net: Any, folder: Path) -> Path:
    """Write what save_pretrained writes: by itself where huggingface_hub is here, else in its form from get_config()."""
    if importlib.util.find_spec("huggingface_hub") and importlib.util.find_spec("safetensors"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net.save_pretrained(folder)
        return folder
    from braindecode import __version__

    folder.mkdir(parents=True)
    config = net.get_config() | {"braindecode_version": __version__}
    (folder / "config.json").write_text(json.dumps(config, indent=2), "utf-8")
    (folder / "README.md").write_text(card([type(net).__name__, "braindecode"]), "utf-8")
    (folder / "model.safetensors").write_bytes(safetensors(net.state_dict()))
    return folder


def card(tags: list[str]) -> str:
    """Return a card as huggingface_hub writes it for a model of braindecode."""
    lines = "".join(f"- {tag}\n" for tag in (*tags, "model_hub_mixin", "pytorch_model_hub_mixin"))
    front = f"---\nlibrary_name: braindecode\nlicense: bsd-3-clause\ntags:\n{lines}---\n"
    return front + "\nThis model has been pushed to the Hub.\n"


def safetensors(state: Any) -> bytes:
    """Return a state_dict in the format of safetensors; a tensor that two keys share is stored once, as its library does."""
    kinds = {"torch.float32": "F32", "torch.int64": "I64", "torch.float64": "F64", "torch.bool": "BOOL"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body, places = b"", {}
    for key, tensor in state.items():
        place = (tensor.data_ptr(), tuple(tensor.shape)) if tensor.numel() else (key, ())
        if place in places:
            header["__metadata__"][key] = places[place]
            continue
        places[place] = key
        data = tensor.detach().contiguous().numpy().tobytes()
        spans = [len(body), len(body) + len(data)]
        header[key] = {"dtype": kinds[str(tensor.dtype)], "shape": list(tensor.shape), "data_offsets": spans}
        body += data
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body
