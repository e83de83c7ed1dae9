"""README.md shows what its commands print, and says nothing of files that do not exist."""

import difflib
import re

import pytest

from . import readme_blocks
from .readme_masks import MASKS, mask
from .warm_rtserve import warm_rtserve


def test_the_blocks_print_what_the_page_shows(tmp_path):
    text = readme_blocks.README.read_text()
    (tmp_path / "bin").mkdir()
    (tmp_path / "work").mkdir()
    with warm_rtserve(tmp_path / "bin") as first:
        fresh = readme_blocks.regenerate(text, tmp_path / "work", first)
    shown, printed = (readme_blocks.comparable(t).splitlines() for t in (text, fresh))
    difference = "\n".join(difflib.unified_diff(shown, printed, "README.md", "now", lineterm="", n=1))
    assert not difference, f"run `make readme` and look at what changed:\n{difference}"


def test_a_line_that_changed_is_noticed():
    text = readme_blocks.README.read_text()
    changes = {"M multiply": "M add", "129 channels": "128 channels", "54 passed": "53 passed", "--r 0.46": "--r 0.47"}
    for shown, now in changes.items():
        assert shown in text
        assert readme_blocks.comparable(text) != readme_blocks.comparable(text.replace(shown, now))


@pytest.mark.parametrize("each", MASKS, ids=lambda each: each.kind)
def test_a_mask_hides_its_kind_is_needed_for_it_and_hides_no_more(each):
    here, there = each.alike
    assert mask(here) == mask(there)
    rest = tuple(other for other in MASKS if other is not each)
    assert mask(here, rest) != mask(there, rest)
    assert mask(each.other) != mask(here)


def test_a_command_and_what_it_prints_are_told_apart():
    block = "$ cat > a <<'E'\n> one\n> E\n$ cat a\none\n"
    assert readme_blocks.commands(block) == [("$ cat > a <<'E'\n> one\n> E", ""), ("$ cat a", "one")]


def test_a_locale_that_this_machine_lacks_is_no_matter(tmp_path, monkeypatch):
    """As over ssh, which takes the locale along to a machine where it was not generated."""
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    assert readme_blocks.run("$ echo one >&2; echo two", tmp_path) == "one\ntwo"


def test_every_path_and_make_target_the_page_names_exists(repo_dir):
    text = readme_blocks.README.read_text()
    targets = re.findall(r"^([a-z-]+):", (repo_dir / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= set(targets)
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (repo_dir / link).exists(), link
    for folder in re.findall(r"^\| `([a-z.]+/)`", text, re.MULTILINE):
        assert (repo_dir / folder).is_dir(), folder
