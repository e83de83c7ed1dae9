"""Tutorials as pages: the scripts of ``docs/tutorials/``, run, with what they printed under each step.

What a run printed is kept beside the site's sources, named for all that it came from (the script, rtserve, the exporters and
the versions of what they import), so that a build, and the tests, run a script once for each state of the source.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

from docs.generate.cells import Tutorial, read, run
from docs.generate.markdown import fence

__all__ = ["FOLDER", "SCRIPTS", "kept_at", "outcome", "page", "scripts", "tutorial_pages", "warm"]

FOLDER = "docs/tutorials"
SCRIPTS = (".py", ".sh")
KEPT = "build/docs/tutorials"
FIRST = (
    "start",
    "braindecode_models",
    "own_network",
    "foreign",
    "pipelines",
    "worth",
    "contest",
    "streaming",
    "native",
)
"""The order of the pages; further ones follow by name."""
COUNTED = ("torch", "onnx", "onnxruntime", "numpy", "scipy")
"""Packages whose versions what a tutorial prints may follow."""
INDEX = """# Tutorials

Each page is a script that runs whole when this site is built; what stands under a step is what it printed then. Times and
ratios are those of the machine that built the site.

"""


def scripts(root: Path) -> list[Tutorial]:
    """Return the tutorials in the order of their pages."""
    found = [read(path) for path in sorted((root / FOLDER).iterdir()) if path.suffix in SCRIPTS]
    return sorted(found, key=lambda one: (FIRST.index(one.name) if one.name in FIRST else len(FIRST), one.name))


def outcome(tutorial: Tutorial, root: Path, first: Path | None = None) -> list[str]:
    """Return what each cell printed, from a run of this very source or, where there was none yet, by running it now.

    Raises
    ------
    TutorialError
        Where the script fails.
    """
    kept = kept_at(tutorial, root)
    if kept.is_file():
        found: list[str] = json.loads(kept.read_text("utf-8"))
        return found
    found = run(tutorial, root, first)
    kept.parent.mkdir(parents=True, exist_ok=True)
    for old in kept.parent.glob(f"{tutorial.name}-*.json"):
        old.unlink(missing_ok=True)
    kept.with_suffix(f".{os.getpid()}").write_text(json.dumps(found), "utf-8")
    kept.with_suffix(f".{os.getpid()}").replace(kept)
    return found


def kept_at(tutorial: Tutorial, root: Path) -> Path:
    """Return the file that holds what a run of this very source printed, once there was one."""
    return root / KEPT / f"{tutorial.name}-{_key(tutorial, root)}.json"


def _key(tutorial: Tutorial, root: Path) -> str:
    """Return the digest of all that what a tutorial prints comes from."""
    files = [path for room in ("rtserve", "exporters") for path in sorted((root / room).rglob("*")) if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    digest = hashlib.sha256()
    for path in (tutorial.path, Path(__file__).with_name("cells.py"), *files):
        digest.update(f"{path.relative_to(root)}\0".encode() + path.read_bytes())
    digest.update(repr([(name, version(name)) for name in COUNTED]).encode())
    return digest.hexdigest()[:16]


@contextlib.contextmanager
def warm() -> Iterator[Path]:
    """Yield a folder for the front of PATH whose ``rtserve`` need not import torch for each call."""
    from tests.warm_rtserve import warm_rtserve

    with tempfile.TemporaryDirectory(prefix="warm-") as folder, warm_rtserve(Path(folder)) as first:
        yield first


def tutorial_pages(root: Path) -> dict[str, str]:
    """Run what was not run yet, two at a time, and return the pages by name, with the one that leads to them.

    Raises
    ------
    TutorialError
        Where a script fails.
    """
    found = scripts(root)
    due = any(not one.missing and not kept_at(one, root).is_file() for one in found)
    with warm() if due else contextlib.nullcontext() as first, ThreadPoolExecutor(2) as pool:
        printed = list(pool.map(lambda one: None if one.missing else outcome(one, root, first), found))
    pages = {one.name: page(one, shown) for one, shown in zip(found, printed, strict=True)}
    menu = ":maxdepth: 1\n\n" + "\n".join(one.name for one in found)
    return pages | {"index": INDEX + fence(menu, "{toctree}")}


def page(tutorial: Tutorial, printed: list[str] | None) -> str:
    """Return a tutorial's page; None where it could not be run."""
    parts = [f"# {tutorial.title}\n", tutorial.opening + "\n"]
    if printed is None:
        parts.append(
            f"```{{note}}\nNot run when this site was built, so that nothing is printed: {tutorial.missing}.\n```\n"
        )
    for cell, shown in zip(tutorial.cells, printed or [""] * len(tutorial.cells), strict=True):
        parts.append(cell.prose + "\n")
        if cell.code:
            parts.append(fence(cell.code, tutorial.language))
        if shown:
            parts.append(f":::{{container}} rt-printed\n{fence(shown)}:::\n")
    parts.append(f"The whole script: `{FOLDER}/{tutorial.path.name}`.\n")
    return "\n".join(parts)
