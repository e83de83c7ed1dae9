"""A profile as text: clauses with source and confidence, contradictions with what the check does about them."""

from __future__ import annotations

from rtserve.submission.profile import Environment, Profile

__all__ = ["profile_text"]


def profile_text(profile: Profile) -> str:
    """Return what `rtserve profiles show` prints."""
    lines = [
        f"{profile.name}: {profile.title}",
        *_inputs(profile),
        "",
        "clauses",
    ]
    for clause in profile.clauses:
        lines += [f"  {clause.id} [{clause.confidence}]", f"    {clause.text}", f"    source: {clause.source}"]
    if profile.contradictions:
        lines += ["", "contradictions"]
    for item in profile.contradictions:
        lines += [f"  {item.clause}", *(f"    - {reading}" for reading in item.readings), f"    check: {item.handling}"]
    lines += ["", "phases", *(f"  {period} ({period.source})" for period in profile.periods)] if profile.periods else []
    lines += ["", "kit", f"  {profile.kit.ingestion} ({profile.kit.source})"] if profile.kit else []
    lines += ["", "environments"]
    for env in profile.environments:
        packages = ", ".join(f"{name} {version}" for name, version in env.packages.items())
        lines.append(f"  {env.name}: Python {env.python}, {packages}{_how(env)}")
    return "\n".join([*lines, "", "challenges", *_challenges(profile)])


def _how(environment: Environment) -> str:
    said = "no source states the versions: to try a zip in" if environment.assumed else "must also run"
    return "" if environment.required and not environment.assumed else f" ({said})"


def _inputs(profile: Profile) -> list[str]:
    """Return what windows are given: once where all challenges have the same, by challenge and phase otherwise."""
    signals = {challenge.key: profile.signal_of(challenge.key) for challenge in profile.challenges}
    if len(set(signals.values())) == 1 and not profile.phases:
        signal = next(iter(signals.values()))
        return [f"input: {signal}{' (assumed)' if signal.assumed else ''}"]
    lines = ["input"]
    for challenge in profile.challenges:
        how = "one window at a time" if challenge.streaming or challenge.batch == 1 else f"batches of {challenge.batch}"
        lines.append(f"  {challenge.key}: {signals[challenge.key]}, {how}")
        lines += [f"    {name}: {phase.signal}" for name, phase in challenge.phases.items() if phase.signal is not None]
    return lines


def _challenges(profile: Profile) -> list[str]:
    lines = []
    for challenge in profile.challenges:
        windows = challenge.windows
        count = (
            f"; about {windows.count} windows ({windows.source})" if windows else "; number of windows not published"
        )
        shape = f"({', '.join(challenge.output)})"
        metric = f", scored by {challenge.metric}" if challenge.metric else ""
        lines.append(
            f"  {challenge.key}: {challenge.call} -> {challenge.target} {shape}, weight {challenge.weight:g}{metric}{count}"
        )
    return lines
