"""Fetching a model from the Hugging Face hub: no file is fetched but its config, its card and its weights."""

from __future__ import annotations

import re
from pathlib import Path

from rtserve.errors import InputError
from rtserve.extras import extra_module

__all__ = ["PREFIX", "WEIGHTS", "downloaded", "repository"]

PREFIX = "hf:"
"""What the name of a model on the hub begins with on the command line."""
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
"""Files with weights, the one that is taken first first."""
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_NAME = re.compile(rf"({_PART}/{_PART})(?:@([A-Za-z0-9][A-Za-z0-9._/-]*))?")


def repository(name: str) -> tuple[str, str | None]:
    """Return organisation and name of ``ORG/NAME`` or ``ORG/NAME@REVISION``, and the revision or None.

    Raises
    ------
    InputError
        Where it is no such name.
    """
    found = _NAME.fullmatch(name.removeprefix(PREFIX))
    if found is None:
        raise InputError(f"{name!r} is no name of a model on the hub", hint="it is ORG/NAME, or ORG/NAME@REVISION")
    return found[1], found[2]


def downloaded(source: str) -> Path:
    """Return the snapshot folder of ``hf:ORG/NAME``, which huggingface_hub fetches or has in its cache.

    Raises
    ------
    EnvironmentMissingError
        Where huggingface_hub is not installed.
    InputError
        Where the name is none, or the hub cannot be reached or has no such model.
    """
    name, revision = repository(source)
    hub = extra_module("huggingface_hub", title="huggingface_hub", extra="hub")
    wanted = ["config.json", "README.md", "model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
    folder = _snapshot(hub, name, revision, wanted)
    if not any((folder / weights).is_file() for weights in WEIGHTS):
        folder = _snapshot(hub, name, revision, [*wanted, "pytorch_model.bin"])
    return folder


def _snapshot(hub: object, name: str, revision: str | None, patterns: list[str]) -> Path:
    fetch = hub.snapshot_download  # type: ignore[attr-defined]
    try:
        return Path(fetch(name, revision=revision, allow_patterns=patterns))
    except Exception as error:  # of huggingface_hub, its transport or the disk: all say what they could not do
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise InputError(
            f"{PREFIX}{name} could not be fetched: {reason}",
            hint="check the name; a private model needs `hf auth login`; a folder that holds it can be named instead",
        ) from None
