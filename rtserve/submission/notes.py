"""What a check says beside its rules: what was assumed, what was left out, and what it cannot know."""

from __future__ import annotations

from collections.abc import Iterator

from rtserve.submission.checks.identity import challenges_of
from rtserve.submission.checks.model_files import needed
from rtserve.submission.checks.rule import Case
from rtserve.submission.container_report import container_notes
from rtserve.submission.drive import Drive
from rtserve.submission.profile import Profile, full_name, name_parts
from rtserve.submission.ranking import built_for

__all__ = ["notes_of", "on_a_gpu"]


def _given(profile: Profile) -> Iterator[str]:
    """Say what windows were given where a contest has several kinds of them, or where they are assumed."""
    for challenge in profile.challenges:
        signal = profile.signal_of(challenge.key)
        if signal.assumed:
            yield f"{signal} are assumed; name others with --shape"
        elif profile.open_sizes:
            yield f"challenge {challenge.key} was given {signal}; --shape names others"


def _to_load(case: Case) -> Iterator[str]:
    """Say which packages that the contest does not pin the objects in the model files need."""
    pins = case.profile.primary.pins
    for name, packages in needed(case):
        free = {package: version for package, version in packages.items() if package not in pins}
        said = [f"{package}{f' (written by {version})' if version else ''}" for package, version in free.items()]
        if said:
            tries = (
                f"`rtserve env try {case.path.name} --profile {case.profile.name} --path DIR` tries what may be there"
            )
            yield f"{name} needs {', '.join(said)} to load; {case.profile.name} does not state the versions: {tries}"


def _of_another(case: Case) -> Iterator[str]:
    """Say that a zip was built for another contest, or another challenge, than it is checked against."""
    meant = built_for(case.manifest)
    (base, key, _), (other, asked, _) = name_parts(meant), name_parts(case.profile.name)
    if meant and (base != other or (key and asked and key != asked)):
        yield f"its manifest says that it was built for {meant}: --profile {meant} checks it against that"


def on_a_gpu(case: Case) -> str:
    """Return what a CUDA device may add to the numbers; the figures are those of benchmarks/results/gpu.md."""
    if case.manifest is None:
        said = "torch lets cuDNN round factors to TF32's ten bits unless the code forbids it: up to 3e-3"
    elif any(entry.get("precision") == "tf32" for entry in challenges_of(case).values()):
        said = "it computes in TF32, as its recipe asks: up to 5e-3"
    else:
        said = "it computes in float32, TF32 off: up to 1e-5"
    return f"on a CUDA device {said} of the largest answer was seen beside float64"


def notes_of(case: Case, seen: Drive | None, run: bool) -> list[str]:
    """Return what is to be said of a check beside its rules, whatever they found."""
    notes = []
    if seen is not None and seen.outcome.kind == "plain":
        notes.append(
            "neither bubblewrap nor unshare works here: the submission ran with limits only, in the same file system"
        )
    notes += _of_another(case)
    if case.profile.container is not None:
        notes += container_notes(case.container, case.profile.container) if case.container else ()
    else:
        notes += _to_load(case)
        notes.append(on_a_gpu(case))
    if not run:
        notes.append("static rules only: the submission was not run")
    if case.profile.one_of and seen is not None:
        taken = [challenge.key for challenge in case.profile.challenges]
        base, key, phase = name_parts(case.profile.name)
        asked = "" if key else f"; name it with --profile {full_name(base, taken[0], phase)}"
        notes.append(f"taken for challenge {', '.join(taken)}{asked}")
    if seen is not None:
        notes += [*_given(case.profile)]
        notes += [
            f"challenge {event['challenge']} ran by {seen.route_of(event['challenge'])}"
            for event in seen.all("object")
            if event.get("reason")
        ]
        left = [f"{event['what']} (challenge {event['challenge']})" for event in seen.all("left_out")]
        if left:
            notes.append(f"left out to keep the check short: {', '.join(left)}")
    return notes
