"""RT5: the command of a container, run on recordings as the contest's evaluation runs it, and the tables that it writes."""

from __future__ import annotations

import re
from collections.abc import Iterator

from rtserve.submission.checks.rule import WARN, Case, Finding, Rule, Skip
from rtserve.submission.container_run import Answered, ContainerRun
from rtserve.submission.container_table import HEADER, KIND, LENGTH, ROW, faults
from rtserve.submission.profile_parts import CONTAINER

__all__ = ["RULES"]

_LACKING = re.compile(
    r"No module named '?([\w.]+)|([\w./+-]+): (?:command )?not found|No such file or directory: '([^']+)'"
)
_READ_ONLY = "Read-only file system"


class ContainerRule(Rule):
    """What rules about a container have in common."""

    styles = (CONTAINER,)

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        """Yield what breaks the rule; a skip where the command could not be run, or not to its end."""
        run = case.container
        if run is None:
            yield Skip(reason="the submission was not run")
            return
        if run.why_not:
            yield Skip(reason=run.why_not, incomplete=True)
        for answer in run.answered:
            yield from self.judge(case, answer)

    def judge(self, case: Case, answer: Answered) -> Iterator[Finding | Skip]:
        """Yield what one answer breaks."""
        yield from ()


def _lacking(answer: Answered) -> str:
    """Return what the command missed of what an image installs, as far as that can be: no fault of the submission."""
    if answer.code == 0:
        return ""
    if _READ_ONLY in answer.text:
        return f"it writes where only an image lets it: {answer.last}"
    found = _LACKING.search(answer.text)
    if found is None or (found[3] and not found[3].startswith(("/bin", "/usr", "/opt")) and "/" in found[3]):
        return ""
    return f"{next(group for group in found.groups() if group)} is not in the Python that stands for the image (--env)"


class CommandStated(ContainerRule):
    """The Dockerfile states a command, and copies files that are in the zip."""

    code = "RT501"
    requires = ("RT004",)
    cause = "No CMD or ENTRYPOINT, or a COPY of files that were left out of the zip."
    cure = "State the command with CMD, and zip everything that the Dockerfile copies."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        run, entry = case.container, case.profile.entry.file
        if run is None:
            yield Skip(reason="the submission was not run")
            return
        if not run.image.runs:
            yield Finding(message="it states neither CMD nor ENTRYPOINT: there is nothing to run", where=entry)
        for line, pattern in run.missing:
            yield Finding(message=f"COPY of {pattern!r}: the zip has no such file", where=f"{entry}:{line}")


class VolumesNamed(ContainerRule):
    """The image has the volumes and the variables that the evaluation gives it."""

    code = "RT502"
    severity = WARN
    requires = ("RT501",)
    cause = "A Dockerfile that was not made from the contest's."
    cure = "Name both folders with VOLUME and both variables with ENV, as the contest's own Dockerfile does."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        run, container = case.container, case.profile.container
        if run is None or container is None:
            yield Skip(reason="the submission was not run")
            return
        named = set(run.image.volumes)
        wanted = [container.data, container.output]
        lacking = [folder for folder in wanted if folder not in named]
        lacking += [
            f"${name}"
            for name in (container.input_variable, container.output_variable)
            if name not in run.image.environment
        ]
        if lacking:
            has = ", ".join([*sorted(named), *sorted(run.image.environment)]) or "none"
            message = f"the image states {has}; the contest's own states {', '.join(lacking)} as well"
            yield Finding(message=message, where=case.profile.entry.file)


class EndsWell(ContainerRule):
    """The command ends with exit code 0 on every recording."""

    code = "RT503"
    requires = ("RT501",)
    cause = (
        "A recording that the command refuses, or an error: an evaluation may end with the first command that fails."
    )
    cure = "Write a table without events, say why on stderr, and end with 0."

    def judge(self, case: Case, answer: Answered) -> Iterator[Finding | Skip]:
        if lacking := _lacking(answer):
            yield Skip(reason=lacking, incomplete=True)
        elif answer.code:
            yield Finding(message=f"{_of(answer)}: it ends with {answer.code}, not 0: {answer.last}")


