"""RT0: the archive itself."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from rtserve.submission.checks.rule import WARN, Case, Finding, Rule, Skip
from rtserve.submission.checks.unpack import NO_ROOM
from rtserve.submission.profile_parts import STYLES

__all__ = ["RULES"]


class ReadableArchive(Rule):
    """The file is a zip that can be unpacked whole."""

    code = "RT001"
    styles = STYLES
    cause = "An upload that was cut off, another kind of archive under a .zip name, or an encrypted member."
    cure = "Make the zip again: cd into the folder with submission.py and run `zip -r ../submission.zip .`"

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        if case.unpacked.problem == NO_ROOM:
            yield Skip(reason=f"{NO_ROOM}: set TMPDIR to a larger folder", incomplete=True)
        elif case.unpacked.problem:
            yield Finding(message=case.unpacked.problem, where=case.path.name)


class SafeNames(Rule):
    """Every member is a plain file or folder inside the archive."""

    code = "RT002"
    styles = STYLES
    requires = ("RT001",)
    cause = "Absolute names, names with .., or symbolic links; the platform's unpacker refuses or ignores them."
    cure = "Zip the files themselves from inside their folder; `zip` without -y stores what a link points to."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        bad = [member for member in case.unpacked.members if member.unsafe]
        if bad:
            more = f" ({len(bad) - 1} more like it)" if len(bad) > 1 else ""
            yield Finding(message=f"{bad[0].name!r} is {bad[0].unsafe}{more}", where=bad[0].name[:200])


class NoBomb(Rule):
    """The archive unpacks to a size that its bytes can honestly hold."""

    code = "RT003"
    styles = STYLES
    requires = ("RT001",)
    cause = "A zip bomb, or members that overlap each other."
    cure = "Leave out files of zeros, and make the zip with an ordinary tool."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        if case.unpacked.bomb:
            yield Finding(message=case.unpacked.bomb, where=case.path.name)


class EntryAtRoot(Rule):
    """The entry script stands at the root of the zip under its exact name."""

    code = "RT004"
    styles = STYLES
    requires = ("RT001", "RT002", "RT003")
    cause = "The folder was zipped instead of its content, or the script has another name."
    cure = "cd into the folder with the script and run `zip -r ../submission.zip .`"

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        entry = case.profile.entry.file
        if entry in case.unpacked.names:
            return
        nested = [n for n in case.unpacked.files() if PurePosixPath(n.replace("\\", "/")).name == entry]
        nested = [n for n in nested if not n.startswith("__MACOSX")]
        if nested:
            folder = nested[0].replace("\\", "/").rpartition("/")[0]
            yield Finding(
                message=f"{entry} is at {nested[0]!r}, not at the root",
                where=nested[0],
                cure=f"zip the content of the folder, not the folder: (cd {folder} && zip -r ../submission.zip .)",
            )
            return
        near = [n for n in case.unpacked.files() if n.lower() == entry.lower()]
        ending = PurePosixPath(entry).suffix
        scripts = [n for n in case.unpacked.files() if n.endswith(ending)]
        what = (
            f"{near[0]} is spelt otherwise" if near else f"it has {', '.join(scripts[:5]) or 'no Python file at all'}"
        )
        yield Finding(message=f"there is no {entry} in the zip: {what}", cure=f"name it {entry}, at the root")


class ReservedNames(Rule):
    """No file at the root has a name that the platform keeps for itself."""

    code = "RT005"
    styles = STYLES
    requires = ("RT001", "RT002", "RT003")
    cause = "The worker takes metadata or metadata.yaml for its own and does not forward your files."
    cure = "Rename it. If this is a downloaded prediction_result, upload your own zip instead."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        reserved = set(case.profile.archive_reserved)
        for name in case.unpacked.files():
            if name.rstrip("/") in reserved:
                yield Finding(
                    message=f"the worker will take {name} for its own and not forward your files;"
                    " is this a downloaded prediction_result?",
                    where=name,
                )


class ArchiveSize(Rule):
    """The archive is no larger than what the contest was seen to accept."""

    code = "RT006"
    styles = STYLES
    severity = WARN
    requires = ("RT001",)
    cause = "Weights in double precision, optimizer states, or checkpoints that nothing loads."
    cure = "Save state_dicts only, in float32, and only those that the script loads."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        limit = case.profile.limits.archive_bytes
        if limit and case.unpacked.size > limit:
            yield Finding(
                message=f"{case.unpacked.size / 1e9:.2f} GB; {case.profile.limits.archive_source}",
                where=case.path.name,
            )


class PlainNames(Rule):
    """No two members share a name, and folders are written with forward slashes."""

    code = "RT007"
    styles = STYLES
    severity = WARN
    requires = ("RT001", "RT002")
    cause = "A zip that was appended to, or made by a tool that writes backslashes."
    cure = "Delete the zip before making it again; use `zip`, 7-Zip or Python's zipfile."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        counts = Counter(member.name for member in case.unpacked.members)
        for name in [name for name, count in counts.items() if count > 1][:5]:
            yield Finding(message=f"{name} is in the zip {counts[name]} times; the last one counts", where=name)
        slashed = [name for name in counts if "\\" in name]
        if slashed:
            yield Finding(
                message=f"{slashed[0]!r} has a backslash: on Linux that is a letter, no folder", where=slashed[0]
            )


RULES: tuple[type[Rule], ...] = (
    ReadableArchive,
    SafeNames,
    NoBomb,
    EntryAtRoot,
    ReservedNames,
    ArchiveSize,
    PlainNames,
)
