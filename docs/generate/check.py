"""The built site, looked through: every local link leads somewhere, and nothing is loaded from another place."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["faults"]

LOADS = {"script": "src", "img": "src", "iframe": "src", "source": "src", "video": "src", "audio": "src"}
FETCHED_RELATIONS = {"stylesheet", "preload", "prefetch", "icon", "shortcut icon", "modulepreload", "preconnect"}


class _Page(HTMLParser):
    """What a page names: its anchors, its links and what it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note one element."""
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        if tag in LOADS and LOADS[tag] in values:
            self.loads.append(values[LOADS[tag]])
        if tag == "link" and values.get("rel") in FETCHED_RELATIONS:
            self.loads.append(values.get("href", ""))


def faults(site: Path) -> list[str]:
    """Return what is wrong in a built site, a sentence each, by page.

    Parameters
    ----------
    site : Path
        The folder with index.html.
    """
    pages = {path: _Page(path.read_text("utf-8")) for path in _html(site)}
    found = [] if site / "index.html" in pages else [f"{site} has no index.html"]
    for path, page in pages.items():
        name = path.relative_to(site)
        found += [f"{name} loads {link} from elsewhere" for link in page.loads if _is_remote(link)]
        local = {link for link in (*page.links, *page.loads) if not _is_remote(link) and not urlsplit(link).scheme}
        found += [f"{name}: {wrong}" for link in sorted(local) if (wrong := _wrong(link, path, pages))]
    for sheet in sorted(site.rglob("*.css")):
        for link in re.findall(r"(?:@import\s+|url\()[\"']?([^\"')]+)", sheet.read_text("utf-8")):
            if _is_remote(link):
                found.append(f"{sheet.relative_to(site)} loads {link} from elsewhere")
    return found


def _html(site: Path) -> list[Path]:
    """Return the pages of a site; what lies in _static is the theme's own."""
    return [path for path in sorted(site.rglob("*.html")) if path.relative_to(site).parts[0] != "_static"]


def _is_remote(link: str) -> bool:
    return link.startswith("//") or urlsplit(link).scheme in ("http", "https")


def _wrong(link: str, path: Path, pages: dict[Path, _Page]) -> str:
    """Return what is wrong with a local link of the page at `path`; empty where it leads somewhere."""
    parts = urlsplit(link)
    there = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if there.is_dir():
        there /= "index.html"
    if not there.is_file():
        return f"{link} leads to no file"
    if parts.fragment and there in pages and unquote(parts.fragment) not in pages[there].anchors:
        return f"{link}: {there.name} has no anchor {parts.fragment}"
    return ""
