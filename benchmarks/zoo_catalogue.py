"""What is in the zoo: every network of braindecode.models that can be built for a shape, and rtserve's own families.

A network that cannot be built for the shape, or is larger than the limit, is listed with its reason and gets no row.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtserve.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
BRAINDECODE = "exporters/braindecode_models.py"
MAX_PARAMETERS = 30_000_000
KEPT_ABOVE_LIMIT = {"CodeBrain": "36 M parameters, 21 M of them in its head; its export guards are a case of their own"}
OWN_FAMILIES = {
    "CompactRT": ("compact_rt", "exporters/compact_rt.py"),
    "DepthwiseTCN": ("depthwise_tcn", "exporters/depthwise_tcn.py"),
    "UNet1d": ("unet_1d", "exporters/unet_1d.py"),
    "InceptionRegressor": ("inception", "exporters/inception.py"),
}
"""Name in the table: (family, exporter)."""

NEEDS: dict[str, dict[str, dict[str, Any]]] = {
    # As many entries in its table of channels as there are channels; patches of 1 s where 200 samples do not divide.
    "EEGDINO": {
        "129x200@100": {"n_channel_embeddings": 129},
        "22x1000@250": {"n_channel_embeddings": 22},
        "64x256@128": {"n_channel_embeddings": 64, "patch_size": 128},
    },
    # It averages over 250 samples at a time by default: over 1 s.
    "FBLightConvNet": {"129x200@100": {"win_len": 100}},
    # Patches of 40 samples by default, which do not divide 256.
    "LUNA": {"64x256@128": {"patch_size": 32}},
    # Its table of channels ends at 128 by default.
    "MVPFormer": {"129x200@100": {"max_channels": 129}},
    # It pools time by 320 in all, and undoes that over its electrodes: 40 and 64 are left of it here.
    "NeuroPose": {
        "129x200@100": {
            "encoder_pool_sizes": [[5, 2], [4, 2], [2, 4]],
            "decoder_upsample_sizes": [[5, 4], [4, 4], [2, 2]],
        },
        "64x256@128": {
            "encoder_pool_sizes": [[4, 2], [4, 2], [4, 4]],
            "decoder_upsample_sizes": [[4, 4], [4, 4], [4, 2]],
        },
    },
    # Its kernels are in samples at 250 Hz (0.2, 0.4 and 0.8 s; 0.3 s; 1 s): the same seconds at 100 Hz.
    "SSTDPN": {
        "129x200@100": {
            "mvp_kernel_sizes": [20, 40, 80],
            "temporal_conv_kernel_size": 31,
            "spt_attn_global_context_kernel": 100,
        },
    },
    # Made for 30 s: of 2 s its pooling leaves nothing, so none is done. Two groups of channels by default, and 20
    # filters: 129 channels are 3 groups of 43, with 7 filters each.
    "SleepStagerBlanco2020": {
        "129x200@100": {"max_pool_size": 1, "n_groups": 3, "n_conv_chans": 21},
        "64x256@128": {"max_pool_size": 1},
    },
    # It downloads the slots of electrode names, and takes these where it cannot: these, so that it is one network.
    "STEEGFormer": {
        "129x200@100": {"chan_pos_idx": list(range(129))},
        "22x1000@250": {"chan_pos_idx": list(range(22))},
        "64x256@128": {"chan_pos_idx": list(range(64))},
    },
    # 9/128 s are 18 samples at 250 Hz, and it wants an odd number.
    "USleep": {"22x1000@250": {"ensure_odd_conv_size": True}},
}
"""Settings without which a class refuses a shape, or would not be the same everywhere, by shape; where its own defaults
fit, they are used."""
UNFIT = {
    "AttnSleep": "reads a single channel",
    "REVE": "its constructor downloads the positions of its electrodes",
}
"""Classes that no setting makes fit any of the shapes, where their own message would not say so."""

MOTOR_IMAGERY = "Fz,FC3,FC1,FCz,FC2,FC4,C5,C3,C1,Cz,C2,C4,C6,CP3,CP1,CPz,CP2,CP4,P1,Pz,P2,POz"
"""The 22 electrodes of BCI competition IV's set 2a, in its order."""
DEFAULT_OUTPUTS = {"22x1000@250": 4}
"""Motor imagery has four classes; every other shape one number."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A window's shape as the command line writes it: ``129x200@100``.

    Parameters
    ----------
    n_chans, n_times : int
        Channels and samples.
    sfreq : float
        Sampling rate in Hz.
    """

    n_chans: int
    n_times: int
    sfreq: float

    def __str__(self) -> str:
        return f"{self.n_chans}x{self.n_times}@{self.sfreq:g}"

    @classmethod
    def parse(cls, text: str) -> Shape:
        """Read ``CHANNELSxSAMPLES@HZ``.

        Raises
        ------
        InputError
            Where the text is not of that form.
        """
        match = re.fullmatch(r"(\d+)x(\d+)@(\d+(?:\.\d+)?)", text.strip())
        if match is None or not (int(match[1]) and int(match[2]) and float(match[3])):
            raise InputError(f"shape {text!r} is not CHANNELSxSAMPLES@HZ", hint="for example 129x200@100")
        return cls(n_chans=int(match[1]), n_times=int(match[2]), sfreq=float(match[3]))

    def settings(self) -> dict[str, Any]:
        """Return the exporter settings of this shape; channel names where a montage has them."""
        names = ch_names(self.n_chans)
        base = {"n_chans": self.n_chans, "n_times": self.n_times, "sfreq": self.sfreq}
        return base | ({"ch_names": names} if names else {}) | {"n_outputs": DEFAULT_OUTPUTS.get(str(self), 1)}


