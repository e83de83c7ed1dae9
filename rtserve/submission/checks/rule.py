"""`Rule`: one thing that can be wrong with a submission, and `Case`: all that is known about one.

A rule is a small class. Its docstring is the rule in one sentence; it names what causes a break and what cures it. A
rule yields findings; none means passed. A rule that cannot judge yields a `Skip` with the reason.
"""

from __future__ import annotations

import ast
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rtserve.submission.reachability import Function, functions, reached_functions, reached_nodes

if TYPE_CHECKING:
    from rtserve.submission.checks.source import Module, Sources
    from rtserve.submission.checks.unpack import Unpacked
    from rtserve.submission.container_run import ContainerRun
    from rtserve.submission.drive import Drive
    from rtserve.submission.kit import KitRun
    from rtserve.submission.profile import Challenge, Profile

__all__ = ["FAIL", "WARN", "Case", "Finding", "Rule", "Skip"]

FAIL = "fail"
WARN = "warn"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One break of a rule.

    Parameters
    ----------
    message : str
        What is wrong, with both values.
    where : str
        File and line, or member of the zip.
    cure : str
        What to do, where it is more exact than the rule's own cure.
    severity : str
        ``"fail"`` or ``"warn"`` where it differs from the rule's own.
    challenge : str
        Which challenge, or empty.
    """

    message: str
    where: str = ""
    cure: str = ""
    severity: str = ""
    challenge: str = ""


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A rule that could not judge; `incomplete` where this machine is to blame, not the submission."""

    reason: str
    incomplete: bool = False


@dataclass(frozen=True, kw_only=True)
class Case:
    """All that is known about one submission when its rules are asked.

    Parameters
    ----------
    path : Path
        The zip.
    profile : Profile
        The contest.
    unpacked : Unpacked
        The archive and, where it could be unpacked, its folder.
    sources : Sources
        The Python in it, parsed.
    drive : Drive or None
        What the run saw.
    manifest : dict or None
        The manifest of a zip that rtserve built.
    missing : mapping
        Packages of the profile that this machine lacks, by module name.
    kits : tuple of KitRun
        How the contest's own kit ended on each challenge, where one was named.
    container : ContainerRun or None
        What a container's command did, where the contest runs containers.
    """

    path: Path
    profile: Profile
    unpacked: Unpacked
    sources: Sources
    drive: Drive | None = None
    manifest: dict[str, Any] | None = None
    missing: Mapping[str, str] = field(default_factory=dict)
    kits: tuple[KitRun, ...] = ()
    container: ContainerRun | None = None

    @property
    def challenges(self) -> tuple[Challenge, ...]:
        """The contest's challenges."""
        return self.profile.challenges

    @property
    def contained(self) -> Path | None:
        """The unpacked folder of a container's zip; None where there is none, or the contest runs none."""
        there = self.profile.container is not None and self.profile.entry.file in self.unpacked.names
        return self.unpacked.folder if there else None

    def ran(self, stage: str, challenge: str | None = None) -> bool:
        """Whether the drive reached a stage and it ended well."""
        return self.drive is not None and self.drive.ok(stage, challenge)

    @cached_property
    def all_ran(self) -> bool:
        """Whether every challenge gave a prediction."""
        return all(self.ran("forward", challenge.key) for challenge in self.challenges)

    @cached_property
    def functions(self) -> list[Function]:
        """Every function of the modules that the entry script can reach."""
        return functions(self.sources)

    @cached_property
    def reached(self) -> set[int]:
        """The ids of the nodes of functions that the scorer's calls can reach."""
        return reached_functions(self.functions, self.sources, self.profile)

    @cached_property
    def reached_nodes(self) -> list[tuple[Module, str, ast.AST, list[ast.AST]]]:
        """Module, function, node and ancestors of all code that the scorer can reach; several rules go through it."""
        return list(reached_nodes(self.sources, self.reached))

    def loads(self, challenge: str | None = None) -> list[dict[str, Any]]:
        """Return every load made while building, in order."""
        if self.drive is None:
            return []
        events = [e for e in self.drive.all("loads", challenge) if e["during"] in ("import", "construct", "build")]
        return [entry for event in events for entry in event["entries"]]


class Rule(ABC):
    """A rule; the docstring of each subclass is the rule itself in one sentence."""

    code: ClassVar[str]
    severity: ClassVar[str] = FAIL
    requires: ClassVar[tuple[str, ...]] = ()
    cause: ClassVar[str]
    cure: ClassVar[str]
    strict: ClassVar[bool] = False
    """Whether --strict turns its warnings into failures."""
    after: ClassVar[str] = ""
    """Stage of the drive that at least one challenge must have come through."""
    styles: ClassVar[tuple[str, ...]] = ("getters", "solver")
    """Kinds of contest it applies to."""
    with_kit: ClassVar[bool] = False
    """Whether it is asked only where the contest's own kit is at hand."""

    @property
    def sentence(self) -> str:
        """The rule in one sentence."""
        return (self.__doc__ or "").strip().splitlines()[0]

    @property
    def name(self) -> str:
        """Readable name from the class's own."""
        text = type(self).__name__
        return "".join(f"-{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(text))

    @abstractmethod
    def check(self, case: Case) -> Iterator[Finding | Skip]:
        """Yield what breaks the rule in this case."""
