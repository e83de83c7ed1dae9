"""What the training commands do between reading their arguments and printing."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rtserve.errors import InputError
from rtserve.extras import extra_module
from rtserve.files import check_writable, readable_file
from rtserve.graphs.exporter import parse_settings
from rtserve.nearest import meant
from rtserve.signals.splits import Split, make_split, split_from_marks
from rtserve.signals.windows import Stated, WindowSet, load_windows
from rtserve.training.ablation import Ablation, ablate
from rtserve.training.gates import parse_gate
from rtserve.training.recipe import RECIPES, Recipe, recipe_from
from rtserve.training.seeds import Progress, TrainingRun, train

__all__ = ["choose_split", "in_background", "make_recipe", "run_ablate", "run_train"]

_NOTHING = Stated()
DASK_ANSWERS_S = 10.0
"""Seconds within which a dask scheduler answers."""


def run_train(
    windows: Path,
    output: Path,
    *,
    seeds: str,
    base: str,
    config: Path | None,
    split_by: str,
    split_seed: int,
    allow_leakage: bool,
    trust_subjects: bool,
    gates: Sequence[str],
    like: str | None,
    init: str | None,
    workers: int,
    logs: Sequence[str],
    jobs: int,
    dask: str | None,
    resume: bool,
    stated: Stated = _NOTHING,
    progress: Progress | None = None,
    **settings: Any,
) -> TrainingRun:
    """Train as the command line says; see `rtserve.training.seeds.train` for what can go wrong."""
    recipe = make_recipe(base, config, settings)
    rules = [parse_gate(gate) for gate in gates]
    data = load_windows(windows, stated=stated)
    split = choose_split(data, split_by, seed=split_seed, allow_leakage=allow_leakage, trust_subjects=trust_subjects)
    with _dask_client(dask):
        return train(
            data,
            split,
            recipe=recipe,
            seeds=_numbers(seeds, int, "seeds"),
            output=output,
            resume=resume,
            gates=rules,
            like=like,
            init=init,
            allow_leakage=allow_leakage,
            workers=workers,
            logs=logs,
            n_jobs=jobs,
            backend="dask" if dask else "loky",
            progress=progress,
        )


def run_ablate(
    windows: Path,
    output: Path,
    *,
    changes: Sequence[str],
    seeds: str,
    base: str,
    config: Path | None,
    split_by: str,
    trust_subjects: bool,
    jobs: int,
    resume: bool,
    stated: Stated = _NOTHING,
    progress: Progress | None = None,
    **settings: Any,
) -> Ablation:
    """Compare a recipe with and without a change; see `rtserve.training.ablation.ablate` for what can go wrong."""
    recipe = make_recipe(base, config, settings)
    change = parse_settings(list(changes))
    data = load_windows(windows, stated=stated)
    return ablate(
        data,
        choose_split(data, split_by, trust_subjects=trust_subjects),
        recipe=recipe,
        change={key: tuple(value) if isinstance(value, list) else value for key, value in change.items()},
        seeds=_numbers(seeds, int, "seeds"),
        output=output,
        resume=resume,
        n_jobs=jobs,
        progress=progress,
    )


def make_recipe(base: str, config: Path | None, settings: dict[str, Any]) -> Recipe:
    """Return the named recipe with a TOML file's settings over it, and the given settings over both.

    Raises
    ------
    InputError
        Where a name or a value is unknown.
    """
    if base not in RECIPES:
        raise InputError(f"unknown recipe {base!r}", hint=meant(base, RECIPES, f"use one of {', '.join(RECIPES)}"))
    values = RECIPES[base].to_dict()
    if config is not None:
        try:
            values |= tomllib.loads(readable_file(config, "settings").read_text("utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"settings {config} are not TOML ({error})", hint="one key = value per line") from None
    given = {key: value for key, value in settings.items() if value is not None}
    if "model_settings" in given:
        given["model_settings"] = values["model_settings"] | parse_settings(list(given["model_settings"]))
    given["augment"] = tuple(given.get("augment") or values["augment"])
    if isinstance(given.get("dropout"), str):
        given["dropout"] = tuple(_numbers(given["dropout"], float, "dropout"))
    recipe = recipe_from(values | given)
    _require_read(recipe, given)
    return recipe


def _require_read(recipe: Recipe, given: Mapping[str, Any]) -> None:
    """Raise `InputError` where the command line gives a setting that nothing of this recipe reads."""
    readers = {
        "dropout": (recipe.model == "compact_rt", f"{recipe.model} has its own rates: --set"),
        "huber_delta": (recipe.loss == "huber", "it is read with --loss huber"),
        "restart_epochs": (recipe.scheduler == "warm_restarts", "it is read with --scheduler warm_restarts"),
        "mixup_fraction": (recipe.mixup_alpha > 0, "it is read with --mixup-alpha above 0"),
        "mixup_per": (recipe.mixup_alpha > 0, "it is read with --mixup-alpha above 0"),
    }
    for key, (read, hint) in readers.items():
        if key in given and not read:
            raise InputError(f"--{key.replace('_', '-')} would do nothing here", hint=hint)


def _numbers(text: str, kind: type, what: str) -> list[Any]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{what} {text!r} are not numbers with commas", hint=f"for example --{what} 1,2,3") from None


def choose_split(
    windows: WindowSet, by: str, *, seed: int = 0, allow_leakage: bool = False, trust_subjects: bool = False
) -> Split:
    """Return the file's own split (``"file"``), a new one by subject, run or window, or the best there is (``"auto"``).

    Raises
    ------
    InputError
        Where the file marks none, the split leaks, or would be by subjects that are only guessed.
    """
    marked = split_from_marks(windows, allow_leakage=allow_leakage) if by in ("auto", "file") else None
    if marked is not None:
        return marked
    if by == "file":
        raise InputError("the file marks no windows as train, valid and test", hint="use --split subject")
    return make_split(
        windows,
        by="subject" if by == "auto" else by,
        seed=seed,
        allow_leakage=allow_leakage,
        trust_subjects=trust_subjects,
    )


@contextlib.contextmanager
def _dask_client(address: str | None) -> Iterator[None]:
    if address is None:
        yield
        return
    Client = extra_module("distributed", title="dask", extra="dask").Client
    try:
        client = Client(address, timeout=DASK_ANSWERS_S)
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(
            f"no dask scheduler answers at {address} ({error})", hint="start one: dask scheduler"
        ) from None
    with client:
        yield


def in_background(output: Path) -> str:
    """Start this very command again without a terminal, its talk going to a log file; return what to tell the user."""
    log = check_writable(output.with_name(output.name + ".log"), force=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    arguments = [argument for argument in sys.argv[1:] if argument != "--background"]
    with open(log, "ab") as handle:
        process = subprocess.Popen(
            [sys.executable, "-m", "rtserve", *arguments],
            stdout=handle,
            stderr=handle,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    return f"training in the background, process {process.pid}; progress and forecast: tail -f {log}"
