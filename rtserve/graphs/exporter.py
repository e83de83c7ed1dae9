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
from rtserve.nearest import file_meant
from rtserve.spec import InputSpec, OutputSpec

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

__all__ = [
    "RUNS_CODE",
    "Built",
    "Exporter",
    "FileExporter",
    "HubExporter",
    "Quirk",
    "Within",
    "exporter_file",
    "parse_settings",
    "resolve_exporter",
]

RUNS_CODE = (".joblib", ".jbl", ".pkl", ".pickle", ".skops")
"""How files are named whose own library runs code as it loads them."""
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
class Within:
    """Numbers on the way to an answer, as the network and as its library compute them.

    Parameters
    ----------
    name : str
        What they are.
    network : torch.nn.Module
        (batch, n_chans, n_times) to (batch, n) or (batch, ...), in float64.
    own : callable
        The library's.
    """

    name: str
    network: nn.Module
    own: Callable[[np.ndarray], np.ndarray]


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
    own : callable, optional
        What is exported is no network: ``own(x)`` gives the answers (batch, n_outputs) of the library it comes from, to
        windows in float64. They are the truth, and the network must give them to 1e-10.
    own_name : str
        The library and its version.
    within : tuple of Within
        Where the network's and the library's numbers are compared besides: probabilities of 1 hide what made them.
    mixing : ndarray, optional
        (n_chans, n_chans); times noise it gives windows like those that the library was fitted on.
    """

    network: nn.Module
    input_spec: InputSpec
    output_spec: OutputSpec
    quirks: tuple[Quirk, ...] = ()
    wrap: Callable[[nn.Module], nn.Module] | None = None
    own: Callable[[np.ndarray], np.ndarray] | None = None
    own_name: str = ""
    within: tuple[Within, ...] = ()
    mixing: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class FileExporter:
    """An exporter of files that only their own library can load, which runs the code in them.

    Parameters
    ----------
    build : callable
        ``build(path, settings)`` loads the file and gives a `Built`. It is called in a child process that is isolated,
        or that the user has trusted with the file.
    """

    build: Callable[[Path, Mapping[str, Any]], Built]

    def __call__(self, shapes: Shapes, settings: Mapping[str, Any]) -> Built:
        """Raise `InputError`: there is nothing to build without a file."""
        raise InputError("this exporter reads a file; there is nothing to initialise without one", hint="name the file")


@dataclass(frozen=True, kw_only=True)
class HubExporter:
    """An exporter of models whose class and arguments lie beside the weights; see `rtserve.graphs.hub`.

    Parameters
    ----------
    build : callable
        ``build(hub, settings)`` gives a `Built`; `hub` holds ``arguments``, ``tags``, ``network`` and ``braindecode``.
    """

    build: Callable[[Mapping[str, Any], Mapping[str, Any]], Built]

    def __call__(self, shapes: Shapes, settings: Mapping[str, Any]) -> Built:
        """Raise `InputError`: without a config.json nothing says what network it is."""
        raise InputError(
            "this exporter builds the network that a config.json describes, and none is there",
            hint="name the folder that holds it, or the network: exporters/braindecode_models.py:EEGNeX",
        )


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
            hint=file_meant(
                path, "name a .py file, e.g. exporters/compact_rt.py, or an installed object package.module:exporter"
            ),
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
            f"exporter {reference}: {error}",
            hint="the file must define it: an exporter, or the network's class or a function that makes it",
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
