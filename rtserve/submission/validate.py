"""`check`: every rule of a profile asked about one zip, as a report.

The zip is unpacked into a temporary folder, its Python is read and never imported here, its calls are made in the
sandbox, and the rules judge what was seen. Any zip ends in a report: a rule that fails itself is reported as such.
"""

from __future__ import annotations

import dataclasses
import json
import re
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.files import as_path
from rtserve.nearest import file_meant
from rtserve.spec import InputSpec
from rtserve.stages import Stages, Tell
from rtserve.submission import sandbox
from rtserve.submission.checks.catalogue import STATIC, all_rules
from rtserve.submission.checks.identity import MANIFEST, SCHEMA, stating_graphs
from rtserve.submission.checks.rule import FAIL, WARN, Case, Finding, Rule, Skip
from rtserve.submission.checks.source import Sources, read_sources
from rtserve.submission.checks.unpack import Unpacked, unpack
from rtserve.submission.container_run import try_container
from rtserve.submission.drive import Drive, drive, environment_python
from rtserve.submission.following import follow_calls, steps_of
from rtserve.submission.forecast import beside_bench, of_drive
from rtserve.submission.kit import KitRun, require_kit, run_against
from rtserve.submission.notes import notes_of
from rtserve.submission.profile import Challenge, Profile, load_profile
from rtserve.submission.reachability import dead_methods
from rtserve.submission.verdict import FAILED, IGNORED, PASSED, SKIPPED, WARNED, Result, ValidationReport

__all__ = ["Result", "ValidationReport", "check"]


def check(
    path: str | Path,
    *,
    profile: str | Profile = "eeg2025",
    env: str | Path | None = None,
    strict: bool = False,
    select: Sequence[str] = (),
    ignore: Mapping[str, str] | None = None,
    kind: str | None = None,
    limits: sandbox.Limits | None = None,
    run: bool = True,
    shape: str = "",
    against: str | Path | None = None,
    progress: Tell | None = None,
) -> ValidationReport:
    """Check one zip against a contest's contract.

    Parameters
    ----------
    path : path
        The zip; anything readable gives a report.
    profile : str or Profile
        The contest.
    env : path, optional
        A scoring environment; this Python by default.
    strict : bool
        Count work that is never called as a failure, and an incomplete check as exit code 4.
    select : sequence of str
        Only rules whose code starts with one of these (and what they require).
    ignore : mapping
        Code to the reason why its findings do not count; the report prints it.
    kind : str, optional
        Kind of sandbox; the best that works by default.
    limits : sandbox.Limits, optional
        Limits of the run.
    run : bool
        False leaves out the run: static rules only.
    shape : str
        Size of the windows such as ``"63x250@250"``, for a contest that leaves it to its data.
    against : path, optional
        Checkout of the contest's own kit: its ingestion and its objective are run as well, in the sandbox.
    progress : callable, optional
        Called with (steps done, steps in all, what is being done).

    Raises
    ------
    InputError
        Where the path does not exist or cannot be read, a code is unknown, or `against` holds no kit of the contest.
    EnvironmentMissingError
        Where `env` holds no interpreter.
    """
    path = _readable(path)
    chosen = load_profile(profile) if isinstance(profile, str) else profile
    chosen = chosen.resized(_input_spec(shape)) if shape else chosen
    kit = require_kit(chosen, against) if against is not None else None
    rules = [r for r in all_rules() if chosen.entry.style in r.styles and (kit is not None or not r.with_kit)]
    selected = _selected(rules, select)
    _require_known(rules, ignore or {})
    python, stages = environment_python(env), Stages(progress)
    start = time.perf_counter()
    stages.expect(2)
    stages.begin("reading the zip")
    with tempfile.TemporaryDirectory(prefix="rtserve-", ignore_cleanup_errors=True) as temporary:
        case = _look(path, Path(temporary) / "submission", chosen)
        chosen = case.profile
        static_s = time.perf_counter() - start
        seen = None
        if run and case.contained is not None:
            tried = try_container(case.contained, chosen, python=python, kind=kind, limits=limits, stages=stages)
            case = dataclasses.replace(case, container=tried)
        elif run and case.sources.entry is not None and any(not code.startswith(STATIC) for code in selected):
            seen = _drive(case, python, kind, limits, stages)
            chosen, seen = one_of(chosen, seen)
        case = dataclasses.replace(case, profile=chosen, drive=seen)
        if kit is not None and seen is not None:
            case = dataclasses.replace(case, kits=_against(case, kit, python, kind, limits, stages))
        stages.last("asking the rules")
        results, static_rules_s = _ask(rules, case, strict, ignore or {}, stages)
        forecasts = tuple(of_drive(chosen, seen)) if seen is not None else ()
        graphs = [(key, graph) for _, key, graph in stating_graphs(case)] if forecasts and case.manifest else []
        notes = (*notes_of(case, seen, run), *beside_bench(forecasts, graphs))
    return ValidationReport(
        path=path,
        profile=chosen,
        results=tuple(result for result in results if result.code in selected),
        forecasts=forecasts,
        kits=case.kits,
        sandbox=seen.outcome.kind if seen else case.container.kind if case.container else "",
        python=case.container.python if case.container else _python_text(seen),
        notes=notes,
        seconds=time.perf_counter() - start,
        static_seconds=static_s + static_rules_s,
        strict=strict,
    )


