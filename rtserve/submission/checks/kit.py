"""RT3, fourth part: what the contest's own kit makes of the submission, where one is at hand."""

from __future__ import annotations

from collections.abc import Iterator

from rtserve.submission.checks.rule import Case, Finding, Rule, Skip

__all__ = ["RULES"]


class KitScores(Rule):
    """The contest's own kit comes to a score."""

    code = "RT329"
    requires = ("RT004",)
    with_kit = True
    cause = "The kit's ingestion ends before it has a score; the platform runs the same program."
    cure = "Follow the other rules that fail; where none does, what ended the kit is named here: report it to rtserve."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for run in case.kits:
            if run.why_not:
                yield Skip(reason=run.sentence(), incomplete=True)
            elif not run.scored:
                yield Finding(message=run.sentence(), challenge=run.challenge)


RULES: tuple[type[Rule], ...] = (KitScores,)