class NoNetwork(ContainerRule):
    """The command asks for nothing over the network."""

    code = "RT504"
    requires = ("RT501",)
    cause = "Weights or settings that are fetched when the command starts: the evaluation has no network."
    cure = "Fetch them when the image is built, and read them from a file."

    def judge(self, case: Case, answer: Answered) -> Iterator[Finding | Skip]:
        if answer.asked or answer.unreachable:
            whom = ", ".join(answer.asked[:3]) or f"an address ({answer.unreachable} packets that had nowhere to go)"
            yield Finding(message=f"{_of(answer)}: it asks for {whom}; the contest runs it without any network")


class TableWritten(ContainerRule):
    """The command writes the table where it is told to."""

    code = "RT505"
    requires = ("RT501",)
    cause = "A name of the command's own, another folder, or a file that is moved into a folder it may not write."
    cure = "Open the file that the variable names and write it in place; it is there already, and empty."

    def judge(self, case: Case, answer: Answered) -> Iterator[Finding | Skip]:
        container = case.profile.container
        if answer.table or container is None or answer.code:
            return
        wanted = f"{container.output}/{answer.drill.name}.tsv"
        beside = f"; it wrote {', '.join(answer.others[:3])}" if answer.others else ""
        message = f"{_of(answer)}: {wanted}, which ${container.output_variable} names, is empty{beside}"
        yield Finding(message=f"{message}: {answer.last}")


class TableRule(ContainerRule):
    """What rules about a table have in common; `about` is which faults are theirs."""

    requires = ("RT501",)
    about = ""

    def judge(self, case: Case, answer: Answered) -> Iterator[Finding | Skip]:
        if not answer.table or answer.code or case.profile.container is None:
            return
        found = faults(answer.table, case.profile.container.table, seconds=answer.drill.seconds)
        for fault in [fault for fault in found if fault.about == self.about][:2]:
            yield Finding(message=f"{_of(answer)}: {fault.message}")


class RightHeader(TableRule):
    """Every table has the contest's header."""

    code = "RT506"
    about = HEADER
    cause = "Columns of another name or in another order, or another separator."
    cure = "Write the columns that the contest states, in its order."


class RightRows(TableRule):
    """Every row of a table can be read: numbers, times, events within the recording that do not overlap."""

    code = "RT507"
    about = ROW
    cause = "Another format of numbers or times, events beyond the recording, or none at all where there is no event."
    cure = "Write what the contest's reader reads; merge events that overlap."


class RightKinds(TableRule):
    """Every event is of a kind that the contest's reader knows."""

    code = "RT508"
    about = KIND
    cause = "Names of kinds as they stand in an article: the reader's own are spelt otherwise."
    cure = "Use the names that the message shows."


class RightLength(TableRule):
    """Every table states the recording's own length."""

    code = "RT509"
    about = LENGTH
    cause = "The length of what was analysed, not of what was recorded: the last window, or after resampling."
    cure = "Take the length from the file's header."


class SameAnswer(ContainerRule):
    """A recording with other channels behind the contest's own is answered as without them."""

    code = "RT510"
    requires = ("RT501", "RT503", "RT505")
    cause = "Channels are counted from the end, or all of a file's are taken."
    cure = "Take channels by their names."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        run: ContainerRun | None = case.container
        tables = {answer.drill.name: answer for answer in run.answered} if run is not None else {}
        for answer in tables.values():
            other = tables.get(answer.drill.like)
            if other is None or answer.code or other.code or answer.table == other.table:
                continue
            rows = [next(iter(one.table.splitlines()[1:]), "no row") for one in (answer, other)]
            yield Finding(message=f"{_of(answer)}: it answers {rows[0]!r}, without it {rows[1]!r}")


def _of(answer: Answered) -> str:
    return f"{answer.drill.name}.edf ({answer.drill.what})"


RULES: tuple[type[Rule], ...] = (
    CommandStated, VolumesNamed, EndsWell, NoNetwork, TableWritten, RightHeader, RightRows, RightKinds, RightLength,
    SameAnswer,
)  # fmt: skip
