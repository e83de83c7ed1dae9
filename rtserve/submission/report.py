"""A validation report as a tick list for people, Markdown for pull requests, JSON and SARIF for machines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import rtserve
from rtserve.submission.checks.rule import Finding
from rtserve.submission.verdict import Result, ValidationReport

__all__ = ["markdown", "next_command", "sarif", "tick_list", "to_dict"]

MARKS = {"passed": "✓", "failed": "✗", "warned": "!", "skipped": "-", "ignored": "~"}
FAMILIES = {
    "RT0": "archive",
    "RT1": "entry script",
    "RT2": "model files",
    "RT3": "run",
    "RT4": "parity and provenance",
    "RT5": "container",
}


def tick_list(report: ValidationReport, *, verbose: bool = False) -> str:
    """Return the report as lines for a terminal: one per rule, breaks in full, then the verdict and what to do next."""
    lines = [f"{report.path.name}: {report.profile.title}"]
    family = ""
    for result in report.results:
        if result.code[:3] != family:
            family = result.code[:3]
            lines.append(f"{family} {FAMILIES.get(family, '')}")
        lines += _result_lines(result, verbose) if verbose or result.status != "skipped" else _merged(lines, result)
    for forecast in report.forecasts:
        lines.append(f"time, challenge {forecast.challenge}: {forecast.sentence()}")
    lines += [f"kit, challenge {run.challenge}: {report.beside(run)}" for run in report.kits]
    lines += [f"note: {note}" for note in report.notes]
    return "\n".join([*lines, *_ending(report)])


def _merged(lines: list[str], result: Result) -> list[str]:
    """Return a line for a rule that was skipped, or add its code to the line before where the reason is the same."""
    ending = f" skipped: {result.reason}"
    if lines[-1].endswith(ending):
        lines[-1] = f"{lines[-1].removesuffix(ending)} {result.code}{ending}"
        return []
    return [f"  {MARKS['skipped']} {result.code}{ending}"]


def _result_lines(result: Result, verbose: bool) -> Iterator[str]:
    yield f"  {MARKS[result.status]} {result.code} {result.rule.sentence}" + (
        f" [{result.reason}]" if result.reason else ""
    )
    shown = result.findings if verbose else result.findings[:6]
    for finding in shown:
        yield f"      {located(finding)}"
        yield f"      cure: {finding.cure or result.rule.cure}"
    if len(shown) < len(result.findings):
        yield f"      and {len(result.findings) - len(shown)} more (--verbose)"


def located(finding: Finding) -> str:
    """Return a finding's message behind its place and challenge."""
    challenge = f"challenge {finding.challenge}: " if finding.challenge else ""
    place = f"{finding.where}: " if finding.where else ""
    return f"{place}{challenge}{finding.message}"


def _ending(report: ValidationReport) -> list[str]:
    counts = report.counts()
    numbers = ", ".join(f"{number} {kind}" for kind, number in counts.items() if number)
    where = f" in {report.sandbox}" if report.sandbox else ""
    python = f" ({report.python})" if report.python else ""
    lines = [f"{report.verdict}: {numbers}; {report.seconds:.1f} s{where}{python}"]
    command = next_command(report)
    return [*lines, f"next: {command}"] if command else lines


def next_command(report: ValidationReport) -> str:
    """Return the exact command or step that comes next."""
    name = report.path
    broken = next((result for result in report.results if result.status == "failed"), None)
    again = f"rtserve check {name} --profile {report.profile.name}"
    if broken is not None:
        finding = broken.findings[0]
        return f"{finding.cure or broken.rule.cure} Then: {again}"
    if report.incomplete:
        return f"rtserve env create {report.profile.name} --path env && {again} --env env"
    return report.profile.entry.upload.format(path=name)


