"""`run_container`: the command of an unpacked container's zip on recordings, in the sandbox, without docker or network.

What RUN would install is this Python's, or that of ``--env``; files that COPY names are put where it says. What comes back
are events over the sandbox's pipe, the tables among them: nothing that runs there can write here.
"""

from __future__ import annotations

import glob
import posixpath
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rtserve.stages import Stages
from rtserve.submission import sandbox
from rtserve.submission.container_drills import Drill, drills, edf_bytes
from rtserve.submission.dockerfile import Image, read_dockerfile
from rtserve.submission.drive import CODE, INSIDE, sent, stage_harness
from rtserve.submission.following import follow_recordings
from rtserve.submission.profile import Profile

__all__ = ["Answered", "ContainerRun", "image_of", "run_container", "try_container"]

NO_SANDBOX = "neither bubblewrap nor unshare works here: nothing else keeps a command from the network and these files"
SYSTEM = ("bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "proc", "run", "sbin", "sys", "tmp", "usr")
"""Folders at the root that are the machine's own, in which nothing of an image can be shown."""


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What the command made of one recording; see `rtserve.submission.harness.container`.

    Parameters
    ----------
    drill : Drill
        The recording.
    code, seconds : int, float
        Exit code and time, start of the process included.
    text, table : str
        The last that it printed, and what stands in the file that it was to write.
    others : tuple of str
        What else lies in the folder of the tables.
    asked : tuple of str
        Whom it asked for over the network, as far as that is known by name.
    unreachable : int
        Packets that had nowhere to go.
    """

    drill: Drill
    code: int
    seconds: float
    text: str
    table: str
    others: tuple[str, ...]
    asked: tuple[str, ...]
    unreachable: int

    @property
    def last(self) -> str:
        """The last line that it printed."""
        lines = [" ".join(line.split()) for line in self.text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it printed nothing"


@dataclass(frozen=True, kw_only=True)
class ContainerRun:
    """What a run saw.

    Parameters
    ----------
    image : Image
        What the Dockerfile makes.
    missing : tuple of (int, str)
        Line and pattern of what COPY names and the zip has not.
    why_not : str
        Why this machine could not run it, or not to the end; empty where it did.
    answered : tuple of Answered
        One for each recording that was reached.
    kind, python : str
        How it was isolated, and which Python it found.
    """

    image: Image
    missing: tuple[tuple[int, str], ...] = ()
    why_not: str = ""
    answered: tuple[Answered, ...] = ()
    kind: str = ""
    python: str = ""


def image_of(folder: Path, profile: Profile) -> Image:
    """Return what the Dockerfile of an unpacked zip makes; an empty image where there is none."""
    path = folder / profile.entry.file
    return read_dockerfile(path.read_bytes().decode("utf-8", "replace")) if path.is_file() else Image()


def try_container(
    folder: Path,
    profile: Profile,
    *,
    python: Path,
    kind: str | None = None,
    limits: sandbox.Limits | None = None,
    stages: Stages | None = None,
) -> ContainerRun:
    """Run the command of an unpacked zip on what its contest may hand over; see `run_container`."""
    assert profile.container is not None
    recordings = drills(profile.container.recordings, profile.signal_of(profile.challenges[0].key))
    return run_container(folder, profile, recordings, python=python, kind=kind, limits=limits, stages=stages)


def run_container(
    folder: Path,
    profile: Profile,
    recordings: Sequence[Drill],
    *,
    python: Path,
    kind: str | None = None,
    limits: sandbox.Limits | None = None,
    stages: Stages | None = None,
) -> ContainerRun:
    """Run the command of an unpacked zip on recordings.

    Parameters
    ----------
    folder : Path
        The unpacked zip.
    profile : Profile
        A contest that runs containers.
    recordings : sequence of Drill
        In order.
    python : Path
        Stands for the image's.
    kind, limits
        As `rtserve.submission.sandbox.run` takes them.
    stages : Stages, optional
        Told of the start and of every recording.
    """
    assert profile.container is not None
    stages = stages or Stages()
    stages.expect(1 + len(recordings))
    follow = follow_recordings(stages, [drill.name for drill in recordings])
    image, kind = image_of(folder, profile), kind or sandbox.best_kind()
    with tempfile.TemporaryDirectory(prefix="rtserve-") as temporary:
        work = Path(temporary)
        missing = tuple(_staged(image, folder, work / "run" / "image"))
        places, why = _places(image, work / "run" / "image")
        why = why or (NO_SANDBOX if kind == "plain" else "")
        if why or missing or not image.runs:
            return ContainerRun(image=image, missing=missing, why_not=why, kind="")
        stage_harness(work)
        (work / "data").mkdir()
        for drill in recordings:
            (work / "data" / f"{drill.name}.edf").write_bytes(edf_bytes(drill))
        watch = work / "run" / "watch"
        watch.mkdir()
        shutil.copyfile(Path(__file__).parent / "harness" / "noticing.py", watch / "sitecustomize.py")
        plan = sandbox.Plan(
            python=python,
            code=CODE.format(where=INSIDE),
            mounts={INSIDE: work / "run", profile.container.data: work / "data"},
            folders=(*places, profile.container.output),
            cwd="/tmp",
            limits=limits or sandbox.Limits(),
        )
        told = {"container": _told(profile, image, places, recordings, python)}
        outcome, events, _ = sent(plan, told, kind, follow)
    return _seen(image, recordings, outcome, events)


def _told(
    profile: Profile, image: Image, places: Sequence[str], recordings: Sequence[Drill], python: Path
) -> dict[str, Any]:
    container = profile.container
    assert container is not None
    environment = {"HOME": "/tmp", "LANG": "C.UTF-8", **image.environment}
    path = environment.get("PYTHONPATH", "")
    environment |= {
        "PATH": f"{python.parent}:/usr/local/bin:/usr/bin:/bin",
        "PYTHONPATH": f"{INSIDE}/watch{f':{path}' if path else ''}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    return {
        "command": list(image.runs),
        "cwd": image.workdir,
        "environment": environment,
        "files": [(f"{INSIDE}/image{place}", place) for place in places],
        "output": container.output,
        "input_variable": container.input_variable,
        "output_variable": container.output_variable,
        "recordings": [{"name": d.name, "file": f"{d.name}.edf", "table": f"{d.name}.tsv"} for d in recordings],
    }


def _staged(image: Image, folder: Path, root: Path) -> Iterator[tuple[int, str]]:
    """Put the files of the zip where COPY says, below `root`; yield line and pattern of what is not there."""
    root.mkdir(parents=True)
    for copy in image.copies:
        target = root / copy.target.strip("/")
        for pattern in copy.sources:
            found = [Path(name) for name in sorted(glob.glob(str(folder / pattern.lstrip("/"))))]
            if not found or not all(path.resolve().is_relative_to(folder.resolve()) for path in found):
                yield copy.line, pattern
                continue
            for path in found:
                _copy(path, target, into=copy.target.endswith("/") or len(found) > 1 or target.is_dir())


def _copy(path: Path, target: Path, *, into: bool) -> None:
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True)
        return
    target = target / path.name if into else target
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)


def _places(image: Image, root: Path) -> tuple[list[str], str]:
    """Return the folders of an image that are shown, each as deep as it can be, or why they cannot be."""
    if image.unknown:
        return [], f"its Dockerfile has what is not followed here: {image.unknown[0]}"
    work = root / image.workdir.strip("/")
    work.mkdir(parents=True, exist_ok=True)
    places = []
    for top in sorted(root.iterdir()):
        if top.is_file() or top.name in SYSTEM:
            return [], f"its Dockerfile puts files at /{top.name}, which is this machine's own here"
        while top != work and len(inside := list(top.iterdir())) == 1 and inside[0].is_dir():
            (top,) = inside
        places.append(posixpath.join("/", str(top.relative_to(root))))
    return places, "" if places else "it runs in / and has no file of its own"


def _seen(
    image: Image, recordings: Sequence[Drill], outcome: sandbox.Outcome, events: Sequence[dict[str, Any]]
) -> ContainerRun:
    by_name = {drill.name: drill for drill in recordings}
    answered = tuple(
        Answered(
            drill=by_name[event["recording"]], code=event["code"], seconds=event["seconds"], text=event["text"],
            table=event["table"], others=tuple(event["others"]), asked=tuple(event["asked"]),
            unreachable=event["unreachable"],
        )
        for event in events
        if event["stage"] == "recording"
    )  # fmt: skip
    start = next((event for event in events if event["stage"] == "start"), None)
    broken = next((event["text"] for event in events if event["stage"] == "broken"), "")
    ended = any(event["stage"] == "end" for event in events)
    why = "" if ended else outcome.stopped or broken or _last(outcome.text)
    python = f"Python {start['python']}" if start else ""
    return ContainerRun(image=image, why_not=why, answered=answered, kind=outcome.kind, python=python)


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"the sandbox could not start it: {lines[-1][:300]}" if lines else "the sandbox could not start it"
