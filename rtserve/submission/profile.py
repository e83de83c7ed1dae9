"""`Profile`: what one contest asks of a zip, read from ``profiles/NAME.toml``.

A profile is data: every clause carries its source and how sure it is, and where two sources contradict each other both
readings stand side by side, because a submission must be right under both. What has no source is absent.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field, replace
from datetime import date
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from rtserve.errors import InputError, ProfileError
from rtserve.nearest import file_meant, meant
from rtserve.spec import InputSpec
from rtserve.submission.challenge import Challenge, in_phases, require_known
from rtserve.submission.container_parts import Container, require_container
from rtserve.submission.profile_parts import (
    CONTAINER,
    STYLES,
    Clause,
    Contradiction,
    Entry,
    Environment,
    Kit,
    Layout,
    Limits,
    Period,
    Phase,
    Signal,
    Windows,
)
from rtserve.submission.tables import from_table

__all__ = [
    "Challenge",
    "Clause",
    "Contradiction",
    "Entry",
    "Environment",
    "Layout",
    "Limits",
    "Period",
    "Phase",
    "Profile",
    "Signal",
    "Windows",
    "data_folder",
    "full_name",
    "load_profile",
    "name_parts",
    "profile_names",
]


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A contest's contract.

    Parameters
    ----------
    name, title : str
        Name of the profile, with the challenge and the phase it was narrowed to, and of the contest.
    template : str
        File in ``templates/`` from which `rtserve build` writes the entry script.
    entry, layout, limits : Entry, Layout, Limits
        See there.
    signal : Signal or None
        The windows of every challenge that has none of its own.
    phases : tuple of str
        The contest's phases, first the one that decides; empty where there is one alone. What a challenge does not change
        in one is as in the phase named before it.
    periods : tuple of Period
        When those phases take uploads.
    electrodes : tuple of str
        Names that meta gives to electrodes, in this order, where the contest does not state its own.
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
    no_binaries : str
        The clause that forbids compiled code in the zip; empty where none does.
    package_folders : tuple of str
        Folders in the zip whose content submissions put on sys.path.
    stable : dict
        Module to classes whose parameter names are the same in the pinned and later versions.
    one_of : bool
        Whether a zip answers one of the challenges instead of all.
    open_sizes : bool
        Whether the contest's data may have other sizes than it states, which ``--shape`` then names.
    network : bool
        Whether a source allows downloads while scoring.
    staged : tuple of str
        Published weights that lie ready in the scorer's cache.
    severity : dict
        Rule code to ``"fail"`` or ``"warn"`` where the contest differs from the rule's own.
    kit : Kit or None
        How the contest's own kit is run, where it has one.
    container : Container or None
        What the contest's containers read and write, where it runs containers.
    clauses, contradictions : tuple
        The contract in words, with sources.
    """

    name: str
    title: str
    template: str
    entry: Entry
    layout: Layout
    challenges: tuple[Challenge, ...]
    environments: tuple[Environment, ...]
    clauses: tuple[Clause, ...]
    signal: Signal | None = None
    phases: tuple[str, ...] = ()
    periods: tuple[Period, ...] = ()
    electrodes: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    kit: Kit | None = None
    container: Container | None = None
    contradictions: tuple[Contradiction, ...] = ()
    one_of: bool = False
    open_sizes: bool = False
    network: bool = False
    staged: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    archive_reserved: tuple[str, ...] = ()
    no_binaries: str = ""
    package_folders: tuple[str, ...] = ()
    stable: dict[str, tuple[str, ...]] = field(default_factory=dict)
    severity: dict[str, str] = field(default_factory=dict)

    def signal_of(self, key: str) -> Signal:
        """Return the windows that a challenge is given. Raises `ProfileError` where there is no such challenge."""
        signal = self.challenge(key).signal or self.signal
        if signal is None:
            raise ProfileError(
                f"profile {self.name} states no windows for challenge {key}", hint="add its signal table"
            )
        return signal

    def names_of(self, key: str) -> tuple[str, ...]:
        """Return how meta names a challenge's channels: as the contest does, by electrodes, or by number."""
        signal, challenge = self.signal_of(key), self.challenge(key)
        known = signal.ch_names or (self.electrodes if challenge.electrodes else ())
        numbered = (f"ch{index + 1}" for index in range(len(known), signal.n_chans))
        return (*known[: signal.n_chans], *numbered)

    @property
    def primary(self) -> Environment:
        """The environment that decides."""
        return self.environments[0]

    def resized(self, spec: InputSpec) -> Profile:
        """Return the profile with windows of the size and rate of `spec`; the unit and its scale are the contest's.

        Raises
        ------
        InputError
            Where the contest itself states the sizes, or gives recordings.
        """
        if self.container is not None:
            raise InputError(f"profile {self.name} gives recordings, not windows", hint="leave --shape out")
        signals = [self.signal_of(challenge.key) for challenge in self.challenges]
        if not self.open_sizes and not all(signal.assumed for signal in signals):
            raise InputError(f"profile {self.name} gives {signals[0]}", hint="leave --shape out")

        def given(signal: Signal) -> Signal:
            sfreq = spec.sfreq or signal.sfreq
            return replace(signal, n_chans=spec.n_chans, n_times=spec.n_times, sfreq=sfreq, assumed=False)

        pairs = zip(self.challenges, signals, strict=True)
        return replace(self, challenges=tuple(replace(challenge, signal=given(signal)) for challenge, signal in pairs))

    def narrowed(self, key: str, phase: str) -> Profile:
        """Return the profile for one challenge and one phase; an empty `key` keeps all, an empty `phase` the first.

        Raises
        ------
        InputError
            Where there is no such challenge or phase; the message names those there are.
        """
        keys = [challenge.key for challenge in self.challenges]
        for what, given, known in (("challenge", key, keys), ("phase", phase, list(self.phases))):
            if given and given not in known:
                hint = meant(given, known, f"it has {', '.join(known) or 'none'}")
                raise InputError(f"profile {self.name} has no {what} {given!r}", hint=hint)
        reached = self.phases[1 : self.phases.index(phase) + 1] if phase else ()
        kept = tuple(in_phases(c, reached) for c in self.challenges if key in ("", c.key))
        return replace(self, name=full_name(self.name, key, phase), challenges=kept)

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


