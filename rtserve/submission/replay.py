"""Reference windows through the real entry point of a zip, in the sandbox of `rtserve check`."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rtserve.errors import EnvironmentMissingError
from rtserve.stages import Stages
from rtserve.submission.archive import unpack
from rtserve.submission.following import follow_calls, steps_of

__all__ = ["reference_of", "replayed"]

REPLAY_S = 5.0
"""Seconds that the drive may spend on one challenge's probes."""
N_WINDOWS = 24
"""Windows that the drive wants; the reference windows are repeated."""


def reference_of(files: dict[str, bytes], manifest: dict[str, Any]) -> dict[str, np.ndarray]:
    """Return the reference windows (``"windows"``) and the answers of each challenge, by file stem."""
    import torch

    content = torch.load(io.BytesIO(files[manifest["reference"]["file"]]), weights_only=True)  # noqa: TID251
    return {name: tensor.numpy() for name, tensor in content.items()}


def replayed(
    files: dict[str, bytes],
    manifest: dict[str, Any],
    env: Path | None,
    routes: dict[str, str],
    stages: Stages | None = None,
) -> Iterator[str]:
    """Yield where the running submission does not answer the reference windows as it did when it was built.

    Parameters
    ----------
    files, manifest : dict
        Of the zip.
    env : Path, optional
        Scoring environment.
    routes : dict
        Is told by which route each challenge ran, and why where that is not the one its recipe asks for.
    stages : Stages, optional
        Told of the calls.

    Raises
    ------
    EnvironmentMissingError
        Where `env` holds no interpreter, or the sandbox cannot start it.
    """
    from rtserve.submission.drive import drive, environment_python
    from rtserve.submission.profile import load_profile

    profile = load_profile(manifest["profile"])
    if profile.container is not None:
        from rtserve.submission.container_replay import replayed_container

        with tempfile.TemporaryDirectory(prefix="rtserve-replay-") as name:
            unpack(files, Path(name))
            yield from replayed_container(Path(name), files, profile, environment_python(env), routes, stages)
        return
    stages, keys = stages or Stages(), [challenge.key for challenge in profile.challenges]
    stages.expect(steps_of(len(keys)))
    follow = follow_calls(stages, keys)
    reference = reference_of(files, manifest)
    windows = np.resize(reference["windows"], (N_WINDOWS, *reference["windows"].shape[1:]))
    with tempfile.TemporaryDirectory(prefix="rtserve-replay-") as name:
        folder = Path(name)
        unpack(files, folder)
        python = environment_python(env)
        run = drive(folder, profile, python=python, windows=windows, budget_s=REPLAY_S, follow=follow)
    if run.first("start") is None:
        raise EnvironmentMissingError(
            f"the replay could not start with {run.python}: {(run.outcome.text or run.outcome.stopped).strip()[:200]}",
            hint="try another --env, or --no-replay for the digests alone",
        )
    for key, entry in manifest["challenges"].items():
        routes[key] = run.route_of(key)
        event = run.first("windows", key)
        if event is None or not event.get("ok"):
            yield f"{profile.entry.file}: challenge {key} did not answer ({_why(run, key)})"
            continue
        yield from _compare(files, entry, reference, np.asarray(event["values"]), profile.challenge(key).size, key)


def _why(run: Any, key: str) -> str:
    """Return the first error that the drive saw."""
    for event in run.events:
        if not event.get("ok", True) and event.get("challenge") in (key, None):
            return str(event.get("error") or event.get("stage"))[:200]
    return run.outcome.stopped or "the process ended"


def _compare(
    files: dict[str, bytes],
    entry: dict[str, Any],
    reference: dict[str, np.ndarray],
    got: np.ndarray,
    size: int,
    key: str,
) -> Iterator[str]:
    """Compare reference and answers with the graph in float64, allowing the answers what float32 costs on it."""
    from rtserve.graphs.graph import Graph
    from rtserve.graphs.parity import compare_outputs
    from rtserve.graphs.witness import hear
    from rtserve.submission.company import calls_for

    graph, windows = Graph.from_bytes(files[entry["graph"]], name=entry["graph"]), reference["windows"]
    total = len(got) if graph.output_spec.coupled else len(windows)
    given = calls_for(graph, size, windows, total)
    answers = hear(graph, [("reference windows", x) for x in given]).answers
    truth = np.concatenate([answer.truth for answer in answers])
    rounding = max(answer.rounding for answer in answers[: len(windows)])
    stored = reference[entry["graph"].removesuffix(".onnx")]
    written = compare_outputs("", stored, truth[: len(stored)])
    answered = compare_outputs("", got, np.resize(truth[:, 0], len(got)), rounding=rounding)
    for case, what in ((written, "the reference answers"), (answered, "what the submission answers")):
        if not case.passed:
            detail = (
                f"differ by {case.error:.1e}, {case.allowed:.1e} is allowed" if case.finite else "are not finite alike"
            )
            yield f"{entry['graph']}: challenge {key}: {what} and the graph's own {detail}"