def _readable(path: str | Path) -> Path:
    path = as_path(path, "zip")
    if not path.exists():
        raise InputError(f"{path} does not exist", hint=file_meant(path, "name the zip to check"))
    try:
        if path.is_file():
            with open(path, "rb") as handle:
                handle.read(1)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}", hint="check its permissions") from None
    return path


def _selected(rules: Sequence[Rule], select: Sequence[str]) -> set[str]:
    codes = {rule.code for rule in rules}
    if not select:
        return codes
    for prefix in select:
        if not any(code.startswith(prefix) for code in codes):
            raise InputError(
                f"no rule {prefix!r}", hint=f"codes are {', '.join(sorted(codes))}, or a family such as RT1"
            )
    return {code for code in codes if code.startswith(tuple(select))}


def _require_known(rules: Sequence[Rule], ignore: Mapping[str, str]) -> None:
    codes = {rule.code for rule in rules}
    for code, reason in ignore.items():
        if code not in codes:
            raise InputError(f"no rule {code!r} to ignore", hint=f"codes are {', '.join(sorted(codes))}")
        if not reason.strip():
            raise InputError(f"{code} is ignored without a reason", hint=f'write --ignore {code}="why"')


def _look(path: Path, folder: Path, profile: Profile) -> Case:
    """Unpack and parse; nothing of the submission runs."""
    folder.mkdir(parents=True)
    unpacked: Unpacked = unpack(path, folder)
    scripted = unpacked.folder is not None and profile.container is None
    sources = read_sources(folder, unpacked.files(), profile) if scripted else Sources()
    manifest = _manifest(unpacked)
    profile = _built_for(profile, manifest)
    return Case(path=path, profile=profile, unpacked=unpacked, sources=sources, manifest=manifest)


def _built_for(profile: Profile, manifest: dict[str, Any] | None) -> Profile:
    """Return the profile for the challenges that a zip says it answers; what it is given stays the contest's."""
    listed = (manifest or {}).get("challenges")
    if not isinstance(listed, dict) or not profile.one_of:
        return profile
    mine = tuple(challenge for challenge in profile.challenges if challenge.key in listed)
    return dataclasses.replace(profile, challenges=mine or profile.challenges)


def one_of(profile: Profile, seen: Drive) -> tuple[Profile, Drive]:
    """Return profile and drive without the challenges that a zip does not answer, where it need answer only one.

    Those it answers remain; where it answers none, the one that came furthest does.
    """
    if not profile.one_of or len(profile.challenges) < 2:
        return profile, seen
    fits = [c for c in profile.challenges if _answers(c, seen)]
    furthest = max(
        profile.challenges, key=lambda c: sum(bool(e.get("ok")) for e in seen.events if e["challenge"] == c.key)
    )
    kept = tuple(fits) or (furthest,)
    keys = {"", *(challenge.key for challenge in kept)}
    events = tuple(event for event in seen.events if event["challenge"] in keys)
    return dataclasses.replace(profile, challenges=kept), dataclasses.replace(seen, events=events)


def _answers(challenge: Challenge, seen: Drive) -> bool:
    event = seen.first("forward", challenge.key)
    if event is None or not event.get("ok") or event["array_shape"] is None:
        return False
    whole = str(event["dtype"]).startswith(("int", "uint", "long"))
    kind = whole == (challenge.target == "class")
    return kind and challenge.reads(event["array_shape"])


def _input_spec(text: str) -> InputSpec:
    """Return ``CHANNELSxSAMPLES@HZ`` as a spec."""
    match = re.fullmatch(r"(\d+)x(\d+)@(\d+(?:\.\d+)?)", text)
    if match is None:
        raise InputError(f"shape {text!r} is not CHANNELSxSAMPLES@HZ", hint="for example 129x200@100")
    return InputSpec(n_chans=int(match[1]), n_times=int(match[2]), sfreq=float(match[3]))


def _manifest(unpacked: Unpacked) -> dict[str, Any] | None:
    if MANIFEST not in unpacked.names:
        return None
    try:
        data = json.loads(unpacked.read(MANIFEST))
    except (ValueError, RecursionError):
        return None
    return data if isinstance(data, dict) and str(data.get("schema", "")).startswith(SCHEMA) else None


