"""`Recipe`: a submission as text, read from ``submission.toml``.

::

    profile = "eeg2025"
    runtime = "torch"                     # torch | torchscript | onnxruntime | native | auto
    precision = "float32"                 # float32 | tf32: the products of the torch route on a CUDA device
    layout = "cuda"                       # engine that graphs are laid out for; by default the one that runtime runs
    unit = "V"                            # of the windows that the members take, where they do not say; also sfreq

    [challenges.1]
    views = ["identity", "roll:+3"]
    merge = "mean"
    calibration = { scale = 1.0, offset = 0.0, clip = [0.0, 2.4] }

    [[challenges.1.members]]
    checkpoint = "checkpoints/seed42.pth" # relative to --root, which is this file's folder by default
    exporter = "exporters/compact_rt.py"  # relative to this file's folder or one above it, else to the current folder
    sha256 = "..."

    [[challenges.2.members]]
    graph = "graphs/other.onnx"
    sha256 = "..."

Reading a recipe runs nothing; every member is found and its digest compared before anything is built.
"""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.errors import InputError, ProfileError, SpecMismatchError
from rtserve.files import readable_file, sha256_file
from rtserve.graphs.checkpoint import checkpoint_digest
from rtserve.graphs.engines import LAYOUTS
from rtserve.nearest import file_meant
from rtserve.spec import UNITS
from rtserve.submission.tables import from_table

if TYPE_CHECKING:
    from rtserve.submission.profile import Profile

__all__ = ["RUNTIMES", "CalibrationTable", "ChallengeRecipe", "Member", "Recipe", "Wheel", "load_recipe", "runs_in"]

RUNTIMES = ("torch", "torchscript", "onnxruntime", "native", "auto")
"""How the zip may run its graphs; ``auto`` prefers onnxruntime on a CPU where there is one, else torch; so does ``native``
with machine code that a compiler made of them when the zip was built."""


