"""Reading checkpoints safely: tensors come out, nothing in the file is run.

A checkpoint is what people have: a file of torch.save (today's or the old format), a .safetensors, or the index of a
model in several files; in it a bare state_dict, or a dict that holds one beside optimizer state, history and scores.
Pickles are read by `rtserve.graphs.inert`: whatever stands beside the weights becomes inert. Where a file holds two
sets of weights for one network (a model and its moving average) nobody but the user can say which is meant.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import CheckpointError
from rtserve.files import canonical_json, sha256_bytes, sha256_file
from rtserve.graphs.foreign import checkpoint_file, require_whole_model
from rtserve.graphs.inert import Inert
from rtserve.graphs.safetensors import index_files, is_index, looks_like_safetensors, read_index, read_safetensors
from rtserve.graphs.torch_file import read_torch_file
from rtserve.graphs.weights import WHOLE, WHOLE_HINT, choose_weights, require_names, weights_in
from rtserve.spec import TRAINED_ON

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "checkpoint_digest", "load_checkpoint"]


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint file holds.

    Parameters
    ----------
    path : Path
        The file.
    sha256 : str
        Digest of its bytes; see `checkpoint_digest`.
    state_dict : dict of str to Tensor
        The weights with keys as stored.
    found_at : str
        Key of the dict that held them (with dots where dicts are nested), or ``""`` for a bare state_dict.
    riders : dict of str to str
        What else was in the file, described.
    sets : tuple of str
        Where every set of weights in the file is.
    content : mapping
        The whole file, read inertly.
    """

    path: Path
    sha256: str
    state_dict: dict[str, torch.Tensor]
    found_at: str = ""
    riders: dict[str, str] = field(default_factory=dict)
    sets: tuple[str, ...] = ()
    content: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def n_values(self) -> int:
        """Numbers stored in all tensors, buffers included."""
        return sum(tensor.numel() for tensor in self.state_dict.values())

    @property
    def trained_on(self) -> Any:
        """The training run's record of its windows, or several of a soup, as JSON values; None where it holds none."""
        record = self.content.get(TRAINED_ON)
        try:
            return json.loads(json.dumps(record)) if isinstance(record, Mapping | list) else None
        except (TypeError, ValueError):
            return None


def load_checkpoint(path: str | Path, *, weights: str = "", first: bool = False) -> Checkpoint:
    """Read a checkpoint without running anything in it.

    Parameters
    ----------
    path : path
        A file of torch.save, a .safetensors, or the ``.index.json`` of a model in several files.
    weights : str
        Which set of weights to take where there are several: a key of the file, or what the keys of one set begin with.
    first : bool
        Take the one in the most usual place, where there are several and nothing depends on which.

    Raises
    ------
    CheckpointError
        Where the file is no checkpoint, asks for code to be run (named), holds no state_dict, or holds several sets of
        weights and `weights` does not say which.
    """
    path = checkpoint_file(path)
    if not first:
        require_whole_model(path)
    content = read_content(path)
    sets = weights_in(content, path)
    if not (weights or first):
        require_names(content, path, sets)
    found = sets[0] if first and not weights else choose_weights(sets, path, weights)
    riders = _riders(
        {str(key): value for key, value in content.items() if not _is_of_weights(str(key), value, found.keys)}
    )
    return Checkpoint(
        path=path,
        sha256=checkpoint_digest(path),
        state_dict=found.state,
        found_at=found.name,
        riders=riders,
        sets=tuple(one.name for one in sets),
        content=content,
    )


def read_content(path: Path) -> Mapping[str, Any]:
    """Return what a checkpoint file holds, read inertly; `CheckpointError` where it is none."""
    if is_index(path):
        return read_index(path, read_content)
    with open(path, "rb") as handle:
        head = handle.read(16)
    if looks_like_safetensors(head, path.stat().st_size) or path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    content = read_torch_file(path)
    if isinstance(content, Inert) and content.is_module:
        raise CheckpointError(f"checkpoint {path} {WHOLE.format(content.inert_name)}", hint=WHOLE_HINT)
    if isinstance(content, (list, tuple)) and any(isinstance(part, Mapping) for part in content):
        return {str(number): part for number, part in enumerate(content)}
    if not isinstance(content, Mapping):
        raise CheckpointError(
            f"checkpoint {path} holds a {type(content).__name__}, not a state_dict",
            hint="save model.state_dict(), or a dict with it under 'model_state_dict'",
        )
    return content


def checkpoint_digest(path: str | Path) -> str:
    """Return the SHA-256 of a checkpoint's bytes; of a model in several files, one over the digests of all of them."""
    path = Path(path)
    if not is_index(path):
        return sha256_file(path)
    files = (path, *index_files(path))
    return sha256_bytes(canonical_json({file.name: sha256_file(file) for file in files}).encode())


def _is_of_weights(key: str, value: Any, keys: tuple[str, ...]) -> bool:
    """Whether an entry of a file is where the weights were found, or one of them where they were found at once."""
    import torch

    return key == keys[0] if keys else isinstance(value, torch.Tensor)


def _riders(content: Mapping[str, Any], depth: int = 4) -> dict[str, str]:
    """Describe what rides beside the weights; a mapping of plain values (settings) entry by entry, as ``key.entry``."""
    out: dict[str, str] = {}
    for key, value in content.items():
        plain = isinstance(value, Mapping) and 0 < len(value) <= 64 and all(isinstance(k, str) for k in value)
        small = plain and depth > 0 and not any(isinstance(v, Mapping) and len(v) > 64 for v in value.values())
        if small and "optim" not in key:
            out |= {f"{key}.{name}": text for name, text in _riders(value, depth - 1).items()}
        else:
            out[key] = _describe(value)
    return out


def _describe(value: Any) -> str:
    import numpy as np

    if isinstance(value, Inert) or (isinstance(value, type) and issubclass(value, Inert)):
        return str(value) if isinstance(value, Inert) else value.inert_name
    if type(value) is int and value.bit_length() > 256:
        return f"int of {value.bit_length()} bits"
    if isinstance(value, (bool, int, float, str, np.generic)):
        return repr(value.item() if isinstance(value, np.generic) else value)[:80]
    if (
        isinstance(value, (list, tuple))
        and len(value) <= 8
        and all(isinstance(v, (bool, float, str)) or (type(v) is int and v.bit_length() <= 256) for v in value)
    ):
        return repr(list(value))[:80]
    if isinstance(value, (list, tuple, Mapping)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