def ch_names(n_chans: int) -> list[str]:
    """Return the electrode names of the usual net with `n_chans` channels, or none."""
    if n_chans == 22:
        return MOTOR_IMAGERY.split(",")
    if n_chans == 64:
        import mne

        return list(mne.channels.make_standard_montage("biosemi64").ch_names)
    return []


@dataclass(frozen=True, kw_only=True, eq=False)
class Entry:
    """One network at one shape.

    Parameters
    ----------
    model, family, exporter : str
        Name in the table, its family, the reference of its exporter.
    shape : Shape
        Of its windows.
    settings : dict
        For the exporter.
    """

    model: str
    family: str
    exporter: str
    shape: Shape
    settings: dict[str, Any] = field(default_factory=dict)

    def key(self) -> str:
        """Return the name of this row among all."""
        return f"{self.model} {self.shape}"


def own_entries(shape: Shape, extra: Mapping[str, Any]) -> list[Entry]:
    """Return rtserve's own families; CompactRT reads its channels and outputs from the weights."""
    entries = []
    for model, (family, exporter) in OWN_FAMILIES.items():
        settings = shape.settings() | dict(extra)
        if (ROOT / exporter).is_file():
            entries.append(Entry(model=model, family=family, exporter=exporter, shape=shape, settings=settings))
    return entries


def braindecode_entry(model: str, shape: Shape, extra: Mapping[str, Any]) -> Entry:
    """Return the entry of one class of braindecode.models."""
    settings = shape.settings() | NEEDS.get(model, {}).get(str(shape), {}) | dict(extra)
    return Entry(model=model, family="braindecode", exporter=f"{BRAINDECODE}:{model}", shape=shape, settings=settings)


def braindecode_names() -> list[str]:
    """Return every network class of braindecode.models, found in a process of its own (the import is heavy)."""
    code = (
        "import inspect, json, warnings; warnings.simplefilter('ignore')\n"
        "from torch import nn\nfrom rtserve.graphs.braindecode import braindecode_models\n"
        "models = braindecode_models()\n"
        "print('NAMES' + json.dumps(sorted(n for n, v in vars(models).items()"
        " if inspect.isclass(v) and issubclass(v, nn.Module))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    line = next((line for line in done.stdout.splitlines() if line.startswith("NAMES")), None)
    if line is None:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise InputError(f"braindecode cannot be imported ({last})", hint='pip install "rtserve[braindecode]"')
    names: list[str] = json.loads(line.removeprefix("NAMES"))
    return names


def catalogue(shape: Shape, extra: Mapping[str, Any]) -> list[Entry]:
    """Return every network to try at `shape`, rtserve's own first."""
    return own_entries(shape, extra) + [braindecode_entry(name, shape, extra) for name in braindecode_names()]
