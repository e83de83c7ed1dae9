"""What lies in a zip besides the graphs: ``submission.py``, reference windows with their outputs, and the manifest."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import rtserve
from rtserve.files import canonical_json, sha256_bytes

if TYPE_CHECKING:
    from rtserve.submission.artefacts import Artefact
    from rtserve.submission.container_build import Contained
    from rtserve.submission.profile import Challenge, Profile
    from rtserve.submission.recipe import Recipe

__all__ = [
    "MANIFEST", "REFERENCE", "bundle_files", "container_files", "entry_script", "reference_bytes", "reference_windows",
    "rendered", "seal",
]  # fmt: skip

MANIFEST, REFERENCE, SCHEMA = "manifest.json", "reference.pt", "rtserve.manifest/1"
N_REFERENCE = 4
"""Reference windows that travel with their outputs."""
LIBRARIES = ("torch", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "numpy")


def bundle_files(
    recipe: Recipe, profile: Profile, artefacts: Sequence[Artefact], root: Path | None, reference: bytes
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return every file of the zip, and the manifest as a dictionary; `reference` from `reference_bytes`."""
    from rtserve.submission.vendored import vendored_files

    files: dict[str, bytes] = {}
    for artefact in artefacts:
        files |= artefact.files
    files |= vendored_files(recipe, root)
    files[profile.entry.file] = entry_script(profile, artefacts).encode()
    files[REFERENCE] = reference
    told = {"file": REFERENCE, "windows": N_REFERENCE, "from": recipe.windows or "seeded noise"}
    return _with_manifest(recipe, profile, artefacts, files, reference=told)


def container_files(
    recipe: Recipe, profile: Profile, artefact: Artefact, made: Contained
) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Return every file of a container's zip, and the manifest as a dictionary."""
    told = {"file": made.entry["container"]["recording"], "from": "a planted recording"}
    entries = {artefact.key: made.entry | {"routes": [made.route]}}
    return _with_manifest(recipe, profile, [artefact], dict(made.files), reference=told, more=entries)


