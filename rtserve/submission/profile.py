"""`Profile`: what one contest asks of a zip, read from ``profiles/NAME.toml``.

A profile is data: every clause carries its source and how sure it is, and where two sources contradict each other both
readings stand side by side, because a submission must be right under both. What has no source is absent.
"""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from rtserve.errors import InputError, ProfileError
from rtserve.spec import InputSpec
from rtserve.submission.tables import from_table

__all__ = [
    "Challenge",
    "Clause",
    "Contradiction",
    "Entry",
    "Environment",
    "Layout",
    "Limits",
    "Profile",
    "Signal",
    "Windows",
    "load_profile",
    "profile_names",
]


@dataclass(frozen=True, kw_only=True)
class Clause:
    """One sentence of the contract, its source, and how sure it is (certain, high, low, unknown)."""

    id: str
    text: str
    source: str
    confidence: str


@dataclass(frozen=True, kw_only=True)
class Contradiction:
    """Two sources that disagree: both readings, and what the check does to be right under both."""

    clause: str
    readings: tuple[str, ...]
    handling: str


@dataclass(frozen=True, kw_only=True)
class Entry:
    """How the scorer reaches the network.

    Parameters
    ----------
    file : str
        The script at the root of the zip.
    class_name : str
        The class it imports.
    style : str
        ``"getters"``: one getter per challenge, the network called through ``forward``; ``"solver"``: one
        ``load_model(meta)``, the network called through ``predict``.
    base : str
        Name of the class that the entry class derives from, or empty.
    method : str
        What is called on the returned object.
    requires : tuple of str
        Methods the returned object must have.
    single_file : bool
        Whether other Python files in the zip cannot be imported.
    deepcopy : bool
        Whether the scorer deep-copies the returned object.
    """

    file: str
    class_name: str
    style: str
    base: str = ""
    method: str = "forward"
    requires: tuple[str, ...] = ("eval", "forward")
    single_file: bool = False
    deepcopy: bool = False


@dataclass(frozen=True, kw_only=True)
class Windows:
    """How many windows a challenge scores: best figure, bounds, and where they come from."""

    count: int
    low: int
    high: int
    source: str


