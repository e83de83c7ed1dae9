"""The drive: the scorer's calls on an unpacked submission, in the sandbox, and what came back as data.

The process inside (`rtserve.submission.harness`) reports; nothing here or there judges. Rules in `checks` do.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import EnvironmentMissingError
from rtserve.graphs import pure_torchaudio
from rtserve.submission import sandbox
from rtserve.submission.following import Follow
from rtserve.submission.profile import Profile, Signal

__all__ = [
    "CODE", "INSIDE", "Drive", "drive", "environment_python", "probe_windows", "sent", "stage_harness", "verified",
    "windows_of",
]  # fmt: skip

INSIDE = "/run/rtserve"
CODE = "import sys; sys.path.insert(0, {where!r}); import rtserve_harness.main as m; m.main()"
BUDGET_S = 3.0
"""Seconds that the probes of one challenge may take beside the scorer's own calls."""
REBUILD_S = 20.0
"""Seconds that a getter may take to be asked a second time."""
N_WINDOWS = 24


@dataclass(frozen=True, kw_only=True)
class Drive:
    """What a drive saw.

    Parameters
    ----------
    outcome : sandbox.Outcome
        How the process ended.
    events : tuple of dict
        In the order they were sent; each has ``stage`` and ``challenge``.
    forged : int
        Lines on the pipe that the harness did not sign.
    python : str
        Interpreter that ran it.
    """

    outcome: sandbox.Outcome
    events: tuple[dict[str, Any], ...] = field(default_factory=tuple)
    forged: int = 0
    python: str = ""

    def first(self, stage: str, challenge: str | None = None) -> dict[str, Any] | None:
        """Return the first event of a stage, of one challenge where named."""
        return next(iter(self.all(stage, challenge)), None)

    def all(self, stage: str, challenge: str | None = None) -> list[dict[str, Any]]:
        """Return all events of a stage, of one challenge where named."""
        return [e for e in self.events if e["stage"] == stage and challenge in (None, e["challenge"])]

    def ok(self, stage: str, challenge: str | None = None) -> bool:
        """Whether a stage was reached and ended well."""
        event = self.first(stage, challenge)
        return bool(event and event.get("ok"))

    def reached(self, stage: str) -> bool:
        """Whether a stage ended well at least once."""
        return any(event.get("ok") for event in self.all(stage))

    def route_of(self, challenge: str) -> str:
        """Return by which route a zip of rtserve ran, with the reason where it is not the one asked for; or nothing."""
        event = self.first("object", challenge) or {}
        route, reason = str(event.get("route", "")), str(event.get("reason", ""))
        return f"{route} ({reason})" if route and reason else route

    @property
    def finished(self) -> bool:
        """Whether the process came to its own end."""
        return any(event["stage"] == "end" for event in self.events)

    @property
    def last_begun(self) -> tuple[str, str]:
        """The stage and challenge that was being worked on when events stopped."""
        begun = [event for event in self.events if event["stage"] == "begin"]
        return (begun[-1]["what"], begun[-1]["challenge"]) if begun else ("start", "")

    @property
    def versions(self) -> dict[str, str | None]:
        """Versions of the profile's packages in the environment that ran it; None where missing."""
        start = self.first("start")
        return dict(start["versions"]) if start and "versions" in start else {}


def environment_python(env: str | Path | None) -> Path:
    """Return the interpreter of an environment folder; this process's own without one.

    Raises
    ------
    EnvironmentMissingError
        Where the folder holds no interpreter.
    """
    if env is None:
        return Path(sys.executable)
    root = Path(env).absolute()
    for candidate in (root / "bin" / "python", root / "primary" / "bin" / "python", root):
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise EnvironmentMissingError(
        f"no Python environment at {env}",
        hint="make one with `rtserve env create eeg2025 --path DIR`, or leave out --env",
    )


