"""`build`: a recipe becomes a zip that a contest accepts, with proof of what is inside.

The same recipe, members and versions give the same bytes. The zip needs torch and the standard library, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rtserve.files import check_writable, sha256_bytes, write_bytes
from rtserve.graphs.warm import shared_start
from rtserve.submission.recipe import ChallengeRecipe, Member, Recipe, load_recipe

if TYPE_CHECKING:
    from rtserve.graphs.graph import Graph
    from rtserve.graphs.parity import ParityReport
    from rtserve.submission.artefacts import Artefact
    from rtserve.submission.profile import Profile

__all__ = ["Built", "build"]

Progress = Callable[[int, int], None]
EXPORT_JOBS = 2
"""Exports that run side by side, each in a process of its own."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """What was built.

    Parameters
    ----------
    path : Path
        The zip.
    sha256 : str
        Its digest.
    manifest : dict
        As it lies in the zip.
    agreement : dict
        Challenge key to route to parity report.
    times : dict
        Challenge key to microseconds a window, by route; see `rtserve.submission.route_times`.
    """

    path: Path
    sha256: str
    manifest: dict[str, Any]
    agreement: dict[str, dict[str, ParityReport]]
    times: dict[str, dict[str, float]]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        routes = {key: {route: report.to_dict() for route, report in by.items()} for key, by in self.agreement.items()}
        return {
            "output": str(self.path),
            "bytes": self.path.stat().st_size,
            "sha256": self.sha256,
            "agreement": routes,
            "us_per_window": self.times,
            "manifest": self.manifest,
        }


def build(
    recipe: str | Path | Recipe,
    *,
    root: str | Path | None = None,
    output: str | Path,
    force: bool = False,
    unit: str = "",
    sfreq: float = 0.0,
    progress: Progress | None = None,
) -> Built:
    """Build the zip of a recipe.

    Parameters
    ----------
    recipe : path or Recipe
        A ``submission.toml``.
    root : path, optional
        Folder in which the members are looked up; the recipe's own by default.
    output : path
        The zip to write; written whole or not at all.
    force : bool
        Replace an existing output.
    unit, sfreq : str, float
        Unit (``V``, ``mV``, ``uV``) and rate in Hz of the windows that the members take, where they do not say.
    progress : callable, optional
        Called with (steps done, steps in all).

    Raises
    ------
    InputError, ProfileError
        Where the recipe is wrong, or a member is missing or not the one the recipe names.
    ExportError, ParityError
        Where a member cannot be exported, or a route does not give the graph's numbers.
    """
    from rtserve.submission.agreement import opened_routes, require_agreement
    from rtserve.submission.archive import zip_bytes
    from rtserve.submission.compiled import require_compiled_allowed
    from rtserve.submission.manifest import REFERENCE, bundle_files, reference_bytes
    from rtserve.submission.profile import load_profile
    from rtserve.submission.route_times import route_times

    recipe = recipe if isinstance(recipe, Recipe) else load_recipe(recipe)
    recipe = recipe.stating(unit=unit, sfreq=sfreq)
    root = None if root is None else Path(root)
    members = recipe.require_digests(root)
    output = check_writable(output, force=force)
    profile = load_profile(recipe.profile)
    require_compiled_allowed(recipe, profile)
    if profile.container is not None:
        return _built_container(recipe, profile, members, root, output, force=force, progress=progress)
    step = _Steps(len(members) + 2 * len(recipe.challenges), progress)
    graphs = _member_graphs(recipe, members, step)
    artefacts = [_artefact(recipe, key, graphs[key], profile, root, step) for key in recipe.challenges]
    agreement, times, reference = {}, {}, reference_bytes(recipe, profile, artefacts, root)
    for artefact in artefacts:
        with opened_routes(artefact, {REFERENCE: reference}) as routes:
            agreement[artefact.key] = require_agreement(artefact, routes)
            times[artefact.key] = route_times(artefact.graph, routes)
        step()
    files, manifest = bundle_files(recipe, profile, artefacts, root, reference)
    data = zip_bytes(files)
    write_bytes(output, data, force=force)
    return Built(path=output, sha256=sha256_bytes(data), manifest=manifest, agreement=agreement, times=times)


def _built_container(
    recipe: Recipe,
    profile: Profile,
    members: list[tuple[str, Member, Path]],
    root: Path | None,
    output: Path,
    *,
    force: bool,
    progress: Progress | None,
) -> Built:
    """Build the zip of a contest that runs containers."""
    from dataclasses import replace

    from rtserve.graphs.meaning import stated_specs
    from rtserve.submission.archive import zip_bytes
    from rtserve.submission.artefacts import Artefact
    from rtserve.submission.container_build import contained
    from rtserve.submission.manifest import container_files
    from rtserve.submission.route_times import BENCHED, graph_us

    step = _Steps(len(members) + 2, progress)
    ((key, challenge),) = recipe.challenges.items()
    graphs, name = _member_graphs(recipe, members, step)[key], f"challenge_{key}"

    def laid_out(engine: str) -> Graph:
        graph = _fused(recipe, key, graphs, profile, root, engine=engine)
        inputs, _ = stated_specs(graph.input_spec, graph.output_spec, recipe.stated, name=name)
        return replace(graph, input_spec=inputs)

    made = contained(laid_out, profile, key, name=name, events=challenge.events, layout=recipe.layout_of(key))
    step()
    graph = made.graph
    artefact = Artefact(key=key, name=name, graph=graph, runtime="onnxruntime", operators=frozenset(), files={})
    files, manifest = container_files(recipe, profile, artefact, made)
    data = zip_bytes(files)
    write_bytes(output, data, force=force)
    step()
    return Built(
        path=output, sha256=sha256_bytes(data), manifest=manifest, agreement={key: {made.route: made.parity}},
        times={key: {made.route: made.us_per_window, BENCHED: graph_us(graph)}},
    )  # fmt: skip


class _Steps:
    """Counts what is done and tells whoever wants to know."""

    def __init__(self, total: int, tell: Progress | None) -> None:
        self.done, self.total, self.tell = 0, total, tell

    def __call__(self) -> None:
        self.done += 1
        if self.tell is not None:
            self.tell(self.done, self.total)


def _member_graphs(
    recipe: Recipe, members: list[tuple[str, Member, Path]], step: Callable[[], None]
) -> dict[str, list[Graph]]:
    """Export or read every member, each distinct one once."""

    def graph_of(job: tuple[Member, Path]) -> Graph:
        graph = _member_graph(recipe, *job)
        step()
        return graph

    distinct: dict[str, tuple[Member, Path]] = {_identity(member): (member, path) for _, member, path in members}
    exported = sum(not member.graph for member, _ in distinct.values())
    with ThreadPoolExecutor(EXPORT_JOBS) as pool, shared_start() if exported > 1 else nullcontext():
        made = dict(zip(distinct, pool.map(graph_of, distinct.values()), strict=True))
    graphs: dict[str, list[Graph]] = {}
    for key, member, _ in members:
        graphs.setdefault(key, []).append(made[_identity(member)])
    return graphs


def _identity(member: Member) -> str:
    return repr((member.sha256, member.exporter, member.weights, sorted(member.settings.items())))


def _member_graph(recipe: Recipe, member: Member, path: Path) -> Graph:
    from rtserve.graphs.export import export
    from rtserve.graphs.graph import Graph

    if member.graph:
        return Graph.load(path)
    exporter = recipe.locate_exporter(member.exporter)
    return export(path, exporter=exporter, settings=member.settings, weights=member.weights)


def _artefact(
    recipe: Recipe, key: str, members: list[Graph], profile: Profile, root: Path | None, step: Callable[[], None]
) -> Artefact:
    """Fuse one challenge and turn it into files."""
    from rtserve.submission.artefacts import make_artefact
    from rtserve.submission.manifest import reference_windows

    runtime, graph = recipe.runtime_of(key), _fused(recipe, key, members, profile, root)
    windows = reference_windows(recipe, profile, next(iter(recipe.challenges)), root) if runtime == "native" else None
    artefact = make_artefact(key, graph, runtime, recipe.precision, windows)
    step()
    return artefact


def _fused(
    recipe: Recipe, key: str, members: list[Graph], profile: Profile, root: Path | None, *, engine: str = ""
) -> Graph:
    """Fuse one challenge's members for an engine, and make sure that the graph is for the contest."""
    from rtserve.fusion.fuse import fuse
    from rtserve.fusion.run.order import PORTABLE
    from rtserve.submission.fitting import require_fit

    challenge, runtime = recipe.challenges[key], recipe.runtime_of(key)
    graph = fuse(
        members,
        views=[_with_file(recipe, view, root) for view in challenge.views],
        merge=_with_file(recipe, challenge.merge, root),
        calibration=_calibration(challenge),
        optimize=challenge.optimize,
        engine=engine or recipe.layout_of(key),
        passes=PORTABLE if runtime == "auto" and not recipe.layout else None,
        stated=_placed(members, challenge, profile.challenge(key).target),
    )
    require_fit(graph, profile, profile.challenge(key), recipe.stated)
    return graph


def _placed(members: list[Graph], challenge: ChallengeRecipe, target: str) -> dict[str, str]:
    """Return what several numbers per window are where no member says it and they are merged: what is scored."""
    unknown = not any(graph.output_spec.target for graph in members) and members[0].output_spec.n_outputs > 1
    return {"target": target} if unknown and len(members) * len(challenge.views) > 1 else {}


def _with_file(recipe: Recipe, text: str, root: Path | None) -> str:
    """Return a merge or view whose argument is a file with that file's path."""
    kind, _, argument = text.partition(":")
    return (
        f"{kind}:{recipe.locate(argument, root, f'{kind} file')}"
        if kind.partition("-")[0] in ("weighted", "permute")
        else text
    )


def _calibration(challenge: ChallengeRecipe) -> Any:
    from rtserve.fusion.plan import Calibration

    table = challenge.calibration
    low, high = table.clip or (None, None)
    return Calibration(scale=table.scale, offset=table.offset, low=low, high=high)