@dataclass(frozen=True, kw_only=True)
class Challenge:
    """One thing that is predicted.

    Parameters
    ----------
    key : str
        ``"1"``, ``"2"``, ...: what recipes and manifests call it.
    call : str
        The method that gives its network.
    target : str
        What is predicted, as in `rtserve.spec.OutputSpec`.
    weight : float
        Its share of the overall score.
    output : tuple of str
        Shape per window batch: ``("B", "1")``; letters stand for any size.
    plausible : tuple of float
        Range that the mean prediction lies in when unit and scaling are right; empty where not known.
    spread : float
        Standard deviation of the target, 0 where not known.
    streaming : bool
        Whether windows arrive one by one, each stream on its own copy of the network.
    windows : Windows or None
        How many windows the contest scores, where that can be said.
    metric : str
        What it is scored by, as `rtserve.measure.metrics.parse_metric` reads it; empty where that is not known.
    meta : dict
        What the scorer tells a solver about this challenge besides the signal.
    """

    key: str
    call: str
    target: str = ""
    weight: float = 1.0
    output: tuple[str, ...] = ("B", "1")
    plausible: tuple[float, ...] = ()
    spread: float = 0.0
    streaming: bool = False
    windows: Windows | None = None
    metric: str = ""
    meta: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Signal:
    """The windows the network is given; `assumed` where the contest leaves the size to its data."""

    n_chans: int
    n_times: int
    sfreq: float
    unit: str = "V"
    scale: float = 1e-5
    assumed: bool = False


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the scorer mounts the zip's files and which folder it runs in."""

    submission: str
    cwd: str
    wrong: tuple[str, ...] = ()
    right: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Environment:
    """A set of pinned packages that the scorer may have; `required` says whether a failure there is one."""

    name: str
    python: str
    packages: dict[str, str]
    required: bool = True


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Known limits; 0 where there is none or none is known. `seen_seconds` is the longest run known to be accepted."""

    seconds: float = 0.0
    seen_seconds: float = 0.0
    seconds_source: str = ""
    archive_bytes: int = 0
    archive_source: str = ""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A contest's contract.

    Parameters
    ----------
    name, title : str
        Name of the profile and of the contest.
    template : str
        File in ``templates/`` from which `rtserve build` writes the entry script.
    entry, signal, layout, limits : Entry, Signal, Layout, Limits
        See there.
    challenges : tuple of Challenge
        In the contest's order.
    environments : tuple of Environment
        The first is the primary one.
    modules : tuple of str
        Importable top-level modules beyond the standard library.
    absent : tuple of str
        Modules known to be missing.
    archive_reserved : tuple of str
        Names that must not stand at the root of the zip.
    package_folders : tuple of str
        Folders in the zip whose content submissions put on sys.path.
    stable : dict
        Module to classes whose parameter names are the same in the pinned and later versions.
    one_of : bool
        Whether a zip answers one of the challenges instead of all.
    network : bool
        Whether a source allows downloads while scoring.
    severity : dict
        Rule code to ``"fail"`` or ``"warn"`` where the contest differs from the rule's own.
    clauses, contradictions : tuple
        The contract in words, with sources.
    """

    name: str
    title: str
    template: str
    entry: Entry
    signal: Signal
    layout: Layout
    challenges: tuple[Challenge, ...]
    environments: tuple[Environment, ...]
    clauses: tuple[Clause, ...]
    limits: Limits = field(default_factory=Limits)
    contradictions: tuple[Contradiction, ...] = ()
    one_of: bool = False
    network: bool = False
    modules: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    archive_reserved: tuple[str, ...] = ()
    package_folders: tuple[str, ...] = ()
    stable: dict[str, tuple[str, ...]] = field(default_factory=dict)
    severity: dict[str, str] = field(default_factory=dict)

    @property
    def input_spec(self) -> InputSpec:
        """The windows as `InputSpec`."""
        signal = self.signal
        return InputSpec(n_chans=signal.n_chans, n_times=signal.n_times, sfreq=signal.sfreq, unit=signal.unit)

    @property
    def primary(self) -> Environment:
        """The environment that decides."""
        return self.environments[0]

    def for_input(self, spec: InputSpec) -> Profile:
        """Return the profile with the windows of `spec`, where it only assumes their size; itself otherwise."""
        if not self.signal.assumed:
            return self
        sfreq = spec.sfreq or self.signal.sfreq  # where a graph does not say; the unit is the contest's
        signal = replace(self.signal, n_chans=spec.n_chans, n_times=spec.n_times, sfreq=sfreq, assumed=False)
        return replace(self, signal=signal)

    def challenge(self, key: str) -> Challenge:
        """Return one challenge by its key.

        Raises
        ------
        ProfileError
            Where there is none of that key; the message names those there are.
        """
        for challenge in self.challenges:
            if challenge.key == key:
                return challenge
        known = ", ".join(challenge.key for challenge in self.challenges)
        raise ProfileError(f"profile {self.name} has no challenge {key!r}", hint=f"it has {known}")


def profile_names() -> list[str]:
    """Return the names of the profiles that come with rtserve."""
    folder = resources.files("rtserve.submission") / "profiles"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_profile(name: str | Path) -> Profile:
    """Read a profile by name, or by the path of a TOML file.

    Raises
    ------
    InputError
        Where there is no such profile.
    ProfileError
        Where the file is no TOML, or has an unknown or missing key (the nearest known one is named).
    """
    names = profile_names()
    if str(name) in names:
        source = resources.files("rtserve.submission") / "profiles" / f"{name}.toml"
        return parse_profile(source.read_text("utf-8"), where=f"profile {name}")
    path = Path(name)
    if path.suffix == ".toml" and path.is_file():
        return parse_profile(path.read_text("utf-8"), where=str(path))
    near = sorted(difflib.get_close_matches(str(name), names, n=2))
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(names)}; or name a .toml file"
    raise InputError(f"no profile {str(name)!r}", hint=hint)


def parse_profile(text: str, *, where: str) -> Profile:
    """Return the profile that TOML `text` holds; `where` is what errors call it. Raises as `load_profile`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(
            f"{where} is not TOML: {error}", hint="see rtserve/submission/profiles for examples"
        ) from None
    return from_table(Profile, data, where)
