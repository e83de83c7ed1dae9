"""``python -m docs.generate``: build the site, and end with 1 where a page warns or a link leads nowhere."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from docs.generate.cells import TutorialError
from docs.generate.check import faults
from docs.generate.documents import documents_page
from docs.generate.links import BrokenLinkError
from docs.generate.tree import assemble
from docs.generate.tutorials import tutorial_pages

ROOT = Path(__file__).resolve().parents[2]


def build(site: Path, work: Path) -> list[str]:
    """Build the site and return what is wrong with it, a sentence each.

    Parameters
    ----------
    site, work : Path
        Where pages go, and where their sources and what Sphinx keeps lie.
    """
    from sphinx.cmd.build import main as sphinx

    try:
        ran = {f"tutorials/{name}.md": text for name, text in tutorial_pages(ROOT).items()}
        assemble(ROOT, work / "source", ran | {"reference/documents.md": documents_page(ROOT)})
    except (BrokenLinkError, TutorialError) as error:
        return [str(error)]
    # -a: a page whose source is as it was names the site's other pages all the same, and these may be new.
    arguments = ["-q", "-W", "--keep-going", "-a", "-b", "html"]
    if code := sphinx([*arguments, "-d", str(work / "doctrees"), str(work / "source"), str(site)]):
        return [f"Sphinx warned, which counts as an error (exit code {code})"]
    return faults(site)


def main() -> None:
    """Read the arguments, build, and say what came of it."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=__doc__)
    parser.add_argument("--site", type=Path, default=ROOT / "site", help="where the pages go")
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "docs", help="where their sources lie")
    asked = parser.parse_args()
    found = build(asked.site.resolve(), asked.work.resolve())
    for fault in found:
        print(f"error: {fault}", file=sys.stderr)
    if found:
        sys.exit(1)
    print(f"built {len(list(asked.site.rglob('*.html')))} pages: {asked.site / 'index.html'}")


if __name__ == "__main__":
    main()
