"""What `rtserve build` says to a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rtserve.submission.bundle import Built

__all__ = ["build_text"]


def build_text(built: Built) -> str:
    """Return what was built, the agreement of every route, and the next command."""
    lines = [f"{built.path}  {built.path.stat().st_size:,} bytes, sha256 {built.sha256}"]
    for key, challenge in built.manifest["challenges"].items():
        views = ", ".join(challenge["views"])
        lines.append(
            f"  challenge {key}  {len(challenge['members'])} x views {views}, merge {challenge['merge']},"
            f" graph {challenge['graph_sha256'][:12]}"
        )
        if challenge["stated"]:
            words = ", ".join(f"{name} {value}" for name, value in sorted(challenge["stated"].items()))
            lines.append(f"    stated by the recipe, not by its members: {words}")
        if coupled := challenge.get("coupled"):
            given = "one window at a time" if coupled["batch"] == 1 else f"{coupled['batch']} windows at once"
            lines.append(f"    coupled: {coupled['by']}; the contest gives {given}")
        for route, report in built.agreement[key].items():
            lines.append(f"    {route:<12} max error {report.max_error:.1e} over {len(report.cases)} inputs")
    differs = built.manifest["environment"].get("differs", {})
    if differs:
        words = ", ".join(f"{name} {pair['here']} (was {pair['recorded']})" for name, pair in differs.items())
        lines.append(f"  not as recorded: {words}")
    lines.append(f"next: rtserve check {built.path} --profile {built.manifest['profile']}")
    return "\n".join(lines)
