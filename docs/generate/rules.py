"""The validator's rules, from their classes: what each asks, what breaks it, what cures it."""

from __future__ import annotations

import inspect
import re
from itertools import groupby

from docs.generate.markdown import code, plain
from rtserve.submission import checks
from rtserve.submission.checks.catalogue import STATIC, all_rules
from rtserve.submission.checks.rule import FAIL, Rule

__all__ = ["rules_page"]

OPENING = """# Rules of `rtserve check`

`rtserve check` asks a zip these rules in this order. A rule passes, fails, warns or is skipped with a reason; one whose
prerequisite failed is skipped. `--select` takes codes or families, `--ignore CODE="reason"` leaves one out and prints the
reason. The families {static} read the zip and run nothing in it (`--no-run`); the others look at how it ran in the sandbox.
A profile's `severity` may let a rule weigh otherwise in its contest.
"""


def rules_page() -> str:
    """Return the catalogue as one page."""
    parts = [OPENING.format(static=", ".join(STATIC))]
    named = dict(re.findall(r"(RT\d) ([^,.]+)", inspect.getdoc(checks) or ""))
    for family, members in groupby(all_rules(), key=lambda rule: rule.code[:3]):
        parts.append(f"## {family}: {plain(named[family])}\n")
        parts += [_entry(rule) for rule in members]
    return "\n".join(parts)


def _entry(rule: Rule) -> str:
    parts = [f"### {rule.code} {rule.name}\n", f"{plain(rule.sentence)}\n"]
    parts.append(f"**Cause.** {plain(rule.cause)}\n")
    parts.append(f"**Cure.** {plain(rule.cure)}\n")
    notes = [f"A break {'fails' if rule.severity == FAIL else 'is a warning'}."]
    if rule.strict:
        notes.append("With `--strict` it fails.")
    if rule.requires:
        notes.append("Asked once " + ", ".join(f"[{one}](#{_anchor(one)})" for one in rule.requires) + " passed.")
    if rule.after:
        notes.append(f"Needs a run that came through {code(rule.after)}.")
    if len(rule.styles) == 1:
        notes.append(f"For contests of the style {code(rule.styles[0])}.")
    if rule.with_kit:
        notes.append("With `--against KIT` only.")
    return "\n".join([*parts, " ".join(notes) + "\n"])


def _anchor(rule_code: str) -> str:
    """Return the anchor that a rule's heading has."""
    found = next(rule for rule in all_rules() if rule.code == rule_code)
    return f"{found.code}-{found.name}".lower()
