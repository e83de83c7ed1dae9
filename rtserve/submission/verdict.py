"""`ValidationReport`: what became of every rule, and what that means for the upload."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rtserve.display import card
from rtserve.submission.checks.rule import Finding, Rule
from rtserve.submission.forecast import Forecast
from rtserve.submission.kit import KitRun
from rtserve.submission.profile import Profile

__all__ = ["FAILED", "IGNORED", "PASSED", "SKIPPED", "WARNED", "Result", "ValidationReport"]

PASSED, FAILED, WARNED, SKIPPED, IGNORED = "passed", "failed", "warned", "skipped", "ignored"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of one rule.

    Parameters
    ----------
    rule : Rule
        Its code, sentence, cause and cure.
    status : str
        ``"passed"``, ``"failed"``, ``"warned"``, ``"skipped"`` or ``"ignored"``.
    findings : tuple of Finding
        What broke it.
    reason : str
        Why it was skipped or ignored.
    incomplete : bool
        Whether this machine is why it could not judge.
    """

    rule: Rule
    status: str
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    incomplete: bool = False

    @property
    def code(self) -> str:
        """The rule's code."""
        return self.rule.code


@dataclass(frozen=True, kw_only=True)
class ValidationReport:
    """The verdict on one zip.

    Parameters
    ----------
    path : Path
        The zip.
    profile : Profile
        The contest.
    results : tuple of Result
        One per rule, by code.
    forecasts : tuple of Forecast
        Time for the contest's windows.
    kits : tuple of KitRun
        What the contest's own kit made of it, by challenge, where one was named.
    sandbox : str
        How the run was isolated; empty where there was none.
    notes : tuple of str
        What the reader must know about this check itself.
    seconds, static_seconds : float
        What it took, in all and for the rules that need no run.
    strict : bool
        Whether an incomplete check counts.
    """

    path: Path
    profile: Profile
    results: tuple[Result, ...]
    forecasts: tuple[Forecast, ...] = ()
    kits: tuple[KitRun, ...] = ()
    sandbox: str = ""
    python: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
    static_seconds: float = 0.0
    strict: bool = False

    def __repr__(self) -> str:
        return f"<ValidationReport on {self.path.name}: {self.verdict} ({self._counted()})>"

    def _repr_html_(self) -> str:
        broken = [result for result in self.results if result.status in (FAILED, WARNED)]
        rows: list[tuple[str, object]] = [("contest", self.profile.title), ("rules", self._counted())]
        for result in broken:
            said = "\n".join([result.rule.sentence, *(f"- {finding.message}" for finding in result.findings[:6])])
            rows.append((f"{result.code} {result.status}", f"{said}\ncure: {result.rule.cure}"))
        rows += [(f"time, challenge {each.challenge}", each.sentence()) for each in self.forecasts]
        rows.append(("sandbox", self.sandbox or "it was not run"))
        return card(f"{self.path.name}: {self.verdict}", rows, self.notes)

    def _counted(self) -> str:
        return ", ".join(f"{count} {kind}" for kind, count in self.counts().items() if count)

    @property
    def failed(self) -> bool:
        """Whether any rule failed."""
        return any(result.status == FAILED for result in self.results)

    @property
    def incomplete(self) -> bool:
        """Whether this machine kept a rule from judging."""
        return any(result.incomplete for result in self.results)

    def beside(self, run: KitRun) -> str:
        """Return a kit's verdict with this one beside it."""
        mine = [r.code for r in self.results if r.status == FAILED and not r.rule.with_kit]
        if run.why_not:
            return run.sentence()
        if run.scored:
            said = (
                f"rtserve fails it by {', '.join(mine)}, of which the kit knows nothing" if mine else "so does rtserve"
            )
        else:
            said = f"so it does by {', '.join(mine)} here" if mine else "no other rule says so: please report it"
        return f"{run.sentence()}; {said}"

    @property
    def verdict(self) -> str:
        """``"failed"``, ``"incomplete"``, or ``"passed"``."""
        return FAILED if self.failed else "incomplete" if self.incomplete else PASSED

    @property
    def exit_code(self) -> int:
        """0 passed or incomplete, 1 failed, 4 incomplete under --strict."""
        return 1 if self.failed else 4 if self.incomplete and self.strict else 0

    def counts(self) -> dict[str, int]:
        """Return how many rules ended in each status."""
        kinds = (PASSED, WARNED, FAILED, SKIPPED, IGNORED)
        return {kind: sum(result.status == kind for result in self.results) for kind in kinds}
