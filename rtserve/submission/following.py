"""A run in the sandbox while it goes on: which of the submission's calls is being made.

Words are ours: what a process inside sends is never shown, even where it could sign it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from rtserve.stages import Stages

__all__ = ["Follow", "follow_calls", "follow_recordings", "steps_of"]

Follow = Callable[[Mapping[str, Any]], None]
"""Told of every event of a run when it has come."""

STARTING = "starting the sandbox"
WORDS = {
    "import": "importing the script",
    "scripts": "running the scripts beside it",
    "construct": "constructing",
    "build": "building the network",
    "object": "looking at the network",
    "eval": "setting eval()",
    "deepcopy": "copying the network",
    "forward": "one window",
    "windows": "windows as they are scored",
    "repeat": "the same window again",
    "called": "a call of the network itself",
    "modes": "training modes",
    "stream": "two streams at a time",
    "dead": "a method that nobody calls",
    "again": "building it a second time",
    "batches": "windows in batches",
    "scales": "windows of other scales",
    "channels": "windows with flat, saturated and empty channels",
    "branches": "sub-networks one by one",
    "device": "another device",
}
"""What a call is, by its name in `rtserve.submission.harness`."""
_BEGIN_STEPS = ("build", "again")


def steps_of(challenges: int) -> int:
    """Return how many steps a run that answers so many challenges has."""
    return 1 + len(_BEGIN_STEPS) * challenges


def follow_calls(stages: Stages, keys: Collection[str]) -> Follow:
    """Begin the run of a submission for challenges `keys`; return what tells of its events."""
    stages.begin(STARTING)
    first = stages.begun

    def follow(event: Mapping[str, Any]) -> None:
        what, key = str(event.get("what", "")), str(event.get("challenge", ""))
        if event.get("stage") != "begin" or what not in WORDS or (key and key not in keys):
            return
        said = f"challenge {key}: {WORDS[what]}" if key else WORDS[what]
        if what == "again":  # where a challenge failed, its other steps do not come
            stages.skip(max(stages.begun, first + len(keys)))
        (stages.begin if what in _BEGIN_STEPS else stages.say)(said)

    return follow


def follow_recordings(stages: Stages, names: Collection[str]) -> Follow:
    """Begin the run of a container on recordings; return what tells of its events."""
    stages.begin(STARTING)

    def follow(event: Mapping[str, Any]) -> None:
        if event.get("stage") == "begin" and event.get("what") in names:
            stages.begin(f"recording {event['what']}")

    return follow