def probe_windows(n: int, n_chans: int, n_times: int, *, sfreq: float, scale: float, seed: int = 0) -> np.ndarray:
    """Return plausible EEG windows: 1/f noise shared between channels, alpha, offsets; float32 (n, n_chans, n_times).

    Parameters
    ----------
    n, n_chans, n_times : int
        Shape.
    sfreq : float
        Hz.
    scale : float
        Standard deviation in the contest's unit.
    seed : int
        Same seed, same windows.
    """
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft(rng.standard_normal((n, n_chans, n_times)), axis=-1)
    frequency = np.fft.rfftfreq(n_times, 1 / sfreq)
    shape = np.where(frequency < 0.5, 0.0, 1 / np.sqrt(np.maximum(frequency, 0.5)))
    own = np.fft.irfft(spectrum * shape, n=n_times, axis=-1)
    mixing = rng.standard_normal((n_chans, min(8, n_chans))) / 2
    shared = np.einsum("cs,nst->nct", mixing, own[:, : mixing.shape[1]])
    time = np.arange(n_times) / sfreq
    phase = rng.uniform(0, 2 * np.pi, (n, 1, 1))
    alpha = (
        np.sin(2 * np.pi * 10 * time + phase) * rng.uniform(0.1, 1.0, (n, 1, 1)) * rng.uniform(0.2, 1, (1, n_chans, 1))
    )
    x = own / own.std() + shared / max(shared.std(), 1e-12) + alpha
    loudness = rng.uniform(0.7, 1.4, (n, 1, 1))
    result: np.ndarray = (scale * loudness * x / x.std()).astype(np.float32)
    return result


def drive(
    folder: Path,
    profile: Profile,
    *,
    python: Path | None = None,
    limits: sandbox.Limits | None = None,
    kind: str | None = None,
    dead: Mapping[str, Sequence[str]] | None = None,
    windows: np.ndarray | None = None,
    budget_s: float = BUDGET_S,
    n_windows: int = N_WINDOWS,
    as_scored: bool = False,
    follow: Follow | None = None,
) -> Drive:
    """Drive an unpacked submission as the profile's scorer would.

    Parameters
    ----------
    folder : Path
        The unpacked zip.
    profile : Profile
        The contest.
    python : Path, optional
        Interpreter of the scoring environment; this process's own by default.
    limits : sandbox.Limits, optional
        What the run may use.
    kind : str, optional
        Kind of sandbox; the best that works by default.
    dead : mapping, optional
        Challenge key to methods nobody calls, to be called once for comparison.
    windows : ndarray, optional
        Probe windows for every challenge; made from the signal of each by default.
    budget_s : float
        Seconds the probes of one challenge may take.
    n_windows : int
        How many windows are scored one by one, as far as the budget allows.
    as_scored : bool
        Whether windows come in the contest's own batches, however large; answers of several numbers come back whole.
    follow : callable, optional
        Told of the events while they come; see `rtserve.submission.following`.
    """
    kind = kind or sandbox.best_kind()
    python = python or environment_python(None)
    with tempfile.TemporaryDirectory(prefix="rtserve-") as temporary:
        work = Path(temporary)
        stage_harness(work)
        for challenge in profile.challenges:
            data = windows_of(profile.signal_of(challenge.key)) if windows is None else windows
            _write_windows(work / "run" / f"windows_{challenge.key}.bin", data)
        plain = kind == "plain"
        (work / "program").mkdir()
        where = {
            "harness": str(work / "run") if plain else INSIDE,
            "folder": str(folder) if plain else profile.layout.submission,
            "cwd": str(work / "program") if plain else profile.layout.cwd,
        }
        spec = _specification(profile, where, dead or {}, budget_s, n_windows)
        for challenge in spec["challenges"] if as_scored else ():
            challenge["size"] = profile.challenge(challenge["key"]).batch
            challenge["whole"] = not profile.challenge(challenge["key"]).single
        if plain:
            spec["fence"] = str(work)
            spec["mounts"] = {profile.layout.submission: str(folder), profile.layout.cwd: str(work / "program")}
        plan = sandbox.Plan(
            python=python,
            code=CODE.format(where=where["harness"]),
            mounts={} if plain else {profile.layout.submission: folder, INSIDE: work / "run"},
            folders=() if plain else (profile.layout.cwd, "/app/output"),
            cwd=where["cwd"],
            limits=limits or sandbox.Limits(),
        )
        outcome, events, forged = sent(plan, spec, kind, follow)
    return Drive(outcome=outcome, events=tuple(events), forged=forged, python=str(python))


@functools.lru_cache(maxsize=2)
def windows_of(signal: Signal) -> np.ndarray:
    """Return the probe windows of a signal, (N_WINDOWS, n_chans, n_times), read-only: whoever asks shares them."""
    windows = probe_windows(N_WINDOWS, signal.n_chans, signal.n_times, sfreq=signal.sfreq, scale=signal.scale)
    windows.flags.writeable = False
    return windows


