"""What is told of a run while it goes on: our own words, of events that the harness signed, each once."""

from __future__ import annotations

import hashlib
import hmac
import json

from rtserve.stages import Stages
from rtserve.submission.drive import _Following
from rtserve.submission.following import STARTING, follow_calls, follow_recordings, steps_of

KEY = b"k" * 32


def line(number, key=KEY, **event):
    text = json.dumps({"n": number} | event)
    return f"{hmac.new(key, text.encode(), hashlib.sha256).hexdigest()} {text}\n".encode()


def begun(what, challenge=""):
    return {"stage": "begin", "what": what, "challenge": challenge}


def told_of(events, keys=("1", "2")):
    told = []
    stages = Stages(lambda *one: told.append(one))
    stages.expect(steps_of(len(keys)))
    follow = follow_calls(stages, keys)
    for event in events:
        follow(event)
    return told


def test_every_challenge_is_two_steps_and_calls_are_named():
    calls = [begun("import"), *(begun(what, key) for key in "12" for what in ("build", "scales")), begun("again", "2")]
    assert told_of(calls) == [
        (0, 5, STARTING),
        (0, 5, "importing the script"),
        (1, 5, "challenge 1: building the network"),
        (1, 5, "challenge 1: windows of other scales"),
        (2, 5, "challenge 2: building the network"),
        (2, 5, "challenge 2: windows of other scales"),
        (3, 5, "challenge 2: building it a second time"),
    ]


def test_a_challenge_that_failed_is_not_waited_for():
    assert told_of([begun("build", "1"), begun("again", "1")])[-1] == (3, 5, "challenge 1: building it a second time")


def test_nothing_that_was_sent_is_shown():
    strange = [begun("\x1b[31mred"), begun("build", "\x1b[31m"), {"stage": "forward", "ok": True}, {}]
    assert told_of(strange) == [(0, 5, STARTING)]


def test_recordings_are_steps():
    told = []
    stages = Stages(lambda *one: told.append(one))
    stages.expect(3)
    follow = follow_recordings(stages, ["short", "long"])
    for event in (begun("short"), begun("another"), {"stage": "recording"}, begun("long")):
        follow(event)
    assert told == [(0, 3, STARTING), (1, 3, "recording short"), (2, 3, "recording long")]


def test_events_are_told_of_once_when_they_are_whole_and_signed():
    told = []
    following = _Following(KEY, told.append)
    data = bytearray(line(0, stage="start"))
    following(data)
    following(data)
    whole = line(1, **begun("import"))
    data += whole[:20]
    following(data)
    data += whole[20:] + line(2, key=b"other", **begun("build", "1")) + line(2, stage="end")
    following(data)
    assert [event["stage"] for event in told] == ["start", "begin", "end"]
