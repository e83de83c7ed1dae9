"""What `rtserve build` says to a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rtserve.graphs.engines import ENGINE_NAMES
from rtserve.submission.recipe import runs_in
from rtserve.submission.route_times import BENCHED

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
        lines += _layout_lines(challenge)
        if challenge["stated"]:
            words = ", ".join(f"{name} {value}" for name, value in sorted(challenge["stated"].items()))
            lines.append(f"    stated by the recipe, not by its members: {words}")
        if coupled := challenge.get("coupled"):
            given = "one window at a time" if coupled["batch"] == 1 else f"{coupled['batch']} windows at once"
            lines.append(f"    coupled: {coupled['by']}; the contest gives {given}")
        lines += _container_lines(challenge)
        times = built.times[key]
        for route, report in built.agreement[key].items():
            lines.append(
                f"    {route:<12} max error {report.max_error:.1e} over {len(report.cases)} inputs,"
                f" {times[route]:,.0f} us a window"
            )
        lines.append(f"    {BENCHED}: {times[BENCHED]:,.0f} us (batch 1, one thread here, by turns)")
    differs = built.manifest["environment"].get("differs", {})
    if differs:
        words = ", ".join(f"{name} {pair['here']} (was {pair['recorded']})" for name, pair in differs.items())
        lines.append(f"  not as recorded: {words}")
    lines.append(f"next: rtserve check {built.path} --profile {built.manifest['profile']}")
    return "\n".join(lines)


def _container_lines(challenge: Mapping[str, Any]) -> list[str]:
    """Return how a container reads recordings: as a stream, or window by window and why."""
    made = challenge.get("container")
    if made is None:
        return []
    events = ", ".join(f"{name} {value:g}" for name, value in made["events"].items())
    how = "the step of a stream" if made["route"] == "stream" else f"every window whole: {made['why']}"
    return [f"    a hop of {made['hop']} samples, by {how}", f"    events: {events}"]


def _layout_lines(challenge: Mapping[str, Any]) -> list[str]:
    """Return what a zip's layout costs where it is not that of the engine that runs it."""
    layout, runs = challenge["layout"], runs_in(challenge["runtime"])
    lines = [f"    laid out for {ENGINE_NAMES[layout]}, as the recipe asks"] if layout != runs else []
    for other in challenge["member_layouts"]:
        if other != layout:
            lines.append(
                f"    a member was fused for {ENGINE_NAMES[other]} and keeps that layout, in which"
                f" {ENGINE_NAMES[runs]} may be slower: fuse it with --engine {layout}, or name its own members in the recipe"
            )
    return lines