def runs_in(runtime: str) -> str:
    """Return the engine that a runtime runs its graphs in."""
    return {"torch": "torch", "torchscript": "torch", "native": "native"}.get(runtime, "onnxruntime")


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member: a checkpoint with its exporter, or a graph.

    Parameters
    ----------
    sha256 : str
        Digest of the file, 64 hexadecimal digits.
    checkpoint, exporter : str
        A .pth/.pt file and the reference of its exporter.
    graph : str
        An .onnx file instead of those two.
    settings : dict
        For the exporter, as ``rtserve export --set`` gives them.
    weights : str
        Which weights of a checkpoint that holds several, as ``rtserve export --weights`` takes it.
    """

    sha256: str
    checkpoint: str = ""
    exporter: str = ""
    graph: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    weights: str = ""

    @property
    def file(self) -> str:
        """The file as the recipe names it."""
        return self.checkpoint or self.graph

    def require_valid(self, where: str) -> None:
        """Raise `ProfileError` unless this is a checkpoint with an exporter, or a graph, with a digest."""
        if bool(self.checkpoint) == bool(self.graph) or bool(self.checkpoint) != bool(self.exporter):
            raise ProfileError(
                f"{where} has checkpoint {self.checkpoint!r}, exporter {self.exporter!r} and graph {self.graph!r}",
                hint="a member is { checkpoint, exporter, sha256 } or { graph, sha256 }",
            )
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise ProfileError(
                f"{where}: sha256 is {self.sha256!r}",
                hint=f"64 hexadecimal digits; `sha256sum {self.file}` prints them",
            )


@dataclass(frozen=True, kw_only=True)
class CalibrationTable:
    """Scale, offset and clip of the merged output, applied in this order."""

    scale: float = 1.0
    offset: float = 0.0
    clip: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ChallengeRecipe:
    """What answers one challenge.

    Parameters
    ----------
    members : tuple of Member
        Networks for the same windows.
    views : tuple of str
        Names as in `rtserve.fusion.views`.
    merge : str
        ``mean``, ``weighted:FILE``, ``median`` or ``trimmed:p``.
    calibration : CalibrationTable
        On the merged output.
    runtime : str
        One of `RUNTIMES`; the recipe's own where empty.
    optimize : bool
        Whether the passes run.
    events : dict
        Of a contest that runs containers: what is other than in its profile's ``container.events``.
    """

    members: tuple[Member, ...]
    views: tuple[str, ...] = ("identity",)
    merge: str = "mean"
    calibration: CalibrationTable = field(default_factory=CalibrationTable)
    runtime: str = ""
    optimize: bool = True
    events: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """An onnxruntime wheel that travels in the zip."""

    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A submission as it is built.

    Parameters
    ----------
    profile : str
        Name of the contest's profile.
    challenges : dict of str to ChallengeRecipe
        By the profile's keys.
    runtime : str
        One of `RUNTIMES`; a container runs by onnxruntime, which is what its recipe has by default.
    wheel : Wheel, optional
        onnxruntime for the scorer's Python, where it is to travel along.
    precision : str
        ``"float32"``, or ``"tf32"`` to let a CUDA device round the factors of products to ten bits.
    layout : str
        One of `rtserve.graphs.engines.LAYOUTS`, for a zip that is scored where another engine's layout is faster; empty
        for that of its runtime.
    windows : str
        A window set whose first windows become the reference windows; seeded noise of the contest's scale otherwise.
    evidence : tuple of str
        JSON files of ``rtserve bench`` and ``rtserve evaluate`` that the manifest cites.
    environment : str
        File of pins (``name==version`` a line, made by ``rtserve env record``) with which the recipe was last built.
    unit, sfreq : str, float
        Unit and rate (Hz) of the windows that the members take, where the members do not say; empty, 0 for not stated.
    folder : Path
        Where the recipe lies.
    """

    profile: str
    challenges: dict[str, ChallengeRecipe]
    runtime: str = "torch"
    precision: str = "float32"
    layout: str = ""
    wheel: Wheel | None = None
    windows: str = ""
    evidence: tuple[str, ...] = ()
    environment: str = ""
    unit: str = ""
    sfreq: float = 0.0
    folder: Path = Path()

    def runtime_of(self, key: str) -> str:
        """Return how challenge `key` runs."""
        return self.challenges[key].runtime or self.runtime

    def layout_of(self, key: str) -> str:
        """Return the engine that the graph of challenge `key` is laid out for."""
        return self.layout or runs_in(self.runtime_of(key))

    @property
    def stated(self) -> dict[str, Any]:
        """What it says of the windows that its members take."""
        return {"unit": self.unit, "sfreq": self.sfreq}

    def stating(self, *, unit: str = "", sfreq: float = 0.0) -> Recipe:
        """Return the recipe with the unit and the rate of the windows that its members take.

        Raises
        ------
        SpecMismatchError
            Where the recipe states others.
        """
        given = {key: value for key, value in (("unit", unit), ("sfreq", sfreq)) if value}
        for key, value in given.items():
            if getattr(self, key) not in ("", 0.0, value):
                raise SpecMismatchError(
                    f"--{key} says {value}, the recipe says {getattr(self, key)}",
                    hint=f"leave --{key} out, or correct the recipe",
                )
        return dataclasses.replace(self, unit=unit or self.unit, sfreq=sfreq or self.sfreq)

    def locate(self, name: str, root: Path | None, what: str) -> Path:
        """Return a file of the recipe, looked up under `root` (the recipe's folder by default).

        A root that is the first folder of `name` itself is taken for what it is: ``checkpoints/a.pth`` is found with
        ``--root DIR`` and with ``--root DIR/checkpoints``.

        Raises
        ------
        InputError
            Where no such file exists.
        """
        base = self.folder if root is None else Path(root)
        path = base / name
        parts = Path(name).parts
        if not path.exists() and len(parts) > 1 and base.resolve().name == parts[0]:
            path = base.joinpath(*parts[1:])
        if not path.exists():
            raise InputError(
                f"{what} {name} is not under {base}",
                hint=file_meant(path, "name the folder that holds it with --root DIR"),
            )
        return readable_file(path, what)

    def locate_exporter(self, reference: str) -> str:
        """Return an exporter reference whose file exists: beside the recipe, in a folder above it, or from here."""
        file, suffix, name = reference.partition(".py")
        if not suffix or Path(file).is_absolute():
            return reference
        folder = self.folder.resolve()
        for base in (folder, *folder.parents, Path()):
            if (base / (file + suffix)).is_file():
                return f"{base / (file + suffix)}{name}"
        raise InputError(
            f"exporter {file + suffix} is neither beside {self.folder} nor in a folder above it, nor here",
            hint="run from the folder that holds exporters/, or name an installed object package.module:exporter",
        )

    def require_digests(self, root: Path | None) -> list[tuple[str, Member, Path]]:
        """Find every member and compare its digest; return (challenge, member, path) of all.

        Raises
        ------
        InputError
            Where a member is missing, or its bytes are others than the recipe's.
        """
        found = [
            (key, member, self.locate(member.file, root, f"member {number} of challenge {key},"))
            for key, challenge in self.challenges.items()
            for number, member in enumerate(challenge.members, start=1)
        ]
        for key, member, path in found:
            actual = checkpoint_digest(path) if member.checkpoint else sha256_file(path)
            if actual != member.sha256:
                raise InputError(
                    f"{member.file} of challenge {key} has sha256 {actual}, the recipe says {member.sha256}",
                    hint="use the file the recipe was written for, or write its digest into the recipe",
                )
            if member.exporter:
                self.locate_exporter(member.exporter)
        return found


