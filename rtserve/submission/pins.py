"""The versions a recipe was built with: written down beside it, and compared when it is built again."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import ProfileError
from rtserve.files import readable_file, sha256_file, write_bytes

if TYPE_CHECKING:
    from rtserve.submission.recipe import Recipe

__all__ = ["installed_pins", "read_pins", "record_pins", "recorded"]

ROOTS = ("rtserve", "braindecode")
"""Distributions whose requirements are followed; an optional one that is not installed is left out."""
PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;#]+)")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def installed_pins() -> dict[str, str]:
    """Return name and version of everything that rtserve needs here, directly or not."""
    pins: dict[str, str] = {}
    waiting = list(ROOTS)
    while waiting:
        name = _plain(waiting.pop())
        if name in pins:
            continue
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        pins[name] = found.version
        waiting += [re.split(r"[\s;<>=!~\[(]", line, maxsplit=1)[0] for line in found.requires or ()]
    return dict(sorted((name, version) for name, version in pins.items() if name != "rtserve"))


def record_pins(path: str | Path, *, force: bool = False) -> dict[str, str]:
    """Write `installed_pins` to a file that pip reads with ``-c``; return them."""
    pins = installed_pins()
    # A local build tag such as +cpu names no version that an index has.
    lines = [f"{name}=={version.partition('+')[0]}" for name, version in pins.items()]
    write_bytes(path, ("\n".join(lines) + "\n").encode(), force=force)
    return pins


def read_pins(path: str | Path) -> dict[str, str]:
    """Read a file of pins.

    Raises
    ------
    ProfileError
        Where a line is neither ``name==version`` nor a comment.
    """
    pins = {}
    for number, line in enumerate(readable_file(path, "environment file").read_text("utf-8").splitlines(), start=1):
        text = line.partition("#")[0].strip()
        match = PIN.fullmatch(text)
        if match:
            pins[_plain(match["name"])] = match["version"]
        elif text:
            raise ProfileError(f"{path}, line {number}: {line!r} is no pin", hint="write name==version")
    return pins


def recorded(recipe: Recipe) -> dict[str, Any]:
    """Return what the manifest says of the recipe's environment file, and in what this machine differs from it."""
    if not recipe.environment:
        return {}
    path = recipe.folder / recipe.environment
    pins, here = read_pins(path), installed_pins()
    differs = {
        name: {"recorded": version, "here": here[name].partition("+")[0]}
        for name, version in pins.items()
        if name in here and here[name].partition("+")[0] != version
    }
    return {"file": recipe.environment, "sha256": sha256_file(path), "differs": differs}
