"""`run_against`: a contest's own kit on an unpacked submission, in the sandbox, and how it ended.

The kit is the user's: a checkout of what the organisers publish, or any folder with an ingestion program that is called
in the same way. Where it lies in there, and how its simulated windows are asked for, is the profile's to say.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.submission import sandbox
from rtserve.submission.drive import CODE, INSIDE, sent, stage_harness
from rtserve.submission.profile import Challenge, Profile

__all__ = ["KitRun", "require_kit", "run_against"]

KIT = "/run/kit"
NEEDED = "benchopt"
"""Named where a kit fails for want of it: what official kits are run by, and rtserve does not bring."""


@dataclass(frozen=True, kw_only=True)
class KitRun:
    """How a kit ended on a submission.

    Parameters
    ----------
    kit : str
        Name of its folder.
    challenge : str
        Which was scored.
    scored : bool
        Whether the kit came to scores.
    died : str
        What ended it; empty where it came to its end.
    why_not : str
        Why this machine could not run it; empty where it could.
    scores : dict of str to float
        What it wrote, as far as that can be read here.
    seconds : float
        What it took.
    """

    kit: str
    challenge: str
    scored: bool = False
    died: str = ""
    why_not: str = ""
    scores: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0

    def sentence(self) -> str:
        """Return its verdict in one line."""
        if self.why_not:
            return f"{self.kit} was not run: {self.why_not}"
        if not self.scored:
            return f"{self.kit} dies: {self.died}"
        numbers = ", ".join(f"{name} {value:.5g}" for name, value in self.scores.items())
        return f"{self.kit} scores it{f' ({numbers} on its simulated windows)' if numbers else ''}"

    def to_dict(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def require_kit(profile: Profile, folder: str | Path) -> Path:
    """Return the folder of a kit that a profile can run.

    Raises
    ------
    InputError
        Where the profile knows no kit, or the folder holds no such ingestion program.
    """
    if profile.kit is None:
        raise InputError(f"profile {profile.name} says nothing of a kit", hint="leave --against out")
    root = Path(folder).absolute()
    if not (root / profile.kit.ingestion).is_file():
        raise InputError(
            f"{folder} holds no {profile.kit.ingestion}", hint="name the folder of the contest's checked-out kit"
        )
    return root


def run_against(
    folder: Path,
    profile: Profile,
    challenge: Challenge,
    kit: Path,
    *,
    python: Path,
    limits: sandbox.Limits | None = None,
    kind: str | None = None,
) -> KitRun:
    """Run a kit's ingestion program on an unpacked submission.

    Parameters
    ----------
    folder : Path
        The unpacked zip.
    profile, challenge : Profile, Challenge
        Which of the contest's tracks scores it, on windows of which size.
    kit : Path
        From `require_kit`.
    python : Path
        Interpreter with what the kit needs.
    limits : sandbox.Limits, optional
        What the run may use.
    kind : str, optional
        Kind of sandbox; the best that works by default.
    """
    assert profile.kit is not None
    found = KitRun(kit=kit.name, challenge=challenge.key)
    if not challenge.kit.benchmark or not (kit / challenge.kit.benchmark).is_dir():
        return _not_run(found, f"it has no {challenge.kit.benchmark or 'benchmark'} for challenge {challenge.key}")
    kind = kind or sandbox.best_kind()
    with tempfile.TemporaryDirectory(prefix="rtserve-") as temporary:
        work = Path(temporary)
        stage_harness(work)
        plain = kind == "plain"
        root = str(kit) if plain else KIT
        spec = {
            "folder": str(folder) if plain else profile.layout.submission,
            "fence": str(work) if plain else "",
            "allowed": list(profile.modules),
            "kit": {
                "ingestion": f"{root}/{profile.kit.ingestion}",
                "benchmark": f"{root}/{challenge.kit.benchmark}",
                "config": _config(profile, challenge),
                "environment": profile.kit.environment,
            },
        }
        plan = sandbox.Plan(
            python=python,
            code=CODE.format(where=str(work / "run") if plain else INSIDE),
            mounts={} if plain else {profile.layout.submission: folder, INSIDE: work / "run", KIT: kit},
            folders=() if plain else (profile.layout.cwd,),
            cwd=str(work) if plain else profile.layout.cwd,
            limits=limits or sandbox.Limits(),
        )
        outcome, events, _ = sent(plan, spec, kind)
    return _judged(found, outcome, events)


def _config(profile: Profile, challenge: Challenge) -> str:
    """Return the kit's configuration: windows of the contest's own size and rate, simulated by the kit."""
    signal = profile.signal_of(challenge.key)
    sizes = {"n_chans": signal.n_chans, "n_times": signal.n_times, "sfreq": f"{signal.sfreq:g}"} | challenge.meta
    assert profile.kit is not None
    return profile.kit.config.format(dataset=challenge.kit.dataset.format(**sizes))


def _judged(found: KitRun, outcome: sandbox.Outcome, events: list[dict[str, Any]]) -> KitRun:
    event = next((e for e in events if e["stage"] == "kit"), None)
    found = replace(found, seconds=outcome.seconds)
    if event is None:
        start = next((e for e in events if e["stage"] == "start" and not e.get("ok")), None)
        why = start["error"]["text"] if start else ""
        return _not_run(found, why) if why else replace(found, died=outcome.stopped or _last(outcome.text, "it ended"))
    if event["ok"]:
        scored = any(name.startswith("results") for name in event["files"])
        return replace(found, scored=scored, scores=event["scores"], died="" if scored else "it wrote no results")
    if lacking := _lacking(event, outcome.text):
        return _not_run(found, lacking)
    return replace(found, died=_last(outcome.text, event["died"]))


def _lacking(event: dict[str, Any], text: str) -> str:
    """Return what this machine lacks for a kit, or an empty text: what a submission lacks is no such thing."""
    if event.get("refused"):
        return "nothing here isolates the processes that it starts (neither bubblewrap nor unshare works)"
    error = event.get("error", {})
    if not error.get("frames") and error.get("module"):
        return f"{error['module']} is not installed in the environment that runs it"
    if "FileNotFoundError" in event["died"] and f"'{NEEDED}'" in event["died"]:
        return f"{NEEDED} is not installed in the environment that runs it: pip install {NEEDED}"
    missing = re.search(rf"No module named '?{NEEDED}\b'?", text)
    return f"{missing[0]}: pip install {NEEDED} into the environment that runs it" if missing else ""


def _last(text: str, died: str) -> str:
    """Return what ended a program: the last line that names an error where it was a process that it started; where it
    ended itself, its own words with the last line that it printed before."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception)\b", line)]
    if died.startswith("CalledProcessError") and named:
        return named[-1][:300]
    if died.startswith("SystemExit") and lines and lines[-1] not in died:
        return f"{died} ({lines[-1]})"[:400]
    return died[:400]


def _not_run(found: KitRun, why: str) -> KitRun:
    return replace(found, why_not=why)