def _with_manifest(
    recipe: Recipe,
    profile: Profile,
    artefacts: Sequence[Artefact],
    files: dict[str, bytes],
    *,
    reference: dict[str, Any],
    more: Mapping[str, Mapping[str, Any]] | None = None,
) -> tuple[dict[str, bytes], dict[str, Any]]:
    manifest = _manifest(recipe, profile, artefacts, files, reference, more or {})
    files[MANIFEST] = (json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()
    return files, manifest


def entry_script(profile: Profile, artefacts: Sequence[Artefact]) -> str:
    """Return ``submission.py``: the executor's source and the entry class of the profile."""
    from rtserve.submission.sources import runtime_source

    operators = sorted(set().union(*(artefact.operators for artefact in artefacts)))
    by_key = {artefact.key: artefact for artefact in artefacts}
    signal = profile.signal_of(artefacts[0].key)
    return rendered(
        profile,
        title=profile.title,
        version=rtserve.__version__,
        class_name=profile.entry.class_name,
        runtime=runtime_source(operators, sorted({artefact.runtime for artefact in artefacts})),
        sfreq=f"{signal.sfreq:g}",
        n_chans=signal.n_chans,
        n_times=signal.n_times,
        unit=signal.unit,
        challenges=[_challenge_words(c, by_key[c.key]) for c in profile.challenges if c.key in by_key],
    )


def rendered(profile: Profile, **words: Any) -> str:
    """Return a contest's template with `words` in their places."""
    import jinja2

    from rtserve.submission.profile import data_folder

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
    source = data_folder() / "templates" / profile.template
    text = environment.from_string(source.read_text("utf-8")).render(**words)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"


def _challenge_words(challenge: Any, artefact: Artefact) -> dict[str, str]:
    """Return what the template says about one challenge."""
    plan = artefact.graph.provenance.details.get("plan", {})
    members, views = len(plan.get("members", ())) or 1, [view["name"] for view in plan.get("views", ())] or ["identity"]
    return {
        "key": challenge.key,
        "call": challenge.call,
        "name": artefact.name,
        "runtime": artefact.runtime,
        "n_joints": str(challenge.meta.get("n_joints", "")),
        "shape": f"(B, {artefact.graph.output_spec.n_outputs})",
        "summary": f"{members} member{'s' * (members > 1)} x views {', '.join(views)}",
    }


def reference_windows(recipe: Recipe, profile: Profile, key: str, root: Path | None) -> np.ndarray:
    """Return the windows (N_REFERENCE, n_chans, n_times): the first of the recipe's window set, or seeded noise."""
    signal = profile.signal_of(key)
    if recipe.windows:
        from rtserve.signals.windows import load_windows

        windows = load_windows(recipe.locate(recipe.windows, root, "window set"))
        windows.require_spec(signal.spec, name=f"profile {profile.name}")
        return np.ascontiguousarray(windows.X[:N_REFERENCE], dtype=np.float32)
    from rtserve.submission.drive import probe_windows

    return probe_windows(N_REFERENCE, signal.n_chans, signal.n_times, sfreq=signal.sfreq, scale=signal.scale)


def reference_bytes(recipe: Recipe, profile: Profile, artefacts: Sequence[Artefact], root: Path | None) -> bytes:
    """Return the reference windows and what the graphs answer to them, given as the contest does, computed in float64."""
    import torch

    from rtserve.graphs.runners import PlanRunner
    from rtserve.submission.artefacts import tensor_bytes
    from rtserve.submission.company import calls_for

    windows = reference_windows(recipe, profile, artefacts[0].key, root)
    content = {"windows": torch.from_numpy(windows)}
    for artefact in artefacts:
        size, infer = profile.challenge(artefact.key).size, PlanRunner(artefact.graph, double=True).infer
        given = calls_for(artefact.graph, size, windows, len(windows))
        answers = np.concatenate([infer(x) for x in given])[: len(windows)]
        content[artefact.name] = torch.from_numpy(answers.astype(np.float32))
    return tensor_bytes(content)


def _manifest(
    recipe: Recipe,
    profile: Profile,
    artefacts: Sequence[Artefact],
    files: dict[str, bytes],
    reference: dict[str, Any],
    more: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    from rtserve.submission.evidence import cited
    from rtserve.submission.pins import recorded

    graphs = {artefact.key: artefact.graph.digest for artefact in artefacts}
    manifest = {
        "schema": SCHEMA,
        "profile": profile.name,
        "rtserve": rtserve.__version__,
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "files": {name: sha256_bytes(data) for name, data in sorted(files.items())},
        "challenges": {
            artefact.key: {
                **_challenge(recipe, artefact, profile.challenge(artefact.key)),
                **more.get(artefact.key, _own(artefact)),
            }
            for artefact in artefacts
        },
        "reference": reference,
        "evidence": cited(recipe, graphs),
        "environment": recorded(recipe),
    }
    return seal(manifest)


def seal(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with a digest over everything else in it."""
    content = {key: value for key, value in manifest.items() if key != "seal"}
    return content | {"seal": sha256_bytes(canonical_json(content).encode())}


def _metric(name: str) -> str:
    """Return the signature of the contest's own metric, without the data that only the contest has."""
    from rtserve.measure.metrics import parse_metric

    if not name:
        return ""
    fields = parse_metric(name).signature(n=0, data="").fields()
    settings = (f"{key}:{value}" for key, value in fields.items() if key not in ("metric", "n", "data", "split"))
    return "|".join([fields["metric"], *settings])


def _member_layouts(details: dict[str, Any]) -> list[str]:
    """Return the engines that members were laid out for when they were fused: what is fused again keeps its layout."""
    made = [member["provenance"] for member in details.get("members", ()) if "provenance" in member]
    fused = [one["details"] for one in made if one["kind"] == "fuse" and one["details"].get("passes")]
    return sorted({one.get("engine", "onnxruntime") for one in fused})


def _challenge(recipe: Recipe, artefact: Artefact, challenge: Challenge) -> dict[str, Any]:
    """Return what the manifest says about one challenge."""
    from rtserve.submission.fitting import coupled, taken

    details = artefact.graph.provenance.details
    plan = details.get("plan", {})
    return {
        "graph_sha256": artefact.graph.digest,
        "runtime": artefact.runtime,
        "precision": recipe.precision,
        "layout": recipe.layout_of(artefact.key),
        "member_layouts": _member_layouts(details),
        "target": artefact.graph.output_spec.target,
        "members": [
            {"sha256": m.sha256, "file": Path(m.file).name, "exporter": m.exporter, "settings": m.settings}
            for m in recipe.challenges[artefact.key].members
        ],
        "member_graphs": plan.get("members", []),
        "views": list(recipe.challenges[artefact.key].views),
        "merge": recipe.challenges[artefact.key].merge,
        "calibration": plan.get("calibration", {}),
        "passes": details.get("passes", []),
        "metric": _metric(challenge.metric),
        "stated": taken(artefact.graph, challenge, recipe.stated),
        **coupled(artefact.graph, challenge),
    }


def _own(artefact: Artefact) -> dict[str, Any]:
    """Return the names of a challenge's files at the root of a zip, and by which routes they can be run."""
    names = {
        "graph": f"{artefact.name}.onnx",
        "plan": f"{artefact.name}.json",
        "tensors": f"{artefact.name}.pt",
        "script": f"{artefact.name}.ts",
        "native": f"{artefact.name}.native.json",
    }
    return {"routes": list(artefact.routes)} | {what: name for what, name in names.items() if name in artefact.files}
