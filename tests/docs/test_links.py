"""What leads nowhere stops the build: links between pages, anchors, files, and what is loaded from elsewhere."""

import subprocess
import sys
from pathlib import PurePosixPath

import pytest

from docs.generate import markdown
from docs.generate.check import faults
from docs.generate.links import BrokenLinkError, rewritten

PAGES = {
    PurePosixPath("docs/a.md"): PurePosixPath("howto/a.md"),
    PurePosixPath("records/r.md"): PurePosixPath("results/r.md"),
    PurePosixPath("code"): PurePosixPath("reference/code.md"),
}


def rewrite(text, root):
    (root / "code").mkdir(exist_ok=True)
    (root / "docs").mkdir(exist_ok=True)
    (root / "docs" / "p.svg").touch()
    (root / "LICENSE").touch()
    return rewritten(text, origin=PurePosixPath("docs/a.md"), place=PurePosixPath("howto/a.md"), pages=PAGES, root=root)


@pytest.mark.parametrize(
    ("link", "there"),
    [
        ("[r](../records/r.md)", "[r](../results/r.md)"),
        ("[r](../records/r.md#one)", "[r](../results/r.md#one)"),
        ("[rules](../code)", "[rules](../reference/code.md)"),
        ("[here](#one)", "[here](#one)"),
        ("[out](https://example.org/x)", "[out](https://example.org/x)"),
        ("![p](p.svg)", "![p](p.svg)"),
        ("[the licence](../LICENSE)", "the licence (`LICENSE`)"),
        ("`[r](nowhere.md)`", "`[r](nowhere.md)`"),
        ("code:\n\n```\n[r](nowhere.md)\n```\n\n", "code:\n\n```\n[r](nowhere.md)\n```\n\n"),
    ],
)
def test_a_link_leads_to_the_same_page_in_the_site(tmp_path, link, there):
    assert rewrite(f"see {link} there", tmp_path)[0] == f"see {there} there"


def test_a_picture_goes_along(tmp_path):
    assert rewrite("![p](p.svg)", tmp_path)[1] == {PurePosixPath("docs/p.svg")}


@pytest.mark.parametrize("target", ["b.md", "../nowhere/", "p.png", "../../outside.md"])
def test_a_link_to_nothing_is_refused(tmp_path, target):
    with pytest.raises(BrokenLinkError, match=r"docs/a\.md.*does not exist"):
        rewrite(f"[x]({target})", tmp_path)


PAGE = '<html><head>{head}</head><body><h1 id="top">x</h1>{body}</body></html>'


@pytest.mark.parametrize(
    ("head", "body", "fault"),
    [
        ("", '<a href="b.html#there">b</a> <a href="#top">a</a> <a href="https://example.org">e</a>', ""),
        ("", '<a href="c.html">c</a>', "index.html: c.html leads to no file"),
        ("", '<a href="b.html#gone">b</a>', "b.html has no anchor gone"),
        ("", '<a href="#gone">b</a>', "index.html has no anchor gone"),
        ("", '<img src="p.png">', "p.png leads to no file"),
        ('<script src="https://cdn.example.org/x.js"></script>', "", "loads https://cdn.example.org/x.js from elsewhere"),
        ('<link rel="stylesheet" href="//fonts.example.org/f.css">', "", "loads //fonts.example.org/f.css from elsewhere"),
        ("<style></style>", '<link rel="canonical" href="https://example.org">', ""),
    ],
)  # fmt: skip
def test_a_built_page_is_looked_through(tmp_path, head, body, fault):
    (tmp_path / "index.html").write_text(PAGE.format(head=head, body=body))
    (tmp_path / "b.html").write_text(PAGE.format(head="", body='<p id="there">'))
    found = faults(tmp_path)
    assert (not found) if not fault else (len(found) == 1 and found[0].endswith(fault))


def test_a_sheet_that_fetches_a_font_and_a_site_without_a_page_are_faults(tmp_path):
    (tmp_path / "s.css").write_text('@import "https://fonts.example.org/f.css"; p { background: url(x.png) }')
    assert [fault.partition(" ")[2] for fault in faults(tmp_path)] == [
        "has no index.html",
        "loads https://fonts.example.org/f.css from elsewhere",
    ]


@pytest.mark.needs("sphinx")
@pytest.mark.needs("myst_parser")
@pytest.mark.needs("pydata_sphinx_theme")
def test_a_build_with_a_bad_link_or_a_bad_formula_ends_with_an_error(tmp_path, repo_dir):
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "_static").mkdir()
    (tmp_path / "conf.py").write_text((repo_dir / "docs" / "generate" / "conf.py").read_text())
    (tmp_path / "index.md").write_text("# One\n\n[x](gone.md)\n\n```{math}\n\\nonsense{x}\n```\n")
    for name in ("docs", "rtserve"):
        (tmp_path / name).symlink_to(repo_dir / name)
    done = subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-W", "-D", "html_theme=basic", "-b", "html", ".", "site"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode
    assert "cross-reference target not found: 'gone.md'" in done.stderr
    assert "cannot be set as MathML" in done.stderr


def test_words_of_the_source_are_no_markup():
    assert markdown.plain("a_b *c* `d|e` <f>") == r"a\_b \*c\* `d|e` \<f\>"
    assert markdown.code("a`b") == "``a`b``"
    assert markdown.table(("x",), [("`a|b`",)]).splitlines()[-1] == r"| `a\|b` |"
    assert markdown.fence("```\nx\n```").startswith("````text\n")
    assert markdown.paragraphs("one\ntwo\n\n\b\nkept\nas it is") == "one two\n\n```text\nkept\nas it is\n```\n\n"