def to_dict(report: ValidationReport) -> dict[str, Any]:
    """Return the report as JSON values (schema rtserve.check/1)."""
    return {
        "path": str(report.path),
        "profile": report.profile.name,
        "verdict": report.verdict,
        "exit_code": report.exit_code,
        "counts": report.counts(),
        "strict": report.strict,
        "sandbox": report.sandbox,
        "python": report.python,
        "seconds": report.seconds,
        "static_seconds": report.static_seconds,
        "notes": list(report.notes),
        "results": [_result_dict(result) for result in report.results],
        "forecast": [forecast.to_dict() for forecast in report.forecasts],
        "kit": [run.to_dict() for run in report.kits],
        "next": next_command(report),
    }


def _result_dict(result: Result) -> dict[str, Any]:
    return {
        "code": result.code,
        "name": result.rule.name,
        "rule": result.rule.sentence,
        "status": result.status,
        "reason": result.reason,
        "incomplete": result.incomplete,
        "cause": result.rule.cause,
        "cure": result.rule.cure,
        "findings": [
            {"message": f.message, "where": f.where, "cure": f.cure or result.rule.cure, "challenge": f.challenge}
            for f in result.findings
        ],
    }


def markdown(report: ValidationReport) -> str:
    """Return the report as Markdown: the verdict, a table of what is not in order, the forecast."""
    counts = ", ".join(f"{number} {kind}" for kind, number in report.counts().items() if number)
    lines = [
        f"### {report.path.name}: {report.verdict}",
        "",
        f"{report.profile.title}; {counts}; {report.seconds:.1f} s.",
        "",
    ]
    broken = [r for r in report.results if r.status in ("failed", "warned", "ignored") or r.incomplete]
    if broken:
        lines += ["| | rule | what | cure |", "|--|--|--|--|"]
        for result in broken:
            lines += _rows(result)
        lines.append("")
    lines += [f"- challenge {f.challenge}: {f.sentence()}" for f in report.forecasts]
    lines += [f"- kit, challenge {run.challenge}: {report.beside(run)}" for run in report.kits]
    lines += [f"- {note}" for note in report.notes]
    return "\n".join([*lines, "", f"Next: `{next_command(report)}`", ""])


def _rows(result: Result) -> Iterator[str]:
    if not result.findings:
        yield f"| {MARKS[result.status]} | {result.code} | {_cell(result.reason)} | |"
    for finding in result.findings:
        cure = finding.cure or result.rule.cure
        yield f"| {MARKS[result.status]} | {result.code} | {_cell(located(finding))} | {_cell(cure)} |"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def sarif(report: ValidationReport) -> str:
    """Return the report as SARIF 2.1.0, which code hosts show beside the lines of a pull request."""
    levels = {"failed": "error", "warned": "warning", "ignored": "note"}
    rules = [
        {
            "id": result.code,
            "name": result.rule.name,
            "shortDescription": {"text": result.rule.sentence},
            "fullDescription": {"text": result.rule.cause},
            "help": {"text": result.rule.cure},
        }
        for result in report.results
    ]
    found = [
        _sarif_result(result, finding, levels[result.status], report)
        for result in report.results
        if result.status in levels
        for finding in result.findings
    ]
    driver = {"name": "rtserve", "version": rtserve.__version__, "rules": rules}
    document = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": driver}, "results": found}],
    }
    return json.dumps(document, indent=2, ensure_ascii=False)


def _sarif_result(result: Result, finding: Finding, level: str, report: ValidationReport) -> dict[str, Any]:
    file, _, line = finding.where.rpartition(":")
    numbered = line.isdigit()
    location: dict[str, Any] = {"artifactLocation": {"uri": (file if numbered else finding.where) or report.path.name}}
    if numbered and int(line) > 0:
        location["region"] = {"startLine": int(line)}
    return {
        "ruleId": result.code,
        "level": level,
        "message": {"text": f"{finding.message}. {finding.cure or result.rule.cure}"},
        "locations": [{"physicalLocation": location}],
    }