def _drive(case: Case, python: Path, kind: str | None, limits: sandbox.Limits | None, stages: Stages) -> Drive:
    assert case.unpacked.folder is not None
    dead: dict[str, list[str]] = {}
    for method in dead_methods(case):
        if method.on_entry and method.takes == 1:
            keys = [c.key for c in case.challenges if c.key in method.name] or [case.challenges[0].key]
            dead.setdefault(keys[0], []).append(method.name)
    keys = [challenge.key for challenge in case.profile.challenges]
    stages.expect(steps_of(len(keys)))
    return drive(
        case.unpacked.folder, case.profile, python=python, kind=kind, limits=limits, dead=dead,
        follow=follow_calls(stages, keys),
    )  # fmt: skip


def _against(
    case: Case, kit: Path, python: Path, kind: str | None, limits: sandbox.Limits | None, stages: Stages
) -> tuple[KitRun, ...]:
    assert case.unpacked.folder is not None
    options: dict[str, Any] = {"python": python, "kind": kind, "limits": limits}
    found, challenges = [], list(case.challenges)
    stages.expect(len(challenges))
    for challenge in challenges:
        stages.begin(f"challenge {challenge.key}: the contest's own kit")
        found.append(run_against(case.unpacked.folder, case.profile, challenge, kit, **options))
    return tuple(found)


def _ask(
    rules: Sequence[Rule], case: Case, strict: bool, ignore: Mapping[str, str], stages: Stages
) -> tuple[list[Result], float]:
    """Ask every rule in order of its code; return the results and the seconds that static ones took."""
    done: dict[str, Result] = {}
    static_s = 0.0
    for rule in rules:
        start = time.perf_counter()
        stages.say(f"rule {rule.code}")
        done[rule.code] = _result(rule, case, done, strict, ignore)
        static_s += (time.perf_counter() - start) * rule.code.startswith(STATIC)
    return list(done.values()), static_s


def _result(rule: Rule, case: Case, done: Mapping[str, Result], strict: bool, ignore: Mapping[str, str]) -> Result:
    blocked = next((code for code in rule.requires if code in done and _blocks(done[code])), "")
    if blocked:
        return Result(rule=rule, status=SKIPPED, reason=f"needs {blocked}", incomplete=done[blocked].incomplete)
    if rule.code.startswith("RT3") and rule.code != "RT301" and case.drive is None:
        return Result(rule=rule, status=SKIPPED, reason="the submission was not run")
    if rule.after and case.drive is not None and not case.drive.reached(rule.after):
        blamed = any(result.incomplete for result in done.values())
        reason = f"no challenge came through {rule.after!r}"
        return Result(rule=rule, status=SKIPPED, reason=reason, incomplete=blamed)
    try:
        said = list(rule.check(case))
    except Exception as error:  # a rule that fails must not take the report with it
        reason = f"the rule itself failed ({type(error).__name__}: {error})"[:300]
        return Result(rule=rule, status=SKIPPED, reason=reason, incomplete=True)
    return _judged(rule, said, case.profile, strict, ignore)


def _judged(
    rule: Rule, said: Sequence[Finding | Skip], profile: Profile, strict: bool, ignore: Mapping[str, str]
) -> Result:
    """Return what a rule's findings and skips amount to."""
    findings = tuple(item for item in said if isinstance(item, Finding))
    skips = [item for item in said if isinstance(item, Skip)]
    incomplete = any(skip.incomplete for skip in skips)
    if not findings and skips:
        return Result(rule=rule, status=SKIPPED, reason=skips[0].reason, incomplete=incomplete)
    if findings and rule.code in ignore:
        return Result(rule=rule, status=IGNORED, findings=findings, reason=ignore[rule.code])
    severities = {_severity(rule, finding, profile, strict) for finding in findings}
    status = FAILED if FAIL in severities else WARNED if WARN in severities else PASSED
    return Result(rule=rule, status=status, findings=findings, incomplete=incomplete)


def _blocks(result: Result) -> bool:
    return result.status == FAILED or (
        result.status == SKIPPED and (result.incomplete or result.reason.startswith("needs"))
    )


def _severity(rule: Rule, finding: Finding, profile: Profile, strict: bool) -> str:
    severity = finding.severity or profile.severity.get(rule.code) or rule.severity
    return FAIL if strict and rule.strict else severity


def _python_text(seen: Drive | None) -> str:
    start = seen.first("start") if seen else None
    if not start or not start.get("ok"):
        return ""
    return f"Python {start['python']}, torch {start['versions'].get('torch')}"
