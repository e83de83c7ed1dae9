"""Small submissions made in code: a good one, and the pieces that good and broken ones are put together from."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

NETWORK = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, n_chans=129, hidden=4):
        super().__init__()
        self.conv = nn.Conv1d(n_chans, hidden, 9, stride=4)
        self.head = nn.Linear(hidden, 1)

    def forward(self, x):
        return self.head(torch.relu(self.conv(x * 1e5)).mean(-1)) + 1.5
"""

ENTRY = """
from pathlib import Path


class Submission:
    def __init__(self, SFREQ, DEVICE):
        self.sfreq, self.device = SFREQ, DEVICE

    def load(self, name):
        model = Net().to(self.device)
        path = Path(__file__).resolve().parent / name
        model.load_state_dict(torch.load(path, map_location=self.device))
        return model.eval()

    def get_model_challenge_1(self):
        return self.load("weights_1.pt")

    def get_model_challenge_2(self):
        return self.load("weights_2.pt")
"""

GOOD = NETWORK + ENTRY


def saved(value: object) -> bytes:
    """Return what torch.save writes."""
    import torch

    buffer = io.BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def state(seed: int = 0, n_chans: int = 129, hidden: int = 4, prefix: str = "") -> dict[str, object]:
    """Return weights for `Net`."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "conv.weight": (hidden, n_chans, 9),
        "conv.bias": (hidden,),
        "head.weight": (1, hidden),
        "head.bias": (1,),
    }
    return {prefix + key: 0.05 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def weights(**options: object) -> dict[str, bytes]:
    """Return both weight files of a good submission."""
    return {f"weights_{key}.pt": saved(state(seed=key, **options)) for key in (1, 2)}  # type: ignore[arg-type]


def good(**changes: object) -> dict[str, object]:
    """Return the files of a good submission; a change of None takes a file away."""
    files: dict[str, object] = {"submission.py": GOOD, **weights()}
    files.update(changes)
    return {name: data for name, data in files.items() if data is not None}


def edited(*pairs: tuple[str, str], text: str = GOOD, **changes: object) -> dict[str, object]:
    """Return a good submission whose script has each first text replaced by the second."""
    for old, new in pairs:
        assert old in text, f"the good script has no {old!r}"
        text = text.replace(old, new)
    return good(**{"submission.py": text, **changes})


def write_zip(path: Path, files: dict[str, object]) -> Path:
    """Write a zip; text is encoded."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:  # noqa: TID251 - a stranger's zip
        for name, data in files.items():
            archive.writestr(name, data.encode() if isinstance(data, str) else data)  # type: ignore[arg-type]
    return path
