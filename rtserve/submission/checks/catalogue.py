"""All rules in the order in which they are asked."""

from __future__ import annotations

from rtserve.submission.checks import (
    archive,
    behaviour,
    compiled,
    container,
    cost,
    identity,
    kit,
    literals,
    model_files,
    run,
    script,
)
from rtserve.submission.checks.rule import Rule

__all__ = ["STATIC", "all_rules"]

STATIC = ("RT0", "RT1", "RT2")
"""Families that need no run."""


def all_rules() -> list[Rule]:
    """Return one instance of every rule, by code."""
    kinds = [
        *archive.RULES,
        *script.RULES,
        *literals.RULES,
        *model_files.RULES,
        *run.RULES,
        *behaviour.RULES,
        *cost.RULES,
        *kit.RULES,
        *identity.RULES,
        *compiled.RULES,
        *container.RULES,
    ]
    return sorted((kind() for kind in kinds), key=lambda rule: rule.code)