def data_folder() -> Traversable:
    """Return the folder that holds ``profiles/`` and ``templates/``: a contest is a file in each."""
    return resources.files("rtserve.submission")


def profile_names() -> list[str]:
    """Return the names of the profiles that come with rtserve."""
    folder = data_folder() / "profiles"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def name_parts(name: str) -> tuple[str, str, str]:
    """Return the profile, the challenge and the phase of ``NAME[/CHALLENGE][:PHASE]``; empty where there is none."""
    split = re.fullmatch(r"(?s)(.*\.toml|[^/:]*)(?:/([^/:]*))?(?::([^/:]*))?", name)
    base, key, phase = (part or "" for part in split.groups()) if split else (name, "", "")
    return base, key, phase


def full_name(base: str, key: str, phase: str) -> str:
    """Return the name that `name_parts` takes apart."""
    return f"{base}{f'/{key}' if key else ''}{f':{phase}' if phase else ''}"


def load_profile(name: str | Path) -> Profile:
    """Read a profile: ``NAME[/CHALLENGE][:PHASE]``, where NAME may be the path of a TOML file.

    Raises
    ------
    InputError
        Where there is no such profile, challenge or phase.
    ProfileError
        Where the file is no TOML, or has an unknown or missing key (the nearest known one is named).
    """
    names = profile_names()
    base, key, phase = name_parts(str(name))
    if base in names:
        source = data_folder() / "profiles" / f"{base}.toml"
        return parse_profile(source.read_text("utf-8"), where=f"profile {base}").narrowed(key, phase)
    path = Path(base)
    if path.suffix == ".toml" and path.is_file():
        try:
            text = path.read_text("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ProfileError(f"{path} is not TOML: {error}", hint="save it in UTF-8") from None
        return parse_profile(text, where=str(path)).narrowed(key, phase)
    there = f"there are {', '.join(names)}; or name a .toml file"
    hint = file_meant(path, there) if path.suffix == ".toml" else meant(base, names, there, n=2)
    raise InputError(f"no profile {str(name)!r}", hint=hint)


def parse_profile(text: str, *, where: str) -> Profile:
    """Return the profile that TOML `text` holds; `where` is what errors call it. Raises as `load_profile`."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ProfileError(
            f"{where} is not TOML: {error}", hint="see rtserve/submission/profiles for examples"
        ) from None
    profile = from_table(Profile, data, where)
    if profile.no_binaries and profile.no_binaries not in [clause.id for clause in profile.clauses]:
        raise ProfileError(
            f"{where}: no_binaries names the clause {profile.no_binaries!r}, which it has not",
            hint="give the sentence that forbids them as a clause, with its source",
        )
    _require_periods(profile, where)
    _require_style(profile, where)
    for challenge in profile.challenges:
        profile.signal_of(challenge.key)
        require_known(challenge, where)
        strange = sorted(set(challenge.phases) - set(profile.phases))
        if strange:
            raise ProfileError(
                f"{where}: challenge {challenge.key} has the phase {strange[0]!r}",
                hint=f"phases names {', '.join(profile.phases) or 'none'}",
            )
    return profile


def _require_style(profile: Profile, where: str) -> None:
    """Make sure that what a contest runs is described: a class in a script, or a container."""
    style, contained = profile.entry.style, profile.container
    if style not in STYLES:
        raise ProfileError(f"{where}: entry.style is {style!r}", hint=f"one of {', '.join(STYLES)}")
    if (style == CONTAINER) != (contained is not None):
        has = "has the table" if contained is not None else "lacks the table"
        raise ProfileError(f"{where}: entry.style is {style!r} and it {has} container", hint="a container has both")
    if style != CONTAINER and not profile.entry.class_name:
        raise ProfileError(f"{where}: entry lacks class_name", hint="name the class that the contest's scorer imports")
    if contained is not None:
        require_container(contained, where)
        if len(profile.challenges) != 1:
            raise ProfileError(f"{where}: a container of {len(profile.challenges)} challenges", hint="it answers one")


def _require_periods(profile: Profile, where: str) -> None:
    """Make sure that every period is of a phase and closes no earlier than the day it opens."""
    for period in profile.periods:
        try:
            right = date.fromisoformat(period.opens) <= date.fromisoformat(period.closes)
        except ValueError:
            right = False
        if period.phase not in profile.phases or not right:
            raise ProfileError(
                f"{where}: the phase {period.phase!r} from {period.opens!r} to {period.closes!r}",
                hint=f"name one of {', '.join(profile.phases) or 'no phases'} and two days such as 2026-10-28",
            )
