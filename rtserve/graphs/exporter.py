"""What an exporter is, and how one is named on the command line.

An exporter knows one family of checkpoints: which module to build for it, what windows the module takes, and what has
to be baked out so that the graph is exact. It is a callable ``exporter(shapes, settings) -> Built``.

A reference names one: ``exporters/compact_rt.py`` (its object ``exporter``), ``exporters/braindecode_models.py:EEGNeX``
(a named object), or ``package.module:exporter`` (installed). A reference is the user's own code, as a noxfile is; it is
imported in the export's child process only.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import InputError
from rtserve.graphs.pure_torchaudio import allow_pure_torchaudio
from rtserve.spec import InputSpec, OutputSpec

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Built", "Exporter", "Quirk", "exporter_file", "parse_settings", "resolve_exporter"]

Shapes = Mapping[str, tuple[int, ...]]
"""Shape of every tensor in the checkpoint, by its key (prefixes such as ``module.`` removed)."""


@dataclass(frozen=True, kw_only=True)
class Quirk:
    """Something about a family that had to be changed for the export, exactly.

    Parameters
    ----------
    name : str
        Short name, e.g. ``"squeeze"``.
    reason : str
        The case that needed it.
    """

    name: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Built:
    """What an exporter gives.

    Parameters
    ----------
    network : torch.nn.Module
        Takes the checkpoint's state_dict strictly.
    input_spec, output_spec : InputSpec, OutputSpec
        What goes in and out.
    quirks : tuple of Quirk
        What is baked out, and why.
    wrap : callable, optional
        ``wrap(network)`` gives the module to export, (batch, n_chans, n_times) to (batch, n_outputs); the network
        itself by default. It is called after the weights are loaded.
    """

    network: nn.Module
    input_spec: InputSpec
    output_spec: OutputSpec
    quirks: tuple[Quirk, ...] = ()
    wrap: Callable[[nn.Module], nn.Module] | None = None


Exporter = Callable[[Shapes, Mapping[str, Any]], Built]


def parse_settings(pairs: tuple[str, ...] | list[str]) -> dict[str, Any]:
    """Read ``key=value`` pairs; a value that is a TOML value is taken as one (numbers, true, lists), else as text.

    Raises
    ------
    InputError
        Where a pair has no ``=`` or no key.
    """
    import tomllib

    settings: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise InputError(f"setting {pair!r} is not key=value", hint="for example --set n_times=200")
        try:
            settings[key.strip()] = tomllib.loads(f"v = {text}")["v"]
        except tomllib.TOMLDecodeError:
            settings[key.strip()] = text
    return settings


def exporter_file(reference: str) -> Path | None:
    """Return the file a reference names, or None where it names an installed object.

    Raises
    ------
    InputError
        Where it looks like a file and there is none.
    """
    path_text, _, _ = reference.partition(".py")
    if not (".py" in reference or "/" in reference):
        return None
    path = Path(path_text + ".py")
    if not path.is_file():
        raise InputError(
            f"exporter file {path} does not exist",
            hint="name a .py file, e.g. exporters/compact_rt.py, or an installed object package.module:exporter",
        )
    return path


def resolve_exporter(reference: str) -> Exporter:
    """Import what a reference names. Runs the file: call it in a child process.

    Raises
    ------
    InputError
        Where the file, module or object is missing, or the object is not callable.
    """
    allow_pure_torchaudio()  # an exporter that imports braindecode shall not fail on what its networks do not use
    path = exporter_file(reference)
    if path is not None:
        _, _, name = reference.partition(".py")
        module = _module_from(path)
        attribute = name.lstrip(":") or "exporter"
    else:
        module_name, _, attribute = reference.partition(":")
        attribute = attribute or "exporter"
        try:
            module = importlib.import_module(module_name)
        except ImportError as error:
            raise InputError(f"exporter {reference}: {error}", hint="install the package, or name a .py file") from None
    try:
        found = getattr(module, attribute)
    except AttributeError as error:
        raise InputError(
            f"exporter {reference}: {error}", hint="the file must define it: def exporter(shapes, settings) -> Built"
        ) from None
    if not callable(found):
        raise InputError(
            f"exporter {reference} is a {type(found).__name__}, not callable", hint="see exporters/README.md"
        )
    return found  # type: ignore[no-any-return]


def _module_from(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"rtserve_exporter_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise InputError(f"exporter file {path} cannot be imported", hint="it must be a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.insert(0, str(path.resolve().parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module
