"""README.md shows what its commands print, and says nothing of files that do not exist."""

import difflib
import re

from . import readme_blocks


def test_the_blocks_print_what_the_page_shows(tmp_path):
    text = readme_blocks.README.read_text()
    fresh = readme_blocks.regenerate(text, tmp_path)
    shown, printed = (readme_blocks.mask(t).splitlines() for t in (text, fresh))
    difference = "\n".join(difflib.unified_diff(shown, printed, "README.md", "now", lineterm="", n=1))
    assert not difference, f"run `make readme` and look at what changed:\n{difference}"


def test_a_line_that_changed_is_noticed():
    text = readme_blocks.README.read_text()
    assert readme_blocks.mask(text) != readme_blocks.mask(text.replace("multiply-adds", "additions"))
    assert readme_blocks.mask("sha256  " + "a" * 64) == readme_blocks.mask("sha256  " + "b" * 64)
    assert readme_blocks.mask("12 nodes") != readme_blocks.mask("13 nodes")


def test_a_command_and_what_it_prints_are_told_apart():
    block = "$ cat > a <<'E'\n> one\n> E\n$ cat a\none\n"
    assert readme_blocks.commands(block) == [("$ cat > a <<'E'\n> one\n> E", ""), ("$ cat a", "one")]


def test_every_path_and_make_target_the_page_names_exists(repo_dir):
    text = readme_blocks.README.read_text()
    targets = re.findall(r"^([a-z-]+):", (repo_dir / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= set(targets)
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (repo_dir / link).exists(), link
    for folder in re.findall(r"^\| `([a-z.]+/)`", text, re.MULTILINE):
        assert (repo_dir / folder).is_dir(), folder
