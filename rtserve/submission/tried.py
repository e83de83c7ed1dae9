"""A zip tried in every environment of a contest that is there: does it load and answer, and what does a window cost?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtserve.errors import EnvironmentMissingError
from rtserve.stages import Tell
from rtserve.submission.environments import RECORD
from rtserve.submission.profile import load_profile
from rtserve.submission.profile_parts import Environment
from rtserve.submission.report import located
from rtserve.submission.validate import check
from rtserve.submission.verdict import FAILED, ValidationReport

__all__ = ["Trial", "try_environments"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A zip in one environment.

    Parameters
    ----------
    environment : Environment
        Which, as the profile states it.
    report : ValidationReport
        Everything that `check` found there.
    """

    environment: Environment
    report: ValidationReport

    def lines(self) -> Iterator[str]:
        """Yield what came of it: the verdict, what failed, and the forecast."""
        versions = ", ".join(f"{name} {version}" for name, version in self.environment.packages.items())
        guess = " (no source states these versions)" if self.environment.assumed else ""
        yield f"{self.environment.name}: {self.report.verdict}; {self.report.python}; {versions}{guess}"
        for result in self.report.results:
            if result.status == FAILED or result.incomplete:
                said = located(result.findings[0]) if result.findings else result.reason
                yield f"  {result.code} {said}"
        for forecast in self.report.forecasts:
            yield f"  time, challenge {forecast.challenge}: {forecast.sentence()}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "environment": self.environment.name, "packages": self.environment.packages,
            "assumed": self.environment.assumed,
            "verdict": self.report.verdict, "python": self.report.python,
            "failed": [r.code for r in self.report.results if r.status == FAILED],
            "incomplete": [r.code for r in self.report.results if r.incomplete],
            "forecast": [forecast.to_dict() for forecast in self.report.forecasts],
        }  # fmt: skip


def try_environments(
    path: str | Path,
    folder: str | Path,
    *,
    profile: str,
    say: Callable[[str], None] = lambda _: None,
    progress: Tell | None = None,
) -> tuple[Trial, ...]:
    """Check a zip in each of a profile's environments that lie in a folder.

    Parameters
    ----------
    path : path
        The zip.
    folder : path
        Where `rtserve env create` made them.
    profile : str
        The contest.
    say : callable
        Told which is being tried.
    progress : callable, optional
        As `check` calls it, anew in each.

    Raises
    ------
    InputError
        Where the zip does not exist, or there is no such profile.
    EnvironmentMissingError
        Where none of them is there.
    """
    contest = load_profile(profile)
    there = [env for env in contest.environments if (Path(folder) / env.name / RECORD).is_file()]
    if not there:
        names = ", ".join(env.name for env in contest.environments)
        raise EnvironmentMissingError(
            f"none of the environments of {profile} ({names}) is in {folder}",
            hint=f"rtserve env create {profile} --path {folder}",
        )
    made = []
    for env in there:
        say(f"trying {Path(path).name} in {env.name}")
        report = check(path, profile=profile, env=Path(folder) / env.name, progress=progress)
        made.append(Trial(environment=env, report=report))
    return tuple(made)