def load_recipe(path: str | Path) -> Recipe:
    """Read a ``submission.toml``.

    Raises
    ------
    InputError
        Where the file cannot be read.
    ProfileError
        Where it is no TOML, a key is unknown (the nearest valid one is named) or missing, or a value is impossible.
    """
    from rtserve.submission.profile import load_profile

    path = readable_file(path, "recipe")
    try:
        data = tomllib.loads(path.read_text("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} is not TOML: {error}", hint="see submissions/*/submission.toml") from None
    if "folder" in data:
        raise ProfileError(f"{path} has the unknown key 'folder'", hint="members are found with --root DIR")
    recipe = from_table(Recipe, {**data}, str(path))
    profile = load_profile(recipe.profile)
    if profile.container is not None and "runtime" not in data:
        recipe = dataclasses.replace(recipe, runtime="onnxruntime")
    _require_sensible(recipe, profile, str(path))
    return Recipe(**{**recipe.__dict__, "folder": path.parent})


def _require_sensible(recipe: Recipe, profile: Profile, where: str) -> None:
    known = [challenge.key for challenge in profile.challenges]
    for key, challenge in recipe.challenges.items():
        if key not in known:
            raise ProfileError(
                f"{where}: profile {recipe.profile} has no challenge {key!r}", hint=f"it has {', '.join(known)}"
            )
        if not challenge.members:
            raise ProfileError(f"{where}: challenge {key} has no members", hint="add [[challenges.KEY.members]]")
        for number, member in enumerate(challenge.members, start=1):
            member.require_valid(f"{where}: member {number} of challenge {key}")
        if len(challenge.calibration.clip) not in (0, 2):
            raise ProfileError(f"{where}: clip is {list(challenge.calibration.clip)}", hint="give [low, high]")
    lacking = [key for key in known if key not in recipe.challenges]
    if lacking and not (profile.one_of and len(recipe.challenges) == 1):
        raise ProfileError(
            f"{where} has no members for challenge {', '.join(lacking)}",
            hint=f"{recipe.profile} scores {', '.join(known)}",
        )
    if recipe.unit and recipe.unit not in UNITS:
        raise ProfileError(f"{where}: unit is {recipe.unit!r}", hint=f"one of {', '.join(UNITS)}")
    _require_runtime([recipe.runtime, *(c.runtime for c in recipe.challenges.values() if c.runtime)], where)
    _require_contained(recipe, profile, where)
    _require_precision(recipe.precision, where)
    if recipe.layout and recipe.layout not in LAYOUTS:
        raise ProfileError(f"{where}: layout is {recipe.layout!r}", hint=f"one of {', '.join(LAYOUTS)}")


def _require_contained(recipe: Recipe, profile: Profile, where: str) -> None:
    """Raise `ProfileError` where a recipe says of a container what is none, or what no container does."""
    from rtserve.submission.container_settings import events_for

    for key, challenge in recipe.challenges.items():
        if profile.container is None:
            if challenge.events:
                raise ProfileError(
                    f"{where}: challenge {key} has events, and {profile.name} scores answers to windows",
                    hint="leave events out",
                )
        elif idle := _idle(recipe, key):
            raise ProfileError(
                f"{where}: {idle}, and the container of {profile.name} reads recordings, in float32, by the onnxruntime"
                " that it installs",
                hint="leave it out",
            )
        else:
            events_for(profile.container, challenge.events, f"{where}: events of challenge {key}")


def _idle(recipe: Recipe, key: str) -> str:
    """Return what a recipe says that has no use in a container, or an empty text."""
    said = {
        f"runtime = {recipe.runtime_of(key)!r}": recipe.runtime_of(key) != "onnxruntime",
        f"precision = {recipe.precision!r}": recipe.precision != "float32",
        "a wheel": recipe.wheel is not None,
        "windows": bool(recipe.windows),
    }
    return next((what for what, there in said.items() if there), "")


def _require_runtime(runtimes: Sequence[str], where: str) -> None:
    for runtime in runtimes:
        if runtime not in RUNTIMES:
            raise ProfileError(f"{where}: runtime is {runtime!r}", hint=f"one of {', '.join(RUNTIMES)}")


def _require_precision(precision: str, where: str) -> None:
    from rtserve.runtime.precision import PRECISIONS

    if precision not in PRECISIONS:
        raise ProfileError(f"{where}: precision is {precision!r}", hint=f"one of {', '.join(PRECISIONS)}")
