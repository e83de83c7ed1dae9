"""Links of a page in the repository, rewritten for its place in the site; one that leads nowhere stops the build."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

__all__ = ["BrokenLinkError", "rewritten"]

CODE = re.compile(r"(^(?P<fence>```+|~~~+).*?^(?P=fence)\s*$|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")


class BrokenLinkError(Exception):
    """A link to a file that is not there."""


def rewritten(
    text: str, *, origin: PurePosixPath, place: PurePosixPath, pages: Mapping[PurePosixPath, PurePosixPath], root: Path
) -> tuple[str, set[PurePosixPath]]:
    """Return a page's Markdown with its links as they have to be in the site, and the files that go with it.

    Parameters
    ----------
    text : str
        The page.
    origin, place : PurePosixPath
        Where it lies in the repository, and in the site's sources.
    pages : mapping
        From files of the repository to the pages they become.
    root : Path
        The repository.

    Raises
    ------
    BrokenLinkError
        Where a link leads to a file that does not exist; the message names page and target.
    """
    beside: set[PurePosixPath] = set()

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        if re.match(r"[a-z][a-z0-9+.-]*:|#", target):
            return match[0]
        path, mark, anchor = target.partition("#")
        wanted = PurePosixPath(os.path.normpath(origin.parent / path))
        if wanted in pages:
            there = os.path.relpath(pages[wanted], place.parent)
            return f"{match['image']}[{match['text']}]({there}{mark}{anchor})"
        if not (root / wanted).exists() or str(wanted).startswith(".."):
            raise BrokenLinkError(f"{origin}: the link to {target} leads to {wanted}, which does not exist")
        if match["image"]:
            beside.add(wanted)
            return f"![{match['text']}]({wanted.name})"
        return match["text"] if str(wanted) in match["text"] else f"{match['text']} (`{wanted}`)"

    done = "".join(piece if is_code else LINK.sub(link, piece) for piece, is_code in _pieces(text))
    return done, beside


def _pieces(text: str) -> list[tuple[str, bool]]:
    """Return a page's pieces in order, each with whether it is code, in which nothing is a link."""
    found, end = [], 0
    for match in CODE.finditer(text):
        found += [(text[end : match.start()], False), (match[0], True)]
        end = match.end()
    return [*found, (text[end:], False)]
