"""Reading checkpoints safely: tensors come out, nothing in the file is run.

A checkpoint is what people have: a bare state_dict, or a dict that holds one beside optimizer state, history and
scores; keys may carry ``module.`` (DataParallel), ``model.`` (Lightning) and ``_orig_mod.`` (torch.compile). Pickles
are read by torch's restricted unpickler with a short allow-list of numpy's plain numbers and arrays; anything else in
the file is refused, and named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import CheckpointError
from rtserve.files import readable_file, sha256_file

if TYPE_CHECKING:
    import torch

__all__ = ["Checkpoint", "fit_keys", "load_checkpoint"]

STATE_KEYS = ("model_state_dict", "state_dict", "model_state", "model", "net", "network", "weights", "params")
"""Where a state_dict is looked for in a checkpoint dict, in this order."""
_DEEPEST = 3
"""How many dicts may lie around a state_dict."""
PREFIXES = ("module.", "model.", "_orig_mod.")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What a checkpoint file holds.

    Parameters
    ----------
    path : Path
        The file.
    sha256 : str
        Digest of its bytes.
    state_dict : dict of str to Tensor
        The weights with keys as stored.
    found_at : str
        Key of the dict that held them (with dots where dicts are nested), or ``""`` for a bare state_dict.
    riders : dict of str to str
        What else was in the file, described.
    """

    path: Path
    sha256: str
    state_dict: dict[str, torch.Tensor]
    found_at: str = ""
    riders: dict[str, str] = field(default_factory=dict)

    @property
    def n_values(self) -> int:
        """Numbers stored in all tensors, buffers included."""
        return sum(tensor.numel() for tensor in self.state_dict.values())


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read a checkpoint without running anything in it.

    Raises
    ------
    CheckpointError
        Where the file is no checkpoint, asks for a global that is not allowed (named), or holds no state_dict.
    """
    path = readable_file(path, "checkpoint")
    content = _load(path)
    state, found_at = _find_state(content, path)
    riders = _riders({str(key): value for key, value in content.items() if found_at and key != found_at[0]})
    return Checkpoint(path=path, sha256=sha256_file(path), state_dict=state, found_at=".".join(found_at), riders=riders)


def _scalar(dtype: Any, raw: Any) -> Any:
    """Rebuild a numpy scalar from its bytes; objects are refused."""
    import numpy as np

    if not isinstance(dtype, np.dtype) or dtype.hasobject or not isinstance(raw, bytes):
        raise TypeError("a numpy scalar of Python objects")
    return np.frombuffer(raw, dtype)[0]


def _allowed() -> list[Any]:
    """Globals that a checkpoint may name beyond torch's own: numpy's numbers and arrays."""
    import numpy as np

    multiarray = np._core.multiarray if hasattr(np, "_core") else np.core.multiarray  # type: ignore[attr-defined]
    dtypes = [t for t in vars(np.dtypes).values() if isinstance(t, type) and t is not np.dtypes.ObjectDType]
    return [
        (_scalar, "numpy._core.multiarray.scalar"),
        (_scalar, "numpy.core.multiarray.scalar"),
        (multiarray._reconstruct, "numpy._core.multiarray._reconstruct"),
        (multiarray._reconstruct, "numpy.core.multiarray._reconstruct"),
        np.ndarray,
        np.dtype,
        *dtypes,
    ]


def _load(path: Path) -> Any:
    import torch

    try:
        with torch.serialization.safe_globals(_allowed()):
            return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 -- this is the safe loader
    except Exception as error:
        raise _refusal(path, error) from None


def _refusal(path: Path, error: Exception) -> CheckpointError:
    """Turn torch's several ways of saying no into one sentence that names the cause."""
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", str(error)).split())
    hint = "re-save it as pure tensors where you trust it: torch.save(model.state_dict(), 'weights.pth')"
    found = re.search(r"(?:GLOBAL|global|class|function) ([\w.]+) (?:was not an allowed|whose module)", text)
    if found:
        return CheckpointError(f"checkpoint {path} asks for {_modern(found.group(1))}, which is not run", hint=hint)
    if "TorchScript" in text:
        return CheckpointError(
            f"checkpoint {path} is a TorchScript archive, not a state_dict", hint="give the checkpoint it was made from"
        )
    refused = re.search(r"WeightsUnpickler error: (.+?)(?: Please| Check the|$)", text)
    if refused and not refused.group(1).startswith("Unsupported operand"):
        return CheckpointError(f"checkpoint {path} is not read: {refused.group(1)[:160]}", hint=hint)
    cut = "zip archive" in text or isinstance(error, (EOFError, OSError))
    reason = "it is cut short or damaged" if cut else "it is neither torch's archive nor a pickle of tensors"
    return CheckpointError(
        f"{path} is not a PyTorch checkpoint ({reason})",
        hint="give a file written by torch.save; see `rtserve inspect`",
    )


