"""The site's sources, put together: pages that people wrote, links made right, and pages made from the source."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from docs.generate.commands import command_pages
from docs.generate.contracts import contract_pages
from docs.generate.licences import licences_page
from docs.generate.links import rewritten
from docs.generate.markdown import fence
from docs.generate.outcomes import outcomes_page
from docs.generate.passes import passes_page
from docs.generate.python import python_page
from docs.generate.results import RECORDS, results_index
from docs.generate.rules import rules_page
from docs.generate.theory import THEORY, theory_origins, theory_pages
from docs.generate.tutorials import FOLDER, SCRIPTS

__all__ = ["assemble", "generated", "written"]

OWN = ("index",)
"""Pages in docs/ that are parts of the site for themselves; every other one there is a how-to."""
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "exporters/README.md": "howto/exporters.md",
    "rtserve/cli/commands.py": "reference/commands.md",
    "rtserve/__init__.py": "reference/python.rst",
    "rtserve/submission/recipe.py": "reference/recipe.md",
    "rtserve/submission/profiles": "reference/profile.md",
    "rtserve/submission/checks": "reference/rules.md",
    "rtserve/fusion/run/order.py": "reference/passes.rst",
    "rtserve/errors.py": "reference/outcomes.md",
    RECORDS: "results/index.md",
}
"""Files of the repository that are pages elsewhere, or what a page is made from: links to them lead to that page."""
HOWTO = """# How-to

One page for each thing that one may want to do, and what can be relied on there.

"""
REFERENCE = """# Reference

Made from the source of this version when the site is built.

"""
PARTS = (
    "Start <tutorials/start>",
    "Tutorials <tutorials/index>",
    "How-to <howto/index>",
    "Concepts <concepts/index>",
    "Reference <reference/index>",
    "Results <results/index>",
    "Changelog <changelog>",
    "Working on it <contributing>",
)
REFERENCE_ORDER = (
    "commands",
    "python",
    "recipe",
    "profile",
    "rules",
    "passes",
    "documents",
    "outcomes",
    *THEORY,
    "licences",
)
CONCEPTS = """# Concepts

What the words mean, what is promised, and why it is fast.

"""
CONCEPTS_ORDER = ("exactness", "branches", "verdicts", "streaming", "engines")


def written(root: Path) -> dict[PurePosixPath, PurePosixPath]:
    """Return which files of the repository are pages, and where in the site each of them is."""
    found = {PurePosixPath(path): PurePosixPath(place) for path, place in ELSEWHERE.items()} | theory_origins()
    for path in sorted((root / FOLDER).iterdir()):
        if path.suffix in SCRIPTS:
            found[PurePosixPath(FOLDER, path.name)] = PurePosixPath("tutorials", f"{path.stem}.md")
    for path in sorted((root / "docs").glob("*.md")):
        place = f"{path.stem}.md" if path.stem in OWN else f"howto/{path.stem}.md"
        found[PurePosixPath("docs", path.name)] = PurePosixPath(place)
    for folder, place in (("docs/concepts", "concepts"), (RECORDS, "results")):
        for path in sorted((root / folder).glob("*.md")):
            found[PurePosixPath(folder, path.name)] = PurePosixPath(place, path.name)
    return found


def generated(root: Path) -> dict[PurePosixPath, str]:
    """Return the pages made from source and records, by their place."""
    reference = command_pages() | contract_pages()
    reference |= {"rules": rules_page(), "outcomes": outcomes_page(), "licences": licences_page(root)}
    pages = {PurePosixPath("reference", f"{name}.md"): text for name, text in reference.items()}
    theory = theory_pages() | {"passes": passes_page(), "python": python_page()}
    pages |= {PurePosixPath("reference", f"{name}.rst"): text for name, text in theory.items()}
    pages[PurePosixPath("reference/index.md")] = REFERENCE + _menu(REFERENCE_ORDER)
    pages[PurePosixPath("howto/index.md")] = HOWTO + _menu(
        sorted(place.stem for place in written(root).values() if place.parent.name == "howto")
    )
    concepts = {place.stem for place in written(root).values() if place.parent.name == "concepts"}
    known = [name for name in CONCEPTS_ORDER if name in concepts]
    pages[PurePosixPath("concepts/index.md")] = CONCEPTS + _menu([*known, *sorted(concepts - set(known))])
    pages[PurePosixPath("results/index.md")] = results_index(root)
    return pages


def _parts(place: PurePosixPath) -> str:
    """Return the menu of the site's parts, which stands behind its first page."""
    if place != PurePosixPath("index.md"):
        return ""
    return "\n" + fence(":maxdepth: 1\n:hidden:\n\n" + "\n".join(PARTS), "{toctree}")


def _menu(names: tuple[str, ...] | list[str]) -> str:
    return fence(":maxdepth: 1\n\n" + "\n".join(names), "{toctree}")


def assemble(root: Path, sources: Path, ran: Mapping[str, str]) -> None:
    """Write the site's sources; what is there already and the same keeps its time, so that Sphinx reads only what changed.

    Parameters
    ----------
    root : Path
        The repository.
    sources : Path
        The folder to write; what it holds besides is removed.
    ran : mapping
        Pages that something had to be run for, by their place in the site; links are as from the folder of tutorials.

    Raises
    ------
    BrokenLinkError
        Where a page links to a file that does not exist.
    """
    pages, places = written(root), {}
    for origin, place in pages.items():
        if origin.suffix != ".md":
            continue
        text = (root / origin).read_text("utf-8")
        text, beside = rewritten(text, origin=origin, place=place, pages=pages, root=root)
        places[place] = (text + _parts(place)).encode()
        places |= {place.parent / name.name: (root / name).read_bytes() for name in beside}
    places |= {place: text.encode() for place, text in generated(root).items()}
    for name, text in ran.items():
        place, origin = PurePosixPath(name), PurePosixPath(FOLDER, PurePosixPath(name).name)
        places[place] = rewritten(text, origin=origin, place=place, pages=pages, root=root)[0].encode()
    for path in sorted((root / "docs" / "static").iterdir()):
        places[PurePosixPath("_static", path.name)] = path.read_bytes()
    places[PurePosixPath("conf.py")] = Path(__file__).with_name("conf.py").read_bytes()
    _write(sources, places)


def _write(sources: Path, places: Mapping[PurePosixPath, bytes]) -> None:
    for place, content in places.items():
        path = sources / place
        if not path.is_file() or path.read_bytes() != content:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    for path in sorted(sources.rglob("*"), reverse=True):
        place = PurePosixPath(path.relative_to(sources))
        if path.is_file() and place not in places:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            shutil.rmtree(path)