def _write_windows(path: Path, windows: np.ndarray) -> None:
    path.write_bytes(np.ascontiguousarray(windows, dtype="<f4").tobytes())


def stage_harness(work: Path) -> None:
    """Copy what runs inside into ``work/run``, from where `CODE` starts it."""
    source = Path(__file__).parent / "harness"
    target = work / "run" / "rtserve_harness"
    target.mkdir(parents=True)
    # Beside a CPU build of torch the scorer's torchaudio would load; this machine's may not, and that is no fault inside.
    # The other spares a drive the loading of torch's compiler; it is named, not imported: it would load torch here.
    beside = Path(str(pure_torchaudio.__file__))
    shared = (beside, beside.with_name("without_compiler.py"))
    for file in (*source.glob("*.py"), *shared):
        shutil.copyfile(file, target / file.name)


def _specification(
    profile: Profile,
    where: Mapping[str, str],
    dead: Mapping[str, Sequence[str]],
    budget_s: float,
    n_windows: int,
) -> dict[str, Any]:
    entry = profile.entry
    return {
        "folder": where["folder"],
        "cwd": where["cwd"],
        "entry": {
            "file": entry.file,
            "class_name": entry.class_name,
            "style": entry.style,
            "base": entry.base,
            "method": entry.method,
            "requires": list(entry.requires),
            "every_script": entry.every_script,
        },
        "challenges": [
            {
                "key": c.key,
                "call": c.call,
                "streaming": c.streaming,
                "size": c.size,
                "dead": list(dead.get(c.key, ())),
                "meta": c.meta,
                "ch_names": profile.names_of(c.key),
                "windows": f"{where['harness']}/windows_{c.key}.bin",
                "signal": _signal_words(profile.signal_of(c.key)),
            }
            for c in profile.challenges
        ],
        "allowed": list(profile.modules),
        "packages": sorted({name for env in profile.environments for name in env.packages}),
        "n_windows": n_windows,
        "budget_s": budget_s,
        "rebuild_s": REBUILD_S,
        "threads": 1,
    }


def sent(
    plan: sandbox.Plan, spec: Mapping[str, Any], kind: str, follow: Follow | None = None
) -> tuple[sandbox.Outcome, list[dict[str, Any]], int]:
    """Run the harness in the sandbox: what it is told with the key it signs by, and what `verified` makes of its events.

    Parameters
    ----------
    plan : sandbox.Plan
        Where it runs; it is told the limits.
    spec : mapping
        What else it is told, as `rtserve.submission.harness.main` reads it.
    kind : str
        Kind of sandbox.
    follow : callable, optional
        Told of each event when it has come.
    """
    key = secrets.token_bytes(32)
    limits = {"memory_bytes": plan.limits.memory_bytes, "file_bytes": plan.limits.file_bytes}
    text = json.dumps({**spec, "fd": "{fd}", "key": key.hex(), "limits": limits}).replace('"{fd}"', "{fd}")
    seen = _Following(key, follow) if follow else None
    outcome = sandbox.run(plan, stdin=text.encode(), kind=kind, seen=seen)
    return outcome, *verified(outcome.events, key)


def _signal_words(signal: Signal) -> dict[str, Any]:
    sfreq = int(signal.sfreq) if signal.sfreq.is_integer() else signal.sfreq
    return {"n_chans": signal.n_chans, "n_times": signal.n_times, "sfreq": sfreq, "scale": signal.scale}


class _Following:
    """Tells of the events in what has come so far, each once."""

    def __init__(self, key: bytes, follow: Follow) -> None:
        self.key, self.follow = key, follow
        self.at = self.count = 0

    def __call__(self, data: bytearray) -> None:
        end = data.rfind(b"\n", self.at) + 1
        if not end:
            return
        events, _ = verified(bytes(data[self.at : end]), self.key, before=self.count)
        self.at, self.count = end, self.count + len(events)
        for event in events:
            self.follow(event)


def verified(data: bytes, key: bytes, *, before: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Return the events that carry a right signature and the next number, and how many lines did not.

    `before` is how many events came before these.
    """
    events: list[dict[str, Any]] = []
    forged = 0
    for line in data.split(b"\n"):
        mark, _, text = line.partition(b" ")
        expected = hmac.new(key, text, hashlib.sha256).hexdigest().encode()
        if not hmac.compare_digest(mark, expected):
            forged += bool(line)
            continue
        event = json.loads(text)
        if event.pop("n") == before + len(events):
            events.append(event)
        else:
            forged += 1
    return events, forged