def _modern(name: str) -> str:
    """Return a global under the name it has today; pickles of torch use those of Python 2."""
    from _compat_pickle import IMPORT_MAPPING

    module, _, attribute = name.rpartition(".")
    return f"{IMPORT_MAPPING.get(module, module) or 'builtins'}.{attribute}"


def _is_state(value: Any) -> bool:
    import torch

    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(v, torch.Tensor) for k, v in value.items())
    )


def _search(content: Any, depth: int) -> tuple[str, ...] | None:
    """Return the keys that lead to a state_dict, or None; the usual keys first, then the only one there is."""
    if _is_state(content):
        return ()
    if not isinstance(content, Mapping) or depth == 0:
        return None
    for key in STATE_KEYS:
        found = _search(content.get(key), depth - 1)
        if found is not None:
            return (key, *found)
    others = [key for key, value in content.items() if isinstance(key, str) and _is_state(value)]
    return (others[0],) if len(others) == 1 else None


def _find_state(content: Any, path: Path) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
    keys_to_it = _search(content, _DEEPEST)
    if keys_to_it is not None:
        return dict(reduce(getitem, keys_to_it, content)), keys_to_it
    if isinstance(content, Mapping):
        keys = ", ".join(str(key) for key in list(content)[:12]) or "nothing"
        raise CheckpointError(
            f"checkpoint {path} holds no state_dict; it has {keys}",
            hint=f"one of {', '.join(STATE_KEYS[:4])} must map names to tensors",
        )
    raise CheckpointError(
        f"checkpoint {path} holds a {type(content).__name__}, not a state_dict",
        hint="save model.state_dict(), or a dict with it under 'model_state_dict'",
    )


def _riders(content: Mapping[str, Any]) -> dict[str, str]:
    """Describe what rides beside the weights; a mapping of plain values (settings) entry by entry, as ``key.entry``."""
    out: dict[str, str] = {}
    for key, value in content.items():
        plain = isinstance(value, Mapping) and 0 < len(value) <= 64 and all(isinstance(k, str) for k in value)
        if plain and not any(isinstance(v, Mapping) and len(v) > 64 for v in value.values()) and "optim" not in key:
            out |= {f"{key}.{name}": text for name, text in _riders(value).items()}
        else:
            out[key] = _describe(value)
    return out


def _describe(value: Any) -> str:
    import numpy as np

    if isinstance(value, (bool, int, float, str, np.generic)):
        return repr(value.item() if isinstance(value, np.generic) else value)[:80]
    if (
        isinstance(value, (list, tuple))
        and len(value) <= 8
        and all(isinstance(v, (bool, int, float, str)) for v in value)
    ):
        return repr(list(value))[:80]
    if isinstance(value, (list, tuple, Mapping)):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _strippers(keys: list[str]) -> list[Callable[[str], str]]:
    """Return ways of removing prefixes, from none to all of them, while every key has the one in question."""
    ways: list[Callable[[str], str]] = [lambda key: key]
    cleaned = [key.replace("_orig_mod.", "") for key in keys]
    strip = 0
    if cleaned != keys:
        ways.append(lambda key: key.replace("_orig_mod.", ""))
    while cleaned:
        prefix = next((p for p in PREFIXES if all(key.startswith(p) for key in cleaned)), "")
        if not prefix:
            break
        cleaned = [key[len(prefix) :] for key in cleaned]
        strip += len(prefix)
        ways.append(lambda key, n=strip: key.replace("_orig_mod.", "")[n:])  # type: ignore[misc]
    return ways


def strip_prefixes(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return `state` with every prefix that all keys share removed; for guessing an architecture from its shapes."""
    way = _strippers(list(state))[-1]
    return {way(key): value for key, value in state.items()}


def fit_keys(
    state: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor], *, name: str
) -> dict[str, torch.Tensor]:
    """Return the tensors of `state` under the keys of a network, prefixes removed as far as that fits it.

    Parameters
    ----------
    state : mapping
        The checkpoint's tensors.
    expected : mapping
        The network's own state_dict.
    name : str
        What the network is called in the error.

    Raises
    ------
    CheckpointError
        Where keys are missing, left over or misshapen; all of them are named.
    """
    ways = _strippers(list(state))
    fits = [{way(key): value for key, value in state.items()} for way in ways]
    best = max(fits, key=lambda fit: len(fit.keys() & expected.keys()))
    optional = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in best and key not in optional]
    unexpected = [key for key in best if key not in expected]
    shapes = [
        f"{key} is {tuple(best[key].shape)}, the network has {tuple(expected[key].shape)}"
        for key in expected
        if key in best and best[key].shape != expected[key].shape
    ]
    if missing or unexpected or shapes:
        parts = [
            f"{label} {len(keys)}: {', '.join(keys)}"
            for label, keys in (("missing", missing), ("unexpected", unexpected), ("misshapen", shapes))
            if keys
        ]
        raise CheckpointError(
            f"the checkpoint does not fit {name}; {'; '.join(parts)}",
            hint="is it another architecture, or does it need other settings (--set n_chans=..., n_outputs=...)?",
        )
    return {key: best.get(key, expected[key]) for key in expected}
