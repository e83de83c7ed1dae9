"""Models as braindecode writes them for the Hugging Face hub: a folder with ``config.json`` and ``model.safetensors``.

`braindecode.models.base.EEGModuleMixin` (braindecode 1.x) writes them in ``save_pretrained`` and ``push_to_hub``. Its
config.json holds the arguments of the constructor, a class among them by its dotted name, channels under ``chs_info``
and the version under ``braindecode_version``; the network's class does not stand in it. The class is a tag in the front
matter of the card, ``README.md``, that lies beside it. Everything here is read as text and JSON; what the names mean is
decided in the export's child (`rtserve.graphs.hub_network`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtserve.errors import CheckpointError, InputError
from rtserve.files import read_json, sha256_file
from rtserve.graphs.hub_download import PREFIX, WEIGHTS, downloaded

__all__ = ["HubModel", "hub_model", "is_hub"]

CONFIG, CARD, VERSION = "config.json", "README.md", "braindecode_version"
MOST_CARD = 1 << 20
"""Characters of a card that are looked at."""
_HINT = "save it again: model.save_pretrained(FOLDER)"


@dataclass(frozen=True, kw_only=True)
class HubModel:
    """What a folder of the hub says of a network.

    Parameters
    ----------
    weights : Path
        The file with its tensors.
    arguments : mapping
        Arguments of the constructor as config.json has them.
    tags : tuple of str
        What the card calls the model; one of them is the name of its class.
    provenance : mapping
        Where it came from: ``source`` (``hf:ORG/NAME``) and ``revision`` where it was fetched, digest of config.json,
        version of braindecode that wrote it.
    """

    weights: Path
    arguments: Mapping[str, Any]
    tags: tuple[str, ...]
    provenance: Mapping[str, str]


def is_hub(source: str | Path) -> bool:
    """Whether a source names a model of the hub: ``hf:ORG/NAME``, or a folder with a config.json."""
    return str(source).startswith(PREFIX) or (Path(source) / CONFIG).is_file()


def hub_model(source: str | Path) -> HubModel:
    """Read a model of the hub; ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION`` is fetched first, or found in the cache.

    Raises
    ------
    CheckpointError
        Where no file with weights lies beside config.json.
    InputError
        Where config.json is no object in JSON, or the hub has no such model.
    EnvironmentMissingError
        Where it has to be fetched and huggingface_hub is not installed.
    """
    name = str(source)
    folder = downloaded(name) if name.startswith(PREFIX) else Path(source)
    path = folder / CONFIG
    config = read_json(path, "config", hint=_HINT)
    if not isinstance(config, dict):
        raise InputError(f"{path} holds a {type(config).__name__}, not the arguments of a network", hint=_HINT)
    version = str(config.pop(VERSION, ""))
    told = {"config_sha256": sha256_file(path), "braindecode": version}
    if name.startswith(PREFIX):
        told |= {"source": name, "revision": folder.name}
    return HubModel(weights=_weights(folder), arguments=config, tags=_tags(folder / CARD), provenance=told)


def _weights(folder: Path) -> Path:
    """Return the file with the weights, safetensors first: a pickle is read inertly, as any checkpoint."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        names = ", ".join(sorted(entry.name for entry in folder.iterdir())[:12])
        raise CheckpointError(
            f"{folder} has a {CONFIG} and no weights (none of {', '.join(WEIGHTS)}); it holds {names}",
            hint="download it whole, or save it again: model.save_pretrained(FOLDER) with safetensors installed",
        )
    return found


def _tags(card: Path) -> tuple[str, ...]:
    """Return the tags in the front matter of a card: a list in YAML, a line each or between brackets."""
    try:
        with open(card, encoding="utf-8-sig", errors="replace") as handle:
            text = handle.read(MOST_CARD)
    except OSError:
        return ()
    front = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
    if front is None:
        return ()
    lines = re.search(r"^tags:[ \t]*\n((?:[ \t]*-[^\n]*(?:\n|$))+)", front[1] + "\n", re.MULTILINE)
    inline = re.search(r"^tags:[ \t]*\[([^\]]*)\]", front[1], re.MULTILINE)
    listed = re.findall(r"-[ \t]*(.*)", lines[1]) if lines else inline[1].split(",") if inline else []
    return tuple(tag for tag in (one.strip().strip("'\"") for one in listed) if tag)
