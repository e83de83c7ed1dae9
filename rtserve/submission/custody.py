"""`verify`: the bytes that travel are the bytes that were measured, and they still answer the same.

Every digest is recomputed, what can be derived is derived again (script from the template, plan and tensors from the
graph, views and members from the graph's own ancestry), and the reference windows go through the real entry point in
a sandbox. Nothing of a zip that fails the first part is run.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtserve.errors import EnvironmentMissingError, InputError, RtserveError
from rtserve.files import readable_file, sha256_bytes
from rtserve.stages import Stages, Tell
from rtserve.submission.archive import read_members, zip_bytes
from rtserve.submission.manifest import MANIFEST, SCHEMA, seal

__all__ = ["Step", "Verification", "verification_text", "verify"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One thing that was verified.

    Parameters
    ----------
    name : str
        What it is about.
    status : str
        ``"ok"``, ``"failed"`` or ``"skipped"``.
    findings : tuple of str
        What is wrong, each beginning with the file it is about; or why it was skipped.
    """

    name: str
    status: str
    findings: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The verdict on one zip.

    Parameters
    ----------
    path, sha256 : Path, str
        The zip and its digest.
    steps : tuple of Step
        In order.
    graphs : dict of str to str
        Challenge key to graph digest.
    routes : dict of str to str
        Challenge key to the route by which the replay ran, and why where it is not the one asked for.
    """

    path: Path
    sha256: str
    steps: tuple[Step, ...]
    graphs: dict[str, str] = field(default_factory=dict)
    routes: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no step failed."""
        return all(step.status != "failed" for step in self.steps)

    def to_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        steps = [{"name": s.name, "status": s.status, "findings": list(s.findings)} for s in self.steps]
        return {
            "zip": str(self.path),
            "sha256": self.sha256,
            "passed": self.passed,
            "graphs": self.graphs,
            "routes": self.routes,
            "steps": steps,
        }


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A zip that is being verified."""

    path: Path
    files: dict[str, bytes]
    damaged: dict[str, str]
    manifest: dict[str, Any]
    env: Path | None


Finder = Callable[[_Case], Iterator[str]]


class Skipped(Exception):  # noqa: N818  (not an error: a step that does not apply, with its reason)
    """Raised by a finder whose step does not apply."""


def verify(
    path: str | Path, *, env: str | Path | None = None, replay: bool = True, progress: Tell | None = None
) -> Verification:
    """Verify a zip that `rtserve.submission.bundle.build` wrote.

    Parameters
    ----------
    path : path
        The zip.
    env : path, optional
        Scoring environment in which the reference windows are replayed; this process's own Python by default.
    replay : bool
        Whether to replay them at all.
    progress : callable, optional
        Called with (steps done, steps in all, what is being verified).

    Raises
    ------
    InputError
        Where the file is no zip, or was not built by rtserve.
    EnvironmentMissingError
        Where `env` holds no interpreter.
    """
    path = readable_file(path, "zip")
    files, damaged = read_members(path)
    case = _Case(path=path, files=files, damaged=damaged, manifest=_manifest(path, files, damaged), env=_path(env))
    stages, steps = Stages(progress), []
    stages.expect(len(_STATIC))
    for name, finder in _STATIC:
        stages.begin(name)
        steps.append(_step(name, finder, case))
    whole, routes = all(step.status != "failed" for step in steps), dict[str, str]()
    if replay and whole:
        from rtserve.submission.replay import replayed

        steps.append(_step("reference windows", lambda c: replayed(c.files, c.manifest, c.env, routes, stages), case))
    else:
        why = "not asked for" if whole else "nothing of a zip that was changed is run"
        steps.append(Step(name="reference windows", status="skipped", findings=(why,)))
    graphs = {k: str(c.get("graph_sha256", "")) for k, c in _challenges(case.manifest).items()}
    digest = sha256_bytes(path.read_bytes())
    return Verification(path=path, sha256=digest, steps=tuple(steps), graphs=graphs, routes=routes)


def _path(env: str | Path | None) -> Path | None:
    return None if env is None else Path(env)


def _manifest(path: Path, files: dict[str, bytes], damaged: dict[str, str]) -> dict[str, Any]:
    """Return the manifest, or an empty one where it is damaged; a zip without one was not built here."""
    if MANIFEST not in files and MANIFEST not in damaged:
        raise InputError(
            f"{path} has no {MANIFEST}: it was not built by rtserve", hint="`rtserve check` judges zips made elsewhere"
        )
    try:
        content = json.loads(files.get(MANIFEST, b"{}"))
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _challenges(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    listed = manifest.get("challenges")
    return {k: v for k, v in listed.items() if isinstance(v, dict)} if isinstance(listed, dict) else {}


def _step(name: str, finder: Finder, case: _Case) -> Step:
    try:
        findings = tuple(finder(case))
    except Skipped as reason:
        return Step(name=name, status="skipped", findings=(str(reason),))
    except EnvironmentMissingError:
        raise
    except RtserveError as error:
        findings = (error.message,)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        findings = (f"{MANIFEST}: cannot be read as one of rtserve ({type(error).__name__}: {error})",)
    return Step(name=name, status="failed" if findings else "ok", findings=findings)


def _seal(case: _Case) -> Iterator[str]:
    """The manifest is as it was written."""
    if MANIFEST in case.damaged:
        yield f"{MANIFEST}: {case.damaged[MANIFEST]}"
    elif case.manifest.get("schema") != SCHEMA:
        yield f"{MANIFEST}: schema {case.manifest.get('schema')!r}, expected {SCHEMA!r}"
    elif seal(case.manifest) != case.manifest:
        yield f"{MANIFEST}: was edited, its seal is {seal(case.manifest)['seal'][:12]}, it says {_short(case.manifest)}"


def _short(manifest: dict[str, Any]) -> str:
    return str(manifest.get("seal"))[:12]


def _digests(case: _Case) -> Iterator[str]:
    """Every file has its digest, none is missing, none was added."""
    listed = dict(case.manifest.get("files", {}))
    for name in sorted({*listed, *case.files, *case.damaged} - {MANIFEST}):
        if name in case.damaged:
            yield f"{name}: {case.damaged[name]}"
        elif name not in listed:
            yield f"{name}: is in the zip, but not in the manifest"
        elif name not in case.files:
            yield f"{name}: is in the manifest, but not in the zip"
        elif sha256_bytes(case.files[name]) != listed[name]:
            yield f"{name}: sha256 {sha256_bytes(case.files[name])[:12]}, the manifest says {listed[name][:12]}"


def _graphs(case: _Case) -> Iterator[str]:
    """Graphs are the measured ones, and their ancestry says what the manifest says."""
    from rtserve.graphs.graph import Graph

    for key, entry in _challenges(case.manifest).items():
        name = entry["graph"]
        if name not in case.files:
            yield f"{name}: the graph of challenge {key} is missing"
            continue
        digest = sha256_bytes(case.files[name])
        if digest != entry["graph_sha256"]:
            yield f"{name}: sha256 {digest[:12]}, challenge {key} was measured on {entry['graph_sha256'][:12]}"
            continue
        yield from _ancestry(Graph.from_bytes(case.files[name], name=name).provenance.details, entry, name)


def _ancestry(details: dict[str, Any], entry: dict[str, Any], name: str) -> Iterator[str]:
    plan = details.get("plan", {})
    claims = {
        "member_graphs": plan.get("members", []),
        "calibration": plan.get("calibration", {}),
        "passes": details.get("passes", []),
    }
    for key, truth in claims.items():
        if entry[key] != truth:
            yield f"{name}: the manifest says {key} {entry[key]}, the graph itself {truth}"
    if plan:
        yield from _recipe_words(plan, entry, name)
    given = {m["sha256"] for m in entry["members"] if not m["exporter"]}
    checkpoints = sorted(_checkpoints(details, given))
    named = sorted(m["sha256"] for m in entry["members"] if m["exporter"])
    if checkpoints and named != checkpoints:
        yield f"{name}: made from checkpoints {_heads(checkpoints)}, the manifest names {_heads(named)}"
    strangers = given - set(plan.get("members", []))
    if strangers:
        yield f"{name}: the manifest names member graphs {_heads(sorted(strangers))}, the graph has no such member"


def _recipe_words(plan: dict[str, Any], entry: dict[str, Any], name: str) -> Iterator[str]:
    """Compare views and merge, in the recipe's words, with those of the graph's own plan."""
    from rtserve.fusion.views import parse_view

    views = [view.get("name") for view in plan.get("views", [])]
    if [parse_view(text).name for text in entry["views"]] != views:
        yield f"{name}: the manifest names views {entry['views']}, the graph {views}"
    if not _same_merge(entry["merge"], plan.get("merge", {})):
        yield f"{name}: the manifest names merge {entry['merge']}, the graph {plan.get('merge')}"


def _same_merge(text: str, truth: dict[str, Any]) -> bool:
    """Whether a merge in a recipe's words is the graph's; the weights of a file are in the graph alone."""
    from rtserve.fusion.plan import parse_merge

    if text.startswith("weighted"):
        average = text.partition(":")[0].partition("-")[2]
        return truth.get("kind") == "weighted" and truth.get("average", "") == average
    return parse_merge(text, members=1, views=1).to_dict() == truth


def _heads(digests: list[str]) -> str:
    return ", ".join(digest[:12] for digest in digests)


def _checkpoints(details: dict[str, Any], given: set[str]) -> Iterator[str]:
    """Yield the checkpoint digests of the members that were exported for this zip, not of graphs that were given."""
    for member in details.get("members", []):
        if member.get("digest") in given:
            continue
        checkpoint = member.get("provenance", {}).get("details", {}).get("checkpoint")
        if checkpoint:
            yield checkpoint["sha256"]


def _derived(case: _Case) -> Iterator[str]:
    """Plans, tensors and the script follow from the graphs."""
    from rtserve.submission.derived import derived_findings
    from rtserve.submission.profile import load_profile

    profile = load_profile(case.manifest["profile"])
    if profile.container is not None:
        from rtserve.submission.container_build import derived_container

        yield from derived_container(case.files, case.manifest, profile)
    else:
        yield from derived_findings(case.files, case.manifest)


def _container(case: _Case) -> Iterator[str]:
    """The zip around the files is the one that build writes."""
    if zip_bytes(case.files) != case.path.read_bytes():
        yield f"{case.path.name}: the files are whole, but the zip around them is not the one that was built"


_STATIC: tuple[tuple[str, Finder], ...] = (
    ("manifest", _seal),
    ("digests", _digests),
    ("graphs", _graphs),
    ("derived files", _derived),
    ("container", _container),
)


def verification_text(result: Verification) -> str:
    """Return the verdict as a tick list."""
    marks = {"ok": "✓", "failed": "✗", "skipped": "-"}
    lines = [f"{result.path}  sha256 {result.sha256}"]
    for step in result.steps:
        lines.append(f"  {marks[step.status]} {step.name}")
        lines += [f"      {finding}" for finding in step.findings]
    lines += [f"  challenge {key} ran by {route}" for key, route in result.routes.items() if route]
    verdict = "verified" if result.passed else "NOT the zip that was built"
    graphs = ", ".join(f"challenge {key} graph {digest[:12]}" for key, digest in result.graphs.items())
    return "\n".join([*lines, f"{verdict}; {graphs}" if graphs else verdict])
