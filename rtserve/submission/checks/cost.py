"""RT3, third part: copies and streams, what is computed for nothing, how long it takes, what else it does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rtserve.submission import forecast
from rtserve.submission.checks.behaviour import SAME, events, repeatable
from rtserve.submission.checks.blame import shown
from rtserve.submission.checks.rule import WARN, Case, Finding, Rule, Skip

__all__ = ["RULES"]


class Copies(Rule):
    """The network can be deep-copied."""

    code = "RT323"
    requires = ("RT301",)
    after = "build"
    styles = ("solver",)
    cause = "Sessions, open files, locks or generators cannot be copied; the scorer copies the network for each stream."
    cure = "Keep only tensors and plain values on the network; rtserve build makes such a one."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in case.drive.all("deepcopy") if case.drive is not None else []:
            if event.get("ok") is False and not _raised_by_limits(event):
                yield Finding(message=f"deepcopy: {shown(event['error'])}", challenge=event["challenge"])


def _raised_by_limits(event: dict[str, Any]) -> bool:
    return bool(event["error"]["type"] == "MemoryError")


class Streams(Rule):
    """Two streams on two copies do not disturb each other."""

    code = "RT324"
    severity = WARN
    requires = ("RT301",)
    after = "forward"
    styles = ("solver",)
    cause = "State kept outside the object, in a module or class, is shared by its copies."
    cure = "Keep state on the instance, and offer reset_state()."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in events(case, "stream"):
            if event["difference"] > SAME and repeatable(case, event["challenge"]):
                yield Finding(
                    message=f"a second stream changes the first one's output by {event['difference']:.2g}",
                    challenge=event["challenge"],
                )


class Inert(Rule):
    """Every part of the network moves its output."""

    code = "RT325"
    severity = WARN
    requires = ("RT301",)
    after = "branches"
    cause = "A branch, member or head that no output depends on: it costs time or megabytes and gives nothing."
    cure = "Remove it, or connect it."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        for event in events(case, "branches"):
            if event["judged"] and len(event["inert"]) == event["judged"]:
                continue  # nothing moved it at all: that is a constant output, which has its own rule
            for part in event["inert"]:
                total = max(event.get("total_seconds", 0.0), 1e-9)
                share = part["seconds"] / total
                cost = (
                    f"costs {part['seconds'] * 1e6:.0f} us a call ({share:.0%})" if part["seconds"] else "is never run"
                )
                yield Finding(
                    message=f"{part['name']} ({part['type']}, {part['numbers']} numbers) changes no output and {cost}",
                    challenge=event["challenge"],
                )


class InTime(Rule):
    """The contest's windows are scored in a time that was seen to be accepted."""

    code = "RT326"
    severity = WARN
    requires = ("RT301",)
    after = "forward"
    cause = "The scorer runs window by window, at batch 1."
    cure = "Fuse members and views (`rtserve fuse`), or leave some out."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        limit = case.profile.limits.seconds or case.profile.limits.seen_seconds
        made = [f for f in forecast.of_drive(case.profile, case.drive) if f.known] if case.drive is not None else []
        total = sum(f.seconds for f in made)
        if limit and total > limit:
            source = case.profile.limits.seconds_source
            yield Finding(message=f"about {total / 60:.0f} min for all windows on one thread here; {source}")


class StaysInside(Rule):
    """The submission does nothing but compute."""

    code = "RT327"
    severity = WARN
    requires = ("RT301",)
    cause = "Network calls, child processes, or processes left behind."
    cure = "Remove it: none of it works on the scorer."

    def check(self, case: Case) -> Iterator[Finding | Skip]:
        drive = case.drive
        if drive is None:
            return
        for stage, text in (("network", "tried to reach the network"), ("processes", "started a process")):
            found = drive.first(stage)
            if found is not None:
                yield Finding(message=f"it {text} during {found['during']!r}: {found['items'][0]}")
        refused = [event["what"] for event in drive.all("refused") if event["what"].startswith("socket")]
        if refused:
            yield Finding(message=f"it tried to reach the network: {refused[0]}")
        if drive.outcome.left_over:
            yield Finding(message=f"{drive.outcome.left_over} processes were left behind and ended")
        if drive.forged:
            yield Finding(
                message=f"{drive.forged} lines on the result pipe were not the checker's own: faked results are ignored"
            )


RULES: tuple[type[Rule], ...] = (Copies, Streams, Inert, InTime, StaysInside)
